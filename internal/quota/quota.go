package quota

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// Config configures the quotas of a replica.
type Config struct {
	Prefix   string        // of the keys in Redis. Default "eventissuer:"
	MaxKeys  int           // keys held at once; about 0.5 KB each. Default 100,000
	Wait     time.Duration // how long a Take waits for Redis at most. Default 50 ms
	Timeout  time.Duration // of one round trip to Redis; then it is left alone for a second. Default 250 ms
	Replicas func() int    // how many replicas there are, for when Redis is not there. Default: not known, and then 1
}

// Deps are what the quotas work with.
type Deps struct {
	Redis      redis.UniversalClient // nil: none
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Limit is what a key may use.
type Limit struct {
	Events int64 // per second; 0: any number
	Bytes  int64 // per second; 0: any number
	// Burst is how long what was not used stays good: so many seconds' worth may be used at once. Whole seconds, from 1
	// to 10; default 1 s.
	Burst time.Duration
}

const maxBurst = 10

// seconds is the burst in seconds.
func (l Limit) seconds() int64 {
	return min(max(int64(l.Burst/time.Second), 1), maxBurst)
}

// Standing is where a key stands with one of its limits, as far as this replica knows.
type Standing struct {
	Limit     int64         // per second; 0: none
	Remaining int64         // of what may be used now
	Reset     time.Duration // until there is more
}

// Decision says whether something may be done.
type Decision struct {
	Allowed bool
	// Never says that it is more than the limit and its burst ever allow at once: it has to be split.
	Never      bool
	RetryAfter time.Duration // until it may be allowed, where it is not; 0 with Never
	Events     Standing
	Bytes      Standing
}

// Quotas decide. Run must run for Redis to be asked.
type Quotas struct {
	// static
	config Config
	redis  redis.UniversalClient
	log    *slog.Logger
	m      *metrics
	seed   maphash.Seed
	shards [shardCount]shard

	running atomic.Bool
	clock   clock.Clock
	resting atomic.Int64 // the clock's elapsed time until which Redis is left alone
	failing atomic.Bool  // to log an outage once

	mu    sync.Mutex
	queue []*entry // that want tokens; guarded by mu
	kick  chan struct{}
}

const (
	shardCount = 64
	// restTime is how long Redis is left alone after a failure.
	restTime = time.Second
	// idleTime is how long a key that nobody uses is held.
	idleTime = time.Minute
	// sampled is among how many the one used least recently is looked for.
	sampled = 8
)

type shard struct {
	mu      sync.Mutex
	entries map[string]*entry // guarded by mu
}

// New makes the quotas of a replica. It starts nothing.
func New(c Config, d Deps) *Quotas {
	if c.Prefix == "" {
		c.Prefix = "eventissuer:"
	}
	if c.MaxKeys <= 0 {
		c.MaxKeys = 100_000
	}
	if c.Wait <= 0 {
		c.Wait = 50 * time.Millisecond
	}
	if c.Timeout <= 0 {
		c.Timeout = 250 * time.Millisecond
	}
	if c.Replicas == nil {
		c.Replicas = func() int { return 1 }
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Quotas{config: c, redis: d.Redis, log: d.Logger, m: newMetrics(d.Registerer), seed: maphash.MakeSeed(), clock: clock.System(), kick: make(chan struct{}, 1)}
	for i := range q.shards {
		q.shards[i].entries = map[string]*entry{}
	}
	return q
}

// Take uses events and bytes of the key's limit, or nothing where that is not allowed. It does not block in steady state;
// where tokens have to be leased first it waits for that, until ctx ends or Config.Wait has passed.
func (q *Quotas) Take(ctx context.Context, key string, l Limit, events int, bytes int64) Decision {
	if l.Events <= 0 && l.Bytes <= 0 {
		return Decision{Allowed: true}
	}
	want := amounts{max(0, int64(events)), max(0, bytes)}
	e := q.entry(key)
	var deadline <-chan time.Time
	for {
		e.mu.Lock()
		now := time.Now() // under the lock, so that the entry's time does not go back
		e.used.Store(int64(q.clock.Elapsed()))
		shared := q.shared()
		e.fit(l)
		if deadline == nil {
			e.note(now.Unix(), want)
		}
		d, waiting := e.decide(now, want, shared, q.share)
		refill := waiting || shared && e.low(now)
		if waiting {
			e.expect(want)
		}
		var done chan struct{}
		if refill {
			if e.pending == nil {
				e.pending = make(chan struct{})
				q.enqueue(e)
			}
			done = e.pending
		}
		e.mu.Unlock()
		if !waiting {
			q.count(d, shared)
			return d
		}
		if deadline == nil {
			t := time.NewTimer(q.config.Wait)
			defer t.Stop()
			deadline = t.C
		}
		select {
		case <-done:
			continue
		case <-deadline:
		case <-ctx.Done():
		}
		// Redis is slow. What is due to this replica without it, is due now.
		e.mu.Lock()
		d, _ = e.decide(time.Now(), want, false, q.share)
		e.mu.Unlock()
		q.count(d, false)
		return d
	}
}

func (q *Quotas) count(d Decision, shared bool) {
	if !shared {
		q.m.alone.Inc()
	}
	if !d.Allowed {
		q.m.refused.Inc()
	}
}

// shared reports whether Redis can be asked.
func (q *Quotas) shared() bool {
	return q.redis != nil && q.running.Load() && int64(q.clock.Elapsed()) >= q.resting.Load()
}

// share is the number of replicas that a limit is divided by where they cannot share it.
func (q *Quotas) share() int64 { return int64(max(1, q.config.Replicas())) }

// entry finds or makes the entry of a key, and forgets another where there are too many.
func (q *Quotas) entry(key string) *entry {
	s := &q.shards[maphash.String(q.seed, key)%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok {
		if len(s.entries) >= max(1, q.config.MaxKeys/shardCount) {
			s.forget()
			q.m.forgotten.Inc()
		} else {
			q.m.keys.Inc()
		}
		e = newEntry(key)
		e.used.Store(int64(q.clock.Elapsed()))
		s.entries[key] = e
	}
	return e
}

// forget drops, of a few keys, the one that was used least recently. The caller holds the lock.
func (s *shard) forget() {
	var oldest *entry
	n := 0
	for _, e := range s.entries { // in random order
		if oldest == nil || e.used.Load() < oldest.used.Load() {
			oldest = e
		}
		if n++; n == sampled {
			break
		}
	}
	delete(s.entries, oldest.key)
}

// sweep drops what nobody uses.
func (q *Quotas) sweep(now time.Duration) {
	for i := range q.shards {
		s := &q.shards[i]
		s.mu.Lock()
		for key, e := range s.entries {
			if now-time.Duration(e.used.Load()) > idleTime {
				delete(s.entries, key)
				q.m.keys.Dec()
			}
		}
		s.mu.Unlock()
	}
}

type metrics struct {
	alone     prometheus.Counter
	refused   prometheus.Counter
	failures  prometheus.Counter
	forgotten prometheus.Counter
	keys      prometheus.Gauge
	leases    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_quota_" + name, Help: help})
	}
	return &metrics{
		alone:     counter("alone_total", "Decisions made without Redis, by this replica's share of the limit."),
		refused:   counter("refused_total", "Decisions that something is not allowed."),
		failures:  counter("redis_failures_total", "Round trips to Redis that failed."),
		forgotten: counter("forgotten_keys_total", "Keys forgotten while in use because there were too many."),
		leases:    counter("leases_total", "Leases of tokens asked of Redis."),
		keys:      f.NewGauge(prometheus.GaugeOpts{Name: "eventissuer_quota_keys", Help: "Keys held."}),
	}
}
