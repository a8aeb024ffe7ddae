package table

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// waiter is a write whose verdict has not been read from the log yet.
type waiter struct {
	id      string
	verdict chan verdict       // holds one
	wake    context.CancelFunc // ends the append: once the record was read back its acknowledgement is of no interest
	acked   int64              // guarded by shard.mu: the offset acknowledged; MaxInt64 where none is
	read    bool               // guarded by shard.mu: the record was read back, its verdict is being told
}

type verdict struct {
	version Version
	err     error // nil, ErrConflict or ErrInDoubt
}

func (w *waiter) settle(v verdict) {
	select {
	case w.verdict <- v:
		w.wake()
	default: // a second copy of the record: the first has decided
	}
}

// Put writes a version of an object over the version prev, or creates it where prev is uuid.Nil, and blocks until this
// replica has applied it. body must not be empty, and not be changed afterwards. Errors: ErrConflict, ErrInDoubt
// (WriteTimeout or ctx ended first), ErrNotReady, ErrTooLarge; what wraps broker.ErrRefused was surely not written.
func (t *Table) Put(ctx context.Context, id string, prev uuid.UUID, body []byte) (Version, error) {
	if len(body) == 0 {
		return Version{}, errors.New("an object without a body: to delete it, call Delete")
	}
	return t.write(ctx, write{id: id, prev: prev, body: body})
}

// Delete deletes an object whose current version is prev. Errors are those of Put.
func (t *Table) Delete(ctx context.Context, id string, prev uuid.UUID) (Version, error) {
	if prev == uuid.Nil {
		return Version{}, ErrConflict
	}
	return t.write(ctx, write{id: id, prev: prev})
}

// write is rule 2.
func (t *Table) write(ctx context.Context, w write) (Version, error) {
	if w.id == "" || len(w.id) > MaxID || len(w.body) > MaxBody {
		return Version{}, fmt.Errorf("%w: id of %d bytes (1 to %d), body of %d (at most %d)", ErrTooLarge, len(w.id), MaxID, len(w.body), MaxBody)
	}
	w.u = uuid.New()
	ctx, cancel := context.WithTimeout(ctx, t.cfg.WriteTimeout)
	defer cancel()
	appending, wake := context.WithCancel(ctx)
	defer wake()
	wait := &waiter{id: w.id, verdict: make(chan verdict, 1), wake: wake, acked: math.MaxInt64}

	s := t.shardOf(w.id)
	if err := s.begin(&w, wait); err != nil {
		return Version{}, err
	}
	defer s.forget(w.u)

	ack := broker.Ack{Err: broker.ErrUnavailable}
	if acks := t.cfg.Log.Append(appending, t.cfg.Topic, []broker.Message{w.message(s.partition)}); len(acks) == 1 {
		ack = acks[0]
	}
	switch {
	case ack.Err == nil:
		s.acknowledged(wait, w.u, ack.Offset)
	case errors.Is(ack.Err, broker.ErrRefused):
		t.metrics.writes.WithLabelValues("refused").Inc()
		return Version{}, fmt.Errorf("writing to %s: %w", t.cfg.Topic, ack.Err)
	}
	// Without an acknowledgement the record may be on the log all the same: reading it back decides.
	var v verdict
	select {
	case v = <-wait.verdict:
	case <-ctx.Done():
		select {
		case v = <-wait.verdict: // both were there
		default:
			v.err = fmt.Errorf("%w (%w; append: %w)", ErrInDoubt, ctx.Err(), orNone(ack.Err))
		}
	}
	t.metrics.writes.WithLabelValues(outcome(v.err)).Inc()
	return v.version, v.err
}

var errNone = errors.New("acknowledged")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, ErrConflict):
		return "rejected"
	}
	return "in_doubt"
}

// begin checks a write against the applied state and enters it among those that wait. A creation over a deletion that
// is still remembered names that deletion (rule 1).
func (s *shard) begin(w *write, wait *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale {
		return ErrNotReady
	}
	cur := s.fold.cur[w.id]
	switch {
	case cur == nil:
		if w.prev != uuid.Nil {
			return ErrConflict
		}
	case cur.deleted() && w.body == nil:
		return ErrConflict
	case cur.deleted() && w.prev == uuid.Nil:
		w.prev = cur.u
	case cur.u != w.prev:
		return ErrConflict
	}
	s.waiting[w.u] = wait
	return nil
}

func (s *shard) forget(u uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, u)
}

// acknowledged notes where a write's record is. Where a load has passed that place meanwhile, in a snapshot, nobody will
// read it any more.
func (s *shard) acknowledged(wait *waiter, u uuid.UUID, offset int64) {
	s.mu.Lock()
	wait.acked = offset
	passed := s.fold.next > offset && !wait.read
	cur := s.fold.cur[wait.id]
	s.mu.Unlock()
	if passed {
		s.telling.Lock() // the watchers know of it before the writer does
		defer s.telling.Unlock()
		wait.settle(folded(cur, u))
	}
}

// folded is the verdict on a write whose record was folded unread, in a snapshot: it was accepted for sure if it is
// still current, and else it cannot be told.
func folded(cur *Kept, u uuid.UUID) verdict {
	if cur != nil && cur.u == u {
		return verdict{version: cur.Version()}
	}
	return verdict{err: ErrInDoubt}
}
