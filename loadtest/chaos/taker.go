package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

const (
	// ackTimeout is that of the subscriptions: what is not acknowledged so soon is given to another session.
	ackTimeout = 4 * time.Second
	// sayPause is the least time between the acknowledgements of a session.
	sayPause = 20 * time.Millisecond
	// mostUnacknowledged is what a session may hold.
	mostUnacknowledged = 50
	// mostAttempts has no event become a dead letter.
	mostAttempts = 1_000_000
)

// subscribe makes a subscription, with a sink if one is named, and returns its id once all replicas know it.
func (c *cluster) subscribe(ctx context.Context, name, sink string, config map[string]any) (id string, err error) {
	body := map[string]any{"name": name, "streams": []string{theStream}, "config": config}
	if sink != "" {
		body["sink"] = sink
	}
	var made struct{ ID string }
	if err := c.must(ctx, c.replicas[0], http.MethodPost, "/v1/subscriptions", body, &made); err != nil {
		return "", err
	}
	return made.ID, c.known(ctx, "/v1/subscriptions/"+made.ID)
}

func (c *cluster) share(ctx context.Context, name string, ordered bool) (id string, err error) {
	return c.subscribe(ctx, name, "", map[string]any{
		"from": "oldest", "ordering": ordering(ordered), "ackTimeout": ackTimeout.String(), "maxUncommitted": mostUnacknowledged,
		"maxAttempts": mostAttempts,
	})
}

func ordering(byKey bool) string {
	if byKey {
		return "key"
	}
	return "none"
}

// taker is a client of a subscription: one session after the other, each at another replica. It acknowledges what it
// has, soon or late, or not at all, and what it is not sure of once more.
type taker struct {
	Reader
	name    string
	cluster *cluster
	dialer  dialer
	journal *Journal
	rand    *rand.Rand // owned by run
	id      string     // of the subscription
}

func (k *taker) title() string { return k.name }

func (k *taker) path() string { return "/v1/subscriptions/" + k.id }

// run takes events until ctx ends.
func (k *taker) run(ctx context.Context) {
	k.journal.Note(Entry{What: WhatReader, Who: k.name, Reader: &k.Reader})
	for n := 1; ctx.Err() == nil; n++ {
		v := k.cluster.replicas[k.rand.IntN(replicaCount)]
		k.journal.Note(Entry{What: WhatOpen, Who: k.name, On: v.name, Link: n})
		closed(k.journal, k.name, v, n, k.session(ctx, v, n), http.StatusConflict)
		clock.Pause(ctx, time.Duration(20+k.rand.IntN(400))*time.Millisecond)
	}
}

// sitting is a session of a taker.
type sitting struct {
	*taker
	on     *replica
	number int
	unsaid []string // events that are not acknowledged
	cursor string   // of the last of them
	said   time.Time
	// waiting are what was acknowledged in the session, and is not answered yet, by the cursor.
	waiting map[string][]string
}

func (k *taker) session(ctx context.Context, v *replica, n int) error {
	s := &sitting{taker: k, on: v, number: n, waiting: map[string][]string{}}
	return listen(ctx, k.rand, k.dialer, k.Over, v, k.path()+"/events", url.Values{"heartbeat": {"1s"}}, "", s.take)
}

// take takes what came, and acknowledges what there is every few milliseconds, now and then late.
func (s *sitting) take(ctx context.Context, l *link, m *message) error {
	if s.Over == overPages {
		s.paged() // asking for this page acknowledged the one before
	}
	if m.control == "acked" {
		return s.acked(m)
	}
	e := Entry{What: WhatGiven, Who: s.name, On: s.on.name, Link: s.number}
	for i := range m.events {
		e.IDs = append(e.IDs, m.events[i].ID)
		if fault := m.events[i].faithful(); fault != "" {
			e.Text = cut(fault)
		}
	}
	if m.control != "" {
		e.What, e.Text = WhatControl, m.control
	}
	if m.control != "" || len(e.IDs) > 0 {
		s.journal.Note(e)
	}
	if err := controlOf(m, &e); err != nil {
		return err
	}
	if len(e.IDs) > 0 {
		s.unsaid, s.cursor = append(s.unsaid, e.IDs...), m.events[len(m.events)-1].EventIssuerCursor
		if s.Over == overSSE { // which has it beside the event
			s.cursor = m.cursor
		}
	}
	switch {
	case len(s.unsaid) == 0:
		return nil
	case s.Over == overPages: // the next page is asked for with the cursor, whatever the client would like
		s.journal.Note(Entry{What: WhatSay, Who: s.name, On: s.on.name, Link: s.number, IDs: s.unsaid})
		return nil
	case time.Since(s.said) < sayPause || s.rand.IntN(8) == 0:
		return nil
	}
	s.said = time.Now()
	return s.say(ctx, l)
}

// say acknowledges all that the session has.
func (s *sitting) say(ctx context.Context, l *link) error {
	ids, token := s.unsaid, s.cursor
	s.unsaid = nil
	s.journal.Note(Entry{What: WhatSay, Who: s.name, On: s.on.name, Link: s.number, IDs: ids})
	if l.say != nil {
		s.waiting[token] = ids
		return l.say(ctx, map[string]any{"ack": token})
	}
	for try := range 3 {
		done, err := s.post(ctx, token)
		if done {
			s.journal.Note(Entry{What: WhatSaid, Who: s.name, On: s.on.name, Link: s.number, IDs: ids})
		}
		if done || err != nil || ctx.Err() != nil {
			return err
		}
		clock.Pause(ctx, time.Duration(50<<try)*time.Millisecond)
	}
	return errSilent // the session goes on elsewhere
}

// post acknowledges through any replica, and reports whether that is durable. It is an error where it is refused.
func (s *sitting) post(ctx context.Context, token string) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	v := s.cluster.replicas[s.rand.IntN(replicaCount)]
	body := map[string]any{"cursors": []string{token}}
	status, out, err := s.cluster.callBy(ctx, s.dialer.client, v.base, http.MethodPost, s.path()+"/cursors", body)
	switch {
	case err != nil:
		return false, nil // it is not known what became of it: it is said again
	case status == http.StatusOK:
		return true, nil
	case status == http.StatusConflict:
		return false, errReconnect
	case (&statusError{status: status}).passing():
		return false, nil
	}
	return false, fmt.Errorf("%w answer to an acknowledgement: %d: %s", errUnexpected, status, out)
}

// acked takes the answer to an acknowledgement in the session.
func (s *sitting) acked(m *message) error {
	var of struct{ Cursor string }
	if err := json.Unmarshal(m.payload, &of); err != nil {
		return fmt.Errorf("%w answer to an acknowledgement %s: %w", errUnexpected, m.payload, err)
	}
	ids, ok := s.waiting[of.Cursor]
	if !ok {
		return fmt.Errorf("%w answer to what was not said: %s", errUnexpected, m.payload)
	}
	delete(s.waiting, of.Cursor)
	s.journal.Note(Entry{What: WhatSaid, Who: s.name, On: s.on.name, Link: s.number, IDs: ids})
	return nil
}

// paged takes that the page came that was asked for with the cursor of the one before.
func (s *sitting) paged() {
	if len(s.unsaid) > 0 {
		s.journal.Note(Entry{What: WhatSaid, Who: s.name, On: s.on.name, Link: s.number, IDs: s.unsaid})
		s.unsaid = nil
	}
}

// whole reports whether the subscription has nothing left.
func (k *taker) whole(ctx context.Context, _ []int64) bool {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	var stats struct {
		Lag         int64
		Uncommitted int
		Partitions  []struct{ Partition int }
	}
	err := k.cluster.must(ctx, k.cluster.replicas[0], http.MethodGet, k.path()+"/stats", nil, &stats)
	return err == nil && len(stats.Partitions) > 0 && stats.Lag == 0 && stats.Uncommitted == 0
}

// groupBook is what is known of a subscription, of all its sessions together.
type groupBook struct {
	checker *checker
	name    string
	ordered bool
	wants   func(key string) bool
	given   map[string]bool
	said    map[string]bool  // a client acknowledged it, answered or not
	durable map[string]asked // what was first answered as durable
}

// asked is something that was asked for and answered. What it asks for was done at some time between.
type asked struct{ sent, answered time.Duration }

func (c *checker) group(r *Reader) *groupBook {
	b := c.groups[r.Group]
	if b == nil {
		b = &groupBook{
			checker: c, name: r.Group, ordered: r.Ordered, wants: r.wants,
			given: map[string]bool{}, said: map[string]bool{}, durable: map[string]asked{},
		}
		c.groups[r.Group] = b
	}
	return b
}

// gives takes an event that a session was given, and that was not taken out for it before a time.
func (b *groupBook) gives(e *Entry, id string, since time.Duration) {
	places := b.checker.truth.places[id]
	key, n := splitID(id)
	if len(places) == 0 {
		b.checker.breaks(e, PromiseGenuine, id, "%s was given out, and is not on the log", id)
		return
	}
	if !b.wants(key) {
		b.checker.breaks(e, PromiseWanted, id, "%s was given out, which the subscription does not want", id)
	}
	first := !b.given[id]
	b.given[id] = true
	if len(places) > 1 {
		return // a copy cannot be told from the other
	}
	switch done, ok := b.durable[id]; {
	case !ok || done.answered >= since:
	case b.forgotten(e, done):
		delete(b.durable, id) // it is acknowledged anew
	case !b.excused(e, done.answered):
		b.checker.breaks(e, PromiseAgain, id, "%s was given out not before %s, and its acknowledgement of %s was answered at %s",
			id, since.Round(time.Millisecond), done.sent.Round(time.Millisecond), done.answered.Round(time.Millisecond))
	}
	if before := eventID(key, n-1); first && b.ordered && n > 0 && !b.said[before] && b.checker.truth.places[before] != nil {
		b.checker.breaks(e, PromiseTurn, id, "%s was given out, and %s was not acknowledged by anybody", id, before)
	}
}

// forgotten reports whether an event may be given out again since Redis lost its data after its acknowledgement was stored,
// and what its new owner knows is Kafka's commit. The answer may have come to a slow client after the loss.
func (b *groupBook) forgotten(e *Entry, done asked) bool {
	near := recall
	if b.checker.troubled(done.sent, e.At, func(t *trouble) bool {
		return strings.HasPrefix(string(t.kind), "kafka") || strings.HasPrefix(string(t.kind), "replica")
	}) {
		near = troubledRecall
	}
	return slices.ContainsFunc(b.checker.troubles, func(t trouble) bool {
		return t.forgets() && done.sent < t.to && t.from < e.At &&
			b.checker.awake(min(done.answered, t.from), t.from) < near && (t.to == forever || b.checker.awake(t.to, e.At) < near)
	})
}

// excused reports whether an event may be given out again though its acknowledgement was answered: by a replica that was
// replaced and did not know it yet, since Kafka was out of its reach; or, without ordering, since it was on its way from one
// replica to another, and something stood still meanwhile.
func (b *groupBook) excused(e *Entry, done time.Duration) bool {
	if b.ordered {
		return b.checker.troubled(done, e.At, func(t *trouble) bool {
			switch t.kind {
			case KafkaLineCut, KafkaLineLatency, KafkaLineBlackHole:
				return strings.Contains(t.who, e.On)
			}
			return false
		})
	}
	return e.At-done < ackTimeout || b.checker.troubled(done-ackTimeout, e.At, func(t *trouble) bool {
		switch t.kind {
		case ReplicaKill, ReplicaRestart, KafkaTrim, RedisFlush, RedisEmpty, ClientsCut, ClientsLatency, ClientsBlackHole, ClientsLimit:
			return false
		}
		return true
	})
}

func (b *groupBook) end() {
	for p, all := range b.checker.truth.partitions {
		for _, r := range all {
			key, _ := splitID(r.id)
			if b.wants(key) && !b.said[r.id] {
				b.checker.breaks(&Entry{Who: b.name}, PromiseShared, r.id, "%s at %d/%d was never acknowledged by anybody", r.id, p, r.offset)
			}
		}
	}
}

// takerWitness follows a client of a subscription.
type takerWitness struct {
	follower
	book  *groupBook
	since time.Duration            // what is read next was not taken out for the client before
	sent  map[string]time.Duration // when the client last acknowledged an event
}

func (k *takerWitness) note(e *Entry) {
	switch e.What {
	case WhatOpen:
		k.since = e.At
	case WhatGiven:
		for _, id := range e.IDs {
			// A session gives out one thing after the other: what follows was taken out after this event was published.
			if b := k.checker.books[id]; b != nil {
				k.since = max(k.since, b.sent)
			}
			k.book.gives(e, id, k.since)
		}
	case WhatSay:
		for _, id := range e.IDs {
			k.book.said[id] = true
			k.sent[id] = e.At
		}
	case WhatSaid:
		for _, id := range e.IDs {
			if _, ok := k.book.durable[id]; !ok {
				k.book.durable[id] = asked{k.sent[id], e.At}
			}
		}
	case WhatControl:
		k.told(e)
	}
}

func (k *takerWitness) end() {}
