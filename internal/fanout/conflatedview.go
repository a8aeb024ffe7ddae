package fanout

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

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

	woke atomic.Int64 // the clock's elapsed time: since when something waits that was not seen; 0: nothing does
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
	cv.woke.CompareAndSwap(0, int64(cv.hub.clock.Elapsed()))
	cv.timer.Reset(cv.pause())
}

// pause is how long the view may wait with what is due.
func (cv *cview) pause() time.Duration {
	if due := cv.due.Load(); due != 0 {
		return max(0, min(drainStep, time.Duration(due)-cv.hub.clock.Elapsed()))
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
	if cv.changed && (int64(cv.hub.clock.Elapsed()) >= cv.due.Load() || cv.overfull()) {
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
			came = cv.hub.clock.Elapsed()
		}
		cv.due.Store(int64(came + cv.interval - (came+cv.interval-cv.phase)%cv.interval))
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
		cv.hub.m.revoked.Inc()
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
