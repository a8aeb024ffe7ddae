package leases

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// Config configures the leases of a replica.
type Config struct {
	Prefix  string        // of the keys in Redis; default "eventissuer:"
	Replica string        // names this replica to those who look into Redis; default: none
	Every   time.Duration // between renewals; default 1 s
	TTL     time.Duration // of a grant; at least twice Every; default three times Every
	Turn    time.Duration // for which a replica keeps what is too little for all, the same on all replicas; default twice Every
	Timeout time.Duration // of a round trip to Redis, at most half of the TTL; default 500 ms, or half of Every where that is less
	MaxKeys int           // held at once, of about 300 bytes each; for more nothing is granted. Default 10,000
}

// Deps are what the leases work with.
type Deps struct {
	Redis redis.UniversalClient
	// Granted is told of each key of which there is more now than there was, such as for one who waits for it. It must not
	// block. Default: nobody is told.
	Granted    func(key string)
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Leases are what one replica has been granted.
type Leases struct {
	// static
	cfg    Config
	deps   Deps
	log    *slog.Logger
	m      *metrics
	script *redis.Script
	holder string        // this process, and no other nor an earlier one
	kick   chan struct{} // there is something urgent

	// owned by Run
	sequence uint64
	failing  bool // to log an outage once

	mu       sync.Mutex
	entries  map[string]*entry   // guarded by mu, as all that follows
	urgent   []*entry            // that do not wait for the next renewal
	starved  map[*entry]struct{} // that want something and have nothing
	released map[string]struct{} // keys that are to be given back
	ended    bool
}

// entry is what is known of one key. It is guarded by the leases' mu.
type entry struct {
	key   string
	total float64
	want  float64   // as it was told last
	peak  float64   // the most that was told since the last renewal
	sent  float64   // what the last renewal told
	used  float64   // as InUse told it
	asked time.Time // when Share was last called

	granted float64
	until   time.Time // when the grant ends; zero: there has been none
	queued  bool      // it is urgent
}

// holds is what of the grant is good.
func (e *entry) holds(now time.Time) float64 {
	if now.Before(e.until) {
		return e.granted
	}
	return 0
}

// idleRenewals is for how many renewals a key that nobody asks for is held.
const idleRenewals = 5

// New returns the leases of a replica. It starts nothing.
func New(cfg Config, deps Deps) (*Leases, error) {
	if deps.Redis == nil {
		return nil, errors.New("leases need a Redis")
	}
	cfg.Prefix = cmp.Or(cfg.Prefix, "eventissuer:")
	cfg.Every = cmp.Or(cfg.Every, time.Second)
	cfg.TTL = cmp.Or(cfg.TTL, 3*cfg.Every)
	cfg.Turn = cmp.Or(cfg.Turn, 2*cfg.Every)
	cfg.Timeout = cmp.Or(cfg.Timeout, min(500*time.Millisecond, cfg.Every/2))
	cfg.MaxKeys = cmp.Or(cfg.MaxKeys, 10_000)
	switch {
	case cfg.Every < time.Millisecond || cfg.Turn < time.Millisecond:
		return nil, fmt.Errorf("renewals are every %v and turns take %v: a millisecond is the least", cfg.Every, cfg.Turn)
	case cfg.TTL < 2*cfg.Every:
		return nil, fmt.Errorf("grants are good for %v and renewed every %v: they must be good for two renewals at least", cfg.TTL, cfg.Every)
	case cfg.Timeout <= 0 || cfg.Timeout > cfg.TTL/2:
		return nil, fmt.Errorf("the timeout of %v must be within half of the %v for which grants are good", cfg.Timeout, cfg.TTL)
	}
	return &Leases{
		cfg: cfg, deps: deps, log: cmp.Or(deps.Logger, slog.New(slog.DiscardHandler)), m: newMetrics(deps.Registerer),
		script: redis.NewScript(renewLua), holder: cfg.Replica + "/" + rand.Text(), kick: make(chan struct{}, 1),
		entries: map[string]*entry{}, starved: map[*entry]struct{}{}, released: map[string]struct{}{},
	}, nil
}

// Share returns how much of the key's total this replica may use now, and notes how much it could use for the next renewal,
// which tells the most that was noted since the one before. A replica that has nothing, and wanted nothing until now, is
// served at once rather than with the next renewal. What was granted may be used until another call returns less. ok is
// false where nothing has been answered yet, Redis has been away for longer than the TTL, there are too many keys, or Run has
// ended: then nobody but the caller limits it. It does not block.
func (l *Leases) Share(key string, want, total float64) (granted float64, ok bool) {
	want, total = amount(want), amount(total)
	if total == 0 {
		return 0, true
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil {
		if l.ended || len(l.entries) >= l.cfg.MaxKeys {
			l.m.alone.Inc()
			return 0, false
		}
		e = &entry{key: strings.Clone(key)}
		l.entries[e.key] = e
		delete(l.released, e.key)
		l.hurry(e)
	}
	e.want, e.total, e.asked = min(want, total), total, now
	e.peak = max(e.peak, e.want)
	if !now.Before(e.until) {
		l.m.alone.Inc()
		return 0, false
	}
	if e.granted == 0 && e.want > 0 && e.sent == 0 {
		l.hurry(e)
	}
	return min(e.granted, total), true
}

// InUse notes how much of a key this replica uses, for what is in use for longer than it was granted, such as attempts that
// are under way when a renewal grants less: as long as it is in use it is nobody else's, and the key is not forgotten.
// It does nothing for a key that is not asked for.
func (l *Leases) InUse(key string, used float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		e.used = amount(used)
	}
}

// Release gives back what was granted of a key, without waiting until nobody has asked for it for a while.
func (l *Leases) Release(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		l.release(e)
		nudge(l.kick)
	}
}

// hurry has the entry renewed at once. mu is held.
func (l *Leases) hurry(e *entry) {
	if !e.queued {
		e.queued = true
		l.urgent = append(l.urgent, e)
		nudge(l.kick)
	}
}

// release forgets the entry, and has it given back. mu is held.
func (l *Leases) release(e *entry) {
	delete(l.entries, e.key)
	delete(l.starved, e)
	if len(l.released) < l.cfg.MaxKeys { // of more the TTL takes care
		l.released[e.key] = struct{}{}
	}
}

// amount makes what is no amount, nothing.
func amount(n float64) float64 {
	if n > 0 && n <= 1e15 {
		return n
	}
	if n > 0 {
		return 1e15
	}
	return 0
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run renews until ctx ends, and gives back then what this replica holds: whoever uses it ends before. It returns ctx.Err().
func (l *Leases) Run(ctx context.Context) error {
	all := time.NewTicker(l.cfg.Every)
	defer all.Stop()
	hungry := time.NewTicker(l.cfg.Every / 5)
	defer hungry.Stop()
	for {
		var due []*entry
		select {
		case <-ctx.Done():
			l.end(context.WithoutCancel(ctx))
			return ctx.Err()
		case <-all.C:
			due = l.sweep(time.Now())
		case <-hungry.C:
			due = l.hungry()
		case <-l.kick:
			clock.Pause(ctx, l.cfg.Every/200) // for what else comes at the time
			due = l.hurried()
		}
		if ctx.Err() == nil {
			l.giveBack(ctx)
			l.renew(ctx, due)
		}
	}
}

// sweep forgets what nobody asks for, and returns all others.
func (l *Leases) sweep(now time.Time) []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := make([]*entry, 0, len(l.entries))
	for _, e := range l.entries {
		if e.used == 0 && now.Sub(e.asked) > idleRenewals*l.cfg.Every {
			l.release(e)
		} else {
			due = append(due, e)
		}
	}
	l.m.keys.Set(float64(len(l.entries)))
	return due
}

// hungry returns those that have nothing, and want something.
func (l *Leases) hungry() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := make([]*entry, 0, len(l.starved))
	for e := range l.starved {
		due = append(due, e)
	}
	return due
}

// hurried returns those that are urgent.
func (l *Leases) hurried() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.urgent
	l.urgent = nil
	for _, e := range due {
		e.queued = false
	}
	return due
}

type metrics struct {
	keys     prometheus.Gauge
	alone    prometheus.Counter
	renewals prometheus.Counter
	failures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_leases_" + name, Help: help})
	}
	return &metrics{
		keys:     f.NewGauge(prometheus.GaugeOpts{Name: "eventissuer_leases_keys", Help: "Keys of which a part is leased, or wanted."}),
		alone:    counter("alone_total", "Times that a part was asked for and none was known, so that this replica limits itself."),
		renewals: counter("renewals_total", "Renewals sent to Redis."),
		failures: counter("redis_failures_total", "Round trips to Redis that failed."),
	}
}
