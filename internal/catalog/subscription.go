package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
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

// SubscriptionConfig says how a subscription's events are handed out. What is zero has its default.
type SubscriptionConfig struct {
	From           string   `json:"from"`           // FromLatest, FromOldest or a time of the log; default: latest
	Ordering       Ordering `json:"ordering"`       // default: key
	AckTimeout     Duration `json:"ackTimeout"`     // after which what was not acknowledged comes again; default 60 s
	MaxUncommitted int      `json:"maxUncommitted"` // events that a session may have unacknowledged; default 1000
	MaxSessions    int      `json:"maxSessions"`    // default 100
	MaxAttempts    int      `json:"maxAttempts"`    // after which an event is set aside; default 10
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

// Subscription is a queue of the events of some streams, which sessions share and acknowledge.
type Subscription struct {
	ID          string             `json:"id"` // made of the owner and the name; without a name, of the owner and the content
	Name        string             `json:"name,omitempty"`
	Owner       string             `json:"owner"`
	Description string             `json:"description,omitempty"`
	Streams     []string           `json:"streams,omitempty"` // where one is looked up: all that it reads, sorted; where one is given: none, to find them by the types
	Types       []string           `json:"types,omitempty"`   // a * at the end makes a prefix; none: every type
	Filters     json.RawMessage    `json:"filters,omitempty"` // as filter.Query takes them
	Config      SubscriptionConfig `json:"config"`
	Created     Stamp              `json:"created,omitzero"`
	Changed     Stamp              `json:"changed,omitzero"`

	// Incarnation is one life of the positions: a UUID that is new at creation and at every reset.
	Incarnation string `json:"-"`
	// Start says by stream where the incarnation begins. It must not be changed.
	Start map[string]Position `json:"-"`

	u     uuid.UUID
	ready *readyFilter
}

// readyFilter is a subscription's filter, compiled when the first event comes.
type readyFilter struct {
	once   sync.Once
	filter *filter.Filter
	err    error
}

// ETag identifies the version of the definition, in the form of the header.
func (s Subscription) ETag() string { return etag(s.u) }

// Filter returns the filter of the types and filters, nil for everything. It is compiled once for each version of the
// subscription. An error says that this version of the program cannot read what another one has accepted.
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
	SubscriptionActive  SubscriptionState = "active"
	SubscriptionFailing SubscriptionState = "failing" // something of it cannot be read until somebody changes something
)

// SubscriptionStatus is a state and what led to it.
type SubscriptionStatus struct {
	State  SubscriptionState `json:"state"`
	Reason string            `json:"reason,omitempty"`
}

// SubscriptionStatus tells whether all of a subscription can be read.
func (c *Catalog) SubscriptionStatus(s Subscription) SubscriptionStatus {
	for _, name := range s.Streams {
		// One whose deletion is only being considered is there: it is refused for this very subscription.
		if o := c.streams.get(name); o == nil || o.v.Phase == phaseCreating || o.v.Phase == phaseDeleting {
			return SubscriptionStatus{SubscriptionFailing, fmt.Sprintf("stream %s is gone", name)}
		}
	}
	if _, err := s.Filter(); err != nil {
		return SubscriptionStatus{SubscriptionFailing, fmt.Sprintf("this version of the server cannot read the subscription's filter: %v", err)}
	}
	return SubscriptionStatus{State: SubscriptionActive}
}

// Subscription looks a subscription up by its id.
func (c *Catalog) Subscription(id string) (Subscription, bool) {
	return subscribed(c.subscriptions.get(id))
}

// Subscriptions returns all subscriptions, by id.
func (c *Catalog) Subscriptions() []Subscription { return c.subscriptionsOf("") }

// subscriptionsOf returns the subscriptions that read a stream, by id.
func (c *Catalog) subscriptionsOf(stream string) []Subscription {
	var all []Subscription
	for _, o := range c.subscriptions.all() {
		if s, _ := subscribed(o); stream == "" || slices.Contains(s.Streams, stream) {
			all = append(all, s)
		}
	}
	return all
}

// subscriptionBody is a subscription as it is in the table.
type subscriptionBody struct {
	Subscription
	Life   string              `json:"incarnation"`
	Begins map[string]Position `json:"start"`
	Asked  []string            `json:"asked,omitempty"` // the streams that were named; none: they were found by the types
	Digest string              `json:"digest"`          // of all that was asked for
}

// adopt makes a body from the table, where it is at an offset, ready for use.
func (b *subscriptionBody) adopt(offset int64) {
	b.Begins = bornAt(b.Begins, offset)
	b.Incarnation, b.Start = b.Life, b.Begins
	b.ready = &readyFilter{}
}

// bornAt says of the positions that say nothing yet that they were born with the record at offset.
func bornAt(positions map[string]Position, offset int64) map[string]Position {
	var told map[string]Position // a copy: versions share what they have in common
	for stream, at := range positions {
		if at.Born != 0 {
			continue
		}
		if told == nil {
			told = maps.Clone(positions)
		}
		at.Born = offset
		told[stream] = at
	}
	if told == nil {
		return positions
	}
	return told
}

// unborn is a copy of positions with which something begins anew.
func unborn(positions map[string]Position) map[string]Position {
	fresh := make(map[string]Position, len(positions))
	for stream, at := range positions {
		at.Born = 0
		fresh[stream] = at
	}
	return fresh
}

// asked is the subscription as it was asked for.
func (b *subscriptionBody) asked() Subscription {
	s := b.Subscription
	s.Streams = b.Asked
	return s
}

func subscribed(o *object[subscriptionBody]) (Subscription, bool) {
	if o == nil {
		return Subscription{}, false
	}
	s := o.v.Subscription
	s.u = o.u
	return s, true
}

func (c *Catalog) subscriptionChanged(was, is *object[subscriptionBody]) {
	s, has := subscribed(is)
	if !has {
		var had bool
		if s, had = subscribed(was); !had {
			return
		}
	}
	c.tell(Change{Subscription: &s, Deleted: !has})
}

// defaultConfig is what a subscription has that says nothing.
func defaultConfig() SubscriptionConfig {
	return SubscriptionConfig{
		From: FromLatest, Ordering: OrderingKey, AckTimeout: Duration(time.Minute), MaxUncommitted: 1000, MaxSessions: 100, MaxAttempts: 10,
	}
}
