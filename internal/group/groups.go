package group

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// Config configures the groups of a replica.
type Config struct {
	Prefix      string        // of keys and channels in Redis; default "eventissuer:"
	MaxGroups   int           // of this replica: each costs a member of a consumer group; default 1,000
	MemoryBytes int64         // of events that are read and not done, of all groups; default 128 MiB
	Timeout     time.Duration // for Redis to answer; default 3 s
	Linger      time.Duration // a group without sessions anywhere is kept this long, for one that comes back; default 2 s
	// DeadLetters is the topic of dead letters, which is made when it is first needed; default "_eventissuer.dead-letters".
	DeadLetters       string
	ReplicationFactor int16 // of that topic; default: the cluster's
	Logger            *slog.Logger
	Registerer        prometheus.Registerer
}

// Log is what groups need of the broker.
type Log interface {
	broker.Joiner
	broker.Groups
	broker.Reader
	broker.Appender
	broker.Placer
	broker.Prover
	broker.Offsets
	broker.Admin
}

// Deps are what groups work with.
type Deps struct {
	Log         Log
	Hubs        *fanout.Hubs
	Definitions Definitions
	// Redis must retry nothing by itself (MaxRetries -1).
	Redis redis.UniversalClient
}

// Groups are the groups of a replica: one for each subscription that has sessions here.
type Groups struct {
	// static
	cfg      Config
	deps     Deps
	replica  ID
	store    *store
	bus      *bus
	m        *metrics
	memory   *memory
	claiming *semaphore.Weighted // claims at once
	letters  *deadletters.Box
	log      *slog.Logger
	clock    clock.Clock

	mu      sync.Mutex
	ctx     context.Context   //nolint:containedctx // of Run, for the groups that it drives; guarded by mu
	groups  map[string]*group // guarded by mu
	running sync.WaitGroup
	ready   chan struct{} // closed once Run drives groups
}

var (
	// ErrUnknown tells that there is no such subscription.
	ErrUnknown = errors.New("there is no such subscription")
	// ErrGone tells that no stream of the subscription is there any more.
	ErrGone = errors.New("the streams of the subscription are gone")
	// ErrReconnect tells that what a cursor names is no longer its session's.
	ErrReconnect = errors.New("what the cursor names is no longer this session's: open the session again")
	// ErrBusy tells that the store or another replica did not answer in time.
	ErrBusy = errors.New("the acknowledgement could not be stored in time")
	// ErrClosed tells that this replica goes away.
	ErrClosed = errors.New("this replica takes no sessions of subscriptions any more")
)

// LimitError tells that a session was not admitted.
type LimitError struct {
	Scope string // "subscription" or "replica"
	Limit int
}

// Error implements error.
func (e *LimitError) Error() string {
	if e.Scope == "replica" {
		return fmt.Sprintf("this replica has sessions of %d subscriptions already, which is the limit", e.Limit)
	}
	return fmt.Sprintf("this subscription has %d sessions already, which is its maxSessions", e.Limit)
}

// New makes the groups of a replica. Nothing happens before Run.
func New(cfg Config, deps Deps) (*Groups, error) {
	if deps.Log == nil || deps.Hubs == nil || deps.Definitions == nil || deps.Redis == nil {
		return nil, errors.New("group: a log, hubs, definitions and Redis are needed")
	}
	cfg.Prefix = cmp.Or(cfg.Prefix, "eventissuer:")
	cfg.MaxGroups = cmp.Or(cfg.MaxGroups, 1000)
	cfg.MemoryBytes = cmp.Or(cfg.MemoryBytes, 128<<20)
	cfg.Timeout = cmp.Or(cfg.Timeout, 3*time.Second)
	cfg.Linger = cmp.Or(cfg.Linger, 2*time.Second)
	cfg.DeadLetters = cmp.Or(cfg.DeadLetters, "_eventissuer.dead-letters")
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	gs := &Groups{
		cfg: cfg, deps: deps, replica: newID(), store: newStore(deps.Redis, cfg.Prefix, cfg.Timeout), m: newMetrics(cfg.Registerer),
		memory: &memory{total: cfg.MemoryBytes}, claiming: semaphore.NewWeighted(claimsAtOnce), log: cfg.Logger, clock: clock.System(),
		groups: map[string]*group{}, ready: make(chan struct{}),
	}
	var err error
	gs.letters, err = deadletters.New(deadletters.Config{
		Log: deps.Log, Topic: cfg.DeadLetters, ReplicationFactor: cfg.ReplicationFactor, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	gs.bus = newBus(gs)
	return gs, nil
}

// due is the clock's elapsed time after d more.
func (gs *Groups) due(d time.Duration) int64 { return int64(gs.clock.Elapsed() + d) }

// claimsAtOnce bounds the claims that a replica makes at once.
const claimsAtOnce = 32

func newID() (id ID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// Replica names this replica, for people.
func (gs *Groups) Replica() string { return gs.replica.String() }

// Run drives the groups until ctx ends, and returns when every goroutine of theirs has ended.
func (gs *Groups) Run(ctx context.Context) error {
	// The bus outlives the groups: they tell that their sessions are gone, and take what is still acknowledged elsewhere.
	carrying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var carried sync.WaitGroup
	carried.Go(func() { gs.bus.run(carrying) })
	gs.mu.Lock()
	gs.ctx = ctx
	close(gs.ready)
	gs.mu.Unlock()
	<-ctx.Done()
	gs.mu.Lock()
	gs.ctx = nil
	gs.mu.Unlock()
	gs.running.Wait()
	stop()
	carried.Wait()
	return ctx.Err()
}

// Open begins a session of a subscription. Leave it when done. Errors: ErrUnknown, *LimitError, ErrClosed.
func (gs *Groups) Open(ctx context.Context, id string, s Session) (*Member, error) {
	select {
	case <-gs.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		g, err := gs.enter(id)
		if err != nil {
			return nil, err
		}
		m, err := g.admit(s)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, errEnding) {
			return nil, err
		}
		select {
		case <-g.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter finds or begins the group of a subscription.
func (gs *Groups) enter(id string) (*group, error) {
	sub, ok := gs.deps.Definitions.Subscription(id)
	switch {
	case !ok:
		return nil, ErrUnknown
	case len(sub.Sources) == 0:
		return nil, ErrGone
	}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.ctx == nil || gs.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if g := gs.groups[id]; g != nil {
		return g, nil
	}
	if len(gs.groups) >= gs.cfg.MaxGroups {
		return nil, &LimitError{Scope: "replica", Limit: gs.cfg.MaxGroups}
	}
	g := newGroup(gs, sub)
	gs.groups[id] = g
	gs.m.groups.Inc()
	ctx := gs.ctx
	gs.running.Go(func() {
		g.run(ctx)
		gs.mu.Lock()
		delete(gs.groups, id)
		gs.mu.Unlock()
		gs.m.groups.Dec()
		gs.m.lag.DeleteLabelValues(id)
		close(g.ended)
	})
	return g, nil
}

// find returns the group of a subscription, nil where this replica has none.
func (gs *Groups) find(id string) *group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.groups[id]
}

// Changed has a subscription's group look at its definition, which has changed or is gone. It does not block.
func (gs *Groups) Changed(id string) {
	if g := gs.find(id); g != nil {
		nudge(g.changed)
	}
}

// Forget deletes what is kept of an incarnation that is over, as well as can be: what is left does no harm.
func (gs *Groups) Forget(ctx context.Context, sub Subscription) error {
	var errs error
	for _, src := range sub.Sources {
		info, err := gs.deps.Log.Describe(ctx, src.Stream.Topic)
		if errors.Is(err, broker.ErrNoTopic) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find the partitions of %s: %w", src.Stream.Topic, err)
		}
		for p := range info.Partitions {
			errs = errors.Join(errs, gs.store.forget(ctx, place{sub.Incarnation, info.Epoch.Hex(), p}))
		}
	}
	return errs
}

// memory bounds what all lanes hold together.
type memory struct {
	total int64
	used  atomic.Int64
}

func (m *memory) add(n int64) { m.used.Add(n) }

func (m *memory) roomy() bool { return m.used.Load() < m.total }
