package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker/kafka"
)

const (
	// trimAge is how old events are at least that are deleted: an event whose fate is open is looked for in the log for up
	// to a minute.
	trimAge = time.Minute
	// trimPeriod is for one deletion.
	trimPeriod = 20 * time.Second
)

// trimmer deletes the beginning of the first stream's log, as retention does, so that who comes back with an old cursor must be told a
// gap. It deletes nothing that a client which is owed it has not had, nor a key's latest event, and notes it all before.
type trimmer struct {
	journal *Journal
	log     *kafka.Log

	mu    sync.Mutex
	noted []int64 // per partition the offset below which the journal has the log; guarded by mu
}

// floor is a client that is owed every event.
type floor interface {
	// needs is per partition the first offset that the client may still need; false where that is not known.
	needs(ctx context.Context) ([]int64, bool)
}

// endures is a client that tells of single events whether it may still need them.
type endures interface{ had(id string) bool }

// trim deletes what it may. It is no error that it cannot, as long as the journal says what is there.
func (t *trimmer) trim(ctx context.Context, clients []party) error {
	ctx, cancel := context.WithTimeout(ctx, trimPeriod)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	to, entries, err := t.choose(ctx, clients)
	if err != nil {
		t.journal.Note(Entry{What: WhatNote, Text: cut("nothing is deleted: " + err.Error())})
		return nil
	}
	for _, e := range entries {
		t.journal.Note(e)
	}
	t.noted = to
	t.journal.Note(Entry{What: WhatTrim, Cursor: to})
	for p, offset := range to {
		if err := t.log.Truncate(ctx, topicPrefix+theStream, int32(p), offset); err != nil {
			t.journal.Note(Entry{What: WhatNote, Text: cut(fmt.Sprintf("partition %d is not known to begin at %d: %v", p, offset, err))})
			return nil // a client that comes may be told either
		}
	}
	t.journal.Note(Entry{What: WhatTrim, Cursor: to, Flag: true})
	return nil
}

// choose finds where the log may begin, and what is deleted then that the journal does not have yet.
func (t *trimmer) choose(ctx context.Context, clients []party) (to []int64, entries []Entry, err error) {
	bounds, err := t.log.Bounds(ctx, topicPrefix+theStream)
	if err != nil {
		return nil, nil, err
	}
	to = make([]int64, len(bounds))
	for p, b := range bounds {
		to[p] = b.Next
	}
	for _, c := range clients {
		f, ok := c.(floor)
		if !ok {
			continue
		}
		at, known := f.needs(ctx)
		if !known || len(at) < len(to) {
			return nil, nil, fmt.Errorf("it is not known what %s needs", c.title())
		}
		for p := range to {
			to[p] = min(to[p], at[p])
		}
	}
	for p, b := range bounds {
		from := b.First
		if t.noted != nil {
			from = t.noted[p]
		}
		below, first, err := t.below(ctx, clients, p, from, to[p], b.Next)
		if err != nil {
			return nil, nil, err
		}
		entries, to[p] = append(entries, below...), max(first, from)
	}
	return to, entries, nil
}

// below reads a partition, and returns where it may begin, and the entries of what is before that: old events that all
// have had, of keys that have later ones.
func (t *trimmer) below(ctx context.Context, clients []party, p int, from, most, end int64) (entries []Entry, first int64, err error) {
	latest := map[string]int64{}
	first = most
	old := time.Now().Add(-trimAge)
	err = eachRecord(ctx, t.log, &streams[0], p, from, end, func(e Entry, written time.Time) {
		id, offset := e.IDs[0], e.Places[0][1]
		key, _ := splitID(id)
		latest[key] = offset
		needed := slices.ContainsFunc(clients, func(c party) bool {
			h, ok := c.(endures)
			return ok && !h.had(id)
		})
		if needed || written.After(old) {
			first = min(first, offset)
		}
		if offset < first {
			entries = append(entries, e)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	for _, offset := range latest {
		first = min(first, offset)
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Places[0][1] >= first })
	return entries, first, nil
}

// finish notes what the log holds beside what was noted before.
func (t *trimmer) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*readPeriod)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	var starts []int64
	for i := range streams {
		s := &streams[i]
		bounds, err := t.log.Bounds(ctx, topicPrefix+s.name)
		if err != nil {
			return fmt.Errorf("ask for the log's bounds: %w", err)
		}
		for p, b := range bounds {
			starts = append(starts, b.First)
			from := b.First
			if t.noted != nil && s.name == theStream {
				from = t.noted[p]
			}
			if err := eachRecord(ctx, t.log, s, p, from, b.Next, func(e Entry, _ time.Time) { t.journal.Note(e) }); err != nil {
				return err
			}
		}
	}
	t.journal.Note(Entry{What: WhatStarts, Cursor: starts})
	return nil
}

// needs of a named consumer is what is not saved.
func (c *consumer) needs(context.Context) ([]int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.saved), c.saved != nil
}

// needs of a taker is what its subscription is not done with.
func (k *taker) needs(ctx context.Context) ([]int64, bool) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	for _, v := range k.cluster.replicas {
		status, out, err := k.cluster.call(ctx, v.direct, http.MethodGet, k.path()+"/stats", nil)
		var stats struct {
			Partitions []struct {
				Partition int
				Position  int64
			}
		}
		if err != nil || status != http.StatusOK || json.Unmarshal(out, &stats) != nil || len(stats.Partitions) != partitions {
			continue
		}
		at := make([]int64, partitions)
		for _, p := range stats.Partitions {
			at[p.Partition%partitions] = p.Position
		}
		return at, true
	}
	return nil, false
}

// had reports whether the endpoint has taken an event.
func (h *hook) had(id string) bool {
	key, n := splitID(id)
	h.mu.Lock()
	defer h.mu.Unlock()
	return n < h.taken[key].next || h.taken[key].above[n]
}
