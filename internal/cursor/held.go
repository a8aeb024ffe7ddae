package cursor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table"
)

// Held is a session's hold on a consumer. It must be closed.
type Held struct {
	seat  *seat
	start []int64
	gap   []broker.Gap
	came  StreamCursor // the place that gap leads away from
	poll  bool
	once  sync.Once
	cut   atomic.Uint64 // what the session's cursors carry: how often its log is known to have lost its end
}

// begin notes where reading begins: at next, or at 0 of the present epoch where next is of another one.
func (h *Held) begin(r *OpenRequest, epoch uint64, next []int64) {
	if epoch == r.Epoch {
		// A stream's partitions only grow: what names more than this replica knows of has seen them.
		h.start = make([]int64, max(r.Partitions, len(next)))
		copy(h.start, next)
		return
	}
	h.start = make([]int64, r.Partitions)
	for p := range h.start {
		var from int64
		if p < len(next) {
			from = next[p]
		}
		h.gap = append(h.gap, broker.Gap{Partition: int32(p), From: from, To: 0, Reason: broker.GapRecreated})
	}
}

// sink has reading begin no further than at, and notes what was lost.
func (h *Held) sink(at []int64) {
	for p, from := range h.start {
		var to int64
		if p < len(at) {
			to = at[p]
		}
		if from > to {
			h.gap = append(h.gap, broker.Gap{Partition: int32(p), From: from, To: to, Reason: broker.GapTruncated})
			h.start[p] = to
		}
	}
}

// Lease returns what the session's cursors carry.
func (h *Held) Lease() Lease { return h.seat.lease }

// Cut returns what the session's cursors carry beside the lease.
func (h *Held) Cut() uint64 { return h.cut.Load() }

// Start returns where reading begins, per partition. It is the caller's own.
func (h *Held) Start() []int64 { return slices.Clone(h.start) }

// Gap returns what to tell the client before its first event: not empty where the place it came from was of an earlier
// epoch of the stream, or beyond the log's end.
func (h *Held) Gap() []broker.Gap { return h.gap }

// Came returns the place that Gap leads away from. A client that comes back to it is told again.
func (h *Held) Came() StreamCursor {
	came := h.came
	came.Lease = h.Lease()
	return came
}

// Confirm takes the client's word that it needs nothing below at, of a stream of so many partitions now. It does not
// block: the position is hinted within about a second and saved within about ten. What is lower than before, of another
// epoch than the consumer's, or of an earlier cut, changes nothing.
func (h *Held) Confirm(at StreamCursor, partitions int) { h.seat.confirm(at, partitions) }

// Truncated says that the log lost its end and that the session's reader goes on at gap.To: the position sinks to there
// if it lies beyond, and what is still confirmed with cursors from before means nothing.
func (h *Held) Truncated(gap broker.Gap) { h.cut.Store(h.seat.truncated(gap)) }

// Recreated says that the stream's topic was deleted and made again under the session: from now on positions are of the
// new epoch, from 0.
func (h *Held) Recreated(epoch uint64, partitions int) { h.seat.recreated(epoch, partitions) }

// Save makes durable what was confirmed, and blocks until it is. Errors: ErrLost, ErrInDoubt (the session is to be
// closed and the client to retry; Lost is closed too); after any other nothing was saved, and it may be tried again.
func (h *Held) Save(ctx context.Context) error {
	err := h.seat.save(ctx)
	if err == nil && h.Cut() < h.seat.place().cut { // its words were not heard
		return fmt.Errorf("%w: %w", ErrLost, ErrTruncated)
	}
	return err
}

// Saved returns the position that is durable.
func (h *Held) Saved() State { return h.seat.version().state() }

// Lost is closed when the lease is lost: to a later session, a reset, a deletion, a save whose fate is not known, or a
// position that was moved elsewhere to what this session cannot follow.
func (h *Held) Lost() <-chan struct{} { return h.seat.lost }

// Reason says why the lease is lost: it wraps ErrSuperseded, ErrReset, ErrDeleted, or, where the client is to come
// back, ErrInDoubt, ErrTruncated or ErrEpoch. It is nil while the lease is held.
func (h *Held) Reason() error {
	h.seat.mu.Lock()
	defer h.seat.mu.Unlock()
	return h.seat.reason
}

// Close gives the session's hold up, after a last save of what was confirmed. For a poll, whose client comes again under
// the same lease, that save is left to the timer. Errors are those of Save.
func (h *Held) Close(ctx context.Context) error {
	var err error
	h.once.Do(func() {
		if !h.poll {
			err = h.seat.save(ctx)
		}
		h.seat.leave()
	})
	return err
}

// seat is this replica's part in one lease. The polls under a lease share one.
type seat struct {
	c      *Consumers // static
	id     string
	lease  Lease
	lost   chan struct{} // closed under mu
	saving chan struct{} // holds one while a save is on its way (rule 6)

	users int // guarded by c.mu

	mu         sync.Mutex
	applied    *version  // guarded by mu: the last version of this lease that this replica has applied
	epoch      uint64    // guarded by mu: of next
	past       []uint64  // guarded by mu: epochs of the stream that are over
	cut        uint64    // guarded by mu: of next
	next       []int64   // guarded by mu: confirmed; within epoch and cut never below applied
	partitions int       // guarded by mu: bound of what a client may confirm
	unhinted   bool      // guarded by mu
	due        time.Time // guarded by mu: of the next save; zero: nothing to save
	reason     error     // guarded by mu: why the lease is lost
}

// sit enters a session under version v, which this replica has applied, at the seat of its lease.
func (c *Consumers) sit(id string, v *version, next []int64, partitions int) *seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seats[id]
	if s == nil || s.lease != v.lease() || s.isLost() {
		s = &seat{
			c: c, id: id, lease: v.lease(), lost: make(chan struct{}), saving: make(chan struct{}, 1),
			applied: v, epoch: uint64(v.Pos.Epoch), cut: v.Cut, next: Max(v.Pos.Next, next),
		}
		// Between v's application and now this replica may have applied a later one: its watcher found no seat. From
		// here on it finds this one, since it waits for c.mu.
		switch cur, err := c.read(id); {
		case err != nil || cur == nil:
			s.lose(ErrDeleted)
		default:
			s.observe(cur)
		}
		if old := c.seats[id]; !s.isLost() {
			if old != nil {
				old.lose(ErrSuperseded)
				delete(c.dirty, old)
			}
			c.seats[id] = s
			c.metrics.held.Set(float64(len(c.seats)))
		}
	}
	s.users++
	s.mu.Lock()
	s.partitions = max(s.partitions, partitions)
	s.mu.Unlock()
	return s
}

func (c *Consumers) seatOf(id string, v *version) *seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.seats[id]; s != nil && s.lease == v.lease() && !s.isLost() {
		return s
	}
	return nil
}

// observe is told every version that the table applies (rule 10).
func (c *Consumers) observe(id string, tv table.Version, deleted bool) {
	c.pace.count()
	c.mu.Lock()
	s := c.seats[id]
	c.mu.Unlock()
	if s == nil {
		return
	}
	if deleted {
		s.lose(ErrDeleted)
		return
	}
	v, err := decodeVersion(tv.U, tv.Body)
	if err != nil {
		c.log.Error("unreadable consumer", "id", id, "error", err)
		return
	}
	s.observe(v)
}

func (s *seat) observe(v *version) {
	switch {
	case v.incarnation() != s.lease.Incarnation:
		s.lose(ErrDeleted)
	case v.Lease != s.lease.Number && v.Reason == reasonReset:
		s.lose(ErrReset)
	case v.Lease != s.lease.Number:
		s.lose(ErrSuperseded)
	default:
		if reason := s.apply(v); reason != nil {
			s.lose(reason)
		}
	}
}

// apply takes over what was saved under the lease. It returns why the seat cannot go on: the position was sunk elsewhere,
// so that the cursors which the session gives out are of no use to it, or epochs met whose order it does not know.
func (s *seat) apply(v *version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := s.epoch != uint64(s.applied.Pos.Epoch)
	s.applied = v
	switch e := uint64(v.Pos.Epoch); {
	case e == s.epoch && v.Cut == s.cut:
		s.next = Max(s.next, v.Pos.Next)
	case e == s.epoch || slices.Contains(s.past, e):
	case moved: // to one that is not saved yet, and may be of before e or of after it
		return ErrEpoch
	default:
		s.leaveEpoch(e, v.Pos.Next) // another replica knows of it already
	}
	if v.Cut > s.cut {
		return ErrTruncated
	}
	return nil
}

// leaveEpoch goes on at next in another epoch. s.mu is held.
func (s *seat) leaveEpoch(to uint64, next []int64) {
	if s.past = append(s.past, s.epoch); len(s.past) > maxPast {
		s.past = s.past[1:]
	}
	s.epoch, s.next = to, Max(next, nil)
}

// maxPast bounds the epochs that a seat remembers: a topic is rarely made anew under a lease even once.
const maxPast = 16

func (s *seat) lose(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		s.reason = fmt.Errorf("%w: %w", ErrLost, reason)
		s.c.metrics.lost.WithLabelValues(lostBy(reason)).Inc()
		close(s.lost)
	}
}

func (s *seat) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

func (s *seat) version() *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

// place returns where the seat stands.
func (s *seat) place() place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return place{s.cut, Max(s.next, nil)}
}

func (s *seat) confirm(at StreamCursor, partitions int) {
	s.mu.Lock()
	s.partitions = max(s.partitions, partitions)
	if at.Epoch != s.epoch || at.Cut != s.cut {
		s.mu.Unlock()
		return
	}
	moved := false
	for p, o := range trim(at.Next, s.partitions) {
		if p >= len(s.next) {
			s.next = append(s.next, 0)
		}
		if o > s.next[p] {
			s.next[p], moved = o, true
		}
	}
	s.touch(moved)
}

// recreated moves the seat to another epoch of the stream, at 0 (rule 3).
func (s *seat) recreated(epoch uint64, partitions int) {
	s.mu.Lock()
	other := s.epoch != epoch && !slices.Contains(s.past, epoch)
	if other {
		s.leaveEpoch(epoch, make([]int64, partitions))
	}
	s.partitions = max(s.partitions, partitions)
	s.touch(other)
}

// raise takes over a place that the session's client was given under a higher cut than the seat's: by another replica,
// which did not come to save it. It returns the seat's cut.
func (s *seat) raise(at *StreamCursor) uint64 {
	s.mu.Lock()
	if at.Epoch != s.epoch || at.Cut <= s.cut {
		defer s.mu.Unlock()
		return s.cut
	}
	s.cut, s.next = at.Cut, Max(trim(at.Next, s.partitions), nil)
	s.hurry()
	return at.Cut
}

// truncated sinks the position to where the log was cut, and returns the new cut. It is saved with the next tick.
func (s *seat) truncated(g broker.Gap) uint64 {
	s.mu.Lock()
	s.cut++
	if p := int(g.Partition); p < len(s.next) {
		s.next[p] = min(s.next[p], g.To)
	}
	cut := s.cut
	s.hurry()
	return cut
}

// sinkFrom sinks what still stands at was to at, for a session that begins, and returns the seat's cut.
func (s *seat) sinkFrom(was, at []int64) uint64 {
	s.mu.Lock()
	for p := range s.next {
		if p < len(was) && p < len(at) && s.next[p] == was[p] {
			s.next[p] = min(s.next[p], at[p])
		}
	}
	s.cut++
	cut := s.cut
	s.hurry()
	return cut
}

// hurry is touch for what is to be saved at once. It unlocks s.mu.
func (s *seat) hurry() {
	if s.reason == nil {
		s.due = time.Now()
	}
	s.touch(true)
}

// touch has a moved position hinted and saved in time. It unlocks s.mu, which is taken after c.mu elsewhere.
func (s *seat) touch(moved bool) {
	first := false
	if moved && s.reason == nil {
		s.unhinted = true
		if first = s.due.IsZero(); first {
			s.due = time.Now().Add(s.c.pace.every())
		}
	}
	s.mu.Unlock()
	if moved {
		s.c.mu.Lock()
		s.c.dirty[s] = struct{}{}
		s.c.mu.Unlock()
	}
}

// save is rules 6 and 7.
func (s *seat) save(ctx context.Context) error {
	select {
	case s.saving <- struct{}{}: // one save on its way at a time
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrInDoubt, ctx.Err())
	}
	defer func() { <-s.saving }()
	for attempt := 0; ; attempt++ {
		cur, v, err := s.unsaved()
		if v == nil || err != nil {
			return err
		}
		err = s.c.put(ctx, s.id, cur, v)
		switch {
		case err == nil:
			s.c.metrics.saves.WithLabelValues("saved").Inc()
			s.clean() // the watcher has noted the version
			return nil
		case errors.Is(err, table.ErrConflict):
			// Lost, unless somebody wrote under the same lease, a PUT or a poll at another replica: over their version
			// then.
			s.c.metrics.saves.WithLabelValues("rejected").Inc()
			if err := s.look(); err != nil {
				return err
			}
			if attempt == retries {
				return ErrBusy
			}
		case errors.Is(err, table.ErrInDoubt):
			s.c.metrics.saves.WithLabelValues("in_doubt").Inc()
			s.lose(ErrInDoubt)
			return fmt.Errorf("%w: %w", ErrInDoubt, err)
		default:
			s.c.metrics.saves.WithLabelValues("failed").Inc()
			return err
		}
	}
}

// look reads the current version and returns why the lease is lost, if it is.
func (s *seat) look() error {
	cur, err := s.c.read(s.id)
	switch {
	case err != nil:
		return err
	case cur == nil:
		s.lose(ErrDeleted)
	default:
		s.observe(cur)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// clean takes the seat from those with something to save, if it has nothing.
func (s *seat) clean() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.mu.Lock()
	done := s.reason != nil || uint64(s.applied.Pos.Epoch) == s.epoch && !(place{s.cut, s.next}).passes(s.applied.in(s.epoch))
	if done {
		s.due, s.unhinted = time.Time{}, false // what is saved needs no hint
	}
	s.mu.Unlock()
	if done {
		delete(s.c.dirty, s)
		s.retire()
	}
}

// unsaved returns what is to be written over what; nothing where all is saved.
func (s *seat) unsaved() (cur, v *version, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return nil, nil, s.reason
	}
	was := s.applied.in(s.epoch)
	at := join(was, place{s.cut, s.next})
	if uint64(s.applied.Pos.Epoch) == s.epoch && !at.passes(was) {
		return nil, nil, nil
	}
	// Should this save fail, the next is due after the usual time.
	s.due = time.Now().Add(s.c.pace.every())
	cur = s.applied
	return cur, &version{
		Incarnation: cur.Incarnation, Lease: cur.Lease, Parent: cur.Parent,
		Cut: at.cut, Pos: position{epoch(s.epoch), at.next}, Reason: reasonSaved,
	}, nil
}

// beyond reports whether a is above b anywhere.
func beyond(a, b []int64) bool {
	for p, o := range a {
		if o > 0 && (p >= len(b) || o > b[p]) {
			return true
		}
	}
	return false
}

// leave ends one session's use. A seat with something left to save stays until the timer has.
func (s *seat) leave() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	s.retire()
}

// retire removes a seat that is of no more use. c.mu is held.
func (s *seat) retire() {
	_, dirty := s.c.dirty[s]
	if s.isLost() {
		delete(s.c.dirty, s)
	} else if s.users > 0 || dirty {
		return
	}
	if s.c.seats[s.id] == s {
		delete(s.c.seats, s.id)
		s.c.metrics.held.Set(float64(len(s.c.seats)))
	}
}
