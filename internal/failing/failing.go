package failing

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/operations"
)

// Config configures the watch of a replica.
type Config struct {
	Prefix  string        // of the keys in Redis. Default "eventissuer:"
	Every   time.Duration // between looks at what all replicas have noted; default 3 s
	Most    int           // endpoints that are known as failing at once; default 100,000, of about 300 bytes each
	Timeout time.Duration // of a round trip to Redis; default 2 s
	// Lease is for how long a replica alone may try to tell something. Default 20 s, of which it uses half.
	Lease time.Duration
}

// Policy is how a subscription is treated.
type Policy struct {
	Owner        string
	DisableAfter time.Duration // of failures alone
	LongestWait  time.Duration // that its schedule has between two attempts
}

// quiet is how long nothing may be heard within a period.
func (p Policy) quiet() time.Duration { return max(p.DisableAfter/2, 2*p.LongestWait) }

// Definitions are the subscriptions with a sink.
type Definitions interface {
	// Policy returns how a subscription is treated. ok is false where nothing is sent under that incarnation: it is gone,
	// paused or disabled, or another is current. It must not block.
	Policy(id string, incarnation uuid.UUID) (p Policy, ok bool)
	// Disable ends the sending to a subscription until its owner resumes it, with the reason; it does nothing where that is
	// done already, or the incarnation is another by now. It blocks on the log.
	Disable(ctx context.Context, id string, incarnation uuid.UUID, reason string) error
}

// Publisher publishes the server's own events.
type Publisher interface {
	// Publish blocks until the log has acknowledged the event.
	Publish(ctx context.Context, e operations.Event) error
}

// Deps are what the watch works with.
type Deps struct {
	Redis       redis.UniversalClient
	Definitions Definitions
	Publisher   Publisher
	Logger      *slog.Logger          // default: discards
	Registerer  prometheus.Registerer // default: none
}

// Watch is what a replica knows of the endpoints that fail. Run must run for it to know and to do anything.
type Watch struct {
	// static
	cfg     Config
	deps    Deps
	log     *slog.Logger
	m       *metrics
	replica string
	kick    chan struct{} // of noting
	looked  chan struct{} // there is something new to judge

	mu     sync.RWMutex
	states map[uuid.UUID]*state   // by incarnation; guarded by mu
	dirty  map[uuid.UUID]struct{} // those of which Redis does not know all; likewise
}

// state is what is known of one endpoint. It is guarded by the watch's mu.
type state struct {
	subscription string
	since        time.Time // as Redis has it; zero: Redis has not been asked yet
	cause        string    // of the latest failure that is known
	told         int       // the level up to which it is known that all has been told

	// What was noted here, and Redis has not.
	cleared bool      // a success, before the failure
	failed  time.Time // the latest failure; zero: none
	version uint64    // counts what is noted
}

func (s *state) pending() bool { return s.cleared || !s.failed.IsZero() }

// New returns the watch of a replica. It starts nothing.
func New(cfg Config, deps Deps) (*Watch, error) {
	if deps.Redis == nil || deps.Definitions == nil || deps.Publisher == nil {
		return nil, errors.New("a watch of failing endpoints needs a Redis, definitions and a publisher")
	}
	cfg.Prefix = cmp.Or(cfg.Prefix, "eventissuer:")
	cfg.Every = cmp.Or(cfg.Every, 3*time.Second)
	cfg.Most = cmp.Or(cfg.Most, 100_000)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	cfg.Lease = cmp.Or(cfg.Lease, 20*time.Second)
	return &Watch{
		cfg: cfg, deps: deps, log: cmp.Or(deps.Logger, slog.New(slog.DiscardHandler)), m: newMetrics(deps.Registerer), replica: rand.Text(),
		kick: make(chan struct{}, 1), looked: make(chan struct{}, 1), states: map[uuid.UUID]*state{}, dirty: map[uuid.UUID]struct{}{},
	}, nil
}

// maxCause bounds what is kept of a cause, in bytes.
const maxCause = 300

// Failed notes that an attempt at an endpoint failed, and why. It does not block, and holds nothing of its caller.
func (w *Watch) Failed(subscription string, incarnation uuid.UUID, cause string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[incarnation]
	if s == nil {
		if len(w.states) >= w.cfg.Most {
			w.m.overflow.Inc()
			return
		}
		s = &state{subscription: strings.Clone(subscription)}
		w.states[incarnation] = s
		nudge(w.kick)
	}
	s.failed = now
	s.version++
	if cause = cause[:min(len(cause), maxCause)]; cause != s.cause {
		s.cause = strings.ToValidUTF8(strings.Clone(cause), "")
	}
	w.dirty[incarnation] = struct{}{}
}

// Succeeded notes that an endpoint took what it was sent. It does not block, and does nothing where it is not known as
// failing.
func (w *Watch) Succeeded(incarnation uuid.UUID) {
	w.mu.RLock()
	s := w.states[incarnation]
	known := s != nil && (!s.cleared || !s.failed.IsZero())
	w.mu.RUnlock()
	if !known {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s = w.states[incarnation]; s == nil {
		return
	}
	s.cleared, s.failed = true, time.Time{}
	s.version++
	w.dirty[incarnation] = struct{}{}
	nudge(w.kick)
}

// Period is a time in which an endpoint failed, and only failed.
type Period struct {
	Since time.Time
	Cause string // of the latest failure that is known here; "": not known yet
}

// Failing tells whether an endpoint fails, as far as this replica knows: what others have noted it knows after a few
// seconds. It does not block.
func (w *Watch) Failing(incarnation uuid.UUID) (Period, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	s := w.states[incarnation]
	switch {
	case s == nil, s.cleared && s.failed.IsZero():
		return Period{}, false
	case s.cleared, s.since.IsZero():
		return Period{s.failed, s.cause}, true
	}
	return Period{s.since, s.cause}, true
}

// Run notes, looks and tells until ctx ends, and then notes what is left. It returns ctx.Err().
func (w *Watch) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { w.noteAll(ctx) })
	w.judgeAll(ctx)
	running.Wait()
	return ctx.Err()
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

type metrics struct {
	failing  prometheus.Gauge
	overflow prometheus.Counter
	failures prometheus.Counter
	warnings prometheus.Counter
	disabled prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_failing_" + name, Help: help})
	}
	return &metrics{
		failing:  f.NewGauge(prometheus.GaugeOpts{Name: "eventissuer_failing_endpoints", Help: "Endpoints that fail and only fail, over all replicas."}),
		overflow: counter("overflow_total", "Failures that were not noted because too many endpoints fail already."),
		failures: counter("redis_failures_total", "Round trips to Redis that failed."),
		warnings: counter("warnings_total", "Warnings that this replica published."),
		disabled: counter("disabled_total", "Subscriptions that this replica disabled."),
	}
}
