package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/audit"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/dedupe"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/internal/jwks"
	"github.com/eventissuer/eventissuer/internal/quota"
	"github.com/eventissuer/eventissuer/session"
)

// Config says how the edge behaves.
type Config struct {
	PublicURL      *url.URL       // how clients reach the server; it decides links. Default: as each request says
	TrustedProxies []netip.Prefix // peers whose forwarding headers are believed. Default: none
	Origins        []string       // origins of pages that may use the server beside its own; "*" for all. Default: none
	// Loopback says that the server can be reached from this machine alone: its own origin is then one of this machine,
	// too, or PublicURL. A page elsewhere whose name was made to point here (DNS rebinding) is not of its origin.
	Loopback bool

	MaxEventBytes  int64         // of one event. Default and at least useful: 1 MiB; never below 64 KiB
	MaxBatchBytes  int64         // of one batch. Default 8 MiB
	MaxBatchEvents int           // events in one batch. Default 1,000
	MaxBodyMemory  int64         // of all bodies being handled at once. Default 256 MiB
	BodyTimeout    time.Duration // how long a body may take to arrive. Default 30 s
	AppendTimeout  time.Duration // how long a publish waits for the log. Default 10 s

	MaxConnections int // open at once, those of sessions counted in. Default: no limit
	MaxWaiting     int // of these, without a request: new ones, and such as are kept for the next. Default 4,096

	Version string // of the program, as /openapi.json tells it. Default "dev"
}

// Deps are what the edge works with. Log, Catalog and Consumers must be given.
type Deps struct {
	Log       broker.Log
	Catalog   *catalog.Catalog
	Consumers *cursor.Consumers

	Page  http.Handler   // what / answers. Default: 404
	Ready func() []Check // what /readyz tells. Default: always ready
	// Sessions serves the reads. Default: this replica has none, and reads are answered 503.
	Sessions *session.Server
	// Attempts are what became of what was sent to sinks.
	Attempts *attempts.Log
	// Letters are the events that subscriptions gave up.
	Letters *deadletters.Box
	// Groups share subscriptions among their sessions, which Sessions serves. Default: they are answered 503.
	Groups *group.Groups
	// Push tells how the events of subscriptions with a sink are being sent. Default: nothing is known of it.
	Push Push
	// TokenKeys are told at /.well-known/jwks.json. Default: there are none.
	TokenKeys *jwks.Keys
	// Dedupe lets each event in once. Default: every event is written as it comes.
	Dedupe *dedupe.Deduper
	// Quotas bound what is published of types that have a quota. Default: nothing does.
	Quotas *quota.Quotas
	// Audit has the changes of definitions. Default: 501.
	Audit *audit.Log
	// Drain begins to send all sessions away, and returns at once. Default: 501.
	Drain func()
	// Undrain takes sessions again, and tells false where the server is stopping. Default: 501.
	Undrain func() bool

	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
	Gatherer   prometheus.Gatherer   // what /metrics shows. Default: 404
}

// Check is one thing that must be so before the server takes requests.
type Check struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"` // why it is not
}

// Gateway is the HTTP edge.
type Gateway struct {
	// static
	config  Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	origins map[string]bool
	openapi []byte
	handler http.Handler

	bodies  bodyMemory          // of bodies being handled
	scans   *semaphore.Weighted // searches for poison under way
	resends *semaphore.Weighted // calls under way that send events again
	gzip    gzipTurns
	zstd    zstdDecoders
}

// New makes the edge. It starts nothing.
func New(config Config, deps Deps) (*Gateway, error) {
	if deps.Log == nil || deps.Catalog == nil || deps.Consumers == nil {
		return nil, errors.New("gateway: a log, a catalog and consumers are needed")
	}
	config.MaxEventBytes = max(orDefault(config.MaxEventBytes, 1<<20), 64<<10)
	config.MaxBatchBytes = max(orDefault(config.MaxBatchBytes, 8<<20), config.MaxEventBytes)
	config.MaxBatchEvents = orDefault(config.MaxBatchEvents, 1000)
	config.MaxBodyMemory = max(orDefault(config.MaxBodyMemory, 256<<20), 2*config.MaxBatchBytes, 2*documentBytes) // a body and what it inflates to
	config.BodyTimeout = orDefault(config.BodyTimeout, 30*time.Second)
	config.AppendTimeout = orDefault(config.AppendTimeout, 10*time.Second)
	config.MaxWaiting = orDefault(config.MaxWaiting, 4096)
	config.Version = orDefault(config.Version, "dev")
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		config:  config,
		deps:    deps,
		log:     deps.Logger,
		metrics: newMetrics(deps.Registerer),
		origins: map[string]bool{},
		bodies:  newBodyMemory(config.MaxBodyMemory),
		scans:   semaphore.NewWeighted(poisonScans),
		resends: semaphore.NewWeighted(resendCalls),
		gzip:    newGzipTurns(),
	}
	for _, origin := range config.Origins {
		g.origins[strings.ToLower(strings.TrimSuffix(origin, "/"))] = true
	}
	var err error
	if g.zstd, err = newZstdDecoders(); err != nil {
		return nil, err
	}
	if g.openapi, err = openapiDocument(config); err != nil {
		return nil, err
	}
	g.handler = g.observe(g.boundBody(secure(g.guardOrigins(g.router()))))
	return g, nil
}

// Handler gives the handler of the whole API.
func (g *Gateway) Handler() http.Handler { return g.handler }

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
