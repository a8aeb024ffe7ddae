package group

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// away is a session of the second replica that was given n events of a partition of the first.
func away(t *testing.T, n int, change func(*Subscription)) (w *world, owner *group, home, c *client, got []Delivery) {
	t.Helper()
	w = newWorld(t, 1, func(s *Subscription) {
		s.Ordered, s.MaxUncommitted = false, n
		if change != nil {
			change(s)
		}
	})
	one, two := w.replica(), w.replica()
	home = w.open(one)
	owner = one.find(subscriptionID)
	eventually(t, "the first replica owns the partition", func() bool { return len(owner.stats().Partitions) == 1 })
	c = w.open(two)
	w.publish(2 * n)
	home.take(n)
	return w, owner, home, c, c.take(n)
}

func TestAWordThatDidNotReachTheOwnerIsSaidAgain(t *testing.T) {
	_, owner, _, c, got := away(t, 2, nil)
	for range cap(owner.groups.bus.work) { // the owner loses what comes
		owner.groups.bus.work <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if a, err := c.gs.Say(ctx, subscriptionID, []Word{{To: c.cursor(got[1])}}); err == nil {
		t.Fatalf("answered %+v", a)
	}
	for range cap(owner.groups.bus.work) {
		<-owner.groups.bus.work
	}
	if a := c.ack(got[1]); a.Acknowledged != 2 {
		t.Fatalf("said again: answered %+v", a)
	}
	if a := c.ack(got[1]); a != (Answer{}) {
		t.Fatalf("said a third time: answered %+v", a)
	}
}

func TestALateWordFromElsewhereTakesNothingFromAnother(t *testing.T) {
	_, owner, home, c, got := away(t, 1, nil)
	home.ack(home.got[0])
	owner.mu.Lock()
	i := owner.lanes[0].window.find(1)
	if i == nil || i.to == nil || i.to.proxy == nil {
		i = owner.lanes[0].window.find(0)
	}
	i.due, i.lane.soonest = 1, 1
	owner.mu.Unlock()
	owner.tick()
	again := home.take(1)
	if idOf(again[0]) != idOf(got[0]) || again[0].Attempt != 2 {
		t.Fatalf("given %s in attempt %d", idOf(again[0]), again[0].Attempt)
	}
	c.say(Word{To: c.cursor(got[0]), Back: true})
	owner.mu.Lock()
	defer owner.mu.Unlock()
	if i.phase != phaseGiven || i.to != home.m {
		t.Fatalf("it was taken from the session that has it: phase %d", i.phase)
	}
}

func TestWhatOthersTookBackIsNotOutstanding(t *testing.T) {
	_, _, _, c, _ := away(t, 2, nil)
	g := c.m.group
	g.mu.Lock()
	for k := range c.m.ledger {
		c.m.ledger[k].away.due = 1
	}
	g.mu.Unlock()
	g.tick()
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.m.outstanding != 0 || !c.m.slow {
		t.Fatalf("%d are outstanding, slow %v", c.m.outstanding, c.m.slow)
	}
}

func TestASessionThatTakesAgainIsGivenMoreByOthers(t *testing.T) {
	g, _ := bare(t, nil)
	m := enter(t, g, Session{})
	deliver := func(offset int64) {
		g.delivered(&message{From: newID(), Session: m.id, Stream: "orders", Partition: 1, Nonce: "n", Parcels: []parcel{{Offset: offset, N: 1, JSON: []byte("{}")}}})
	}
	credit := func() int {
		t.Helper()
		g.announce()
		told := (<-g.groups.bus.out).message.Sessions
		if len(told) != 1 {
			t.Fatalf("told of %d sessions", len(told))
		}
		return told[0].Credit
	}
	deliver(1)
	g.mu.Lock()
	m.ledger[0].away.due = 1
	g.mu.Unlock()
	g.tick()
	if n := credit(); n != 0 {
		t.Fatalf("has room for %d, though it takes nothing", n)
	}
	if all := taken(m, 1); len(all) > 0 {
		t.Fatal("given what its owner has taken back")
	}
	if n := credit(); n == 0 {
		t.Fatal("is given nothing, though it takes again")
	}
	deliver(2)
	if all := taken(m, 1); len(all) != 1 {
		t.Fatal("not given what came then")
	}
}

func TestAWriteIsSentOnce(t *testing.T) {
	var cmd redis.Cmder = once{redis.NewCmd(t.Context(), "set")}
	if !cmd.NoRetry() {
		t.Fatal("a cluster's client repeats it")
	}
}
