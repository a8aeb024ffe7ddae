package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
)

// Config configures the sessions of a replica.
type Config struct {
	Shards        int           // goroutines that write to plain connections; default half of GOMAXPROCS, at least one
	MaxSessions   int           // of this replica; default 50,000
	MaxPerAddress int           // of one client address; default 10,000; negative: no limit
	Heartbeat     time.Duration // default 15 s; a request may ask for 1 s to 5 min
	Flush         time.Duration // a busy session is written to at most this often; default 10 ms; a request may ask for 0 to 10 s
	Plain         bool          // streams are not compressed, whatever a client accepts
	Stall         time.Duration // a peer that accepts no byte for so long is closed; default 60 s
	PageBytes     int64         // memory of all pages that are being written; default 64 MiB, at least 4 MiB
	Source        string        // of control messages that are CloudEvents; default "/eventissuer"
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
}

// Deps are what sessions read from.
type Deps struct {
	Hubs      *fanout.Hubs
	Log       Log
	Consumers *cursor.Consumers
	Groups    *group.Groups // share subscriptions among sessions; nil: there are none
}

// Log tells where streams begin and end, and which life of a topic is the present one.
type Log interface {
	broker.Offsets
	Describe(ctx context.Context, topic string) (broker.TopicInfo, error)
}

// Server holds the sessions of a replica.
type Server struct {
	// static
	cfg     Config
	deps    Deps
	shards  []*shard
	watcher *watcher
	logger  *slog.Logger
	m       *metrics
	zip     *zipper
	pages   pageMemory
	scan    time.Duration // for how long a page may read the log

	mu          sync.Mutex
	entries     map[*entry]struct{} // guarded by mu
	byAddr      map[string]int      // guarded by mu
	draining    bool                // guarded by mu
	empty       chan struct{}       // closed when draining and no session is left; guarded by mu
	serial      uint64              // guarded by mu
	connections int                 // that sessions have taken from net/http; guarded by mu

	turn  atomic.Uint32  // the shard that the next connection goes to
	loops sync.WaitGroup // the goroutines of sessions that no shard drives
}

// entry is a session in the server's register.
type entry struct {
	info    Info
	request string                                        // the id of the request that it began with
	stop    func(name string, payload any, reason string) // asks for the end; does not block
	cut     func()                                        // closes the connection under a write; nil where stop is enough
	left    bool
	took    bool // its connection is the session's alone; guarded by the server's mu
}

// Info describes a session to operators.
type Info struct {
	ID           uint64    `json:"id"`
	Transport    string    `json:"transport"`
	Address      string    `json:"address"`
	Streams      []string  `json:"streams"`
	Consumer     string    `json:"consumer,omitempty"`
	Subscription string    `json:"subscription,omitempty"` // its id
	Filter       bool      `json:"filtered"`
	Since        time.Time `json:"since"`
}

// The reasons for which sessions end, as the metric tells them.
const (
	endClient  = "client"
	endDrain   = "drain"
	endLease   = "lease"
	endStream  = "stream"
	endStall   = "stall"
	endMessage = "message"
	endFailure = "failure"
)

// LimitError tells that a session was not admitted.
type LimitError struct {
	Scope string // "replica" or "address"
	Limit int
	After time.Duration // when to try again
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("this %s has %d sessions already, which is the limit", e.Scope, e.Limit)
}

// ErrDraining tells that this replica takes no more sessions.
var ErrDraining = errors.New("this replica is going away")

// New makes the server of sessions. Its shards go to the hubs, which Use then names.
func New(c Config) (*Server, error) {
	if c.Shards <= 0 {
		// The other half takes the network's part of each write, and what publishes the next event: with more, readers wait
		// for longer where processors are few.
		c.Shards = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if c.MaxSessions <= 0 {
		c.MaxSessions = 50_000
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = 10_000
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Flush == 0 {
		c.Flush = 10 * time.Millisecond
	}
	if c.Stall <= 0 {
		c.Stall = time.Minute
	}
	if c.Source == "" {
		c.Source = "/eventissuer"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PageBytes <= 0 {
		c.PageBytes = 64 << 20
	}
	c.PageBytes = max(c.PageBytes, leastMemory)
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	m := newMetrics(c.Registerer)
	s := &Server{
		cfg: c, watcher: w, logger: c.Logger, m: m, zip: newZipper(m), scan: scanOfPage,
		pages:   pageMemory{all: c.PageBytes, free: semaphore.NewWeighted(c.PageBytes)},
		entries: map[*entry]struct{}{}, byAddr: map[string]int{},
	}
	for range c.Shards {
		// Who yields is behind all who wait: where requests are many, for long.
		s.shards = append(s.shards, &shard{server: s, wakeup: make(chan struct{}, 1), yields: c.Shards >= runtime.GOMAXPROCS(0)})
	}
	return s, nil
}

// Shards are what the hubs wake.
func (s *Server) Shards() []fanout.Shard {
	var all []fanout.Shard
	for _, sh := range s.shards {
		all = append(all, sh)
	}
	return all
}

// leastMemory of pages holds the largest event there is.
const leastMemory = 4 << 20

// Use names what sessions read from. It is called once, before Run.
func (s *Server) Use(d Deps) { s.deps = d }

// Run drives the sessions until ctx ends, and returns when every goroutine of theirs has ended.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, sh := range s.shards {
		g.Go(func() error { sh.run(ctx); return nil })
	}
	g.Go(func() error { return s.watcher.run(ctx) })
	err := g.Wait()
	s.mu.Lock()
	if !s.draining {
		s.draining, s.empty = true, make(chan struct{})
	}
	var left []*entry
	for e := range s.entries {
		left = append(left, e)
	}
	s.mu.Unlock()
	for _, e := range left {
		e.stop("", nil, endDrain)
		if e.cut != nil {
			e.cut()
		}
	}
	for _, sh := range s.shards { // nobody drives them any more
		sh.closeAll()
	}
	s.loops.Wait()
	return err
}

// admit registers a session, or tells why not.
func (s *Server) admit(e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch addr := e.info.Address; {
	case s.draining:
		return ErrDraining
	case len(s.entries) >= s.cfg.MaxSessions:
		s.m.refused.WithLabelValues("replica").Inc()
		return &LimitError{Scope: "replica", Limit: s.cfg.MaxSessions, After: jitter(10 * time.Second)}
	case s.cfg.MaxPerAddress > 0 && s.byAddr[addr] >= s.cfg.MaxPerAddress:
		s.m.refused.WithLabelValues("address").Inc()
		return &LimitError{Scope: "address", Limit: s.cfg.MaxPerAddress, After: jitter(30 * time.Second)}
	}
	s.serial++
	e.info.ID = s.serial
	e.info.Since = time.Now()
	s.entries[e] = struct{}{}
	s.byAddr[e.info.Address]++
	s.m.sessions.WithLabelValues(e.info.Transport).Inc()
	return nil
}

// leave takes a session out of the register.
func (s *Server) leave(e *entry, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.left {
		return
	}
	e.left = true
	delete(s.entries, e)
	if e.took {
		s.connections--
	}
	if s.byAddr[e.info.Address]--; s.byAddr[e.info.Address] == 0 {
		delete(s.byAddr, e.info.Address)
	}
	s.m.sessions.WithLabelValues(e.info.Transport).Dec()
	s.m.ended.WithLabelValues(reason).Inc()
	if s.draining && len(s.entries) == 0 {
		s.closeEmpty()
	}
}

func (s *Server) unwatch(c *conn) { s.watcher.remove(c) }

// Count is the number of sessions.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// took notes that a session has taken its connection from net/http.
func (s *Server) took(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.left {
		e.took = true
		s.connections++
	}
}

// Connections is the number of connections that sessions have taken from net/http. Sessions over HTTP/2 share theirs with others,
// and are not counted.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// List describes up to limit sessions, the oldest first.
func (s *Server) List(limit int) []Info {
	s.mu.Lock()
	all := make([]Info, 0, len(s.entries))
	for e := range s.entries {
		all = append(all, e.info)
	}
	s.mu.Unlock()
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all[:min(limit, len(all))]
}

// Drain admits nobody any more and tells every session to come back elsewhere, spread over the time until ctx's
// deadline so that those who come back do not come at once. It returns when none is left, or with ctx's error.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if s.draining {
		empty := s.empty
		s.mu.Unlock()
		return wait(ctx, empty)
	}
	s.draining = true
	empty := make(chan struct{})
	s.empty = empty
	var all []*entry
	for e := range s.entries {
		all = append(all, e)
	}
	if len(all) == 0 {
		s.closeEmpty()
	}
	s.mu.Unlock()
	spread := 5 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		spread = min(spread, time.Until(deadline)/2)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if len(all) > 0 {
		s.logger.Info("sessions are told to come back elsewhere", "sessions", len(all), "over", spread.Round(time.Millisecond))
	}
	// Few sessions go at once; many in steps, each told a delay of its own besides.
	const step = 50 * time.Millisecond
	perStep := max(20, len(all)*int(step)/max(1, int(spread)))
	for len(all) > 0 && ctx.Err() == nil {
		n := min(perStep, len(all))
		for _, e := range all[:n] {
			e.stop("drain", Drain{RetryAfter: float64(jitter(2*time.Second).Milliseconds()) / 1000}, endDrain)
		}
		if all = all[n:]; len(all) > 0 {
			clock.Pause(ctx, step)
		}
	}
	return wait(ctx, empty)
}

// Resume takes sessions again after a Drain, which must have returned. It must not be called once Run has ended.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = false
}

// closeEmpty tells that no session is left. The caller holds mu.
func (s *Server) closeEmpty() {
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// guard ends a panic with the one session in which it happened. It is to be deferred.
func (s *Server) guard(end func()) {
	if p := recover(); p != nil {
		s.m.panics.Inc()
		s.logger.Error("panic in a session", "panic", p, "stack", string(debug.Stack()))
		end()
	}
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter draws a time between half and one and a half of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

type metrics struct {
	sessions   *prometheus.GaugeVec
	ended      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	writes     prometheus.Counter
	bytes      prometheus.Counter
	readErrors prometheus.Counter
	panics     prometheus.Counter
	stored     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		sessions: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "eventissuer_session_open", Help: "Open sessions, by transport.",
		}, []string{"transport"}),
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_session_ended_total", Help: "Sessions that ended, by reason.",
		}, []string{"reason"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_session_refused_total", Help: "Sessions not admitted, by the limit that was reached.",
		}, []string{"scope"}),
		writes: f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_session_writes_total", Help: "Writes to sessions."}),
		bytes:  f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_session_written_bytes_total", Help: "Bytes written to sessions."}),
		panics: f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_session_panics_total", Help: "Sessions that ended by a mistake of the server."}),
		stored: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_session_uncompressed_total", Help: "Blocks and messages sent as they are to clients that take compressed ones, since compression had taken its share of the processors.",
		}),
		readErrors: f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_session_catch_up_errors_total", Help: "Reads of the log that failed and were tried again."}),
	}
}
