package dedupe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
)

// Config says how events are deduplicated. The zero values are the defaults.
type Config struct {
	// Lease is how long a reservation keeps others from appending the same event. Default 60 s.
	Lease time.Duration
	// Landing is how long an append may take to land from when it is begun: the log's append deadline, its request
	// time-out and, with replicas, replica.lag.time.max.ms. It must be less than Lease; what is left of the lease is the
	// time to get as far as the append. Default 50 s (10 + 10 + 30).
	Landing time.Duration
	// SettleTime bounds looking into the log for appends of unknown fate, in one call. It must be less than Lease −
	// Landing. Default 5 s.
	SettleTime time.Duration
	// SettleBytes bounds how much of the log one call reads of a partition for that; the next goes on there. Default 64 MiB.
	SettleBytes int64
	// Settlers bounds how many partitions are read for that at once. Default 4.
	Settlers int

	// RedisTimeout bounds each exchange with Redis. Default 500 ms.
	RedisTimeout time.Duration
	// Prefix begins the name of every key. Default "eventissuer:".
	Prefix string

	// MemoryBytes bounds what is kept of events in the process, without Redis. Default 128 MiB: 3.4 million events.
	MemoryBytes int64
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.Lease, time.Minute)
	def(&c.Landing, 50*time.Second)
	def(&c.SettleTime, min(5*time.Second, (c.Lease-c.Landing)/2))
	def(&c.RedisTimeout, 500*time.Millisecond)
	if c.SettleBytes <= 0 {
		c.SettleBytes = 64 << 20
	}
	if c.Settlers <= 0 {
		c.Settlers = 4
	}
	if c.Prefix == "" {
		c.Prefix = "eventissuer:"
	}
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 128 << 20
	}
	return c
}

// Log is what is needed of the log.
type Log interface {
	broker.Appender
	broker.Placer
	broker.Reader
	// Bounds and At are broker.Offsets', Describe is broker.Admin's.
	Bounds(ctx context.Context, topic string) ([]broker.Bounds, error)
	At(ctx context.Context, topic string, t time.Time) ([]int64, error)
	Describe(ctx context.Context, topic string) (broker.TopicInfo, error)
}

// Deps are what events are deduplicated with.
type Deps struct {
	Log        Log
	Redis      redis.UniversalClient // nil: what is known is kept in the process, and no other may publish
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Stream is where events go.
type Stream struct {
	Name  string // as duplicates of its events are answered with
	Topic string
}

// Event is an event to be appended.
type Event struct {
	Source, ID string
	// Window is how long the same (source, id) counts as a duplicate; 0: the event is not deduplicated.
	Window time.Duration
	// Strict refuses the event while Redis is away, instead of writing it undeduplicated.
	Strict bool
	// Message is the event's record. Its partition must be broker.AnyPartition.
	Message broker.Message
}

// Outcome is what became of an event.
type Outcome struct {
	// Ack is the position of the event, or of the first one where it is a duplicate. Its Err is one of the log's, or
	// one of this package's, which all are broker.ErrRefused.
	Ack       broker.Ack
	Duplicate bool
	Stream    string // that holds the event, which for a duplicate may be another
	Degraded  bool   // written without being deduplicated, since Redis was away
}

// Why an event was not written, and is to be sent again.
var (
	ErrReserved   = fmt.Errorf("%w: the same event is being published, or was and its fate is not known yet", broker.ErrRefused)
	ErrUnsettled  = fmt.Errorf("%w: whether the event is on the log already could not be found out", broker.ErrRefused)
	ErrOutOfTime  = fmt.Errorf("%w: there was not enough time left to append the event", broker.ErrRefused)
	ErrStoreAway  = fmt.Errorf("%w: Redis is away, and the event must not be written undeduplicated", broker.ErrRefused)
	ErrRebuilding = fmt.Errorf("%w: the events in the topic are still being read", broker.ErrRefused)
)

// store keeps what is known of events.
type store interface {
	// prepare blocks until what a topic holds of the window is known.
	prepare(ctx context.Context, l life, window time.Duration) error
	// reserve makes the reservations that are wanted where nothing is, and tells what is there elsewhere.
	reserve(all []*attempt)
	// swap makes changes.
	swap(all []*change)
	close()
}

// Deduper appends events once. See the package's comment.
type Deduper struct {
	// static
	cfg      Config
	log      Log
	logger   *slog.Logger
	metrics  *metrics
	store    store
	now      func() time.Time
	settlers chan struct{} // holds one for each partition that is read
	scratch  sync.Pool     // of *batch

	tokens  uint64 // the first half of this process's tokens
	counter atomic.Uint64

	mu   sync.Mutex    // guards gone
	gone map[life]bool // lives that are over, without their streams
}

// New makes a Deduper. Without Redis, reading a topic's window for the first time is done by goroutines that Close ends.
func New(cfg Config, deps Deps) (*Deduper, error) {
	return newDeduper(cfg, deps, time.Now)
}

func newDeduper(cfg Config, deps Deps, now func() time.Time) (*Deduper, error) {
	cfg = cfg.withDefaults()
	if cfg.Landing+cfg.SettleTime >= cfg.Lease {
		return nil, fmt.Errorf("deduplication: the lease is %v: expected more than landing (%v) and settling (%v) together", cfg.Lease, cfg.Landing, cfg.SettleTime)
	}
	if deps.Log == nil {
		return nil, errors.New("deduplication: expected a log")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Deduper{
		cfg:      cfg,
		log:      deps.Log,
		logger:   deps.Logger,
		metrics:  newMetrics(deps.Registerer),
		now:      now,
		settlers: make(chan struct{}, cfg.Settlers),
		scratch:  sync.Pool{New: func() any { return new(batch) }},
		gone:     make(map[life]bool),
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("deduplication: %w", err)
	}
	d.tokens = binary.LittleEndian.Uint64(random[:])
	if deps.Redis != nil {
		d.store = newRedisStore(cfg, deps.Redis, deps.Logger, d.metrics)
	} else {
		d.store = newMemory(cfg, deps.Log, deps.Logger, d.metrics, now)
		d.metrics.held(deps.Registerer, d.store.(*memory).count)
	}
	return d, nil
}

// Close ends what is under way on its own account, and blocks until it has ended. No Append may be under way.
func (d *Deduper) Close() error {
	d.store.close()
	return nil
}

// Prepare gets ready for a stream's events of a window, so that the first one need not wait. It blocks until then.
func (d *Deduper) Prepare(ctx context.Context, s Stream, window time.Duration) error {
	e, _, err := d.log.Place(ctx, s.Topic, nil)
	if err != nil {
		return fmt.Errorf("prepare deduplication of stream %s: %w", s.Name, err)
	}
	return d.store.prepare(ctx, life{s.Topic, s.Name, epochOf(e)}, window)
}

func (d *Deduper) token() (t token) {
	binary.LittleEndian.PutUint64(t[:8], d.tokens)
	binary.LittleEndian.PutUint64(t[8:], d.counter.Add(1))
	return t
}
