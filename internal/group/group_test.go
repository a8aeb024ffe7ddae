package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

func TestWhatIsAcknowledgedDoesNotComeAgain(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	w.publish(10, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	c := w.open(gs)
	got := c.take(10)
	equal(t, idsOf(got), numbersFrom(0, 10), "the first session")
	if a := c.ack(got[5]); a != (Answer{Acknowledged: 6}) {
		t.Fatalf("answered %+v", a)
	}
	if a := c.ack(got[5]); a != (Answer{}) {
		t.Fatalf("acknowledged again: answered %+v", a)
	}
	c.m.Leave()
	again := w.open(gs).take(4)
	equal(t, idsOf(again), numbersFrom(6, 4), "the second session")
	for _, d := range again {
		if d.Attempt != 2 || d.Group != "orders/0" {
			t.Fatalf("%+v is no second attempt", d)
		}
	}
}

func TestAnEventWaitsForThoseOfItsKey(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	w.publish(6, "a", "b")
	c := w.open(gs)
	first := c.take(2)
	equal(t, idsOf(first), []string{"0", "1"}, "the first of each key")
	if more, _ := c.m.Take(nil, 10, 1<<20); len(more) > 0 {
		t.Fatalf("given %v before those before it were acknowledged", idsOf(more))
	}
	c.say(Word{From: c.cursor(first[1]), To: c.cursor(first[1])})
	next := c.take(1)
	equal(t, idsOf(next), []string{"3"}, "the second of b")
	c.ack(next[0])
	equal(t, idsOf(c.take(2)), []string{"2", "5"}, "what waited behind them")
}

func TestPartitionsAreDealtOutAndMoveOnlyAsNeeded(t *testing.T) {
	w := newWorld(t, 4, nil)
	gs := w.replica()
	first := w.open(gs)
	eventually(t, "all partitions are the first session's", func() bool {
		s := gs.find(subscriptionID).stats()
		return len(s.Sessions[0].Groups) == 4
	})
	second := w.open(gs)
	third := w.open(gs)
	fifth := []*client{first, second, third, w.open(gs), w.open(gs)}
	for fifth[4].note("waiting").Reason != "partitions" {
	}
	owned := func() (all []string) {
		for _, s := range gs.find(subscriptionID).stats().Sessions {
			if len(s.Groups) > 1 {
				t.Fatalf("%v for one session, though others have none", s.Groups)
			}
			all = append(all, s.Groups...)
		}
		return all
	}
	if all := owned(); len(all) != 4 {
		t.Fatalf("dealt out %v", all)
	}
	before := gs.find(subscriptionID).stats().Sessions
	second.m.Leave()
	after := gs.find(subscriptionID).stats().Sessions
	for _, s := range after {
		for _, b := range before {
			if s.ID == b.ID && len(b.Groups) > 0 && !slices.Equal(s.Groups, b.Groups) {
				t.Fatalf("%v moved from a session that stayed", b.Groups)
			}
		}
	}
	fifth[4].note("assigned")
}

func TestAPartitionMovesOnceWhatIsOutIsAcknowledged(t *testing.T) {
	w := newWorld(t, 2, nil)
	gs := w.replica()
	w.publish(8, "a", "b", "c", "d", "e", "f", "g", "h")
	first := w.open(gs)
	got := first.take(8)
	second := w.open(gs)
	if more, _ := second.m.Take(nil, 10, 1<<20); len(more) > 0 {
		t.Fatalf("given %v, which the first session has", idsOf(more))
	}
	first.ack(got[7])
	if n := second.note("assigned"); len(n.Groups) != 1 {
		t.Fatalf("told %+v", n)
	}
	w.publish(8, "a", "b", "c", "d", "e", "f", "g", "h")
	eventually(t, "both get what comes", func() bool {
		a, _ := first.m.Take(nil, 10, 1<<20)
		b, _ := second.m.Take(nil, 10, 1<<20)
		first.got, second.got = append(first.got, a...), append(second.got, b...)
		return len(first.got)+len(second.got) == 16 && len(second.got) > 0
	})
}

func TestUnacknowledgedInTimeGoesToAnotherSession(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.AckTimeout = 300 * time.Millisecond })
	gs := w.replica()
	slow := w.open(gs)
	w.publish(1)
	slow.take(1)
	quick := w.open(gs)
	got := quick.take(1)
	if got[0].Attempt != 2 {
		t.Fatalf("attempt %d", got[0].Attempt)
	}
	for slow.note("waiting").Reason != "ackTimeout" {
	}
	// The first session's word comes late, and counts.
	if a := slow.ack(slow.got[0]); a.Acknowledged != 1 {
		t.Fatalf("answered %+v", a)
	}
	if a := quick.ack(got[0]); a.Acknowledged != 1 {
		t.Fatalf("answered %+v", a)
	}
}

func TestGivenBackComesAgainAfterTheDelay(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.Ordered = false })
	gs := w.replica()
	c := w.open(gs)
	w.publish(3)
	got := c.take(3)
	if a := c.say(Word{To: c.cursor(got[1]), Back: true, Delay: 100 * time.Millisecond}); a.Returned != 1 {
		t.Fatalf("answered %+v", a)
	}
	if a := c.say(Word{From: c.cursor(got[0]), To: c.cursor(got[0])}, Word{From: c.cursor(got[2]), To: c.cursor(got[2])}); a.Acknowledged != 2 {
		t.Fatalf("answered %+v", a)
	}
	again := c.take(1)
	if idOf(again[0]) != "1" || again[0].Attempt != 2 {
		t.Fatalf("given %s in attempt %d", idOf(again[0]), again[0].Attempt)
	}
	c.ack(again[0])
	eventually(t, "the position is behind all", func() bool {
		s, err := gs.Stats(t.Context(), subscriptionID)
		return err == nil && s.Partitions[0].Position == 3 && s.Lag == 0
	})
}

func TestUsedUpAttemptsMakeADeadLetterAndTheRestGoesOn(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.MaxAttempts = 2 })
	gs := w.replica()
	c := w.open(gs)
	w.publish(3) // of one key
	for n := 1; n <= 2; n++ {
		d := c.take(1)[0]
		if idOf(d) != "0" || d.Attempt != n {
			t.Fatalf("given %s in attempt %d", idOf(d), d.Attempt)
		}
		c.say(Word{To: c.cursor(d), Back: true})
	}
	d := c.take(1)[0]
	if idOf(d) != "1" {
		t.Fatalf("given %s", idOf(d))
	}
	c.ack(d)
	c.ack(c.take(1)[0])
	letters, next, err := gs.letters.Page(t.Context(), subscriptionID, 0, 10)
	if err != nil || next != -1 || len(letters) != 1 {
		t.Fatalf("dead letters %+v, next %d, %v", letters, next, err)
	}
	if l := letters[0]; l.Offset != 0 || l.Attempts != 2 || l.Reason != string(ReasonNack) || l.Stream != "orders" {
		t.Fatalf("%+v", l)
	}
}

func TestAnotherReplicaGoesOnWhereTheFirstWas(t *testing.T) {
	w := newWorld(t, 2, nil)
	one, two := w.replica(), w.replica()
	w.publish(20, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	c := w.open(one)
	got := c.take(10)
	c.ack(got[9])
	c.m.Leave()
	var rest []Delivery
	d := w.open(two)
	for len(rest) < 10 {
		some := d.take(1)
		d.ack(some[0])
		rest = append(rest, some...)
	}
	seen := map[string]int{}
	for _, x := range append(got, rest...) {
		seen[idOf(x)]++
	}
	if len(seen) != 20 {
		t.Fatalf("%d different events of 20: %v", len(seen), seen)
	}
}

func TestSessionsOfAnotherReplicaAreFedWithoutOrdering(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.Ordered, s.MaxUncommitted = false, 4 })
	one, two := w.replica(), w.replica()
	a := w.open(one)
	eventually(t, "the first replica owns the partition", func() bool { return len(one.find(subscriptionID).stats().Partitions) == 1 })
	b := w.open(two)
	w.publish(8)
	a.take(4)
	got := b.take(4)
	if answer := b.ack(got[3]); answer.Acknowledged != 4 {
		t.Fatalf("answered %+v", answer)
	}
	if answer := a.ack(a.got[3]); answer.Acknowledged != 4 {
		t.Fatalf("answered %+v", answer)
	}
	eventually(t, "everything is done", func() bool {
		s, err := two.Stats(t.Context(), subscriptionID)
		return err == nil && s.Lag == 0 && len(s.Sessions) == 2
	})
}

func TestWordsReachTheSessionThroughAnyReplica(t *testing.T) {
	w := newWorld(t, 1, nil)
	one, two := w.replica(), w.replica()
	c := w.open(one)
	w.publish(1)
	d := c.take(1)[0]
	a, err := two.Say(t.Context(), subscriptionID, []Word{{To: c.cursor(d)}})
	if err != nil || a.Acknowledged != 1 {
		t.Fatalf("answered %+v, %v", a, err)
	}
}

func TestAPollIsRepeatedAndGoesOnThroughAnyReplica(t *testing.T) {
	w := newWorld(t, 1, nil)
	one, two := w.replica(), w.replica()
	w.publish(5, "a", "b", "c", "d", "e")
	poll := func(gs *Groups, after string) Page {
		t.Helper()
		p, err := gs.Poll(t.Context(), subscriptionID, Poll{After: after, Most: 2, MaxBytes: 1 << 20, Wait: patience})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := poll(one, "")
	if n := len(first.Deliveries); n == 0 || n > 2 {
		t.Fatalf("a page of %d events", n)
	}
	got := idsOf(first.Deliveries)
	second := poll(one, first.Cursor)
	equal(t, idsOf(poll(two, first.Cursor).Deliveries), idsOf(second.Deliveries), "the page asked for again, elsewhere")
	got = append(got, idsOf(second.Deliveries)...)
	for at := second.Cursor; len(got) < 5; {
		p := poll(two, at)
		got, at = append(got, idsOf(p.Deliveries)...), p.Cursor
	}
	equal(t, got, numbersFrom(0, 5), "all pages")
}

func TestALostRedisCostsRedeliveryNotLoss(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	w.publish(4, "a", "b", "c", "d")
	c := w.open(gs)
	got := c.take(4)
	c.ack(got[1])
	client := w.servers.RedisAddr()
	flush(t, client)
	if a := c.ack(got[3]); a.Refused == 0 {
		t.Fatalf("answered %+v", a)
	}
	if why := c.m.Ending(); why == nil || !why.Reconnect() {
		t.Fatalf("the session ends with %v", why)
	}
	c.m.Leave()
	d := w.open(gs)
	equal(t, idsOf(d.take(2)), []string{"2", "3"}, "what the owner remembers is not given again")
}

func TestAReplacedOwnerAcknowledgesNothing(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	w.publish(1)
	c := w.open(gs)
	d := c.take(1)[0]
	// Another takes the state over, as an owner does that Kafka put in this one's place.
	l := gs.find(subscriptionID).lanes[0]
	if nonce, err := gs.store.take(t.Context(), l.at, l.nonce, state{}); err != nil || nonce == "" {
		t.Fatalf("%q, %v", nonce, err)
	}
	if a := c.ack(d); a.Acknowledged != 0 || a.Refused != 1 {
		t.Fatalf("answered %+v", a)
	}
}

func TestAResetBeginsAnewWithoutTheOldWords(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	w.publish(3, "a", "b", "c")
	c := w.open(gs)
	got := c.take(3)
	c.ack(got[1])
	sub, _ := w.defs.Subscription(subscriptionID)
	sub.Incarnation = "i2"
	w.define(sub)
	gs.Changed(subscriptionID)
	again := c.take(3)
	equal(t, idsOf(again), numbersFrom(0, 3), "after the reset")
	if a := c.ack(got[2]); a.Refused == 0 {
		t.Fatalf("an old delivery's acknowledgement is answered %+v", a)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.MaxSessions = 1 })
	gs := w.replica()
	w.open(gs)
	var limit *LimitError
	if _, err := gs.Open(t.Context(), subscriptionID, Session{}); !errors.As(err, &limit) || limit.Limit != 1 {
		t.Fatalf("got %v", err)
	}
	if _, err := gs.Open(t.Context(), "another", Session{}); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v", err)
	}
}

func flush(t testing.TB, addr string) {
	t.Helper()
	c := redisClient(addr)
	defer func() { _ = c.Close() }()
	if err := c.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestADeadLetterThatIsTooLargeGoesWithoutItsEvent(t *testing.T) {
	w := newWorld(t, 1, func(s *Subscription) { s.MaxAttempts = 1 })
	gs := w.replica()
	if err := w.log.Create(t.Context(), gs.cfg.DeadLetters, broker.TopicConfig{Partitions: 12, MaxMessageBytes: 4096}); err != nil {
		t.Fatal(err)
	}
	c := w.open(gs)
	w.publishJSON(fmt.Appendf(nil, `{"specversion":"1.0","id":"0","type":"no.acme.order","source":"/test","data":%q}`, strings.Repeat("x", 5000)))
	c.say(Word{To: c.cursor(c.take(1)[0]), Back: true})
	eventually(t, "the event is done", func() bool {
		s, err := gs.Stats(t.Context(), subscriptionID)
		return err == nil && s.Partitions[0].Position == 1
	})
	letters, _, err := gs.letters.Page(t.Context(), subscriptionID, 0, 10)
	if err != nil || len(letters) != 1 || letters[0].Offset != 0 || string(letters[0].Event) != "null" {
		t.Fatalf("%+v, %v", letters, err)
	}
}

func TestATopicThatIsMadeAgainIsReadFromItsBeginning(t *testing.T) {
	w := newWorld(t, 1, nil)
	gs := w.replica()
	w.publish(3, "a", "b", "c")
	c := w.open(gs)
	got := c.take(3)
	c.ack(got[2])
	if err := w.log.Delete(t.Context(), w.topic); err != nil {
		t.Fatal(err)
	}
	if err := w.log.Create(t.Context(), w.topic, broker.TopicConfig{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log takes events again", func() bool {
		return w.log.Append(t.Context(), w.topic, []broker.Message{{Key: []byte("k"), Value: eventJSON(7, "k")}})[0].Err == nil
	})
	again := c.take(1)
	if idOf(again[0]) != "7" {
		t.Fatalf("given %s", idOf(again[0]))
	}
	if a := c.ack(again[0]); a.Acknowledged != 1 {
		t.Fatalf("answered %+v", a)
	}
}
