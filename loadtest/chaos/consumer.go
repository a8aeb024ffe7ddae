package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// consumer is a named consumer: it remembers nothing, and begins where the server says. It acknowledges in the session
// where the transport can, else over HTTP through any replica.
type consumer struct {
	Reader
	name    string
	cluster *cluster
	dialer  dialer
	journal *Journal
	rand    *rand.Rand // owned by run
	watches *rand.Rand // owned by watch

	mu    sync.Mutex
	saved []int64 // answered as durable; guarded by mu
}

// consumerTransports are those on which the first thing that comes is where the session begins.
var consumerTransports = []string{overBatch, overSSE, overEvents, overNDJSON}

const (
	// sayEvery is the pause between a client's acknowledgements at least: each is a write to the log, or to Redis.
	sayEvery = 200 * time.Millisecond
	// watchEvery is how often positions are asked for.
	watchEvery = 400 * time.Millisecond
)

func (c *consumer) title() string { return c.name }

func (c *consumer) path() string { return "/v1/streams/" + theStream + "/consumers/" + c.name }

// run reads and acknowledges until ctx ends.
func (c *consumer) run(ctx context.Context) {
	c.journal.Note(Entry{What: WhatReader, Who: c.name, Reader: &c.Reader})
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { c.watch(ctx) })
	for n := 1; ctx.Err() == nil; n++ {
		v := c.cluster.replicas[c.rand.IntN(replicaCount)]
		c.journal.Note(Entry{What: WhatOpen, Who: c.name, On: v.name, Link: n})
		q := c.query()
		q.Set("consumer", c.name)
		var said time.Time
		err := listen(ctx, c.rand, c.dialer, c.Over, v, c.eventsPath(), q, "", func(ctx context.Context, l *link, m *message) error {
			if err := c.take(v, n, m); err != nil || m.cursor == "" || m.control != "" || time.Since(said) < sayEvery || c.rand.IntN(3) == 0 {
				return err
			}
			said = time.Now()
			return c.say(ctx, l, n, m.cursor)
		})
		// A session that was asked for before, and only now begins, takes over from one that was asked for later.
		closed(c.journal, c.name, v, n, err, http.StatusConflict)
		clock.Pause(ctx, time.Duration(20+c.rand.IntN(400))*time.Millisecond)
	}
}

// take takes what came in a session.
func (c *consumer) take(v *replica, n int, m *message) error {
	if m.control != "acked" {
		_, err := noteMessage(c.journal, c.name, v, n, m)
		return err
	}
	var acked struct{ Cursor string }
	if err := json.Unmarshal(m.payload, &acked); err != nil {
		return fmt.Errorf("%w answer to an acknowledgement %s: %w", errUnexpected, m.payload, err)
	}
	at, _, err := placeOf(acked.Cursor)
	if err == nil {
		c.durable(v.name, n, at)
	}
	return err
}

// durable notes that the server answered that a place is saved.
func (c *consumer) durable(on string, n int, at []int64) {
	c.journal.Note(Entry{What: WhatSaid, Who: c.name, On: on, Link: n, Cursor: at})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saved == nil || reached(at, c.saved) {
		c.saved = at
	}
}

// say acknowledges all up to a cursor.
func (c *consumer) say(ctx context.Context, l *link, n int, token string) error {
	at, _, err := placeOf(token)
	if err != nil {
		return err
	}
	c.journal.Note(Entry{What: WhatSay, Who: c.name, Link: n, Cursor: at})
	if l.say != nil {
		return l.say(ctx, map[string]any{"ack": token, "final": c.rand.IntN(3) > 0})
	}
	v := c.cluster.replicas[c.rand.IntN(replicaCount)]
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	status, out, err := c.cluster.callBy(ctx, c.dialer.client, v.base, http.MethodPut, c.path(), map[string]string{"cursor": token})
	switch {
	case err != nil: // another time
	case status == http.StatusOK:
		c.durable(v.name, n, at)
	case status != http.StatusConflict && !(&statusError{status: status}).passing():
		return fmt.Errorf("%w answer to an acknowledgement: %d: %s", errUnexpected, status, out)
	}
	return nil
}

// watch asks replicas where the consumer stands, all the time.
func (c *consumer) watch(ctx context.Context) {
	for clock.Pause(ctx, watchEvery) {
		v := c.cluster.replicas[c.watches.IntN(replicaCount)]
		one, cancel := context.WithTimeout(ctx, attemptTimeout)
		at, err := c.standing(one, v.base, v)
		cancel()
		if err == nil && at != nil {
			c.journal.Note(Entry{What: WhatPlace, Who: c.name, On: v.name, Cursor: at})
		}
	}
}

// standing asks a replica where the consumer stands; nil where it does not know it.
func (c *consumer) standing(ctx context.Context, base string, v *replica) ([]int64, error) {
	status, out, err := c.cluster.callBy(ctx, c.dialer.client, base, http.MethodGet, c.path(), nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s is asked for %s: %d: %s", v.name, c.name, status, out)
	}
	var is struct{ Cursor string }
	if err := json.Unmarshal(out, &is); err != nil {
		return nil, err
	}
	at, _, err := placeOf(is.Cursor)
	return at, err
}

// whole reports whether all up to the ends is answered as saved.
func (c *consumer) whole(_ context.Context, ends []int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saved != nil && reached(c.saved, c.of(ends))
}

// finish notes where each replica says that the consumer stands, once nothing moves it any more.
func (c *consumer) finish(ctx context.Context) error {
	for _, v := range c.cluster.replicas {
		at, err := c.standing(ctx, v.direct, v)
		if err != nil {
			return err
		}
		c.journal.Note(Entry{What: WhatPlace, Who: c.name, On: v.name, Cursor: at, Flag: true})
	}
	return nil
}

// consumerWitness follows a named consumer.
type consumerWitness struct {
	follower
	walk   *walk
	saved  []int64            // the highest that was answered as saved
	said   []int64            // the highest that was acknowledged, answered or not
	opened []int64            // what was saved when the present session was opened
	places map[string][]int64 // what each replica said last
}

func (c *consumerWitness) note(e *Entry) {
	switch e.What {
	case WhatOpen:
		c.walk.lose()
		c.opened = slices.Clone(c.saved)
	case WhatSay:
		c.said = highest(c.said, e.Cursor)
	case WhatSaid:
		if !reached(c.said, e.Cursor) {
			c.checker.breaks(e, PromiseSaved, "", "%v was answered as saved, and only %v was acknowledged", e.Cursor, c.said)
		}
		c.saved = highest(c.saved, e.Cursor)
	case WhatPlace:
		c.place(e)
	case WhatGiven:
		for _, id := range e.IDs {
			c.breaks(e, c.walk.given(id))
		}
		if e.Cursor == nil {
			return
		}
		if !c.walk.known {
			c.begins(e)
		}
		c.breaks(e, c.walk.cursor(e.Cursor))
	case WhatControl:
		c.told(e)
		if e.Gap != nil {
			c.breaks(e, c.walk.gap(e.Gap, e.At))
		}
	}
}

// begins takes where a session begins: between what was saved when it was opened and what was acknowledged.
func (c *consumerWitness) begins(e *Entry) {
	if !reached(e.Cursor, c.opened) {
		c.checker.breaks(e, PromiseSaved, "", "the session begins at %v, and %v was answered as saved", e.Cursor, c.opened)
	}
	if !reached(c.said, e.Cursor) {
		c.checker.breaks(e, PromiseSaved, "", "the session begins at %v, and only %v was acknowledged", e.Cursor, c.said)
	}
}

// place takes where a replica says that the consumer stands.
func (c *consumerWitness) place(e *Entry) {
	if before := c.places[e.On]; !reached(e.Cursor, before) {
		c.checker.breaks(e, PromiseForward, "", "%s said %v, and then %v", e.On, before, e.Cursor)
	}
	if e.Flag && !reached(e.Cursor, c.saved) {
		c.checker.breaks(e, PromiseForward, "", "at the end %s says %v, and %v was answered as saved", e.On, e.Cursor, c.saved)
	}
	if !reached(c.said, e.Cursor) {
		c.checker.breaks(e, PromiseSaved, "", "%s says %v, and only %v was acknowledged", e.On, e.Cursor, c.said)
	}
	c.places[e.On] = e.Cursor
}

func (c *consumerWitness) end() {
	if !reached(c.saved, c.what.of(c.checker.truth.ends)) {
		c.checker.breaks(&Entry{Who: c.who}, PromiseComplete, "", "%v was acknowledged and saved, of %v", c.saved, c.checker.truth.ends)
	}
}

// highest is the higher offset of each partition.
func highest(a, b []int64) []int64 {
	all := slices.Clone(a)
	for p, o := range b {
		if p == len(all) {
			all = append(all, 0)
		}
		all[p] = max(all[p], o)
	}
	return all
}
