package fanout

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sort"
	"sync"
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

// cview is what readers with equal filters and intervals are given: the latest entry of each key, in the order in which they
// came, taken by a reader of its own. Each reader has a place in that order: before it are entries that it was given. When
// an interval has ended it is given those after it, as they are then, piece by piece. Its place is always a position in the
// log, too: what came before it and was not given has been followed by something that comes after it.
//
// While a reader is given pieces they are kept for it, in a row. Where rows take too much the oldest are let go, and their
// readers go on from their places in what is the latest by then.
//
// The view reads the ring alone. Where it falls out of that its readers go on by themselves until they meet it again.
type cview struct {
	lot
	// static
	hub      *Hub
	key      string
	options  Options
	interval time.Duration
	phase    time.Duration // by which its intervals begin after those of others
	timer    *time.Timer

	woke atomic.Int64 // Unix nanoseconds: since when something waits that was not seen; 0: nothing does
	due  atomic.Int64 // when it is to be given; 0: nothing waits

	readers int // guarded by the cviews' mutex

	// guarded by mu; held while the reader is driven
	mu      sync.Mutex
	reader  *Reader
	closed  bool
	ended   bool // with its hub
	life    uint64
	latest  *latest
	bytes   int64  // of latest, as the hub counts them
	changed bool   // since the last tick
	floor   uint64 // all that came from here on is in latest
	tickSeq uint64 // where the last interval ended
	tickTip *Tip
	ticks   []uint64 // the last of them, for readers that are behind
	row     *row     // nil: latest has changed since one was made
	rows    []*row   // that readers are given, the oldest first
	sig     uint64
	buf     []*Entry
}

// row is latest cut into pieces, as it was at one moment. It is guarded by the mutex of its view.
type row struct {
	entries []*Entry
	ends    []int
	begun   map[uint64]*step // pieces that some are given, by where they begin
	room    atomic.Int64     // bytes of encodings that may still be kept
	to      uint64           // where who has been given all of it stands
	tip     *Tip
	bytes   int64
	users   int
	revoked bool
}

// step is a piece of a row, and where who is given it stands afterwards.
type step struct {
	batch *Batch
	to    uint64
}

const (
	drainStep     = 100 * time.Millisecond // what came is taken from the ring at least this often
	ticksMost     = 16                     // intervals that a reader may be behind and still go on with the others
	stepsMost     = 256                    // shared at a time
	encodedMost   = 16 << 20               // bytes of one row's shared encodings
	conflatedMost = 64 << 20               // bytes of all views of a hub
	rowsMost      = 64 << 20               // and of all rows
)

// cviews are the conflated views of a hub.
type cviews struct {
	// static
	most     int64 // bytes of all
	rowsMost int64 // bytes of all rows that readers are given, encodings not counted

	mu    sync.Mutex
	views map[string]*cview // guarded by mu
	count atomic.Int64      // of views
	bytes atomic.Int64      // of all
	rows  atomic.Int64      // bytes of rows that readers are given
}

// enter finds or makes a view, and counts one reader in.
func (cs *cviews) enter(h *Hub, o Options, interval time.Duration) *cview {
	key := fmt.Sprintf("%v/%t/%t", interval, o.Picture, o.Whole)
	if o.Filter != nil {
		key += "/" + o.Filter.Key()
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cv := cs.views[key]
	if cv == nil {
		cv = &cview{
			lot: newLot(len(h.shards)), hub: h, key: key, interval: interval, phase: time.Duration(maphash.String(keySeed, key) % uint64(interval)),
			options: o, latest: newLatest(),
		}
		cv.options.Notify = cv.wake
		cv.timer = time.AfterFunc(time.Hour, cv.run)
		cv.timer.Stop()
		cv.mu.Lock()
		cv.begin()
		cv.rest()
		cv.mu.Unlock()
		if cs.views == nil {
			cs.views = map[string]*cview{}
		}
		cs.views[key] = cv
		cs.count.Add(1)
		h.m.conflated.Inc()
	}
	cv.readers++
	return cv
}

func (cs *cviews) leave(cv *cview) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cv.readers--; cv.readers > 0 {
		return
	}
	delete(cs.views, cv.key)
	cs.count.Add(-1)
	cv.hub.m.conflated.Dec()
	cv.mu.Lock()
	defer cv.mu.Unlock()
	cv.closed = true
	cv.timer.Stop()
	cv.reader.Close()
	cs.bytes.Add(-cv.bytes)
}

// begin has the view start at what is the newest now. The caller holds mu.
func (cv *cview) begin() {
	cv.reader = cv.hub.Reader(cv.options)
	cv.tickSeq, cv.tickTip = cv.reader.pos, cv.reader.tip
	cv.floor, cv.ticks, cv.row, cv.changed = cv.tickSeq, nil, nil, false
	cv.sig = cv.reader.sig
	cv.due.Store(0)
	cv.latest = newLatest()
	cv.count()
}

// restart has the readers go on by themselves, since what they would be given next is in the log alone. The caller holds mu.
func (cv *cview) restart() {
	cv.reader.Close()
	cv.life++
	cv.begin()
	cv.wakeAll()
}

// wake is called by the hub when something came that the view has not seen. It does not block.
func (cv *cview) wake() {
	cv.woke.CompareAndSwap(0, cv.hub.now().UnixNano())
	cv.timer.Reset(cv.pause())
}

// pause is how long the view may wait with what is due.
func (cv *cview) pause() time.Duration {
	if due := cv.due.Load(); due != 0 {
		return max(0, min(drainStep, time.Duration(due-cv.hub.now().UnixNano())))
	}
	return min(drainStep, cv.interval/4)
}

// run takes what came, and gives it to the readers where the interval ends.
func (cv *cview) run() {
	cv.mu.Lock()
	defer cv.mu.Unlock()
	if cv.closed {
		return
	}
	cv.drain()
	if cv.changed && (cv.hub.now().UnixNano() >= cv.due.Load() || cv.overfull()) {
		cv.tick()
	}
	cv.rest()
}

// drain takes what is in the ring. The caller holds mu.
func (cv *cview) drain() {
	for {
		entries, s := cv.reader.Take(cv.buf[:0], 1<<20)
		cv.put(entries)
		clear(entries)
		cv.buf = entries
		if cv.reader.sig != cv.sig {
			cv.sig = cv.reader.sig
			cv.wakeAll()
		}
		switch {
		case s == Ended:
			cv.ended = true
			cv.wakeAll()
			return
		case s == Behind, s == Stale:
			cv.restart()
			return
		case s == Idle && len(entries) == 0:
			return
		}
	}
}

func (cv *cview) put(entries []*Entry) {
	if len(entries) == 0 {
		return
	}
	for _, e := range entries {
		if before := cv.latest.put(e.unkeyed()); before != nil && before.seq >= cv.tickSeq {
			cv.hub.m.superseded.Inc()
		}
	}
	cv.count()
	cv.row = nil
	if !cv.changed {
		cv.changed = true
		came := time.Duration(cv.woke.Load())
		if came == 0 {
			came = time.Duration(cv.hub.now().UnixNano())
		}
		cv.due.Store(int64(came + cv.interval - (came-cv.phase)%cv.interval))
	}
}

// count tells the hub what the view takes. The caller holds mu.
func (cv *cview) count() {
	cv.hub.conflated.bytes.Add(cv.latest.bytes - cv.bytes)
	cv.bytes = cv.latest.bytes
}

// advance moves on over what does not concern the view, so that its readers' cursors do. The caller holds mu.
func (cv *cview) advance() {
	cv.drain()
	if !cv.changed && cv.reader.pos > cv.tickSeq {
		cv.tickSeq, cv.tickTip = cv.reader.pos, cv.reader.tip
		if cv.row != nil {
			cv.row.to, cv.row.tip = cv.tickSeq, cv.tickTip
		}
	}
	cv.rest()
}

// overfull reports whether the view holds more than it may: then its readers are given it before the interval ends.
func (cv *cview) overfull() bool {
	all := &cv.hub.conflated
	return all.bytes.Load() > all.most && cv.bytes > all.most/max(1, all.count.Load())
}

// tick gives the readers what came. The caller holds mu and has drained.
func (cv *cview) tick() {
	cv.ticks = append(cv.ticks, cv.tickSeq)
	cv.tickSeq, cv.tickTip = cv.reader.pos, cv.reader.tip
	cv.changed = false
	cv.due.Store(0)
	most := ticksMost
	if cv.overfull() {
		most = 1
	}
	if n := len(cv.ticks); n > most {
		cv.ticks = cv.ticks[n-most:]
		cv.floor = cv.ticks[0]
	}
	for e := cv.latest.oldest(); e != nil && e.seq < cv.floor; e = cv.latest.oldest() {
		cv.latest.drop()
		cv.row = nil
	}
	cv.count()
	cv.wakeAll()
}

// use returns the row of what is the latest now, and counts a reader in. The caller holds mu.
func (cv *cview) use() *row {
	if cv.row == nil {
		cv.cut()
	}
	w := cv.row
	if w.users++; w.users > 1 {
		return w
	}
	cv.rows = append(cv.rows, w)
	held := cv.hub.conflated.rows.Add(w.bytes)
	for held > cv.hub.conflated.rowsMost && len(cv.rows) > 1 {
		oldest := cv.rows[0]
		oldest.revoked = true
		cv.rows = cv.rows[1:]
		held = cv.hub.conflated.rows.Add(-oldest.bytes)
	}
	return w
}

// done ends a reader's use of a row. The caller holds mu.
func (cv *cview) done(w *row) {
	if w.users--; w.users > 0 || w.revoked {
		return
	}
	cv.rows = slices.DeleteFunc(cv.rows, func(o *row) bool { return o == w })
	cv.hub.conflated.rows.Add(-w.bytes)
}

// cut makes a row of what is the latest now. A piece ends at an entry that has a position, behind all that came with it.
// The caller holds mu.
func (cv *cview) cut() {
	w := &row{entries: cv.latest.all(), begun: map[uint64]*step{}, to: cv.reader.pos, tip: cv.reader.tip}
	w.room.Store(encodedMost)
	size := 0
	for i, e := range w.entries {
		size += e.pieceBytes()
		w.bytes += e.size()
		last := i == len(w.entries)-1
		if last || e.vec != nil && w.entries[i+1].seq > e.seq && size+w.entries[i+1].pieceBytes() > pieceMost {
			w.ends = append(w.ends, i+1)
			size = 0
		}
	}
	cv.row = w
}

// give returns the piece that begins at a place, nil where there is none, and where who is given it then stands.
func (w *row) give(from uint64, cv *cview) (b *Batch, to uint64, tip *Tip) {
	if s, ok := w.begun[from]; ok {
		return s.batch, s.to, s.batch.tip
	}
	begin := sort.Search(len(w.entries), func(i int) bool { return w.entries[i].seq >= from })
	to, tip = w.to, w.tip
	if begin == len(w.entries) {
		return nil, to, tip
	}
	end := w.ends[sort.SearchInts(w.ends, begin+1)]
	if end < len(w.entries) {
		last := w.entries[end-1]
		to, tip = last.seq+1, cv.hub.tipAt(last.vec, w.tip.ep, last.Cursor())
	}
	piece := &Piece{Entries: w.entries[begin:end:end], Last: true}
	s := &step{to: to, batch: &Batch{list: []*Piece{piece}, tip: tip, hub: cv.hub}}
	if len(w.begun) < stepsMost {
		w.begun[from] = s
		piece.room = &w.room
	}
	return s.batch, to, tip
}

// rest leaves the view until something comes, or what is there is due. The caller holds mu.
func (cv *cview) rest() {
	if cv.closed || cv.ended {
		return
	}
	cv.woke.Store(0)
	if !cv.reader.Park() || cv.changed {
		cv.timer.Reset(cv.pause())
	}
}

// wakeAll wakes the readers.
func (cv *cview) wakeAll() {
	h := cv.hub
	wake := make([][]*Reader, len(h.shards)+1)
	cv.release(wake)
	h.deliver(wake)
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
