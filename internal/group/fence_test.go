package group

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
)

func TestALogThatLostItsEndLosesWhatWasDoneThere(t *testing.T) {
	for _, when := range []string{"dirty", "a write is on its way"} {
		g, l := bare(t, nil)
		m := enter(t, g, Session{})
		l.readSome(t, 6)
		d := taken(m, 6)
		says(t, m, stretch{To: d[2].Seq}, func() { l.store(true) })
		if l.stored.pos != 3 {
			t.Fatalf("stands at %d", l.stored.pos)
		}
		w := newWriter(l, l.tenure)
		g.mu.Lock()
		m.say(stretch{To: d[5].Seq}, newReceipt())
		var writing state
		if when != "dirty" { // as start does
			w.items, w.receipts = l.todo, l.receipts
			l.todo, l.receipts, writing = nil, nil, l.snapshot()
		}
		g.mu.Unlock()
		if ok, _ := l.took(l.tenure, nil, 2, []broker.Gap{{From: 6, To: 2, Reason: broker.GapTruncated}}); ok {
			t.Fatal("goes on under the same claim")
		}
		if when == "dirty" {
			if w.start(t.Context(), true); w.saving {
				t.Error("what was done of the old log is written as done of the new one")
			}
		} else {
			w.ended(saved{state: writing, ok: true})
		}
		if want := (state{cut: 1, pos: 2}); l.stored.cut != want.cut || l.stored.pos != want.pos || len(l.stored.done) > 0 {
			t.Errorf("%s: %+v, want %+v", when, l.stored, want)
		}
	}
}

func TestAWriteFromBeforeAStandstillProvesNothing(t *testing.T) {
	g, l := bare(t, nil)
	m := enter(t, g, Session{})
	l.readSome(t, 1)
	w := newWriter(l, l.tenure)
	w.standstills = g.standstills
	g.mu.Lock()
	g.ticked = time.Now().Add(-time.Minute)
	s := l.snapshot()
	g.mu.Unlock()
	w.ended(saved{state: s, ok: true}) // its answer was there already when the process woke
	if all := taken(m, 1); len(all) > 0 {
		t.Fatalf("given %v", idsOf(all))
	}
	w.standstills = g.standstills
	w.ended(saved{state: s, ok: true})
	if all := taken(m, 1); len(all) != 1 {
		t.Fatal("given nothing after a write that began later")
	}
}

func TestWhatAnotherReplicaGaveIsNotHandedOverAfterAStandstill(t *testing.T) {
	g, _ := bare(t, nil)
	m := enter(t, g, Session{})
	g.delivered(&message{From: newID(), Session: m.id, Stream: "orders", Partition: 1, Nonce: "n", Parcels: []parcel{{Offset: 7, N: 1, JSON: []byte("{}")}}})
	g.mu.Lock()
	g.ticked = time.Now().Add(-time.Minute)
	g.mu.Unlock()
	for range 2 {
		if all := taken(m, 1); len(all) > 0 {
			t.Fatalf("given offset 7 of another's partition")
		}
	}
	if m.outstanding != 0 {
		t.Fatalf("%d are outstanding", m.outstanding)
	}
}

// onClaim calls fn before the first claim is made.
type onClaim struct {
	once sync.Once
	fn   func()
}

func (*onClaim) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*onClaim) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (o *onClaim) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name == "evalsha" || name == "eval" {
			o.once.Do(o.fn)
		}
		return next(ctx, cmd)
	}
}

func TestAResetDuringAClaimHolds(t *testing.T) {
	w := newWorld(t, 1, nil)
	w.publish(4, "a", "b", "c", "d")
	hook := &onClaim{}
	gs := w.replicaOver(w.newLog(), hook)
	hook.fn = func() {
		sub, _ := w.defs.Subscription(subscriptionID)
		sub.Incarnation, sub.Sources = "i2", slices.Clone(sub.Sources)
		sub.Sources[0].Start = []int64{2}
		w.define(sub)
		gs.find(subscriptionID).redefine()
	}
	c := w.open(gs)
	equal(t, idsOf(c.take(2)), []string{"2", "3"}, "after the reset")
}

func TestNothingIsGivenOutUnderADefinitionThatIsOver(t *testing.T) {
	g, l := bare(t, nil)
	m := enter(t, g, Session{})
	defs := g.groups.deps.Definitions.(*definitions)
	sub, _ := defs.Subscription(subscriptionID)
	sub.Ordered = true
	defs.mu.Lock()
	defs.subs[sub.ID] = sub
	defs.mu.Unlock()
	g.redefine()
	l.readSome(t, 2, 7)
	g.tick()
	if all := taken(m, 10); len(all) > 0 {
		t.Fatalf("given %v, without their order", idsOf(all))
	}
}
