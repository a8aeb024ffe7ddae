package fanout

import (
	"context"
	"math"
	"slices"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// Status tells what a reader's driver does next.
type Status int

// The states of a reader.
const (
	Idle   Status = iota // all that is due has been taken: Park
	More                 // more is due: Take again once this is written
	Behind               // the reader is behind the ring, or has to join it anew: Fill
	Ended                // the hub ended; Hub.Err says why
	Stale                // the reader's picture is no longer what reading on would make of it: Hub.Snapshot, and a Reader after that
)

const (
	takeEntries = 256 // entries of one Take or Fill
	// aheadEntries are those of one Fill for a reader that works a partition off.
	aheadEntries = 1024
	scanEntries  = 4096 // entries looked at in one Take, which bounds how long the ring is read-locked
)

// Options describe a reader.
type Options struct {
	Filter *filter.Filter // nil: everything
	// Next is where to begin, by partition, in the topic of Epoch. Nil means latest.
	Next  []int64
	Epoch uint64
	// Shard is the 1-based shard that drives the reader; 0 means that Notify is called instead, which must not block.
	Shard  int
	Notify func()
	// Owner is the driver's own.
	Owner any
	// Since has the reader begin where a snapshot of the hub ends, in place of Next and Epoch.
	Since *Batch
	// Picture says that the reader's client makes a picture of what is true now. It is told of what goes away, too, by entries
	// that have Removed, while the hub has built its state.
	Picture bool
	// Whole says that the picture has all there is, from a snapshot. Where the hub cannot tell what goes away the reader is
	// Stale.
	Whole bool
	// Doubt says that the picture may have what is gone already.
	Doubt bool
	// Renew has the reader be Stale where it would be Behind.
	Renew bool
	// Only restricts the reader to one partition where Single is set; Next then says where to begin in that one alone,
	// at its index. Of what Position and After return only that element means anything.
	Only   int32
	Single bool
}

// Reader is one filtered position in a stream: live in the ring, or behind it in the log. It belongs to one goroutine
// at a time.
type Reader struct {
	// static
	hub    *Hub
	view   *view
	shard  int
	notice func()
	owner  any

	// owned by the reader's goroutine
	live   bool
	vec    []int64 // own position; nil once the hub's order is the reader's own
	ep     uint64  // the epoch of the position, which the hub's may have passed
	pos    uint64  // while live: the next entry to look at
	last   *Entry  // the last entry taken, where the end was not reached with it
	tip    *Tip    // what the end was when it was reached
	gen    uint64
	sig    uint64
	bad    error // the hub's health as last seen
	gaps   []broker.Gap
	renew  bool
	whole  bool
	doubts bool     // so it is once something comes: until then it is as good as any other's
	fresh  bool     // it began with a snapshot of this hub, and has not been in the ring since
	drops  uint64   // while it is fresh: the keys that the state had dropped by then
	unsure bool     // the client's picture may have what is gone
	skip   struct { // where partition goes on once all entries taken are written
		partition int32
		next      int64
	}
	turn    int      // the partition that the next Fill begins with
	probing *loading // asked for the log's ends, by a Fill that ended first
	buf     []int64

	// guarded by view.mu
	next, prev *Reader
	parked     bool
}

// Reader makes a reader. Close it when done.
func (h *Hub) Reader(o Options) *Reader {
	r := &Reader{hub: h, shard: o.Shard, notice: o.Notify, owner: o.Owner, renew: o.Renew, whole: o.Whole, skip: noSkip}
	only := everyPartition
	if o.Single {
		only = o.Only
	}
	r.view = h.enter(o.Filter, only, o.Picture)
	if o.Since != nil {
		o.Next, o.Epoch = o.Since.tip.vec, o.Since.tip.ep
	}
	switch {
	case !o.Whole || o.Next == nil:
	case o.Since != nil:
		r.fresh, r.drops = true, o.Since.dropped
	default:
		r.unsure, r.doubts = o.Doubt, h.drops.Load() > 0
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	r.ep, r.gen, r.sig, r.bad = h.tip.ep, h.gen, h.sig, h.unhealthy
	r.unsure = r.unsure || r.fresh && o.Since.base.gen != h.gen
	if h.unhealthy != nil {
		r.sig-- // so that it looks, and tells
		r.bad = nil
	}
	switch {
	case o.Next == nil:
		r.live, r.pos, r.tip = true, h.ring.next, h.tip
		if o.Single {
			r.vec = r.masked(h.tip.vec)
		}
	case o.Epoch != cursor.EpochOf(h.epoch):
		r.vec = r.masked(o.Next)
		r.recreated(len(h.tip.vec))
		r.unsure = r.whole // of the life before
	default:
		r.vec = r.masked(o.Next)
		r.join()
	}
	return r
}

var noSkip = struct {
	partition int32
	next      int64
}{partition: -1}

// Hub is the reader's hub.
func (r *Reader) Hub() *Hub { return r.hub }

// Owner is what Options gave.
func (r *Reader) Owner() any { return r.owner }

// Close takes the reader out of its hub.
func (r *Reader) Close() {
	r.Unpark()
	r.hub.leave(r.view)
	if r.probing != nil {
		r.hub.blocks.loads.leave(r.probing)
	}
}

func (r *Reader) notify() {
	if r.notice != nil {
		r.notice()
	}
}

// Health is the problem that keeps the hub from the log, as of the last Take, Park or Fill.
func (r *Reader) Health() error { return r.bad }

// Doubtful reports whether the client's picture may have what is gone, so that the reader is Stale once it has met the ring.
func (r *Reader) Doubtful() bool { return r.unsure }

// Gaps returns what the reader lost since the last call. It is to be told before anything taken later.
func (r *Reader) Gaps() []broker.Gap {
	g := r.gaps
	r.gaps = nil
	return g
}

// Take appends to dst what is due, about maxBytes of it and at least one entry. After each entry, and before the
// next Take, Park, Fill or Position, the driver calls After once.
func (r *Reader) Take(dst []*Entry, maxBytes int) ([]*Entry, Status) {
	h := r.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	if s, ok := r.look(); !ok {
		return dst, s
	}
	if r.view.missed(r.pos, h.ring.first) {
		h.m.overflows.Inc()
		r.fallBack()
		return dst, r.behindStatus()
	}
	if r.whole && (r.doubts || r.pos < h.exactFrom) && r.pos < h.ring.next {
		r.unsure = true
	}
	from, size := len(dst), 0
	give := func(e *Entry) {
		size += len(e.frame)
		dst = append(dst, e)
	}
	offer := func(e *Entry) bool { // false: there is no room
		if n := len(dst) - from; n > 0 && (size+len(e.frame) > maxBytes || n >= takeEntries) {
			return false
		}
		if r.view.picture {
			r.show(e, give)
		} else {
			give(e)
		}
		return true
	}
	r.pos = max(r.pos, h.ring.first)
	whole := r.view.whole()
	for scanned := 0; whole || !r.view.listed(r.pos); r.pos++ {
		if r.pos >= h.ring.next {
			break
		}
		if scanned++; scanned > scanEntries {
			return r.took(dst, from, More)
		}
		e := h.ring.at(r.pos)
		if r.behind(e) || !r.view.sees(e.Partition) {
			continue
		}
		if !r.view.picture && !whole && e.Skipped == "" && !r.view.wants(&e.Event) {
			continue
		}
		if !offer(e) {
			return r.took(dst, from, More)
		}
	}
	if v := r.view; !whole && !v.unlisted {
		for i := v.from(r.pos); i < len(v.matches); i++ {
			r.pos = v.matches[i]
			e := h.ring.at(r.pos)
			if !r.behind(e) && !offer(e) {
				return r.took(dst, from, More)
			}
			r.pos++
		}
	}
	r.pos, r.tip = h.ring.next, h.tip
	r.last = nil
	if r.unsure && len(dst) == from {
		return dst, Stale
	}
	return dst, Idle
}

// show gives a reader with a picture what an entry means to it: what is gone by it, and the entry itself or that its key has
// nothing any more that the reader sees.
func (r *Reader) show(e *Entry, give func(*Entry)) {
	h, v := r.hub, r.view
	for _, l := range h.ring.leftAt(e.seq) {
		if v.wants(&l.entry.Event) {
			give(e.departure(l.entry))
		}
	}
	switch before := h.ring.before(e.seq); {
	case e.Skipped == "" && v.wants(&e.Event), e.Skipped != "" && !e.tombstone:
		give(e)
	case before != nil && v.wants(&before.Event):
		give(e.removal(before))
	}
}

// behindStatus is what a reader is that cannot be given what comes next from the ring.
func (r *Reader) behindStatus() Status {
	if r.renew && !r.reaches(r.hub.ring.base) {
		return Stale
	}
	return Behind
}

// mayMiss notes that the log told something that a picture cannot be made from: what it took away is not known there.
func (r *Reader) mayMiss(e *Entry) {
	if r.whole && e.Key != 0 {
		r.unsure = true
	}
}

func (r *Reader) took(dst []*Entry, from int, s Status) ([]*Entry, Status) {
	last := len(dst) - 1
	for last >= from && dst[last].Beside {
		last--
	}
	switch {
	case last >= from:
		r.last, r.tip = dst[last], nil
	case r.pos > r.hub.ring.first: // scanned without a match: all before pos is behind the reader
		r.last, r.tip = r.hub.ring.at(r.pos-1), nil
	}
	return dst, s
}

// behind reports whether the reader had the entry before it joined the ring.
func (r *Reader) behind(e *Entry) bool {
	return r.vec != nil && int(e.Partition) < len(r.vec) && e.Offset < r.vec[e.Partition]
}

// look takes notice of what the hub signalled. The caller holds the ring's read lock.
func (r *Reader) look() (Status, bool) {
	h := r.hub
	r.sig, r.bad = h.sig, h.unhealthy
	if h.ended != nil {
		return Ended, false
	}
	if r.gen != h.gen {
		r.fallBack()
		r.applyCuts()
		r.unsure = r.whole
	}
	if !r.live {
		if len(r.gaps) > 0 {
			return Behind, false // they are told first
		}
		return r.behindStatus(), false
	}
	return Idle, true
}

// fallBack leaves the ring: the reader's position becomes its own.
func (r *Reader) fallBack() {
	if r.live {
		vec, _ := r.Position()
		r.vec = r.masked(vec)
	}
	r.live, r.last, r.tip, r.fresh = false, nil, nil, false
}

// applyCuts sinks the position to where the log was cut, and tells it.
func (r *Reader) applyCuts() {
	h := r.hub
	for _, c := range h.cuts {
		if c.gen <= r.gen {
			continue
		}
		r.skip = noSkip
		if c.partition < 0 {
			r.recreated(len(h.tip.vec))
		} else if p := int(c.partition); r.view.sees(c.partition) && p < len(r.vec) && r.vec[p] > c.to {
			r.tell(broker.Gap{Partition: c.partition, From: r.vec[p], To: c.to, Reason: c.reason})
			r.vec[p] = c.to
		}
	}
	r.gen, r.ep = h.gen, h.tip.ep
}

// tell notes a gap for the client.
func (r *Reader) tell(g broker.Gap) {
	r.gaps = append(r.gaps, g)
	r.hub.m.gaps.WithLabelValues(string(g.Reason)).Inc()
}

func (r *Reader) recreated(partitions int) {
	for p, from := range r.vec {
		if r.view.sees(int32(p)) && (from > 0 || p == 0 || r.view.only != everyPartition) {
			r.tell(broker.Gap{Partition: int32(p), From: from, To: 0, Reason: broker.GapRecreated})
		}
	}
	r.vec = r.masked(make([]int64, partitions))
}

// masked returns a copy of a vector. For a reader of one partition all others are beyond every offset, so that the reader
// has what is in them behind it.
func (r *Reader) masked(vec []int64) []int64 {
	only := r.view.only
	if only == everyPartition {
		return slices.Clone(vec)
	}
	own := make([]int64, max(len(vec), int(only)+1))
	for p := range own {
		own[p] = math.MaxInt64
	}
	own[only] = 0
	if int(only) < len(vec) {
		own[only] = vec[only]
	}
	return own
}

// join tries to go live: every partition of the reader's position must have reached the ring, and none may lie beyond
// what is known of the log's end. The caller holds the ring's read lock.
func (r *Reader) join() bool {
	h := r.hub
	if !r.reaches(h.ring.base) || r.beyond() {
		return false
	}
	r.live = true
	r.pos = h.ring.join(r.vec)
	if dominates(h.tip.vec, r.vec) && r.pos == h.ring.next {
		r.vec, r.tip = nil, h.tip
	}
	return true
}

// reaches reports whether the position is at or above base in every partition that the reader sees.
func (r *Reader) reaches(base []int64) bool {
	only := int(r.view.only)
	if r.view.only == everyPartition {
		return dominates(r.vec, base)
	}
	return only >= len(base) || r.vec[only] >= base[only]
}

func (r *Reader) beyond() bool {
	for p, next := range r.vec {
		if !r.view.sees(int32(p)) {
			continue
		}
		if p >= len(r.hub.ends) || next > r.hub.ends[p] {
			return next > 0
		}
	}
	return false
}

// After returns the position after an entry that was just taken, and whether it is the entry's own (then
// Entry.Cursor and Entry.SSE carry its text). The slice is valid until the reader's next method.
func (r *Reader) After(e *Entry) (vec []int64, shared bool) {
	if e.vec == nil {
		r.vec = widened(r.vec, int(e.Partition)+1)
		r.vec[e.Partition] = e.Offset + 1
		return r.vec, false
	}
	if r.vec != nil && !dominates(e.vec, r.vec) {
		return r.merge(e.vec), false
	}
	r.vec = nil
	return e.vec, true
}

// Position returns where the reader stands once all that was taken is written, and the shared text for it if there is
// one. The slice is valid until the reader's next method.
func (r *Reader) Position() (vec []int64, text []byte) {
	r.settle()
	var at []int64
	switch {
	case r.tip != nil:
		at = r.tip.vec
	case r.last != nil:
		at = r.last.vec
	default:
		return r.vec, nil
	}
	if r.vec != nil && !dominates(at, r.vec) {
		return r.merge(at), nil
	}
	r.vec = nil
	if r.tip != nil {
		return at, r.tip.Cursor()
	}
	return at, r.last.Cursor()
}

func (r *Reader) merge(at []int64) []int64 {
	r.buf = widened(append(r.buf[:0], r.vec...), len(at))
	for i, n := range at {
		r.buf[i] = max(r.buf[i], n)
	}
	return r.buf
}

// Epoch is the epoch that the reader's position belongs to.
func (r *Reader) Epoch() uint64 { return r.ep }

// Park leaves the reader to be woken by its shard or Notify. It returns false where something is due or the hub
// signalled: then Take. A reader that is parked already stays so.
func (r *Reader) Park() bool {
	h := r.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	if r.sig != h.sig || r.gen != h.gen || !r.live || h.ended != nil || r.unsure {
		return false
	}
	v := r.view
	if r.pos < h.ring.next && (v.whole() || !v.listed(r.pos) || v.missed(r.pos, h.ring.first) || v.from(r.pos) < len(v.matches)) {
		return false
	}
	r.pos, r.tip, r.last = h.ring.next, h.tip, nil
	if r.vec != nil && dominates(h.tip.vec, r.vec) {
		r.vec = nil // never of one partition alone
	}
	v.park(r)
	return true
}

// Unpark takes the reader back before it was woken. It is harmless where it was.
func (r *Reader) Unpark() { r.view.unpark(r) }

// stand moves the reader to a position of its hub, from which it goes on as if it had just come with it.
func (r *Reader) stand(t *Tip) {
	h := r.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	r.live, r.last, r.tip, r.skip = false, nil, nil, noSkip
	r.vec = slices.Clone(t.vec)
	if r.gen == h.gen { // else it will look at what was cut
		r.join()
	}
}

// settle moves past what a Fill read without a match.
func (r *Reader) settle() {
	if p := r.skip.partition; p >= 0 {
		r.vec = widened(r.vec, int(p)+1)
		r.vec[p] = max(r.vec[p], r.skip.next)
		r.skip = noSkip
	}
}

// droppedMeanwhile reports whether keys may have left the state since the reader's position, for their age or for want of room.
// Which had left before, for want of room, depends on the replica. For who has only just been given a snapshot age does not count.
func (r *Reader) droppedMeanwhile() bool {
	h := r.hub
	if r.fresh {
		return h.drops.Load() != r.drops
	}
	return h.drops.Load() > 0 || h.ages.Load()
}

// Fill reads the log for a reader that is behind, and appends to dst about maxBytes of what matches. It blocks for a
// place among the reads at once, and for the log, until ctx ends; the read itself goes on then, so that the next Fill
// finds more of it done. It returns Idle once the reader has met the ring: then Take. An error wrapping
// broker.ErrUnavailable or a context's may pass; the position is kept.
func (r *Reader) Fill(ctx context.Context, dst []*Entry, maxBytes int) ([]*Entry, Status, error) {
	r.settle()
	h := r.hub
	h.mu.RLock()
	s, live := r.look()
	switch {
	case s == Ended, s == Stale:
		h.mu.RUnlock()
		return dst, s, nil
	case live || r.join():
		h.mu.RUnlock()
		return dst, Idle, nil
	}
	base, beyond := h.ring.base, r.beyond()
	h.mu.RUnlock()

	if r.whole && r.droppedMeanwhile() {
		r.unsure = true // of which the log tells nothing
	}
	h.m.catchingUp.Inc()
	defer h.m.catchingUp.Dec()
	if beyond {
		return dst, Behind, r.probe(ctx)
	}
	for i := range base {
		p := (r.turn + i) % len(base)
		if !r.view.sees(int32(p)) || p < len(r.vec) && r.vec[p] >= base[p] || base[p] == 0 {
			continue
		}
		r.turn = p + 1
		r.vec = widened(r.vec, p+1)
		dst, err := r.read(ctx, dst, int32(p), maxBytes)
		return dst, Behind, err
	}
	return dst, Behind, nil
}
