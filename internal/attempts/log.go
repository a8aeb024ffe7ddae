package attempts

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// ErrUnavailable tells that what was asked for cannot be read at present. It may pass.
var ErrUnavailable = errors.New("the log of attempts cannot be read at present: ask again")

// Config says where attempts are kept, and how many.
type Config struct {
	Topic             string        // made with the first attempt. Default "_eventissuer.attempts"
	Partitions        int32         // of a topic that is made; default 12
	Retention         time.Duration // likewise; default 7 days. References stay a day longer
	RetentionBytes    int64         // likewise, of a partition; default 256 MiB
	ReplicationFactor int16         // likewise; default: the cluster's
	Prefix            string        // of the keys in Redis. Default "eventissuer:"

	References    int           // kept of a subscription's latest attempts; default 2000
	PerSecond     int           // attempts kept of a subscription on a replica; default 100. More are counted alone
	QueueBytes    int           // of attempts that wait for the log; default 8 MiB
	MaxReferences int           // that wait for Redis; default 50,000, of about 50 bytes each
	MaxCounts     int           // minutes of subscriptions that are counted at once; default 50,000, of about 250 bytes each
	FlushEvery    time.Duration // between writes of the counts; default 5 s
	Timeout       time.Duration // of a round trip to Redis; default 2 s
	Drain         time.Duration // to write what is left when Run is to end; default 5 s
}

// Topic is what is needed of the log.
type Topic interface {
	broker.Appender
	broker.Reader
	broker.Admin
}

// Deps are what the attempts are kept with.
type Deps struct {
	Log        Topic
	Redis      redis.UniversalClient
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Log is the log of attempts. Its methods may be called concurrently.
type Log struct {
	// static
	cfg     Config
	topic   Topic
	redis   redis.UniversalClient
	log     *slog.Logger
	m       *metrics
	seed    maphash.Seed
	replica string // names this process in Redis

	shards     [shardCount]shard
	counted    atomic.Int64 // tallies in all shards
	queue      *queue
	references *references
	partitions atomic.Int32 // of the topic; 0: it is not known to be there
}

const shardCount = 16

// shard is what is known of a part of the subscriptions.
type shard struct {
	mu      sync.Mutex
	sampler sampler             // guarded by mu
	tallies map[tallyKey]*tally // likewise
}

// New returns the log of attempts. Run must run for anything to be kept.
func New(cfg Config, deps Deps) (*Log, error) {
	if deps.Log == nil || deps.Redis == nil {
		return nil, errors.New("the log of attempts needs a log and a Redis")
	}
	cfg.Topic = cmp.Or(cfg.Topic, "_eventissuer.attempts")
	cfg.Partitions = cmp.Or(cfg.Partitions, 12)
	cfg.Retention = cmp.Or(cfg.Retention, 7*24*time.Hour)
	cfg.RetentionBytes = cmp.Or(cfg.RetentionBytes, 256<<20)
	cfg.Prefix = cmp.Or(cfg.Prefix, "eventissuer:")
	cfg.References = cmp.Or(cfg.References, 2000)
	cfg.PerSecond = cmp.Or(cfg.PerSecond, 100)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, 8<<20)
	cfg.MaxReferences = cmp.Or(cfg.MaxReferences, 50_000)
	cfg.MaxCounts = cmp.Or(cfg.MaxCounts, 50_000)
	cfg.FlushEvery = cmp.Or(cfg.FlushEvery, 5*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	cfg.Drain = cmp.Or(cfg.Drain, 5*time.Second)
	l := &Log{
		cfg: cfg, topic: deps.Log, redis: deps.Redis, log: cmp.Or(deps.Logger, slog.New(slog.DiscardHandler)), m: newMetrics(deps.Registerer),
		seed: maphash.MakeSeed(), replica: packReplica(rand.Uint32()),
	}
	l.queue = newQueue(cfg.QueueBytes, l.m.waiting)
	l.references = newReferences(cfg.MaxReferences)
	for i := range l.shards {
		l.shards[i].tallies = map[tallyKey]*tally{}
	}
	return l, nil
}

// Record takes an attempt in. It does not block. The attempt must not be changed before it returns; of what it points to
// nothing but the subscription's id is held afterwards.
func (l *Log) Record(a *Attempt) {
	now := time.Now()
	s := &l.shards[maphash.String(l.seed, a.Subscription)%shardCount]
	s.mu.Lock()
	verdict := s.sampler.decide(a, now.Unix(), l.cfg.PerSecond)
	counted := l.count(s, a, now)
	s.mu.Unlock()
	if !counted {
		l.m.uncounted.Inc()
	}
	switch verdict {
	case tooMany:
		l.m.rate.Inc()
	case keep:
		l.keep(a)
	case leave:
	}
}

// keep puts an attempt among those that are to be written.
func (l *Log) keep(a *Attempt) {
	if l.queue.full() { // before the work
		l.m.overflow.Inc()
		return
	}
	kept := *a
	kept.ID = ""
	value, err := kept.MarshalJSON()
	if err != nil { // its texts are text by now, and nothing else of it can fail
		l.m.refused.Inc()
		l.log.Error("an attempt cannot be written as JSON", "subscription", a.Subscription, "error", err)
		return
	}
	if !l.queue.add(entry{subscription: a.Subscription, reference: referenceTo(a), value: value}) {
		l.m.overflow.Inc()
	}
}

// Run writes what is recorded, until ctx ends and then what is left, for a bounded time. It returns ctx.Err().
func (l *Log) Run(ctx context.Context) error {
	grace, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var running sync.WaitGroup
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-grace.Done():
			return
		}
		clock.Pause(grace, l.cfg.Drain)
		end()
	})
	written, last := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() { l.note(written) })
	l.write(ctx, grace)
	last()
	end()
	running.Wait()
	return ctx.Err()
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Forget removes what Redis has of a subscription. Its attempts on the log go with the log's retention.
func (l *Log) Forget(ctx context.Context, subscription string) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	pipe := l.redis.Pipeline()
	pipe.Del(ctx, l.listKey(subscription))
	now := time.Now()
	for span := spanOf(now.Add(-countTTL)); span <= spanOf(now); span++ {
		pipe.Del(ctx, l.spanKey(subscription, span))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return unavailable("forget a subscription's attempts", err)
	}
	return nil
}
