package push

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Subscription is what all replicas know of a subscription with a sink: which events are its own, and where it begins.
// It is immutable.
type Subscription struct {
	ID      string
	Version uuid.UUID // of the definition
	Filter  *filter.Filter
	Ordered bool // events of one key wait for each other
	// Blocked says why nothing is sent at present (its sink is not proven, it is paused, disabled); "": it is sent.
	Blocked  string
	Unproven bool     // its sink is not proven
	Pending  *Pending // the proof of its sink is still to be had; nil: it is there, or the endpoint has refused it
	Lives    []Life   // the live one, and replays beside it
}

// Life is one incarnation of a subscription's positions: its live one, or a replay beside it.
type Life struct {
	Incarnation uuid.UUID
	Routes      []Route
}

// Route is the way of an incarnation through one stream.
type Route struct {
	Stream fanout.Stream
	Epoch  string  // of the topic that Start is of, as broker.Epoch.Hex writes it; in another it begins at 0
	Start  []int64 // by partition; those that came later begin at 0
	Until  []int64 // a replay's end by partition, exclusive; nil: it has none. A partition that is not in it is done
	Born   int64   // the offset of the catalog's record that created it
}

// Endpoint is where and how a subscription's events are sent. It is immutable.
type Endpoint struct {
	Owner      string // whose connections these are
	URL        string
	Mode       webhook.Mode
	Headers    map[string]string
	Signer     *webhook.Signer
	Secrets    []webhook.Secret // by one of which the endpoint answers a challenge
	Credential webhook.Credential

	Concurrency int           // attempts at once, over all replicas
	Rate        float64       // requests a second, over all replicas; 0: any number
	Timeout     time.Duration // of an attempt
	Schedule    []time.Duration
	Block       bool // an event whose schedule has ended holds its lane up, rather than going to the dead letters
	Batch       Batch
	// DisableAfter is for how long a subscription may fail, and only fail, before it is disabled.
	DisableAfter time.Duration
	Until        time.Time // when it has to be opened anew, since a secret is no longer to be signed with; zero: never
}

// Batch bounds what is sent in one request. Max 1 sends each event by itself.
type Batch struct {
	Max     int
	MaxWait time.Duration // for more events to come
	Bytes   int
}

// Change tells that a subscription has changed, or that all changes below an offset of the catalog have been told.
type Change struct {
	ID      string
	Applied int64 // where ID is ""
}

// Definitions are the subscriptions with a sink.
type Definitions interface {
	// Watch calls fn for every subscription that is there, and then for every change, in the order of the catalog's log,
	// from one goroutine at a time. fn must not block. The returned function ends it.
	Watch(fn func(Change)) (stop func())
	// Subscription returns a subscription as it is at the moment, or nil where there is none, or it has no sink.
	Subscription(id string) *Subscription
	// Endpoint opens how a subscription's events are sent. An error is the reason for which nothing can be sent.
	Endpoint(id string) (*Endpoint, error)
	// Disable ends the sending to a subscription until its owner resumes it, with the reason. It blocks on the log.
	Disable(ctx context.Context, id string, incarnation uuid.UUID, reason string) error
	// Prove records what an endpoint has said to being sent events, unless the sink is another by now. It blocks on the log.
	Prove(ctx context.Context, id string, v Verdict) error
	// EndReplay notes that a replay has come to its end in a partition of a stream. It blocks on the log.
	EndReplay(ctx context.Context, id string, replay uuid.UUID, stream string, partition int32) error
}

// Sender sends the requests for one endpoint. Its errors say why there is no answer, to whoever owns the endpoint: they hold
// no secret.
type Sender interface {
	Do(ctx context.Context, r guard.Request) (*guard.Response, error)
	Close()
}
