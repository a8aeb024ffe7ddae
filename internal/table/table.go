package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/broker"
)

// What callers decide on.
var (
	// ErrConflict says that the object's current version is not the one the write names: nothing was changed.
	ErrConflict = errors.New("another version is current")
	// ErrInDoubt says that the write may or may not come to be accepted. Whoever asked reads again.
	ErrInDoubt = errors.New("fate of the write not known in time")
	// ErrNotReady says that the table is being loaded: nothing was written.
	ErrNotReady = errors.New("table is being loaded")
	// ErrTooLarge says that the object is above MaxBody, or its id above MaxID: nothing was written.
	ErrTooLarge = errors.New("object too large")
)

// Bounds of an object, so that a snapshot's part never passes the topic's limit.
const (
	MaxID   = 1 << 10
	MaxBody = 1 << 20
)

// Config says where a table is and how it is kept.
type Config struct {
	Log               broker.Log
	Topic             string
	Partitions        int32  // fixed for ever, since it decides where an id lives; default 1
	Snapshots         string // the topic of snapshots; default Topic + ".snapshots"
	ReplicationFactor int16  // of topics to be made; default: the cluster's
	Logger            *slog.Logger
	Registerer        prometheus.Registerer

	WriteTimeout  time.Duration // after which a write is in doubt; default 10 s
	SnapshotBytes int64         // a snapshot is due when the log since the last one exceeds this and that one's size; default 64 MiB
	SnapshotDelay time.Duration // upper bound of the random wait before a replica looks again and writes one; default 1 min
	PartBytes     int           // a snapshot's part is closed above this; default 512 KiB
	ReadBytes     int           // of one fetch while loading; default 4 MiB
	Backoff       time.Duration // upper bound of the wait after a failure; default 5 s
	// Retain is for how many offsets a deletion stays the current version. A second copy of a creation that comes later
	// than that creates again. Default and protocol: 100,000.
	Retain int64
}

// Version is one version of an object. Its body must not be changed.
type Version struct {
	U      uuid.UUID // what a write that replaces it names
	Body   []byte    // nil: the object is deleted
	Offset int64     // of the record in its partition's log

	kept *Kept
}

// Kept is the version as the table holds it, for who keeps many: it takes no memory of its own as long as the version is
// current. It is nil for a version that no table told of.
func (v Version) Kept() *Kept { return v.kept }

// Deleted reports whether the version is a deletion.
func (v Version) Deleted() bool { return v.Body == nil }

// Table is a compare-and-set table. Run makes it live.
type Table struct {
	cfg     Config // static
	log     *slog.Logger
	metrics *metrics
	ready   chan struct{} // closed by run
	isReady atomic.Bool
	due     chan struct{} // wakes the keeper; holds one
	shards  []*shard

	watchers []func(id string, v Version, deleted bool) // static once Run began
	settled  []func(partition int32, next int64)        // likewise
}

// New returns a table that is not live yet.
func New(cfg Config) (*Table, error) {
	if cfg.Log == nil || cfg.Topic == "" {
		return nil, errors.New("a table needs a log and a topic")
	}
	if cfg.Partitions < 0 {
		return nil, fmt.Errorf("a table of %d partitions", cfg.Partitions)
	}
	setDefault(&cfg.Partitions, 1)
	setDefault(&cfg.Snapshots, cfg.Topic+".snapshots")
	setDefault(&cfg.WriteTimeout, 10*time.Second)
	setDefault(&cfg.SnapshotBytes, 64<<20)
	setDefault(&cfg.SnapshotDelay, time.Minute)
	setDefault(&cfg.PartBytes, 512<<10)
	setDefault(&cfg.ReadBytes, 4<<20)
	setDefault(&cfg.Backoff, 5*time.Second)
	setDefault(&cfg.Retain, 100_000)
	setDefault(&cfg.Logger, slog.New(slog.DiscardHandler))
	t := &Table{
		cfg:     cfg,
		log:     cfg.Logger.With("table", cfg.Topic),
		metrics: newMetrics(cfg.Registerer, cfg.Topic),
		ready:   make(chan struct{}),
		due:     make(chan struct{}, 1),
	}
	for p := range cfg.Partitions {
		t.shards = append(t.shards, newShard(p, cfg.Retain))
	}
	return t, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Ready is closed once the table has been loaded to what was the log's end at the time. It stays closed.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// Watch has fn called for every change, in the order in which the changes of a partition are applied, from one
// goroutine; also for what a load brings, where only the outcome is told. When fn is called the change can be read,
// and the write that made it has not returned yet. fn must not block or write to the table. Call Watch before Run.
func (t *Table) Watch(fn func(id string, v Version, deleted bool)) {
	t.watchers = append(t.watchers, fn)
}

// Settled has fn called whenever more of a partition's log is applied, if only by records that changed nothing: after the
// changes were told to the watchers, before the writes among them return. All below next has been told then; next goes
// back only where the topic was made anew. It is the place to make visible in one step what Watch collected. Call
// Settled before Run.
func (t *Table) Settled(fn func(partition int32, next int64)) { t.settled = append(t.settled, fn) }

// Get returns the object's current version, and whether there is one that is not deleted. Each call unpacks the body.
func (t *Table) Get(id string) (Version, bool) {
	v, ok := t.Current(id)
	return v, ok && !v.Deleted()
}

// Current is Get, but a deletion that is still remembered counts too.
func (t *Table) Current(id string) (Version, bool) {
	s := t.shardOf(id)
	s.mu.RLock()
	k := s.fold.cur[id]
	s.mu.RUnlock()
	if k == nil {
		return Version{}, false
	}
	return k.Version(), true
}

// Range calls fn for every object that is not deleted, in no order, until fn returns false. It sees each partition as
// it was at one offset. fn may call the table.
func (t *Table) Range(fn func(id string, v Version) bool) {
	for _, s := range t.shards {
		for _, e := range s.entries() {
			if !e.kept.deleted() && !fn(e.id, e.kept.Version()) {
				return
			}
		}
	}
}

// Sync blocks until everything that was in the log of id's partition when it was called is applied, and so gives an
// answer that does not lag. It returns ErrNotReady while the table is being loaded, ctx.Err(), or the log's error.
func (t *Table) Sync(ctx context.Context, id string) error {
	s := t.shardOf(id)
	bounds, err := t.cfg.Log.Bounds(ctx, t.cfg.Topic)
	if err != nil {
		return fmt.Errorf("asking for the end of %s: %w", t.cfg.Topic, err)
	}
	if int(s.partition) >= len(bounds) {
		return fmt.Errorf("asking for the end of %s: %w", t.cfg.Topic, broker.ErrNoPartition)
	}
	if err := s.await(ctx, bounds[s.partition].Next); err != nil {
		return err
	}
	s.telling.Lock() // the watchers know of it too
	defer s.telling.Unlock()
	return nil
}

func (t *Table) shardOf(id string) *shard {
	return t.shards[partitionOf(id, len(t.shards))]
}

// shard is one partition: a table of its own.
type shard struct {
	partition int32 // static

	telling sync.Mutex // held from a change of the fold until the watchers were told; taken before mu

	mu      sync.RWMutex
	fold    *fold                 // guarded by mu; changed by run alone
	epoch   broker.Epoch          // guarded by mu: the life of the topic that the fold is of
	stale   bool                  // guarded by mu: to be loaded; reads are served, writes refused
	waiting map[uuid.UUID]*waiter // guarded by mu: writes without a verdict
	moved   chan struct{}         // guarded by mu: closed when the fold moves on; nil where nobody waits
	base    snapshot              // guarded by mu: facts of the last valid snapshot known
	grown   int64                 // guarded by mu: bytes of log since base

	found *scan // guarded by mu: what a load knows of the snapshots, for the keeper to go on from

	scan *scan // owned by the keeper
}

func newShard(p int32, retain int64) *shard {
	return &shard{partition: p, fold: newFold(retain), stale: true, waiting: map[uuid.UUID]*waiter{}}
}

// entry is an object as a snapshot or a Range sees it.
type entry struct {
	id   string
	kept *Kept
}

func (s *shard) entries() []entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fold.entries()
}

// await blocks until all offsets below end are applied.
func (s *shard) await(ctx context.Context, end int64) error {
	for {
		s.mu.Lock()
		if s.stale {
			s.mu.Unlock()
			return ErrNotReady
		}
		if s.fold.next >= end {
			s.mu.Unlock()
			return nil
		}
		if s.moved == nil {
			s.moved = make(chan struct{})
		}
		moved := s.moved
		s.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wakeAwaiting tells await to look again. s.mu is held.
func (s *shard) wakeAwaiting() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}
