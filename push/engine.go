package push

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Config configures a replica's share of the deliveries. What is zero has its default.
type Config struct {
	Positions         string // the topic of statements; default "_eventissuer.positions"
	Group             string // what the names of consumer groups begin with; default "push."
	ReplicationFactor int16  // of topics to be made; default: the cluster's
	Origin            string // WebHook-Request-Origin: who sends; default "eventissuer"

	MemoryBytes int64 // of events that wait to be sent; beyond it they are read again when their turn comes; default 64 MiB
	Attempts    int   // under way at once, of all subscriptions; default 2048
	PerHost     int   // likewise, to one destination host; default 256
	ScanBytes   int   // of the log a second, for subscriptions that are behind; default 64 MiB
	Statements  int   // written a second; default 1000

	// Idle has the replica own no partitions: others deliver. What is asked of the endpoints by hand it does all the same.
	Idle bool
	// AnyResponse takes any 2xx to a challenge as a proof. Whoever knows an address could then have events sent there.
	AnyResponse bool

	// StandStill is how much later than it should a tick may come before the process has to prove that it owns its
	// partitions still; default 1 s.
	StandStill time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Deps are what the deliveries need.
type Deps struct {
	Log         broker.Log
	Hubs        *fanout.Hubs
	Definitions Definitions
	// Sender makes the way out to an endpoint for an owner with a credential.
	Sender func(owner string, c webhook.Credential) (Sender, error)
	// Codes bind the callbacks by which endpoints consent; nil: they are given none.
	Codes Codes
	// Callback is the address at which a subscription's endpoint consents with a code; nil, or "": there is none.
	Callback func(id, code string) string
	// Letters take the events whose schedule has ended.
	Letters Letters
	// Leases share an endpoint's limits out among replicas; nil: each has its part of them by its partitions.
	Leases Leases
	// Health takes which endpoints work and which fail. Nil: nobody asks.
	Health Health
	// Record takes what became of attempts. It must not block. Nil: nobody asks.
	Record func(*Attempt)
}

// Leases share numbers out among replicas. They must not block.
type Leases interface {
	// Share returns how much of total this replica may use of key, and notes how much it could. ok is false where that is
	// not known.
	Share(key string, want, total float64) (granted float64, ok bool)
	// InUse notes how much is in use, also of what is not granted any more.
	InUse(key string, used float64)
}

// Granted is to be called when there is more of a key of Leases.
func (e *Engine) Granted(key string) {
	_, id, _ := strings.Cut(key, ":")
	e.registry.Lock()
	s := e.subs[id]
	e.registry.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	p := s.point
	s.mu.Unlock()
	if p != nil {
		p.pump()
	}
}

// Health is since when endpoints have only failed, over all replicas. Its methods must not block.
type Health interface {
	Failed(subscription string, incarnation uuid.UUID, cause string)
	Succeeded(incarnation uuid.UUID)
	// Failing tells since when an endpoint has only failed, and why.
	Failing(incarnation uuid.UUID) (since time.Time, cause string, ok bool)
}

// Codes make and check codes that nobody else can make.
type Codes interface {
	MAC(purpose string, data []byte) []byte
	VerifyMAC(purpose string, data, mac []byte) bool
}

// Engine delivers what this replica's partitions hold for webhooks. Run makes it live.
type Engine struct {
	// static
	cfg      Config
	deps     Deps
	log      *slog.Logger
	m        *metrics
	alarms   alarms
	writes   *pace // statements a second
	written  *pace // their bytes
	scans    *pace // bytes a second
	all      turnstile
	hosts    hosts
	origin   []string // as a header has it
	laneMost int
	ctx      context.Context //nolint:containedctx // of Run: consumer groups are joined as subscriptions come

	running  sync.WaitGroup
	applied  atomic.Int64 // the catalog's offset below which all is in lanes
	progress *sync.Cond   // of applied
	memory   atomic.Int64 // bytes of events that wait

	registry sync.Mutex
	subs     map[string]*subscription  // guarded by registry
	streams  map[fanout.Stream]*stream // guarded by registry
	asked    hostPace
	changes  chan struct{} // there is something in queue
	queueMu  sync.Mutex
	queue    []Change // guarded by queueMu
}

// New makes the engine. It starts nothing.
func New(c Config, d Deps) (*Engine, error) {
	if d.Log == nil || d.Hubs == nil || d.Definitions == nil || d.Sender == nil || d.Letters == nil {
		return nil, errors.New("push needs a log, hubs, definitions, senders and dead letters")
	}
	setDefault(&c.Positions, "_eventissuer.positions")
	setDefault(&c.Group, "push.")
	setDefault(&c.Origin, "eventissuer")
	setDefault(&c.MemoryBytes, 64<<20)
	setDefault(&c.Attempts, 2048)
	setDefault(&c.PerHost, 256)
	setDefault(&c.ScanBytes, 64<<20)
	setDefault(&c.Statements, 1000)
	setDefault(&c.StandStill, time.Second)
	setDefault(&c.Logger, slog.New(slog.DiscardHandler))
	e := &Engine{
		cfg: c, deps: d, log: c.Logger, laneMost: laneMost, origin: []string{c.Origin}, m: newMetrics(c.Registerer),
		alarms:  alarms{kick: make(chan struct{}, 1)},
		writes:  newPace(float64(c.Statements), float64(c.Statements)),
		written: newPace(statementBytesMost, statementBytesMost),
		scans:   newPace(float64(c.ScanBytes), float64(c.ScanBytes)/4),
		all:     turnstile{most: c.Attempts},
		hosts:   hosts{most: c.PerHost, by: map[string]*hostGate{}},
		asked:   hostPace{by: map[string]*pace{}}, progress: sync.NewCond(&sync.Mutex{}),
		subs: map[string]*subscription{}, streams: map[fanout.Stream]*stream{}, changes: make(chan struct{}, 1),
	}
	return e, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Run delivers until ctx ends. It then lets go of all partitions, having stated how far they are, and returns when nothing
// is under way any more.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var always sync.WaitGroup
	always.Go(func() { e.alarms.run(background) })
	defer always.Wait()
	defer end()
	e.ctx = ctx
	stop := e.deps.Definitions.Watch(func(c Change) {
		e.queueMu.Lock()
		e.queue = append(e.queue, c)
		e.queueMu.Unlock()
		nudge(e.changes)
	})
	defer stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-e.changes:
			e.queueMu.Lock()
			queue := e.queue
			e.queue = nil
			e.queueMu.Unlock()
			e.applyAll(queue)
		case <-sweep.C:
			e.sweep()
		case <-ctx.Done():
			e.running.Wait()
			return nil
		}
	}
}

// sweepEvery is how often endpoints are looked for that have nothing to do.
const sweepEvery = 30 * time.Second

// join makes the process a member of the stream's group, for as long as something is pushed from the stream.
func (e *Engine) join(st *stream) {
	ctx, cancel := context.WithCancel(e.ctx)
	st.stop = cancel
	if e.cfg.Idle {
		return
	}
	e.running.Go(func() {
		defer cancel()
		err := e.deps.Log.Join(ctx, e.ConsumerGroup(st.Topic), []string{st.Topic}, func(ctx context.Context, c broker.Claim) { e.own(ctx, st, c) })
		if err != nil && ctx.Err() == nil {
			e.log.Error("push has lost its consumer group", "stream", st.Name, "error", err)
		}
	})
}

// panicked tells of a filter that failed by a mistake of ours.
func (e *Engine) panicked(value any, stack []byte) {
	e.m.panics.Inc()
	e.log.Error("panic in a filter: its subscriptions get the event", "panic", value, "stack", string(stack))
}

// insist has the catalog changed beside what else goes on, again and again until it is.
func (e *Engine) insist(otherwise, subscription string, change func() error) {
	e.running.Go(func() {
		for wait := time.Second; e.ctx.Err() == nil; wait = min(2*wait, time.Minute) {
			err := change()
			if err == nil {
				return
			}
			e.log.Warn(otherwise, "subscription", subscription, "error", err)
			clock.Pause(e.ctx, wait)
		}
	})
}

// hold counts an event that waits to be sent.
func (e *Engine) hold(entry *fanout.Entry) { e.memory.Add(entry.Bytes()) }

func (e *Engine) unhold(entry *fanout.Entry) { e.memory.Add(-entry.Bytes()) }

// crowded reports whether events that wait take as much memory as they may.
func (e *Engine) crowded() bool { return e.memory.Load() > e.cfg.MemoryBytes }

// reliefMost is how long a scan waits for memory. Then what is left of it goes to lanes that have almost nothing.
const reliefMost = 250 * time.Millisecond

// relief waits until events that wait take less memory than they may. It is false where that does not come soon.
func (e *Engine) relief(ctx context.Context) bool {
	for end := time.Now().Add(reliefMost); e.crowded(); {
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return false
		}
		clock.Pause(ctx, min(left, reliefMost/50))
	}
	return true
}

// overcrowded reports whether they take twice as much, though every lane takes few only.
func (e *Engine) overcrowded() bool { return e.memory.Load() > 2*e.cfg.MemoryBytes }

// pace bounds something per second, with a burst. Whoever is over it waits.
type pace struct {
	mu          sync.Mutex
	rate, burst float64   // guarded by mu
	have        float64   // guarded by mu; may be negative, for what was taken ahead
	last        time.Time // guarded by mu
}

func newPace(rate, burst float64) *pace { return &pace{rate: rate, burst: burst, have: burst} }

// at sets what there is in a second.
func (p *pace) at(rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	p.rate, p.burst = rate, max(1, rate/10)
}

// take takes n and returns how long to wait for it.
func (p *pace) take(n float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	p.have -= n
	if p.have >= 0 {
		return 0
	}
	return time.Duration(-p.have / p.rate * float64(time.Second))
}

// try takes n if it is there, else says how long until it is.
func (p *pace) try(n float64) (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	if p.have >= n {
		p.have -= n
		return 0, true
	}
	return max(time.Duration((n-p.have)/p.rate*float64(time.Second)), time.Millisecond), false
}

func (p *pace) refill() {
	now := time.Now()
	if !p.last.IsZero() {
		p.have = min(p.burst, p.have+now.Sub(p.last).Seconds()*p.rate)
	}
	p.last = now
}

// debt is how long it takes until what was taken ahead is there.
func (p *pace) debt() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	return max(0, time.Duration(-p.have/p.rate*float64(time.Second)))
}
