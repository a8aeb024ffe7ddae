package fanout

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// Log is what the hubs need of the broker.
type Log interface {
	broker.Tailer
	broker.Reader
	broker.Offsets
	broker.Prover
	Describe(ctx context.Context, topic string) (broker.TopicInfo, error)
}

// Config configures the hubs of a replica.
type Config struct {
	RingBytes   int64 // of one stream; default 64 MiB
	MemoryBytes int64 // of all rings, the lists of their views, and catch-up blocks; default 512 MiB, of which a quarter is for blocks
	// CatchUpReads is how many reads of the log for readers that are behind are under way at once, of all streams; one
	// stream has half of them at most. Each takes up to 256 KiB, or an event's size, beside MemoryBytes. Default 128.
	CatchUpReads int
	Linger       time.Duration // a hub without readers is kept this long; default 1 min
	Shards       []Shard       // what drives readers by shard; may be empty
	Log          Log
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// Hubs are the hubs of a replica, one per stream that somebody reads.
type Hubs struct {
	// static
	log       Log
	shards    []Shard
	budget    *budget
	blocks    *blockCache
	catchUp   int           // reads of the log at once, of one stream
	reads     chan struct{} // a place for each read of all streams
	logger    *slog.Logger
	m         *metrics
	ringBytes int64
	linger    time.Duration
	now       func() time.Time
	clock     clock.Clock
	start     chan *Hub

	mu      sync.Mutex
	hubs    map[string]*opening // guarded by mu
	stopped bool                // guarded by mu
}

// opening is a hub that runs, or is being opened by somebody.
type opening struct {
	done chan struct{}
	hub  *Hub
	err  error
}

// New makes the hubs. Nothing is followed before Run.
func New(c Config) (*Hubs, error) {
	if c.Log == nil {
		return nil, errors.New("fanout: a log is needed")
	}
	if c.RingBytes <= 0 {
		c.RingBytes = 64 << 20
	}
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 512 << 20
	}
	if c.CatchUpReads <= 0 {
		c.CatchUpReads = 128
	}
	if c.Linger <= 0 {
		c.Linger = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := newMetrics(c.Registerer)
	hs := &Hubs{
		log: c.Log, shards: c.Shards, catchUp: (c.CatchUpReads + 1) / 2, logger: c.Logger, m: m,
		reads:  make(chan struct{}, c.CatchUpReads),
		budget: &budget{total: c.MemoryBytes - c.MemoryBytes/4, m: m, tight: make(chan struct{}, 1)},
		blocks: &blockCache{log: c.Log, limit: c.MemoryBytes / 4, m: m},
		linger: c.Linger, ringBytes: c.RingBytes, now: time.Now, clock: clock.System(), start: make(chan *Hub), hubs: map[string]*opening{},
	}
	return hs, nil
}

// Run drives the hubs until ctx ends, and returns when all of them have.
func (hs *Hubs) Run(ctx context.Context) error {
	var running sync.WaitGroup
	sweep := time.NewTicker(max(hs.linger/4, time.Second/100))
	defer sweep.Stop()
	for {
		select {
		case h := <-hs.start:
			hs.budget.hubs.Add(1)
			running.Go(func() { h.run(ctx) })
		case <-sweep.C:
			hs.reap()
		case <-hs.budget.tight:
			hs.relieve()
		case <-ctx.Done():
			hs.mu.Lock()
			hs.stopped = true
			hs.mu.Unlock()
			running.Wait()
			return nil
		}
	}
}

// relieve takes from the largest rings what all together are over their bound. A hub that publishes gives way itself; this
// is for those that stand still, and would hold for ever what others need.
func (hs *Hubs) relieve() {
	hs.mu.Lock()
	var running []*Hub
	for _, o := range hs.hubs {
		select {
		case <-o.done:
			if o.hub != nil {
				running = append(running, o.hub)
			}
		default:
		}
	}
	hs.mu.Unlock()
	for over := hs.budget.excess(); over > 0 && len(running) > 0; over = hs.budget.excess() {
		largest := slices.MaxFunc(running, func(a, b *Hub) int { return cmp.Compare(a.ringBytes(), b.ringBytes()) })
		if largest.relieve(min(over, max(1, largest.ringBytes()/2))) == 0 {
			return // what is left is lists, which have a bound of their own
		}
	}
}

// reap ends hubs that nobody has read for a while, and forgets those that ended.
func (hs *Hubs) reap() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for name, o := range hs.hubs {
		select {
		case <-o.done:
		default:
			continue
		}
		h := o.hub
		switch {
		case h == nil || h.Err() != nil:
			delete(hs.hubs, name)
		case h.readers.Load() > 0:
			h.idle = time.Time{}
		case h.idle.IsZero():
			h.idle = hs.now()
		case hs.now().Sub(h.idle) > hs.linger:
			delete(hs.hubs, name)
			h.stop()
		}
	}
}

// Open returns the stream's hub, which it starts where none runs; it then blocks until the broker has told where the
// stream stands. broker.ErrNoTopic tells that there is no such topic.
func (hs *Hubs) Open(ctx context.Context, s Stream) (*Hub, error) {
	for {
		hs.mu.Lock()
		if hs.stopped {
			hs.mu.Unlock()
			return nil, ErrClosed
		}
		o, ok := hs.hubs[s.Name]
		if !ok {
			o = &opening{done: make(chan struct{})}
			hs.hubs[s.Name] = o
		}
		hs.mu.Unlock()
		if !ok {
			o.hub, o.err = hs.launch(ctx, s)
			close(o.done)
		}
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if o.err == nil && o.hub.stream == s && o.hub.Err() == nil {
			hs.mu.Lock()
			o.hub.idle = time.Time{}
			hs.mu.Unlock()
			return o.hub, nil
		}
		hs.mu.Lock()
		if hs.hubs[s.Name] == o {
			delete(hs.hubs, s.Name)
			if o.err == nil {
				o.hub.stop()
			}
		}
		hs.mu.Unlock()
		if o.err != nil && (!ok || !errors.Is(o.err, context.Canceled)) {
			return nil, o.err
		}
	}
}

func (hs *Hubs) launch(ctx context.Context, s Stream) (*Hub, error) {
	h, err := hs.open(ctx, s)
	if err != nil {
		return nil, err
	}
	select {
	case hs.start <- h:
		return h, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// budget bounds all rings together. A hub over its share gives way where the total is exceeded.
type budget struct {
	total int64
	used  atomic.Int64
	hubs  atomic.Int64
	m     *metrics
	tight chan struct{} // holds one: the total is exceeded
}

func (b *budget) add(n int64) {
	used := b.used.Add(n)
	b.m.ringBytes.Set(float64(used))
	if n > 0 && used > b.total {
		select {
		case b.tight <- struct{}{}:
		default:
		}
	}
}

// excess is what all rings and lists together are over their bound.
func (b *budget) excess() int64 { return b.used.Load() - b.total }

func (b *budget) leave() { b.hubs.Add(-1) }

func (b *budget) over(own int64) bool {
	return b.used.Load() > b.total && own > b.total/max(1, b.hubs.Load())
}

type metrics struct {
	records    prometheus.Counter
	skipped    *prometheus.CounterVec
	gaps       *prometheus.CounterVec
	overflows  prometheus.Counter
	readers    prometheus.Gauge
	views      prometheus.Gauge
	catchingUp prometheus.Gauge
	ringBytes  prometheus.Gauge
	blockBytes prometheus.Gauge
	blockHits  prometheus.Counter
	blockReads prometheus.Counter
	panics     prometheus.Counter
	unlisted   prometheus.Counter

	stateKeys   *prometheus.GaugeVec
	stateBytes  *prometheus.GaugeVec
	stateBuilds prometheus.Histogram
	dropped     *prometheus.CounterVec
	snapshots   prometheus.Counter
	baseBytes   prometheus.Gauge
	revoked     prometheus.Counter
	conflated   prometheus.Gauge
	superseded  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_fanout_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "eventissuer_fanout_" + name, Help: help})
	}
	return &metrics{
		records:    counter("records_total", "Records taken into rings."),
		overflows:  counter("overflows_total", "Readers that fell out of the ring and went back to the log."),
		panics:     counter("panics_total", "Filters and reads of the log that failed by a mistake of the server."),
		unlisted:   counter("unlisted_views_total", "Filters whose list of matches was given up, for memory: their readers look at each event."),
		blockHits:  counter("block_hits_total", "Catch-up reads answered from the block cache."),
		blockReads: counter("block_reads_total", "Catch-up reads of the log."),
		snapshots:  counter("snapshots_total", "Snapshots given to readers."),
		revoked:    counter("revoked_total", "Snapshots and pieces of conflated views that were taken from slow readers, for want of memory: they begin anew, or go on with what is the latest by then."),
		superseded: counter("superseded_events_total", "Events that a conflated view's readers were not given, since a later one of their key came in the same interval."),
		conflated:  gauge("conflated_views", "Distinct filters and intervals in use by conflated readers."),
		baseBytes:  gauge("snapshot_bytes", "Bytes of the states that snapshots are being given from, as of when they were taken."),
		stateKeys: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "eventissuer_fanout_state_keys", Help: "Keys whose latest event is kept, by stream.",
		}, []string{"stream"}),
		stateBytes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "eventissuer_fanout_state_bytes", Help: "Bytes of the latest events of keys and of what holds them, by stream.",
		}, []string{"stream"}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_fanout_state_dropped_keys_total", Help: "Keys dropped from a stream's state since it was over its bounds.",
		}, []string{"stream"}),
		stateBuilds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "eventissuer_fanout_state_build_seconds", Help: "How long it took to read a stream's state from the log.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 60, 300},
		}),
		readers:    gauge("readers", "Readers of streams on this replica."),
		views:      gauge("views", "Distinct filters in use."),
		catchingUp: gauge("catching_up", "Readers that read the log at this moment."),
		ringBytes:  gauge("ring_bytes", "Bytes held in rings and in the lists of filters' matches."),
		blockBytes: gauge("block_bytes", "Bytes held in catch-up blocks."),
		skipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_fanout_skipped_records_total", Help: "Records that are no event, each counted once by every hub, by why.",
		}, []string{"stream", "cause"}),
		gaps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_fanout_gaps_total", Help: "Gaps told to readers, by reason.",
		}, []string{"reason"}),
	}
}
