package fanout

import (
	"context"
	"sync/atomic"
	"time"
)

// Conflated is a reader that is given each key's latest event once an interval, or what is due at once where it comes from
// further back. It belongs to one goroutine at a time. What it is given covers all up to [Conflated.Position], which
// stays where the last batch ended until the next one is given.
type Conflated struct {
	r  *Reader
	cv *cview // nil: it is given what is due whenever it asks

	// While it follows cv; else r goes on alone, into fold.
	shared bool
	life   uint64 // of cv
	seq    uint64 // the first entry that it has not been given
	row    *row   // what it is being given; nil: nothing
	torn   bool   // the row was taken from it, so that it is to be given another at once
	with   bool   // it was parked with the others, not as a reader of the hub

	tip  *Tip    // where the last batch ended
	was  *Tip    // and the one before
	fold *latest // what came since; nil: nothing
	most int64   // bytes that fold may take
	held int64   // of them, those that are counted
	buf  []*Entry
}

// Conflated makes a reader that is given batches: once an interval, which all with equal filters and intervals share, or
// whenever it asks where interval is 0. Without Next it begins where the others were last given something. Close it when
// done.
func (h *Hub) Conflated(o Options, interval time.Duration) *Conflated {
	c := &Conflated{r: h.Reader(o)}
	c.stay()
	if interval > 0 {
		c.cv = h.conflated.enter(h, Options{Filter: o.Filter, Picture: o.Picture, Whole: o.Whole}, interval)
		if o.Next == nil && o.Since == nil {
			c.cv.mu.Lock()
			if c.cv.reader.gen == c.r.gen {
				c.follow(c.cv.tickSeq, c.cv.tickTip)
			}
			c.cv.mu.Unlock()
		}
	}
	return c
}

// Reader is what tells of gaps and of health. Its position is not the batches'.
func (c *Conflated) Reader() *Reader { return c.r }

// Position is where the last batch ended, or where the reader is Stale: the vector, its epoch, and its text. The slices must
// not be changed.
func (c *Conflated) Position() (vec []int64, epoch uint64, text []byte) { return c.tip.position() }

// Before is where the last batch began, which is where a client stands until it has been given all of it.
func (c *Conflated) Before() (vec []int64, epoch uint64, text []byte) { return c.was.position() }

// Close takes the reader out of its hub.
func (c *Conflated) Close() {
	c.drop()
	c.Unpark()
	if c.cv != nil {
		c.cv.mu.Lock()
		c.leaveRow()
		c.cv.mu.Unlock()
		c.r.hub.conflated.leave(c.cv)
	}
	c.r.Close()
}

// stay notes where the reader stands as the position of what it has been given.
func (c *Conflated) stay() {
	vec, text := c.r.Position()
	c.tip = c.r.hub.tipAt(vec, c.r.ep, text)
}

// follow has the reader go on with the others. The caller holds the view's mutex.
func (c *Conflated) follow(seq uint64, tip *Tip) {
	c.Unpark()
	c.shared, c.life, c.seq, c.tip = true, c.cv.life, seq, tip
}

// Take returns the batch that is due, or nil, and what to do next, as [Reader.Take] does. It does no I/O.
func (c *Conflated) Take() (*Batch, Status) {
	if c.shared {
		if b, s, ok := c.next(); ok {
			return b, s
		}
	}
	h := c.r.hub
	h.mu.RLock()
	cut := h.gen != c.r.gen
	h.mu.RUnlock()
	if cut && c.fold != nil { // what the log lost is to be told from where the client is
		c.drop()
		c.r.stand(c.tip)
	}
	if c.fold == nil {
		c.stay()
	}
	for range foldTakes {
		entries, s := c.r.Take(c.buf[:0], pieceMost)
		c.put(entries)
		switch {
		case s == Stale:
			c.drop()
			c.stay()
			return nil, Stale
		case s == Idle && len(entries) > 0: // it may be Stale
			continue
		case s == Idle:
			b := c.give()
			c.attach()
			return b, Idle
		case s != More:
			return nil, s
		case c.full():
			return c.give(), More
		}
	}
	return nil, More
}

// Fill reads the log as [Reader.Fill] does.
func (c *Conflated) Fill(ctx context.Context) (*Batch, Status, error) {
	if c.fold == nil {
		c.stay()
	}
	entries, s, err := c.r.Fill(ctx, c.buf[:0], aheadBytes)
	c.put(entries)
	if s == Stale {
		c.drop()
		c.stay()
	}
	if c.full() {
		return c.give(), s, err
	}
	return nil, s, err
}

// foldTakes bounds how much is looked at in one Take.
const foldTakes = 16

// put takes entries into the fold.
func (c *Conflated) put(entries []*Entry) {
	for _, e := range entries {
		if c.fold == nil {
			c.fold = newLatest()
			c.most, c.held = c.r.hub.folds.take()
		}
		if !e.Beside {
			c.r.After(e)
		}
		if e.vec == nil && !e.Beside {
			e = e.Clone()
		}
		if c.fold.put(e.unkeyed()) != nil {
			c.r.hub.m.superseded.Inc()
		}
	}
	clear(entries)
	c.buf = entries
}

func (c *Conflated) full() bool { return c.fold != nil && c.fold.bytes > c.most }

// give makes a batch of what was folded.
func (c *Conflated) give() *Batch {
	c.was = c.tip
	c.stay()
	if c.fold == nil {
		return nil
	}
	b := &Batch{all: c.fold.all(), keys: c.fold.n, tip: c.tip, hub: c.r.hub, bytes: c.held}
	c.fold, c.held = nil, 0
	return b
}

// drop gives up what was folded.
func (c *Conflated) drop() {
	if c.fold != nil {
		c.r.hub.folds.release(c.held)
		c.fold, c.held = nil, 0
	}
}

// attach has the reader go on with the others, where it has met them.
func (c *Conflated) attach() {
	if c.cv == nil || !c.r.live || c.r.vec != nil || c.r.tip == nil || c.r.unsure {
		return
	}
	c.cv.mu.Lock()
	defer c.cv.mu.Unlock()
	if c.r.pos >= c.cv.floor {
		c.follow(c.r.pos, c.tip)
	}
}

// next is Take for a reader that goes on with the others. ok is false where it cannot any more.
func (c *Conflated) next() (b *Batch, s Status, ok bool) {
	cv := c.cv
	cv.mu.Lock()
	defer cv.mu.Unlock()
	if c.r.glance() {
		return nil, Ended, true
	}
	if cv.life == c.life && cv.tickSeq <= c.seq && !cv.changed {
		cv.advance()
	}
	if cv.life != c.life || c.row == nil && c.seq < cv.floor {
		c.Unpark()
		c.leaveRow()
		c.shared, c.torn = false, false
		c.r.stand(c.tip)
		return nil, Idle, false
	}
	if c.row != nil && c.row.revoked {
		c.row, c.torn = nil, true
	}
	if c.row == nil {
		if c.seq >= cv.tickSeq && !c.torn {
			return nil, Idle, true
		}
		c.row, c.torn = cv.use(), false
	}
	b, to, tip := c.row.give(c.seq, cv)
	if b != nil {
		c.was = c.tip
	}
	if c.seq, c.tip = to, tip; to < c.row.to {
		return b, More, true
	}
	c.leaveRow()
	return b, Idle, true
}

// leaveRow ends the use of a row. The caller holds the view's mutex.
func (c *Conflated) leaveRow() {
	if c.row != nil {
		c.cv.done(c.row)
		c.row = nil
	}
}

// Park leaves the reader to be woken once a batch is due. It returns false where something is: then Take.
func (c *Conflated) Park() bool {
	if !c.shared {
		c.with = false
		return c.fold == nil && c.r.Park()
	}
	cv := c.cv
	cv.mu.Lock()
	defer cv.mu.Unlock()
	if cv.life != c.life || c.row != nil || c.torn || c.seq < cv.tickSeq || c.r.signalled() {
		return false
	}
	c.with = true
	cv.park(c.r)
	return true
}

// Unpark takes the reader back before it was woken.
func (c *Conflated) Unpark() {
	if c.with {
		c.cv.unpark(c.r)
	} else {
		c.r.Unpark()
	}
}

// glance takes notice of the hub's health. It reports whether the hub has ended.
func (r *Reader) glance() (ended bool) {
	h := r.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	r.sig, r.bad = h.sig, h.unhealthy
	return h.ended != nil
}

// signalled reports whether there is something that the reader has not looked at.
func (r *Reader) signalled() bool {
	h := r.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	return r.sig != h.sig
}

// folds is the memory of what readers fold by themselves.
type folds struct{ used atomic.Int64 }

const (
	foldsMost = 64 << 20
	foldMost  = 4 << 20  // of one reader
	foldLeast = 32 << 10 // which everyone has
)

// take gives a reader its room, a part of what is free, and how much of that is to be released.
func (f *folds) take() (most, held int64) {
	n := min(foldMost, (foldsMost-f.used.Load())/8)
	if n <= foldLeast {
		return foldLeast, 0
	}
	f.used.Add(n)
	return n, n
}

func (f *folds) release(n int64) { f.used.Add(-n) }
