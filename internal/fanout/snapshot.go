package fanout

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// Batch is what belongs together under one cursor: a snapshot, or each key's latest event of an interval. It is shared by
// all who are given it, and is to be released by each.
type Batch struct {
	// static
	keys    int
	dropped uint64
	all     []*Entry       // what pieces are made of as they are asked for, where list is nil
	filter  *filter.Filter // of those of all
	list    []*Piece
	tip     *Tip
	hub     *Hub
	base    *base // nil: it is no snapshot
	bytes   int64 // that it holds of the memory for folds
}

// Piece is a part of a batch, about as large as one write.
type Piece struct {
	Entries []*Entry
	Last    bool // of its batch

	forms sync.Map      // of *encoding
	room  *atomic.Int64 // bytes of encodings that may still be kept; nil: whoever is given the piece is the only one
}

// encoding is a piece in one form.
type encoding struct {
	once sync.Once
	buf  []byte
	cuts []int
}

// Keys is how many keys a snapshot has.
func (b *Batch) Keys() int { return b.keys }

// Dropped is how many keys this replica has dropped since it keeps the state, for want of room; those of them that had no
// event since are not in the snapshot.
func (b *Batch) Dropped() uint64 { return b.dropped }

// Next returns the piece at *at and moves that on; nil after the last. A batch without entries has no piece. ok is false where
// a snapshot is no longer held: it has been under way for too long, and is to be begun anew.
func (b *Batch) Next(at *int) (p *Piece, ok bool) {
	if b.base != nil && b.base.revoked.Load() {
		return nil, false
	}
	if b.list != nil {
		if *at >= len(b.list) {
			return nil, true
		}
		p = b.list[*at]
		*at++
		return p, true
	}
	var entries []*Entry
	size := 0
	for ; *at < len(b.all); *at++ {
		e := b.all[*at]
		if !b.wants(e) {
			continue
		}
		n := e.pieceBytes()
		if len(entries) > 0 && size+n > pieceMost {
			return &Piece{Entries: entries}, true
		}
		size += n
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, true
	}
	return &Piece{Entries: entries, Last: true}, true
}

func (b *Batch) wants(e *Entry) bool { return wanted(b.filter, &e.Event, b.hub.panicked) }

// Position is where reading goes on after the batch: the vector, its epoch and its text. The slice must not be changed.
func (b *Batch) Position() (vec []int64, epoch uint64, text []byte) { return b.tip.position() }

// Release ends the caller's use of the batch. Its entries stay what they are for whoever still has them.
func (b *Batch) Release() {
	if b.base != nil {
		b.hub.bases.release(b.base)
	}
	if b.bytes > 0 {
		b.hub.folds.release(b.bytes)
	}
}

// Encoded returns the piece in a form, of which encode makes it: the bytes, and the ends of messages in them. It is made
// once for all who are given the piece in that form, and must not be changed. shared is false where it is the caller's own.
func (p *Piece) Encoded(form int, encode func([]*Entry) (buf []byte, cuts []int)) (buf []byte, cuts []int, shared bool) {
	if p.room == nil {
		buf, cuts = encode(p.Entries)
		return buf, cuts, false
	}
	found, ok := p.forms.Load(form)
	if !ok {
		if p.room.Load() <= 0 {
			buf, cuts = encode(p.Entries)
			return buf, cuts, false
		}
		found, _ = p.forms.LoadOrStore(form, &encoding{})
	}
	made := found.(*encoding)
	made.once.Do(func() {
		made.buf, made.cuts = encode(p.Entries)
		p.room.Add(-int64(cap(made.buf)))
	})
	return made.buf, made.cuts, true
}

const (
	pieceMost   = 60 << 10 // bytes of a piece's events, unless it is one alone
	pieceBeside = 64       // what an event costs beside its JSON, about
)

func (e *Entry) pieceBytes() int { return len(e.frame) + pieceBeside }

// cutPieces cuts entries into shared pieces.
func cutPieces(entries []*Entry, room *atomic.Int64) []*Piece {
	list := []*Piece{}
	for len(entries) > 0 {
		n, size := 1, entries[0].pieceBytes()
		for n < len(entries) && size+entries[n].pieceBytes() <= pieceMost {
			size += entries[n].pieceBytes()
			n++
		}
		list = append(list, &Piece{Entries: entries[:n:n], Last: n == len(entries), room: room})
		entries = entries[n:]
	}
	return list
}

// base is a state as it was at one entry, from which snapshots of all filters are given.
type base struct {
	// static
	tip     *Tip
	entries []*Entry
	dropped uint64
	bytes   int64
	made    time.Time
	gen     uint64

	revoked atomic.Bool
	room    atomic.Int64 // bytes of encodings that may still be kept

	// guarded by bases.mu
	users    int
	filtered map[string]*Batch // those that are shared
	listed   int               // entries in them
}

// bases are the states that snapshots are being given from. Whoever comes is given the newest one for a moment, or for
// as long as there is no room for another: what follows it is in the ring, or in the log.
type bases struct {
	hub  *Hub
	most int64 // bytes of all, or as many states as basesMost, whatever is more

	mu   sync.Mutex
	all  []*base // the oldest first; guarded by mu
	last *base   // the newest, whether somebody is given it or not; guarded by mu
}

const (
	baseFresh    = 500 * time.Millisecond // for how long a base is shared in any case
	baseMost     = 64 << 20               // bytes of all bases of a hub
	basesMost    = 3
	basePatience = 2 * time.Minute // after which who is still given a base makes room where there is none
	filtersMost  = 64              // filters whose snapshots of one base are shared
)

// Snapshot returns a snapshot of what matches f, at or beyond the position atLeast (nil: any). It blocks until there is one:
// for the state to be read from the log, where nobody asked for one before, or for room. ErrNoState tells that the stream
// keeps none; what wraps broker.ErrUnavailable may pass.
func (h *Hub) Snapshot(ctx context.Context, f *filter.Filter, atLeast []int64) (*Batch, error) {
	for {
		if err := h.Err(); err != nil {
			return nil, err
		}
		if err := h.built(ctx); err != nil {
			return nil, err
		}
		if b := h.TrySnapshot(f, atLeast); b != nil {
			return b, nil
		}
		if !clock.Pause(ctx, baseFresh/8) {
			return nil, ctx.Err()
		}
	}
}

// TrySnapshot is Snapshot for who must not wait. It returns nil where that would have to.
func (h *Hub) TrySnapshot(f *filter.Filter, atLeast []int64) *Batch {
	b := h.bases.use(atLeast)
	if b == nil {
		return nil
	}
	h.m.snapshots.Inc()
	return h.bases.of(b, f)
}

// use returns a base and counts its caller in; nil where there is none.
func (bs *bases) use(atLeast []int64) *base {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	h := bs.hub
	h.mu.RLock()
	gen := h.gen
	h.mu.RUnlock()
	serves := func(b *base) bool { return b != nil && b.gen == gen && h.keeps.Load() && dominates(b.tip.vec, atLeast) }
	if b := bs.last; !serves(b) || h.now().Sub(b.made) > baseFresh {
		if made := bs.make(); made != nil {
			bs.last = made
		}
	}
	if !serves(bs.last) {
		return nil
	}
	if bs.last.users++; bs.last.users == 1 {
		bs.all = append(bs.all, bs.last)
		h.m.baseBytes.Add(float64(bs.last.bytes))
	}
	return bs.last
}

// make takes a base of the present state, if there is one and room for it. The caller holds mu.
func (bs *bases) make() *base {
	h := bs.hub
	h.viewsMu.Lock()
	defer h.viewsMu.Unlock()
	if h.state == nil {
		return nil
	}
	h.mu.RLock()
	tip, gen := h.tip, h.gen
	h.mu.RUnlock()
	if b := bs.last; b != nil && b.tip == tip && b.gen == gen && !b.revoked.Load() {
		b.made = h.now()
		return b // nothing has come since
	}
	bytes, held := h.state.latest.bytes, int64(0)
	for _, b := range bs.all {
		held += b.bytes
	}
	if len(bs.all) > 0 && held+bytes > max(bs.most, basesMost*bytes) {
		oldest := bs.all[0]
		if h.now().Sub(oldest.made) <= basePatience {
			return nil
		}
		bs.revoke(oldest)
	}
	entries := h.state.latest.all()
	earliest := h.clock.Earliest()
	old := 0
	for old < len(entries) && h.bounds.expired(entries[old], earliest) {
		old++
	}
	b := &base{
		tip: tip, gen: gen, entries: entries[old:], dropped: h.state.dropped, bytes: bytes, made: h.now(), filtered: map[string]*Batch{},
	}
	b.room.Store(max(baseMost, 2*bytes))
	return b
}

// revoke takes a base from those who are given it: they begin anew. The caller holds mu.
func (bs *bases) revoke(b *base) {
	b.revoked.Store(true)
	bs.drop(b)
	bs.hub.m.revoked.Inc()
}

// drop no longer counts a base, if it does. The caller holds mu.
func (bs *bases) drop(b *base) {
	if i := slices.Index(bs.all, b); i >= 0 {
		bs.all = slices.Delete(bs.all, i, i+1)
		bs.hub.m.baseBytes.Sub(float64(b.bytes))
	}
}

func (bs *bases) release(b *base) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if b.users--; b.users > 0 {
		return
	}
	bs.drop(b)
	if bs.last == b {
		// Those who come in the next moment share what is encoded already.
		time.AfterFunc(baseFresh, func() { bs.lapse(b) })
	}
}

// lapse lets go of a base that nobody is given.
func (bs *bases) lapse(b *base) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.last == b && b.users == 0 {
		bs.last = nil
	}
}

// of returns the snapshot of what matches f. Those with equal filters share it, as long as there are not too many.
func (bs *bases) of(b *base, f *filter.Filter) *Batch {
	key := ""
	if f != nil {
		key = f.Key()
	}
	bs.mu.Lock()
	if s, ok := b.filtered[key]; ok {
		bs.mu.Unlock()
		return s
	}
	shared := f == nil || len(b.filtered) < filtersMost && b.listed < 2*len(b.entries)
	bs.mu.Unlock()
	s := &Batch{dropped: b.dropped, tip: b.tip, hub: bs.hub, base: b, filter: f, all: b.entries}
	matching := b.entries
	if f != nil {
		matching = nil
		for _, e := range b.entries {
			if s.wants(e) {
				if s.keys++; shared {
					matching = append(matching, e)
				}
			}
		}
	} else {
		s.keys = len(b.entries)
	}
	if !shared {
		return s
	}
	s.list, s.all = cutPieces(matching, &b.room), nil
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if other, ok := b.filtered[key]; ok {
		return other
	}
	b.filtered[key] = s
	b.listed += len(matching)
	return s
}

// tipAt makes a tip of a position that is a reader's own.
func (h *Hub) tipAt(vec []int64, epoch uint64, text []byte) *Tip {
	t := &Tip{vec: slices.Clone(vec), tag: h.tag, ep: epoch}
	if text != nil {
		t.once.Do(func() { t.text = text })
	}
	return t
}
