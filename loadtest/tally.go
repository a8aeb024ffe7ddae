package loadtest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// newHistogram holds 1 µs to 10 minutes with three digits, in nanoseconds rounded to microseconds.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

// record enters a duration in nanoseconds, clamped to what the histogram holds.
func record(h *hdrhistogram.Histogram, nanos int64) {
	micros := min(max(nanos/1000, h.LowestTrackableValue()), h.HighestTrackableValue())
	_ = h.RecordValue(micros) // in range by the line above
}

// tally counts what the readers of one loop, or some of those that have goroutines, got. All of it is guarded by mu.
type tally struct {
	mu sync.Mutex // an epoll loop holds it but for when it waits

	latency    *hdrhistogram.Histogram // of events sent in the window; from when they were due, where they say so
	sent       *hdrhistogram.Histogram // of such that say when they were due: from when they were really sent
	recent     *hdrhistogram.Histogram // of events that arrived since it was last taken, whenever they were sent
	deliveries uint64                  // marked events of this run, all of the run
	inWindow   uint64                  // of those, arrived within the window
	late       uint64
	duplicates uint64
	unexpected uint64
	foreign    uint64 // data that carries no mark of this run
	controls   map[string]uint64
	bytes      uint64
	bytesIn    uint64 // within the window

	connect  *hdrhistogram.Histogram // dial to response header
	block    *hdrhistogram.Histogram // dial to first block
	rejected map[int]uint64          // answers other than a stream, by status; 0 is a connection that failed
	// since the last storm began
	stormHead, stormBlock, stormEvent *hdrhistogram.Histogram
}

func newTally() *tally {
	return &tally{
		latency: newHistogram(), sent: newHistogram(), recent: newHistogram(), connect: newHistogram(), block: newHistogram(),
		stormHead: newHistogram(), stormBlock: newHistogram(), stormEvent: newHistogram(),
		controls: map[string]uint64{}, rejected: map[int]uint64{},
	}
}

// histograms are those that a run's outcome is made of.
func (t *tally) histograms() []*hdrhistogram.Histogram {
	return []*hdrhistogram.Histogram{t.latency, t.sent, t.connect, t.block, t.stormHead, t.stormBlock, t.stormEvent}
}

// content is how much of what came, all of the run, was not as it should have been.
type content struct {
	Duplicates uint64 `json:"duplicates,omitempty"`
	Disordered uint64 `json:"disordered,omitempty"`
	Unexpected uint64 `json:"unexpected,omitempty"`
}

func (c *content) add(o content) {
	c.Duplicates += o.Duplicates
	c.Disordered += o.Disordered
	c.Unexpected += o.Unexpected
}

// takeRecent adds what arrived since it was last called to the given histogram, and returns what was wrong so far.
func (t *tally) takeRecent(to *hdrhistogram.Histogram) content {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recent.TotalCount() > 0 {
		to.Merge(t.recent)
		t.recent.Reset()
	}
	return content{Duplicates: t.duplicates, Disordered: t.late, Unexpected: t.unexpected}
}

// merge adds o to t.
func (t *tally) merge(o *tally) {
	from := o.histograms()
	for i, h := range t.histograms() {
		h.Merge(from[i])
	}
	t.deliveries += o.deliveries
	t.inWindow += o.inWindow
	t.late += o.late
	t.duplicates += o.duplicates
	t.unexpected += o.unexpected
	t.foreign += o.foreign
	t.bytes += o.bytes
	t.bytesIn += o.bytesIn
	for k, n := range o.controls {
		t.controls[k] += n
	}
	for k, n := range o.rejected {
		t.rejected[k] += n
	}
}

// gauges are what all readers share while a run goes on; every field may be read at any time.
type gauges struct {
	live       atomic.Int64 // connections whose response header has come and that are still open
	blocks     atomic.Int64 // of those, such that have had their first block
	deliveries atomic.Uint64
	reconnects atomic.Uint64
	failures   atomic.Uint64 // connection attempts that brought no stream
	lastFail   atomic.Pointer[string]
	stopped    atomic.Int64                   // readers that were told to stop for good
	lastAt     atomic.Int64                   // Unix nanoseconds of the last delivery
	from, to   atomic.Int64                   // the window that is measured, Unix nanoseconds; 0: not begun, not ended
	highest    [maxForeignLanes]atomic.Uint64 // one above the highest number that any reader saw of a lane of another process
	stormAt    atomic.Int64                   // when the last storm dropped readers, Unix nanoseconds
	storms     atomic.Int64                   // storms that have dropped their readers
	away       atomic.Int64                   // readers that the last storm dropped, without a response header since
	waiting    atomic.Int64                   // those, and such without a block since
}

// saw raises the highest number seen of a lane.
func (g *gauges) saw(lane int, next uint64) {
	for {
		old := g.highest[lane].Load()
		if next <= old || g.highest[lane].CompareAndSwap(old, next) {
			return
		}
	}
}

// in says whether a time lies in the window that is measured.
func (g *gauges) in(nanos int64) bool {
	from, to := g.from.Load(), g.to.Load()
	return from != 0 && nanos >= from && (to == 0 || nanos < to)
}
