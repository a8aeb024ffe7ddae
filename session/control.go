package session

import "github.com/eventissuer/eventissuer/internal/fanout"

// The payloads of the control messages; their names and fields are those of the API.

// Gap tells that what a cursor pointed at is gone, and where reading goes on.
type Gap struct {
	Stream    string `json:"stream"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Reason    string `json:"reason"`
}

// Skipped tells that a record that is no event was passed.
type Skipped struct {
	Stream    string `json:"stream"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
}

// Snapshot begins a snapshot of a stream: the latest event of each of its keys follows, up to Live. Whatever a client had of
// the stream is no longer what is true.
type Snapshot struct {
	Stream string `json:"stream"`
	Keys   int    `json:"keys"`
	// Dropped is how many keys the server has let go for want of room since it keeps the state: those of them that had no
	// event since are missing.
	Dropped uint64 `json:"dropped,omitempty"`
}

// Live ends a snapshot: what follows are changes of it.
type Live struct {
	Stream string `json:"stream"`
}

// Removed tells that an event that was the latest of its key is so no longer, and that there is none in its place.
type Removed struct {
	Stream  string `json:"stream"`
	Subject string `json:"subject"`
	Source  string `json:"source"`
	Type    string `json:"type"`
	ID      string `json:"id"`
	// Reason is deleted (a tombstone), changed (the key's latest event does not match the filter) or dropped (the state has
	// no room for it, or it is older than the state's window).
	Reason string `json:"reason"`
}

func removedOf(stream string, e *fanout.Entry) Removed {
	gone := &e.Removed.Event
	r := Removed{Stream: stream, Subject: gone.Subject(), Source: gone.Source(), Type: gone.Type(), ID: gone.ID(), Reason: "changed"}
	switch {
	case e.Beside:
		r.Reason = "dropped"
	case e.Tombstone():
		r.Reason = "deleted"
	}
	return r
}

// Health is the payload of stalled and resumed: whether the log can be reached. The session stays.
type Health struct {
	Stream string `json:"stream"`
}

// Assigned tells which partitions a session of a subscription is fed from, as "<stream>/<partition>".
type Assigned struct {
	Groups []string `json:"groups"`
}

// Waiting tells why a session is given nothing.
type Waiting struct {
	Reason string `json:"reason"` // partitions, ackTimeout or rebalance; of a stream: snapshot
	Detail string `json:"detail"`
}

// Drain tells that this replica goes away: come back with the cursor after RetryAfter seconds.
type Drain struct {
	RetryAfter float64 `json:"retryAfter"`
}

// Problem tells why the session ends, as RFC 9457.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	Instance  string `json:"instance,omitempty"`
	RequestID string `json:"requestId,omitempty"`

	Errors   []Mistake `json:"errors,omitempty"`   // the single mistakes, where they have a place
	Position *int      `json:"position,omitempty"` // where in an expression the mistake is

	unreadable bool // the client's message was no JSON
}

// Mistake is one mistake at one place of what the client sent.
type Mistake struct {
	Pointer  string `json:"pointer"` // RFC 6901
	Message  string `json:"message"`
	Expected string `json:"expected,omitempty"`
}

// InstancePrefix makes, with the id of the request that a session began with, the instance of its problems.
const InstancePrefix = "urn:eventissuer:request:"

// payloadOf names the request in a problem, so that a client's report leads to the log.
func (e *entry) payloadOf(end *ending) any {
	p, ok := end.payload.(Problem)
	if !ok || e.request == "" || p.RequestID != "" {
		return end.payload
	}
	p.Instance, p.RequestID = InstancePrefix+e.request, e.request
	return p
}

// What a session ends with. Types and titles are those that the gateway describes.
var (
	problemGone = Problem{
		Type: "/problems/unknown-stream", Title: "There is no such stream", Status: 404,
		Detail: "What was read was deleted meanwhile. Do not come back with this cursor.",
	}
	problemSuperseded = Problem{
		Type: "/problems/consumer-taken-over", Title: "Another session took over this consumer", Status: 409,
		Detail: "A consumer is one reader. Another session opened it, or it was reset or deleted; this session's cursors no longer move it.",
	}
	problemNoState = Problem{
		Type: "/problems/no-state", Title: "The stream keeps no state", Status: 409,
		Detail: "There are no snapshots of it any more: its definition was changed. Read it without from=snapshot and overflow=snapshot.",
	}
	problemUnsubscribed = Problem{
		Type: "/problems/unknown-subscription", Title: "There is no such subscription", Status: 404,
		Detail: "The subscription was deleted while it was being read.",
	}
	problemReconnect = Problem{
		Type: "/problems/reconnect", Title: "It is no longer this session's", Status: 409,
		Detail: "Some of what this session was given is no longer its own: it is given again, to it or to another. Open the session again.",
	}
	problemInternal = Problem{
		Type: "/problems/internal", Title: "The server made a mistake", Status: 500,
		Detail: "The session failed. Come back with the last cursor.",
	}
)
