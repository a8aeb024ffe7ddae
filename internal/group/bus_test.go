package group

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"
)

func TestAReplicaThatEndsSaysThatItsSessionsAreGone(t *testing.T) {
	w := newWorld(t, 1, nil)
	listener := redisClient(w.servers.RedisAddr())
	closing(t, listener.Close)
	gs := w.replica()
	sub := listener.Subscribe(t.Context(), gs.bus.groupChannel(subscriptionID))
	closing(t, sub.Close)
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := sub.Channel()
	late := time.After(patience)
	until := func(sessions int) {
		t.Helper()
		for {
			select {
			case text := <-heard:
				var m message
				if err := json.Unmarshal([]byte(text.Payload), &m); err != nil {
					t.Fatal(err)
				}
				if m.Kind == "here" && len(m.Sessions) == sessions {
					return
				}
			case <-late:
				t.Fatalf("never told of %d sessions", sessions)
			}
		}
	}
	w.open(gs)
	until(1)
	w.stop(gs)
	until(0)
}

func TestWhatWaitedForTooLongIsNotDelivered(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	sub := gs.deps.Redis.Subscribe(t.Context(), "elsewhere")
	closing(t, sub.Close)
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	gs.bus.out <- outgoing{"elsewhere", message{Kind: "deliver", Stream: "old"}, time.Now().Add(-2 * late)}
	gs.bus.later("elsewhere", message{Kind: "deliver", Stream: "new"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text, err := sub.ReceiveMessage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var m message
	if err := json.Unmarshal([]byte(text.Payload), &m); err != nil || m.Stream != "new" {
		t.Fatalf("heard %s, %v", text.Payload, err)
	}
}

func TestPagesThatWaitDoNotHoldUpAcknowledgements(t *testing.T) {
	w := newWorld(t, 1, nil)
	one, two := w.replica(), w.replica()
	c := w.open(one)
	w.publish(1)
	d := c.take(1)[0]
	for range cap(one.bus.wait) {
		one.bus.wait <- struct{}{}
	}
	a, err := two.Say(t.Context(), subscriptionID, []Word{{To: c.cursor(d)}})
	if err != nil || a.Acknowledged != 1 {
		t.Fatalf("answered %+v, %v", a, err)
	}
	var parts sync.WaitGroup
	poll, err := json.Marshal(message{Kind: "poll", From: two.replica, Group: subscriptionID, Poll: &Poll{}})
	if err != nil {
		t.Fatal(err)
	}
	one.bus.receive(t.Context(), &parts, string(poll))
	parts.Wait() // there is no place for it: it is not worked on
	for range cap(one.bus.wait) {
		<-one.bus.wait
	}
}
