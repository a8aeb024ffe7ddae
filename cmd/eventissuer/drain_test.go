package main_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestDrainTellsEverySessionAndLosesNothing(t *testing.T) {
	v := startServer(t, embedded(t), "--drain-timeout=20s")
	define(t, 3, v)
	crowd := gather(t, everyKind(500, v))
	crowd.all(t, "connected", func(c *client) bool { return c.polls() || c.liveOn(0) })
	p := publish(t, 2, 12, 10*time.Millisecond, "", v)
	p.more(t, 100)

	v.sigterm(t, 20*time.Second) // the drain's time is not to be used up: all clients read
	crowd.all(t, "cut", func(c *client) bool { return !c.liveOn(0) })
	drained := map[string]int{}
	for _, c := range crowd.clients {
		if drained[c.over] += c.told("drain"); c.told("drain") == 0 && !c.polls() {
			t.Errorf("%s was not told of the drain", c.name)
		}
		if end, ok := c.closeCode(); ok && end != websocket.StatusServiceRestart {
			t.Errorf("%s was closed with %d, want %d", c.name, end, websocket.StatusServiceRestart)
		}
	}
	t.Log("told of the drain:", drained)
	v.again(t)
	crowd.all(t, "back", func(c *client) bool { return c.polls() || c.liveOn(0) })
	p.more(t, 50)
	crowd.verify(t, p, v)
}

// TestServerToldToStopWhileSessionsBeginStops meets sessions in every state of their beginning.
func TestServerToldToStopWhileSessionsBeginStops(t *testing.T) {
	v := startServer(t, embedded(t), "--drain-timeout=15s")
	define(t, 3, v)
	for range 2 {
		ctx, stop := context.WithCancel(t.Context())
		var churn sync.WaitGroup
		began := make(chan struct{}, 1)
		for i, c := range everyKind(120, v) {
			c.query.Set("consumer", "c"+strconv.Itoa(i)) // its take-over is a write, so that beginning takes a while
			churn.Go(func() {
				for ctx.Err() == nil {
					_ = c.read(ctx, v, c.query, "", func(message) error {
						select {
						case began <- struct{}{}:
						default:
						}
						return errLeft
					})
				}
			})
		}
		for range 200 {
			<-began
		}
		v.sigterm(t, 20*time.Second)
		stop()
		churn.Wait()
		v.again(t)
	}
}

var errLeft = errors.New("the client left")

// told is how many control messages of the name came.
func (c *client) told(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.controls[name]
}

// closeCode is the WebSocket's close status of the connection that ended last.
func (c *client) closeCode() (websocket.StatusCode, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.connections) - 1; i >= 0; i-- {
		if conn := c.connections[i]; len(conn.messages) > 0 && conn.ended != nil {
			return websocket.CloseStatus(conn.ended), c.over == "cloudevents.json" || c.over == "eventissuer.v1"
		}
	}
	return 0, false
}
