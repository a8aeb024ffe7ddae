package catalog

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/table"
)

// Config says where the catalog is and how streams are made.
type Config struct {
	Table             *table.Table // of topic `_eventissuer.catalog`, one partition; run by the caller, after New
	Topics            broker.Admin
	TopicPrefix       string // of the topics of streams that name none; default "eventissuer."
	ReplicationFactor int16  // of topics to be made; default: the cluster's
	Partitions        int32  // of streams that say nothing; default 12
	Owner             string // of what says nothing; default "local"
	Logger            *slog.Logger
	Registerer        prometheus.Registerer
	PublicURL         string  // under which references between schemas may name this server; default: none
	Auditor           Auditor // of changes; default: they are only logged
	// Keys seal what is secret of subscriptions with a sink. Default: none, and there are no such subscriptions.
	Keys *keyring.Ring
	// Sinks says which addresses may be sent events and asked for tokens. Default: any that is of HTTPS.
	Sinks SinkChecker
	Now   func() time.Time

	ClaimWait      time.Duration // for another replica's creation of the same stream to come to its end; default 5 s
	ReconcileEvery time.Duration // between looks for what a crash left half done; default 10 min
}

// SinkChecker decides where requests may go.
type SinkChecker interface {
	// CheckURL says what is wrong with an address, and what was expected.
	CheckURL(raw string) error
}

// Catalog is the definitions as this replica has applied them.
type Catalog struct {
	cfg     Config // static
	table   *table.Table
	topics  broker.Admin
	log     *slog.Logger
	kinds   map[string]keeper
	streams *kind[streamBody]
	types   *kind[typeBody]
	schemas *kind[textBody]

	subscriptions *kind[subscriptionRecord]

	byPrefix index[object[typeBody]] // the patterns, by what stands before the *
	patterns atomic.Int64            // how many there are

	applied atomic.Int64 // how far into the table's log all has been told

	unaudited prometheus.Counter

	mu       sync.Mutex
	watchers map[*func(Change)]struct{} // guarded by mu
}

// New returns the catalog of a table that does not run yet.
func New(cfg Config) (*Catalog, error) {
	if cfg.Table == nil || cfg.Topics == nil {
		return nil, errors.New("a catalog needs a table and a log")
	}
	cfg.TopicPrefix = cmp.Or(cfg.TopicPrefix, "eventissuer.")
	cfg.Partitions = cmp.Or(cfg.Partitions, 12)
	cfg.Owner = cmp.Or(cfg.Owner, "local")
	cfg.ClaimWait = cmp.Or(cfg.ClaimWait, 5*time.Second)
	cfg.ReconcileEvery = cmp.Or(cfg.ReconcileEvery, 10*time.Minute)
	cfg.PublicURL = strings.TrimSuffix(cfg.PublicURL, "/")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	c := &Catalog{
		cfg: cfg, table: cfg.Table, topics: cfg.Topics, log: cfg.Logger,
		byPrefix: newIndex[object[typeBody]](), watchers: map[*func(Change)]struct{}{},
	}
	unreadable := promauto.With(cfg.Registerer).NewCounter(prometheus.CounterOpts{
		Name: "eventissuer_catalog_unreadable_total",
		Help: "Definitions in the table that this version of the program could not read.",
	})
	c.unaudited = promauto.With(cfg.Registerer).NewCounter(prometheus.CounterOpts{
		Name: "eventissuer_catalog_unaudited_total",
		Help: "Changes of definitions that could not be written to the audit; each is in the log.",
	})
	failed := func(id string, err error) {
		unreadable.Inc()
		c.log.Error("unreadable definition: the one before stays in force", "id", id, "error", err)
	}
	c.streams = newKind[streamBody]("stream", c.table, failed)
	c.types = newKind[typeBody]("event-type", c.table, failed)
	c.schemas = newKind[textBody]("schema", c.table, failed)
	c.subscriptions = newKind[subscriptionRecord]("subscription", c.table, failed)
	c.types.adopt, c.schemas.adopt = (*typeBody).adopt, (*textBody).adopt
	c.subscriptions.read = (*subscriptionRecord).keep
	c.streams.changed = c.streamChanged
	c.types.changed = c.typeChanged
	c.subscriptions.changed = c.subscriptionChanged
	c.kinds = map[string]keeper{
		c.streams.name: c.streams, c.types.name: c.types, c.schemas.name: c.schemas, c.subscriptions.name: c.subscriptions,
	}
	c.table.Watch(func(id string, v table.Version, deleted bool) {
		name, key, _ := strings.Cut(id, "/")
		if k := c.kinds[name]; k != nil { // else of a later version of the program
			k.apply(key, v, deleted)
		}
	})
	c.table.Settled(func(_ int32, next int64) {
		c.streams.settle()
		c.schemas.settle() // before the types that name them
		c.types.settle()
		c.subscriptions.settle()
		c.applied.Store(next)
		c.tell(Change{Applied: next})
	})
	return c, nil
}

// Ready is closed once the catalog is loaded; before that it finds nothing.
func (c *Catalog) Ready() <-chan struct{} { return c.table.Ready() }

// Run finishes the deletions and growths that a crash left half done, until ctx ends; it then returns ctx.Err().
func (c *Catalog) Run(ctx context.Context) error {
	select {
	case <-c.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		// Jittered: replicas that start together need not all do it. It does no harm if they do.
		select {
		case <-time.After(rand.N(c.cfg.ReconcileEvery)):
		case <-ctx.Done():
			return ctx.Err()
		}
		c.reconcile(ctx)
	}
}

// Stream looks a stream up by name.
func (c *Catalog) Stream(name string) (Stream, bool) { return visible(c.streams.get(name)) }

// Streams returns all streams, by name.
func (c *Catalog) Streams() []Stream {
	var all []Stream
	for _, o := range c.streams.all() {
		if s, ok := visible(o); ok {
			all = append(all, s)
		}
	}
	return all
}

// EventType looks up the registration that an event's type falls under: the exact one, else the longest pattern.
func (c *Catalog) EventType(typ string) (EventType, bool) { return registered(c.find(typ)) }

// Registration looks a registration up as it was made: a pattern by its own text.
func (c *Catalog) Registration(typ string) (EventType, bool) { return registered(c.types.get(typ)) }

// EventTypes returns all registrations, by type.
func (c *Catalog) EventTypes() []EventType { return c.eventTypes("") }

// EventTypesOf returns the registrations whose events go to a stream, by type.
func (c *Catalog) EventTypesOf(stream string) []EventType { return c.eventTypes(stream) }

func (c *Catalog) eventTypes(stream string) []EventType {
	var all []EventType
	for _, o := range c.types.all() {
		if t, ok := registered(o); ok && (stream == "" || t.Stream == stream) {
			all = append(all, t)
		}
	}
	return all
}

// Change is one change of what can be looked up: of the one that is not nil, or named. Where none is it says how far the
// changes before it reach.
type Change struct {
	Stream       *Stream // as it is, or was before it was deleted
	EventType    *EventType
	Subscription string // its id; there may be many, so it is for who wants to know more to look it up
	Deleted      bool
	// Applied is the offset in the table's log below which everything has been told. It comes also where nothing that
	// can be looked up changed, so that whoever waits for an offset comes to it.
	Applied int64
}

// Watch has fn called for every change from now on, in the order of the log, from one goroutine, after the change can be
// looked up and before the write that made it returns. fn must not block or change the catalog. The returned function
// ends it; a call under way may still come.
func (c *Catalog) Watch(fn func(Change)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[&fn] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, &fn)
	}
}

// Applied returns the offset in the table's log (exclusive) up to which every change can be looked up and has been told
// to the watchers. What is looked up after the call has at least that. It goes back only where the table's topic was
// made anew.
func (c *Catalog) Applied() int64 { return c.applied.Load() }

func (c *Catalog) tell(ch Change) {
	c.mu.Lock()
	fns := make([]func(Change), 0, len(c.watchers))
	for fn := range c.watchers {
		fns = append(fns, *fn)
	}
	c.mu.Unlock()
	for _, fn := range fns {
		fn(ch)
	}
}

func (c *Catalog) streamChanged(was, is *object[streamBody]) {
	before, had := visible(was)
	if s, ok := visible(is); ok {
		c.tell(Change{Stream: &s})
	} else if had {
		c.tell(Change{Stream: &before, Deleted: true})
	}
}

func (c *Catalog) typeChanged(was, is *object[typeBody]) {
	before, had := registered(was)
	t, has := registered(is)
	if !has {
		t, is = before, nil
	}
	if !had && !has {
		return
	}
	if t.IsPattern() {
		c.byPrefix.update(map[string]*object[typeBody]{strings.TrimSuffix(t.Type, "*"): is})
		switch {
		case !had:
			c.patterns.Add(1)
		case !has:
			c.patterns.Add(-1)
		}
	}
	c.tell(Change{EventType: &t, Deleted: !has})
}

// matches reports whether If-Match (RFC 9110, 13.1.1) lets a change of the version with this tag be made.
func matches(ifMatch, tag string) bool {
	if ifMatch == "" || strings.TrimSpace(ifMatch) == "*" {
		return true
	}
	for t := range strings.SplitSeq(ifMatch, ",") {
		if strings.TrimSpace(t) == tag {
			return true
		}
	}
	return false
}
