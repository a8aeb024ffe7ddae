package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A client acknowledges what it was given, and not what came back before it could be.
func TestWhatCameBackBeforeItWasTakenIsNotAcknowledgedWithTheRest(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.AckTimeout = 200 * time.Millisecond })
	gs := w.replica()
	c := w.open(gs)
	w.publish(2, "a", "b")
	eventually(t, "both have come back and were given again", func() bool {
		c.m.group.mu.Lock()
		defer c.m.group.mu.Unlock()
		return c.m.seq >= 4
	})
	d := c.take(1)[0]
	if d.Attempt != 1 {
		t.Fatalf("handed over for the first time in attempt %d", d.Attempt)
	}
	if a := c.ack(d); a.Acknowledged != 1 {
		t.Errorf("answered %+v for one event", a)
	}
	other := map[string]string{"0": "1", "1": "0"}[idOf(d)]
	if again := c.take(1)[0]; idOf(again) != other {
		t.Errorf("given %s, want %s", idOf(again), other)
	}
}

// A request that a later one has replaced takes nothing away from that, though it has not noticed yet.
func TestAReplacedPollTakesNothing(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	poll := func(after string, wait time.Duration) (Page, error) {
		return gs.Poll(t.Context(), subscriptionID, Poll{After: after, Most: 1, MaxBytes: 1 << 20, Wait: wait})
	}
	first, err := poll("", 0)
	if err != nil {
		t.Fatal(err)
	}
	g := gs.find(subscriptionID)
	earlier := make(chan error, 1)
	go func() {
		_, err := poll(first.Cursor, patience)
		earlier <- err
	}()
	eventually(t, "the earlier request waits, and the later one has come", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if m := g.members[0]; m.turns == 2 {
			m.turns++
		}
		return g.members[0].turns == 3
	})
	w.publish(1)
	if err := <-earlier; !errors.Is(err, ErrReplaced) {
		t.Errorf("the earlier request ended with %v, want %v", err, ErrReplaced)
	}
	page, err := poll(first.Cursor, patience)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, idsOf(page.Deliveries), []string{"0"}, "what the later request is given")
	if page.Deliveries[0].Attempt != 1 {
		t.Errorf("given in attempt %d", page.Deliveries[0].Attempt)
	}
}

// gate holds the writes of states, and then fails them.
type gate struct {
	held chan struct{} // closed: they fail
}

var errHeld = errors.New("held")

func (*gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "set" {
			return next(ctx, cmd)
		}
		<-h.held
		cmd.SetErr(errHeld)
		return errHeld
	}
}

// What is said a second time, while it is not known what becomes of the first, is answered by what becomes of it.
func TestAnAcknowledgementSaidTwiceIsDurableWhenItIsAnswered(t *testing.T) {
	w := newWorld(t, 1, nil)
	h := &gate{held: make(chan struct{})}
	release := sync.OnceFunc(func() { close(h.held) })
	gs := w.replicaOver(w.newLog(), h)
	t.Cleanup(release)
	w.publish(1)
	c := w.open(gs)
	word := []Word{{To: c.cursor(c.take(1)[0])}}
	answers := make(chan Answer, 2)
	var saying sync.WaitGroup
	defer saying.Wait()
	defer release()
	say := func() {
		saying.Go(func() {
			a, err := gs.Say(t.Context(), subscriptionID, word)
			if err != nil {
				t.Error(err)
			}
			answers <- a
		})
	}
	l := c.m.group.lanes[0]
	waits := func(n int) func() bool {
		return func() bool {
			l.group.mu.Lock()
			defer l.group.mu.Unlock()
			select {
			case a := <-answers:
				t.Fatalf("answered %+v before anything was stored", a)
			default:
			}
			// Those that wait are with the write under way, or for the next one.
			return len(l.window.live()) > 0 && l.window.live()[0].phase == phaseAcking && len(l.receipts) >= n
		}
	}
	say()
	eventually(t, "the first waits for its write", waits(0))
	say()
	eventually(t, "the second waits for a write", waits(1))
	release()
	for range 2 {
		if a := <-answers; a.Refused == 0 || a.Acknowledged > 0 {
			t.Errorf("answered %+v, though nothing was stored", a)
		}
	}
}

// apart is a replica that owns the only partition, with a session that was given four events and acknowledged them, and a
// session on another replica that was given four, too.
func apart(t *testing.T, timeout time.Duration) (w *world, owner *Groups, here, there *client) {
	t.Helper()
	w = newWorld(t, 1, func(s *Subscription) { s.Ordered, s.MaxUncommitted, s.AckTimeout = false, 4, timeout })
	owner = w.replica()
	other := w.replica()
	here = w.open(owner)
	eventually(t, "the first replica owns the partition", func() bool { return len(owner.find(subscriptionID).stats().Partitions) == 1 })
	there = w.open(other)
	w.publish(8)
	here.take(4)
	eventually(t, "the other session is given the rest", func() bool {
		there.m.group.mu.Lock()
		defer there.m.group.mu.Unlock()
		return there.m.seq-there.m.next == 3
	})
	return w, owner, here, there
}

// The sessions of other replicas acknowledge what they have while the last session of the owner is gone.
func TestAnOwnerThatLeavesHearsTheSessionsElsewhere(t *testing.T) {
	_, owner, here, there := apart(t, time.Minute)
	here.ack(here.got[3])
	got := there.take(4)
	g := owner.find(subscriptionID)
	here.m.Leave()
	eventually(t, "the owner lets the partition go", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.ending && (len(g.lanes) == 0 || g.lanes[0].lost)
	})
	if a := there.ack(got[3]); a.Acknowledged != 4 || a.Refused != 0 {
		t.Errorf("answered %+v", a)
	}
}

// What came from another replica and was not taken in time is with others by then.
func TestWhatCameFromElsewhereIsNotGivenOutLate(t *testing.T) {
	_, _, here, there := apart(t, 300*time.Millisecond)
	here.ack(here.got[3])
	here.ack(here.take(4)[3]) // they have come back
	eventually(t, "its time is over", func() bool {
		there.m.group.mu.Lock()
		defer there.m.group.mu.Unlock()
		return there.m.entry(there.m.seq).away.due < there.m.group.groups.due(0)
	})
	if late, _ := there.m.Take(nil, 10, 1<<20); len(late) > 0 {
		t.Errorf("given %v, which are acknowledged", idsOf(late))
	}
}

// A replica that stood still, and may have been replaced, tells nothing of positions.
func TestWhoStoodStillTellsNoPositions(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	c := w.open(gs)
	w.publish(1)
	c.take(1)
	g := gs.find(subscriptionID)
	g.mu.Lock()
	g.ticked = time.Now().Add(-time.Minute)
	g.mu.Unlock()
	if p := g.stats().Partitions; len(p) != 0 {
		t.Errorf("tells %+v", p)
	}
}
