package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/filter"
)

// Ordering says what a subscription keeps in order.
type Ordering string

// The orderings.
const (
	OrderingKey  Ordering = "key"  // the events of one key come in order, and the next only when the one before it is acknowledged
	OrderingNone Ordering = "none" // events come to whichever session has room
)

// Where a subscription begins; a time as in RFC 3339 is the third way to say it.
const (
	FromLatest = "latest"
	FromOldest = "oldest"
)

// SubscriptionConfig says how a subscription's events are handed out. What is zero has its default, or belongs to the
// other way of delivery.
type SubscriptionConfig struct {
	From     string   `json:"from,omitempty"`     // FromLatest, FromOldest or a time of the log; default: latest
	Ordering Ordering `json:"ordering,omitempty"` // default: key; of one with a sink: none

	// Of a subscription that sessions read.
	AckTimeout     Duration `json:"ackTimeout,omitempty"`     // after which what was not acknowledged comes again; default 60 s
	MaxUncommitted int      `json:"maxUncommitted,omitempty"` // events that a session may have unacknowledged; default 1000
	MaxSessions    int      `json:"maxSessions,omitempty"`    // default 100
	MaxAttempts    int      `json:"maxAttempts,omitempty"`    // after which an event is set aside; default 10

	// Of a subscription with a sink.
	PushConfig
}

// Position is where the reading of a stream begins.
type Position struct {
	Epoch string  `json:"epoch"` // of the topic, as Epoch.Hex writes it
	Next  []int64 `json:"next"`  // by partition; those that are not there yet begin with their first event
	// Born is the offset, in the catalog's log, of the record with which the incarnation began to read the stream. It is
	// set where a subscription is looked up, and means nothing where one is given. That record cannot know it, and says
	// nothing; every later version of the subscription carries it on.
	Born int64 `json:"born,omitempty"`
}

// Subscription says who is to have which events of some streams: the sessions that read it and share its events, or the
// endpoint at its sink.
type Subscription struct {
	ID          string             `json:"id,omitempty"` // made of the owner and the name; without a name, of the owner and the content
	Name        string             `json:"name,omitempty"`
	Owner       string             `json:"owner"`
	Description string             `json:"description,omitempty"`
	Streams     []string           `json:"streams,omitempty"` // where one is looked up: all that it reads, sorted; where one is given: none, to find them by the types
	Types       []string           `json:"types,omitempty"`   // a * at the end makes a prefix; none: every type
	Filters     json.RawMessage    `json:"filters,omitempty"` // as filter.Query takes them
	Config      SubscriptionConfig `json:"config,omitzero"`
	Delivery
	Created Stamp `json:"created,omitzero"`
	Changed Stamp `json:"changed,omitzero"`

	// Incarnation is one life of the positions: a UUID that is new at creation, at every reset and at every rewind.
	Incarnation string `json:"-"`
	// Start says by stream where the incarnation begins. It must not be changed.
	Start map[string]Position `json:"-"`
	// Course is what became of one with a sink.
	Course `json:"-"`

	// Revision is another after every change, of the definition or of what became of it.
	Revision uuid.UUID `json:"-"`

	version uuid.UUID // of the definition
	ready   *readyFilter
	signers []signer // the newest first
	sealed  sealedTexts
}

// readyFilter is a subscription's filter, compiled when the first event comes.
type readyFilter struct {
	once   sync.Once
	filter *filter.Filter
	err    error
}

// ETag identifies the version of the definition, in the form of the header. What becomes of a subscription, such as a
// pause or the proof of its endpoint, is no part of the definition.
func (s Subscription) ETag() string { return etag(s.version) }

// Filter returns the filter of the types and filters, nil for everything. Where sessions read the subscription it is
// compiled once for each version of it; where it has a sink, at each call, since whoever delivers keeps what it needs. An
// error says that this version of the program cannot read what another one has accepted.
func (s Subscription) Filter() (*filter.Filter, error) {
	r := cmp.Or(s.ready, &readyFilter{})
	r.once.Do(func() {
		r.filter, r.err = filter.Compile(filter.Query{Types: s.Types, Filters: s.Filters})
	})
	return r.filter, r.err
}

// SubscriptionState says whether a subscription hands out events.
type SubscriptionState string

// The states.
const (
	SubscriptionActive   SubscriptionState = "active"
	SubscriptionFailing  SubscriptionState = "failing"  // something of it cannot be read, or its endpoint does not take events
	SubscriptionPending  SubscriptionState = "pending"  // its endpoint has not proven yet that it wants the events
	SubscriptionPaused   SubscriptionState = "paused"   // until somebody resumes it
	SubscriptionDisabled SubscriptionState = "disabled" // for good, as far as the server is concerned: until somebody resumes it
)

// SubscriptionStatus is a state and what led to it.
type SubscriptionStatus struct {
	State  SubscriptionState `json:"state"`
	Reason string            `json:"reason,omitempty"`
}

// SubscriptionStatus tells how a subscription is, as far as its definition and its streams say.
func (c *Catalog) SubscriptionStatus(s Subscription) SubscriptionStatus {
	switch {
	case s.Disabled != nil:
		return SubscriptionStatus{SubscriptionDisabled, s.Disabled.Reason}
	case s.Paused:
		return SubscriptionStatus{State: SubscriptionPaused}
	}
	for _, name := range s.Streams {
		// One whose deletion is only being considered is there: it is refused for this very subscription.
		if o := c.streams.get(name); o == nil || o.v.Phase == phaseCreating || o.v.Phase == phaseDeleting {
			return SubscriptionStatus{SubscriptionFailing, fmt.Sprintf("stream %s is gone", name)}
		}
	}
	if _, err := s.Filter(); err != nil {
		return SubscriptionStatus{SubscriptionFailing, fmt.Sprintf("this version of the server cannot read the subscription's filter: %v", err)}
	}
	if s.Sink != "" && !s.Proven() {
		return SubscriptionStatus{SubscriptionPending, s.Proof.reason()}
	}
	return SubscriptionStatus{State: SubscriptionActive}
}

// Subscription looks a subscription up by its id.
func (c *Catalog) Subscription(id string) (Subscription, bool) {
	return subscribed(c.subscriptions.get(id))
}

// HasSink reports whether there is a subscription of an id, and whether it has a sink. It is to Subscription what a look
// at the cover is to reading: it allocates nothing.
func (c *Catalog) HasSink(id string) (sink, ok bool) {
	o := c.subscriptions.get(id)
	return o != nil && o.v.ready == nil, o != nil
}

// Subscriptions returns all subscriptions, by id. It reads each anew: see SubscriptionsAfter.
func (c *Catalog) Subscriptions() []Subscription { return slices.Collect(c.SubscriptionsAfter("")) }

// SubscriptionsAfter goes through the subscriptions whose id comes after one, by id.
func (c *Catalog) SubscriptionsAfter(id string) iter.Seq[Subscription] {
	return func(yield func(Subscription) bool) {
		all := c.subscriptions.all()
		from, found := slices.BinarySearchFunc(all, id, func(o *object[subscriptionRecord], id string) int { return cmp.Compare(o.key, id) })
		if found {
			from++
		}
		for _, o := range all[from:] {
			if s, _ := subscribed(o); !yield(s) {
				return
			}
		}
	}
}

// SubscriptionIDs returns the ids of all subscriptions, in no order.
func (c *Catalog) SubscriptionIDs() (ids []string) {
	for o := range c.subscriptions.index.values() {
		ids = append(ids, o.key)
	}
	return ids
}

// SubscriptionsOf returns the ids of the subscriptions that read a stream, sorted.
func (c *Catalog) SubscriptionsOf(stream string) (ids []string) {
	for o := range c.subscriptions.index.values() {
		if o.v.reads(stream) {
			ids = append(ids, o.key)
		}
	}
	slices.Sort(ids)
	return ids
}

func (c *Catalog) subscriptionChanged(was, is *object[subscriptionRecord]) {
	if o := cmp.Or(is, was); o != nil {
		c.tell(Change{Subscription: o.key, Deleted: is == nil})
	}
}

// defaultConfig is what a subscription has that says nothing, with a sink or without one. It is part of how subscriptions
// are kept, which leave out what is the default: to change it is to change those that are there.
func defaultConfig(sink bool) SubscriptionConfig {
	if sink {
		return SubscriptionConfig{From: FromLatest, Ordering: OrderingNone, PushConfig: defaultPush()}
	}
	return SubscriptionConfig{
		From: FromLatest, Ordering: OrderingKey, AckTimeout: Duration(time.Minute), MaxUncommitted: 1000, MaxSessions: 100, MaxAttempts: 10,
	}
}
