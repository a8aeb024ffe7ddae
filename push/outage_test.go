package push

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// pipes is an HTTP server at the other end of in-memory pipes.
type pipes struct {
	connections chan net.Conn
	down        func() bool // connections are refused
	client      *http.Transport
}

func newPipes(t *testing.T, down func() bool, h http.Handler) *pipes {
	p := &pipes{connections: make(chan net.Conn), down: down}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(p)
	}()
	p.client = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if down() {
			return nil, &net.OpError{Op: "dial", Err: io.ErrClosedPipe}
		}
		ours, theirs := net.Pipe()
		select {
		case p.connections <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
	return p
}

// Accept, Close and Addr implement net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.connections
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error {
	close(p.connections)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// through is a Sender over pipes.
type through struct{ p *pipes }

// Do implements Sender.
func (s through) Do(ctx context.Context, r guard.Request) (*guard.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://endpoint.example/hook", bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	request.Header = r.Header
	response, err := s.p.client.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return &guard.Response{Status: response.StatusCode, Header: response.Header, Body: body}, err
}

// Close implements Sender.
func (through) Close() {}

func TestEndpointThatWasDownForDaysGetsEverythingInOrderAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		var down bool
		type arrival struct {
			at time.Time
		}
		var arrived []arrival
		tries := 0
		endpoint := newPipes(t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			if down {
				tries++
			}
			return down
		}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			l, places := w.recognise("down", r.Header.Get("webhook-id"), body)
			if l == nil {
				t.Errorf("nobody's message: %s", body)
				return
			}
			w.firstSent(l, places[0], nil)
			w.mu.Lock()
			defer w.mu.Unlock()
			l.accept(places)
			arrived = append(arrived, arrival{at: time.Now()})
			rw.WriteHeader(http.StatusNoContent)
		}))
		const rate = 5
		w.sink("down").spec = func(e *Endpoint) {
			e.Rate, e.Schedule = rate, []time.Duration{5 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
		}
		p := w.start(1, tabletest.Faults{}, func(_ *Config, e *Engine) {
			if e != nil {
				e.deps.Sender = func(string, credential) (Sender, error) { return through{endpoint}, nil }
			}
		})
		w.subscribe("down", []int64{0}, filter.Query{}, true)
		p.tell(1)
		time.Sleep(time.Second)
		w.assign(0, p, true)
		w.publish(0, "first")
		w.await(time.Minute)

		w.mu.Lock()
		down = true
		w.mu.Unlock()
		const outage = 3 * 24 * time.Hour
		const events = 600
		for n := range events {
			w.publish(0, fmt.Sprint("key ", n%7))
			time.Sleep(outage / events)
		}
		w.mu.Lock()
		if tries == 0 || tries > int(outage/time.Hour)+20 {
			t.Errorf("an endpoint that is down was tried %d times in %v", tries, outage)
		}
		down = false
		arrived = nil
		w.mu.Unlock()
		// It may be an hour and a tenth until it is tried again, and then all comes at its rate.
		w.await(time.Hour + time.Hour/10 + events/rate*time.Second + time.Minute)
		p.stop()

		if len(w.letters) > 0 {
			t.Errorf("%d events went to the dead letters: the endpoint was at fault, not they", len(w.letters))
		}
		if len(arrived) != events {
			t.Errorf("%d arrivals of %d events", len(arrived), events)
		}
		for i := rate; i < len(arrived); i++ {
			if span := arrived[i].at.Sub(arrived[i-rate].at); span < 900*time.Millisecond {
				t.Errorf("%d events came within %v, at a rate of %d a second", rate+1, span, rate)
				break
			}
		}
	})
}

// startAlone starts a process that is told of one subscription, and owns the one partition.
func (w *world) startAlone() *process {
	p := w.start(1, tabletest.Faults{}, nil)
	p.tell(1)
	time.Sleep(time.Second)
	w.assign(0, p, true)
	return p
}

// What an endpoint has taken before it was given up is not sent again, though what lies below it still is to be.
func TestWhatWasTakenBeforeAnOutageIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		var well atomic.Bool
		var mu sync.Mutex
		most := int64(-1)
		w.sink("s").answer = func(_ string, at spot) (int, time.Duration) {
			if !well.Load() && at.offset%2 == 0 {
				return 503, time.Millisecond
			}
			if !well.Load() {
				mu.Lock()
				defer mu.Unlock()
				most = max(most, at.offset)
			}
			return 200, time.Millisecond
		}
		for range 300 {
			w.publish(0, "k")
		}
		w.subscribe("s", []int64{0}, filter.Query{}, false)
		p := w.startAlone()
		time.Sleep(time.Minute)
		well.Store(true)
		mu.Lock()
		if most < 3 || most > 200 {
			t.Errorf("it was given up with %d as the last that it took: the test shows nothing", most)
		}
		mu.Unlock()
		w.await(2 * time.Hour)
		p.stop()
		for _, l := range w.lives {
			for at, times := range l.got {
				if len(times) != 1 {
					t.Errorf("%+v was delivered %d times", at, len(times))
				}
			}
		}
	})
}

// A schedule that is shorter than what opens the breaker sets nothing aside while nothing is taken at all, but does so with
// what fails while others are taken.
func TestShortSchedulesSetAsideWhatFailsAloneOnly(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			var down atomic.Bool
			down.Store(true)
			var poison atomic.Int64
			poison.Store(-1)
			w.sink("s").answer = func(_ string, at spot) (int, time.Duration) {
				if down.Load() || at.offset == poison.Load() {
					return 503, time.Millisecond
				}
				return 200, time.Millisecond
			}
			w.sink("s").spec = func(e *Endpoint) { e.Schedule = []time.Duration{10 * time.Second} }
			for range 20 {
				w.publish(0, "k")
			}
			w.subscribe("s", []int64{0}, filter.Query{}, ordered)
			p := w.startAlone()
			time.Sleep(time.Hour)
			if n := count(p.engine.m.buried); n > 0 {
				t.Errorf("%v events were set aside while the endpoint was down", n)
			}
			down.Store(false)
			w.await(time.Hour)
			poison.Store(w.end(0)) // the next
			w.publish(0, "another")
			for range 10 {
				w.publish(0, "k")
				time.Sleep(5 * time.Second)
			}
			w.await(time.Hour)
			if n := count(p.engine.m.buried); n != 1 || len(w.letters) != 1 || w.letters[0].Offset != poison.Load() {
				t.Errorf("%v events were set aside, want the one at %d: %+v", n, poison.Load(), w.letters)
			}
			p.stop()
		})
	}
}

func TestEndpointsBehindShareScansAndHoldNoMemory(t *testing.T) {
	const behind, events, keys = 40, 1000, 10
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		for n := range events {
			w.publish(0, fmt.Sprint("k", n%keys))
		}
		var open atomic.Bool
		for n := range behind {
			id := fmt.Sprint("s", n)
			w.sink(id).answer = func(string, spot) (int, time.Duration) {
				if !open.Load() {
					return 503, time.Millisecond
				}
				return 200, time.Millisecond
			}
			w.sink(id).spec = func(e *Endpoint) { e.Concurrency = 2 }
			w.subscribe(id, []int64{0}, filter.Query{SQL: fmt.Sprintf("subject LIKE 'k%%' AND LENGTH(id) > %d", n%2)}, n%3 > 0)
		}
		p := w.start(1, tabletest.Faults{Delay: 20 * time.Millisecond}, func(c *Config, _ *Engine) { c.MemoryBytes = 1 << 20 })
		p.tell(behind)
		time.Sleep(time.Second)
		w.assign(0, p, true)
		time.Sleep(10 * time.Minute)
		if held := p.engine.memory.Load(); held > 1<<20 {
			t.Errorf("%d bytes of events are held for endpoints that are down", held)
		}
		read := count(p.engine.m.rescanned)
		if most := float64(behind * events / 4); read > most {
			t.Errorf("%v records were read again for %d endpoints that are down, of a log of %d: scans are to be shared", read, behind, events)
		}
		open.Store(true)
		w.await(time.Hour)
		// They come back one by one, at their next trials, and each reads the log for itself, with what was cut off when it had
		// no room for more.
		read = count(p.engine.m.rescanned) + count(p.engine.m.recalled)
		if most := float64(8 * behind * events); read > most {
			t.Errorf("%v records were read again for %d endpoints that came back, of a log of %d", read, behind, events)
		}
		p.stop()
		if lost := count(p.engine.m.buried); lost > 0 {
			t.Errorf("%v events went to the dead letters", lost)
		}
	})
}
