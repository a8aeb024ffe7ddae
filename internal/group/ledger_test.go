package group

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// bare is a group without servers, with one lane that is held. What its lane's goroutine would do is for the test.
func bare(t *testing.T, change func(*Subscription)) (*group, *lane) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialTimeout: time.Second})
	closing(t, client.Close)
	sub := Subscription{
		ID: subscriptionID, Incarnation: "i1", Sources: []Source{{Stream: fanout.Stream{Name: "orders", Topic: "orders"}}},
		AckTimeout: time.Minute, MaxUncommitted: 10, MaxSessions: 100, MaxAttempts: 3,
	}
	if change != nil {
		change(&sub)
	}
	gs := &Groups{
		clock: clock.System(),
		cfg:   Config{Timeout: time.Second},
		deps:  Deps{Redis: client, Definitions: &definitions{subs: map[string]Subscription{sub.ID: sub}}},
		m:     newMetrics(nil), memory: &memory{total: 1 << 20}, log: slog.New(slog.DiscardHandler), groups: map[string]*group{}, replica: newID(),
	}
	gs.bus = newBus(gs)
	g := newGroup(gs, sub)
	gs.groups[sub.ID] = g
	l := newLane(g, &g.sub.Sources[0], &puppetClaim{topic: "orders"})
	l.held, l.at = true, place{"i1", "", 0}
	g.lanes = append(g.lanes, l)
	return g, l
}

// read has the lane read n events, of the keys given in turn.
func (l *lane) readSome(t *testing.T, n int, keys ...uint64) {
	t.Helper()
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	var entries []*fanout.Entry
	for k := range n {
		e, err := event.Parse(eventJSON(int(l.read)+k, "k"))
		if err != nil {
			t.Fatal(err)
		}
		entry := &fanout.Entry{Partition: l.partition, Offset: l.read + int64(k), Event: e}
		if len(keys) > 0 {
			entry.Key = keys[k%len(keys)]
		}
		entries = append(entries, entry)
	}
	if !l.add(l.tenure, l.itemsOf(l.tenure, entries), l.read+int64(n)) {
		t.Fatal("the lane is not held")
	}
	l.group.feed(l)
}

// store has what is to be written stored, as a write that succeeds does; or refused.
func (l *lane) store(stored bool) {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	items, receipts := l.todo, l.receipts
	l.todo, l.receipts = nil, nil
	if stored {
		l.stored = l.snapshot()
		l.settle(items)
	}
	for _, p := range receipts {
		p.keep(stored)
	}
	if !stored {
		l.reset()
	}
}

func enter(t *testing.T, g *group, s Session) *Member {
	t.Helper()
	m, err := g.admit(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func taken(m *Member, most int) []Delivery {
	all, _ := m.Take(nil, most, 1<<20)
	return all
}

// says has a session say something, and returns what it is answered; before is called once it waits for the answer.
func says(t *testing.T, m *Member, w stretch, before func()) Answer {
	t.Helper()
	answers := make(chan Answer, 1)
	go func() {
		a, err := m.group.groups.hear(t.Context(), m.group.id, m.id, []stretch{w})
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	if before != nil {
		eventually(t, "the word waits for the store", func() bool {
			m.group.mu.Lock()
			defer m.group.mu.Unlock()
			for _, l := range m.group.lanes {
				if len(l.receipts) > 0 {
					return true
				}
			}
			return false
		})
		before()
	}
	return <-answers
}

// due has all that is with sessions time out.
func (g *group) due() {
	g.mu.Lock()
	for _, l := range g.lanes {
		for _, i := range l.window.live() {
			if i.phase == phaseGiven {
				i.due, l.soonest = 1, 1
			}
		}
	}
	g.mu.Unlock()
	g.tick()
}

func TestACursorDoesNotSpeakForWhatWasNeverHandedOver(t *testing.T) {
	g, l := bare(t, nil)
	first := enter(t, g, Session{})
	l.readSome(t, 2)
	taken(first, 1)
	second := enter(t, g, Session{})
	g.mu.Lock()
	l.window.find(1).due, l.soonest, g.turn = 1, 1, 1
	g.mu.Unlock()
	g.tick() // it waited in the first session's queue for too long, and goes to the second
	equal(t, idsOf(taken(second, 10)), []string{"1"}, "the second session")
	g.mu.Lock()
	g.turn = 0
	g.mu.Unlock()
	l.readSome(t, 1)
	rest := taken(first, 10)
	equal(t, idsOf(rest), []string{"2"}, "the first session")
	if a := says(t, first, stretch{To: rest[0].Seq}, func() { l.store(true) }); a != (Answer{Acknowledged: 2}) {
		t.Fatalf("answered %+v", a)
	}
	if l.stored.isDone(1) || !l.stored.isDone(0) || !l.stored.isDone(2) {
		t.Fatalf("stored %+v", l.stored)
	}
}

func TestACursorThatWasNotGivenOutIsRefused(t *testing.T) {
	g, l := bare(t, nil)
	m := enter(t, g, Session{})
	l.readSome(t, 3)
	taken(m, 1)
	if a := says(t, m, stretch{To: 3}, nil); a.Refused == 0 || a.Acknowledged > 0 {
		t.Fatalf("answered %+v", a)
	}
}

func TestWhatIsSaidAgainWaitsForTheStoreToo(t *testing.T) {
	for _, stored := range []bool{true, false} {
		g, l := bare(t, nil)
		m := enter(t, g, Session{})
		l.readSome(t, 1)
		d := taken(m, 1)[0]
		gone, cancel := context.WithCancel(t.Context())
		cancel() // the client that said it first gave up
		if _, err := g.groups.hear(gone, g.id, m.id, []stretch{{To: d.Seq}}); err == nil {
			t.Fatal("answered, though nothing is stored")
		}
		a := says(t, m, stretch{To: d.Seq}, func() { l.store(stored) })
		if refused := a.Refused > 0; refused == stored {
			t.Fatalf("stored %v: answered %+v", stored, a)
		}
	}
}

// behind is a session that has let an event time out, which another has acknowledged since, and one more that is its own.
func behind(t *testing.T) (*group, *lane, *Member, []Delivery) {
	t.Helper()
	g, l := bare(t, nil)
	m := enter(t, g, Session{})
	l.readSome(t, 1)
	all := taken(m, 1)
	other := enter(t, g, Session{})
	g.mu.Lock()
	m.slow, g.turn = true, 1
	g.mu.Unlock()
	g.due()
	d := taken(other, 1)
	if len(d) != 1 || d[0].Attempt != 2 {
		t.Fatalf("the other session was given %v", d)
	}
	if a := says(t, other, stretch{To: d[0].Seq}, func() { l.store(true) }); a != (Answer{Acknowledged: 1}) {
		t.Fatalf("answered %+v", a)
	}
	other.Leave()
	g.mu.Lock()
	m.slow = false
	g.mu.Unlock()
	l.readSome(t, 1)
	return g, l, m, append(all, taken(m, 1)...)
}

// lose has a lane claimed anew, with nothing kept: Redis has lost it.
func (l *lane) lose() {
	l.group.mu.Lock()
	l.reset()
	l.held, l.stored, l.read = true, state{}, 0
	l.group.mu.Unlock()
}

func TestWhatWasDoneUnderAnotherClaimIsNotTakenForStored(t *testing.T) {
	_, l, m, all := behind(t)
	l.lose()
	if a := says(t, m, stretch{From: all[0].Seq, To: all[0].Seq}, nil); a.Refused == 0 || a.Acknowledged > 0 {
		t.Fatalf("answered %+v", a)
	}
}

func TestWhatAnotherHasSaidIsNotForgottenBeforeItIsSaid(t *testing.T) {
	for _, lost := range []bool{false, true} {
		_, l, m, all := behind(t)
		if a := says(t, m, stretch{From: all[1].Seq, To: all[1].Seq}, func() { l.store(true) }); a != (Answer{Acknowledged: 1}) {
			t.Fatalf("answered %+v", a)
		}
		before, want := func() { l.store(true) }, Answer{Acknowledged: 1}
		if lost {
			l.lose()
			before, want = nil, Answer{Refused: 1}
		}
		if a := says(t, m, stretch{From: all[0].Seq, To: all[0].Seq}, before); a != want {
			t.Fatalf("lost %v: answered %+v, want %+v", lost, a, want)
		}
	}
}

func TestWhatLiesFarBehindIsForgottenAndRefused(t *testing.T) {
	g, l, m, all := behind(t)
	g.mu.Lock()
	g.sub.MaxUncommitted = unsaidMost
	g.mu.Unlock()
	l.readSome(t, unsaidMost-1)
	all = append(all, taken(m, unsaidMost)...)
	last := all[len(all)-1]
	if a := says(t, m, stretch{From: all[1].Seq, To: last.Seq}, func() { l.store(true) }); a != (Answer{Acknowledged: unsaidMost}) {
		t.Fatalf("answered %+v", a)
	}
	g.mu.Lock()
	m.trim()
	left := len(m.ledger)
	g.mu.Unlock()
	if left > unsaidMost {
		t.Fatalf("%d are remembered", left)
	}
	l.readSome(t, 1)
	next := taken(m, 1)[0]
	if a := says(t, m, stretch{From: next.Seq, To: next.Seq}, func() { l.store(true) }); a != (Answer{Acknowledged: 1}) {
		t.Fatalf("of what is remembered: answered %+v", a)
	}
	if a := says(t, m, stretch{From: all[0].Seq, To: all[0].Seq}, nil); a != (Answer{Refused: 1}) {
		t.Fatalf("of what is forgotten: answered %+v", a)
	}
}

func TestWhatWaitsInAQueueIsNoAttempt(t *testing.T) {
	g, l := bare(t, func(s *Subscription) { s.MaxAttempts = 2 })
	m := enter(t, g, Session{})
	l.readSome(t, 3)
	if d := taken(m, 1); d[0].Attempt != 1 {
		t.Fatalf("attempt %d", d[0].Attempt)
	}
	for range 5 {
		g.due() // one was handed over; two wait
	}
	m.Leave()
	next := enter(t, g, Session{})
	attempts := map[string]int{}
	for _, d := range taken(next, 10) {
		attempts[idOf(d)] = d.Attempt
	}
	if attempts["0"] != 2 || attempts["1"] != 1 || attempts["2"] != 1 {
		t.Fatalf("attempts %v", attempts)
	}
	if len(g.dead) > 0 {
		t.Fatalf("%d dead letters", len(g.dead))
	}
}

func TestAnEmptyPageAcknowledgesNothing(t *testing.T) {
	g, l := bare(t, nil)
	m := enter(t, g, Session{Poll: true})
	l.readSome(t, 3)
	poll := func(after uint64, most int) Page {
		t.Helper()
		p, err := m.page(t.Context(), Poll{Most: most, MaxBytes: 1 << 20}, after)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if n := len(poll(0, 3).Deliveries); n != 3 {
		t.Fatalf("a page of %d", n)
	}
	// The page did not come. It is asked for again while nothing may be handed over.
	g.mu.Lock()
	l.suspect = true
	g.mu.Unlock()
	empty := poll(0, 3)
	g.mu.Lock()
	l.suspect = false
	g.mu.Unlock()
	at, err := parseToken(empty.Cursor)
	if err != nil || len(empty.Deliveries) > 0 {
		t.Fatalf("%v, a page of %d", err, len(empty.Deliveries))
	}
	if again := poll(at.seq, 2); len(again.Deliveries) != 2 || again.Deliveries[0].Seq != 1 {
		t.Fatalf("after the empty page: %v", idsOf(again.Deliveries))
	}
	if at, err := parseToken(poll(0, 2).Cursor); err != nil || at.seq != 2 {
		t.Fatalf("the cursor of a page of the first two speaks for %d, %v", at.seq, err)
	}
}

func TestAnAcknowledgedEventThatWasToBeBuriedIsStoredFirst(t *testing.T) {
	g, l := bare(t, func(s *Subscription) { s.MaxAttempts = 1 })
	m := enter(t, g, Session{})
	l.readSome(t, 1)
	d := taken(m, 1)[0]
	g.due()
	if len(g.dead) != 1 {
		t.Fatalf("%d to be buried", len(g.dead))
	}
	a := says(t, m, stretch{To: d.Seq}, func() {
		if i := g.dead[0]; i.phase != phaseAcking {
			t.Errorf("phase %d", i.phase)
		}
		l.store(true)
	})
	if a.Acknowledged != 1 {
		t.Fatalf("answered %+v", a)
	}
}

func TestWhatIsBehindTwoWaitsForBoth(t *testing.T) {
	g, l := bare(t, func(s *Subscription) { s.Ordered = true })
	l.stored.attempts = []attempt{{span{1, 2}, 3}} // used up, under a claim at which the order was none
	l.bound = l.stored.end()
	m := enter(t, g, Session{})
	l.readSome(t, 3, 7)
	first := taken(m, 10)
	equal(t, idsOf(first), []string{"0"}, "at first")
	if len(g.dead) > 0 {
		t.Fatal("an event is buried before the one before it with its key is done")
	}
	says(t, m, stretch{To: first[0].Seq}, func() { l.store(true) })
	g.mu.Lock()
	g.feed(l)
	g.mu.Unlock()
	if more := taken(m, 10); len(more) > 0 || len(g.dead) != 1 || g.dead[0].offset != 1 {
		t.Fatalf("given %v, %d to be buried", idsOf(more), len(g.dead))
	}
}

func TestAFewEventsGoToAllAlike(t *testing.T) {
	for n := range 20 {
		g, l := bare(t, nil)
		a, b := enter(t, g, Session{}), enter(t, g, Session{})
		l.readSome(t, n)
		g.mu.Lock()
		if d := a.outstanding - b.outstanding; d < -1 || d > 1 || a.outstanding+b.outstanding != n {
			t.Errorf("of %d events one session has %d and the other %d", n, a.outstanding, b.outstanding)
		}
		g.mu.Unlock()
	}
}

func TestAnAckTimeoutThatHasBecomeShorterHolds(t *testing.T) {
	g, l := bare(t, func(s *Subscription) { s.AckTimeout = time.Hour })
	m := enter(t, g, Session{})
	l.readSome(t, 1)
	g.mu.Lock()
	g.sub.AckTimeout = time.Minute
	g.mu.Unlock()
	taken(m, 10)
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.expire(time.Now().Add(2 * time.Minute).UnixNano()); !m.slow {
		t.Error("it is not taken back in time")
	}
}

func TestASessionIsWokenForWhatComesAfterAStandstill(t *testing.T) {
	g, _ := bare(t, nil)
	g.lanes = nil // all partitions are others'
	wakes := 0
	m := enter(t, g, Session{Notify: func() { wakes++ }})
	deliver := func(offset int64) {
		g.delivered(&message{From: newID(), Session: m.id, Stream: "orders", Nonce: "n", Parcels: []parcel{{Offset: offset, N: 1, JSON: []byte("{}")}}})
	}
	deliver(1)
	g.mu.Lock()
	g.ticked = time.Now().Add(-time.Minute)
	g.mu.Unlock()
	if late := taken(m, 10); len(late) > 0 {
		t.Fatalf("given %d, which may be with others by now", len(late))
	}
	wakes = 0
	deliver(2)
	if wakes == 0 {
		t.Error("it is not told of what came then")
	}
}

func TestASessionThatDoesNotReadLeavesTheRestToOthers(t *testing.T) {
	g, l := bare(t, func(s *Subscription) { s.MaxUncommitted = 5000 })
	stalled := enter(t, g, Session{})
	for range 3 {
		l.readSome(t, 1000)
	}
	other := enter(t, g, Session{})
	n := 0
	for some := taken(other, 5000); len(some) > 0; some = taken(other, 5000) {
		n += len(some)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if stalled.outstanding != queueMost || n != 3000-queueMost {
		t.Errorf("the session that reads nothing has %d, and the other was given %d", stalled.outstanding, n)
	}
}
