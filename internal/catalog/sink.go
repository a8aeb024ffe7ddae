package catalog

import (
	"cmp"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// What a sink is delivered to by; there is nothing else yet.
const (
	protocolHTTP = "HTTP"
	methodPost   = "POST"
)

// Delivery says where and how the events of a subscription with a sink are sent. It is zero where sessions read them.
//
// Secrets are given, and never shown again: where a subscription is looked up they are empty.
type Delivery struct {
	Sink             string              `json:"sink,omitempty"`     // an HTTPS address
	Protocol         string              `json:"protocol,omitempty"` // "HTTP"
	ProtocolSettings *ProtocolSettings   `json:"protocolsettings,omitempty"`
	SinkCredential   *webhook.Credential `json:"sinkcredential,omitempty"`
	// PublicKey verifies the signatures of the newest signing key.
	PublicKey string `json:"publicKey,omitempty"`
	// Secret is what messages are signed with. Where one is given without it, one is made. It is told by the creation alone.
	Secret webhook.Secret `json:"-"`
}

// ProtocolSettings say what the requests to a sink look like.
type ProtocolSettings struct {
	Method string       `json:"method,omitempty"` // "POST"
	Mode   webhook.Mode `json:"mode,omitempty"`   // webhook.Structured, the default, or webhook.Binary; batches are webhook.Batch
	// Headers are added to each request. Their values are secrets.
	Headers map[string]string `json:"headers,omitempty"`
	// Signatures are which of SignatureSecret and SignatureKey each message has, in this order; default: both.
	Signatures      []Signature     `json:"signatures,omitempty"`
	LegacySignature *webhook.Legacy `json:"legacySignature,omitempty"` // one signature more; nil: none
}

// Signature is a kind of signature, as Standard Webhooks names them.
type Signature string

// The kinds.
const (
	SignatureSecret Signature = "v1"  // HMAC-SHA256 by the secret
	SignatureKey    Signature = "v1a" // Ed25519 by the signing key, which costs some 30 µs a message
)

func allSignatures() []Signature { return []Signature{SignatureSecret, SignatureKey} }

// OnExhausted says what becomes of an event whose attempts are used up.
type OnExhausted string

// What becomes of it.
const (
	DeadLetter OnExhausted = "deadLetter" // it is set aside, and the next is sent
	Block      OnExhausted = "block"      // it is tried on; what waits behind it waits on
)

// PushConfig says at which pace and how often a sink is sent events.
type PushConfig struct {
	Concurrency   int         `json:"concurrency,omitempty"`   // requests at a time; default 8
	RatePerSecond int         `json:"ratePerSecond,omitempty"` // requests a second; default 0: no limit
	Timeout       Duration    `json:"timeout,omitempty"`       // of a request; default 15 s
	Retry         Retry       `json:"retry,omitzero"`
	OnExhausted   OnExhausted `json:"onExhausted,omitempty"` // default: DeadLetter
	Batch         Batching    `json:"batch,omitzero"`
	DisableAfter  Duration    `json:"disableAfter,omitempty"` // of nothing but failures, after which nothing more is sent; default 120 h
}

// Retry says when an event is sent again.
type Retry struct {
	Schedule []Duration `json:"schedule,omitempty"` // the waits after the first, second, … failure; default 5 s to 12 h, ten of them
}

// Batching says how many events are sent in one request.
type Batching struct {
	Max      int      `json:"max"`      // events; default 1: no batches
	MaxWait  Duration `json:"maxWait"`  // for a batch to fill; default 0
	MaxBytes int      `json:"maxBytes"` // default 256 KiB
}

func defaultPush() PushConfig {
	return PushConfig{
		Concurrency: 8, Timeout: Duration(15 * time.Second), OnExhausted: DeadLetter, DisableAfter: Duration(120 * time.Hour),
		Retry: Retry{[]Duration{
			Duration(5 * time.Second), Duration(30 * time.Second), Duration(2 * time.Minute), Duration(10 * time.Minute), Duration(30 * time.Minute),
			Duration(time.Hour), Duration(2 * time.Hour), Duration(4 * time.Hour), Duration(8 * time.Hour), Duration(12 * time.Hour),
		}},
		Batch: Batching{Max: 1, MaxBytes: 256 << 10},
	}
}

// Course is what became of a subscription with a sink since it was defined.
type Course struct {
	Paused   bool      // somebody wants nothing to be sent for now
	Disabled *Disabled // nil: it is not
	Proof    Proof
	Replays  []Replay // beside the incarnation
}

// Disabled says since when and why nothing more is sent.
type Disabled struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// ProofState says how far an endpoint is with proving that it wants the events.
type ProofState string

// The states of a proof.
const (
	ProofPending ProofState = "pending"
	ProofProven  ProofState = "proven"
	ProofRefused ProofState = "refused"
)

// ProofMethod says what proved it.
type ProofMethod string

// The methods.
const (
	ByConsent   ProofMethod = "consent"   // the OPTIONS of CloudEvents' webhooks
	ByChallenge ProofMethod = "challenge" // an answer that only who knows the secret can give
	ByResponse  ProofMethod = "response"  // any 2xx, where the operator's policy takes that
)

// Proof is what an endpoint has said to being sent events.
type Proof struct {
	Sink          string      `json:"-"` // of which; it is that of the subscription where one is looked up
	State         ProofState  `json:"state"`
	By            ProofMethod `json:"by,omitempty"`
	Reason        string      `json:"reason,omitempty"` // why it is not proven
	At            time.Time   `json:"at,omitzero"`
	RatePerMinute int         `json:"ratePerMinute,omitempty"` // that the endpoint allowed; 0: it named none
	Tries         int         `json:"tries,omitempty"`         // that came to nothing
	Next          time.Time   `json:"next,omitzero"`           // when it is tried again
}

// reason says why nothing is sent as long as an endpoint has not proven that it wants it.
func (p Proof) reason() string {
	if p.State == ProofRefused {
		return "the endpoint refuses: " + cmp.Or(p.Reason, "it does not want the events")
	}
	return "the endpoint has not proven yet that it wants the events" + map[bool]string{true: ": " + p.Reason}[p.Reason != ""]
}

// Proven reports whether the endpoint at the sink has proven that it wants the events. Before that it is sent none.
func (s Subscription) Proven() bool { return s.Proof.State == ProofProven && s.Proof.Sink == s.Sink }

// Replay is a way through a part of the streams again, beside the live one.
type Replay struct {
	Incarnation string              `json:"incarnation"` // a UUID, as that of a subscription
	Start       map[string]Position `json:"start"`
	Until       map[string]Position `json:"until"` // where it ends, exclusive; what is at its end in Start is done
	Since       time.Time           `json:"since,omitzero"`
}

// Goes reports whether a partition of a stream is still to be gone through, and from where to where.
func (r Replay) Goes(stream string, partition int32) (from, to int64, ok bool) {
	start, until := r.Start[stream].Next, r.Until[stream].Next
	if int(partition) >= min(len(start), len(until)) {
		return 0, 0, false
	}
	from, to = start[partition], until[partition]
	return from, to, from < to
}
