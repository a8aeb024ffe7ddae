package catalog

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/table"
)

// There may be a million subscriptions, and most of them are looked up once in a long while: so the catalog keeps each as
// the table has it anyhow, packed, and reads it at every look-up. What is the default is left out.

// subscriptionRecord is a subscription as it is kept in memory.
type subscriptionRecord struct {
	kept    *table.Kept           // the table's own
	streams unique.Handle[string] // separated by commas, which no name has; many subscriptions have the same
	ready   *readyFilter          // nil: it has a sink
}

// MarshalJSON implements json.Marshaler.
func (r subscriptionRecord) MarshalJSON() ([]byte, error) { return r.kept.Version().Body, nil }

func (r *subscriptionRecord) reads(stream string) bool {
	for rest, more := r.streams.Value(), true; more; {
		var name string
		if name, rest, more = strings.Cut(rest, ","); name == stream {
			return true
		}
	}
	return false
}

// keep makes a record of a version in the table. It refuses what cannot be read.
func (r *subscriptionRecord) keep(v table.Version) error {
	b, err := readStored(v.Body)
	if err != nil {
		return err
	}
	*r = subscriptionRecord{kept: v.Kept(), streams: unique.Make(strings.Join(b.Streams, ","))}
	if b.Sink == "" {
		r.ready = &readyFilter{}
	}
	return nil
}

// subscriptionBody is a subscription with all that is kept of it.
type subscriptionBody struct {
	Subscription
	asked []string // the streams that were named; none: they were found by the types
}

// signer is a secret and a signing key, which are made, and replaced, together.
type signer struct {
	Sealed string    `json:"sealed"`
	Public string    `json:"public"`         // the key's other half
	Until  time.Time `json:"until,omitzero"` // when it no longer signs; zero: it is the one in force
}

// sealedTexts are the secrets that a definition has beside what it signs with.
type sealedTexts struct {
	Credential string `json:"credential,omitempty"`
	Legacy     string `json:"legacy,omitempty"`
	Headers    string `json:"headers,omitempty"` // a JSON object of the values
}

// storedSubscription is the body in the table.
type storedSubscription struct {
	Subscription
	Life    string              `json:"incarnation"`
	Begins  map[string]Position `json:"start"`
	Asked   []string            `json:"asked,omitempty"`   // where Streams are left out, they are these
	Version []byte              `json:"version,omitempty"` // the UUID of the definition's; nothing: it is this very record's

	Signers  []signer    `json:"signers,omitempty"`
	Sealed   sealedTexts `json:"sealed,omitzero"`
	Stopped  bool        `json:"paused,omitempty"`
	Ended    *Disabled   `json:"disabled,omitempty"`
	Told     *Proof      `json:"proof,omitempty"`
	Repeated []Replay    `json:"replays,omitempty"`
}

// stored gives what is written of a body.
func (b *subscriptionBody) stored() (subscriptionRecord, error) {
	s := storedSubscription{
		Subscription: b.Subscription, Life: b.Incarnation, Begins: b.Start, Asked: b.asked,
		Signers: b.signers, Sealed: b.sealed, Stopped: b.Paused, Ended: b.Disabled, Repeated: b.Replays,
	}
	s.ID, s.PublicKey = "", ""
	if b.version != uuid.Nil {
		s.Version = b.version[:]
	}
	if slices.Equal(s.Asked, s.Streams) {
		s.Streams = nil
	}
	if s.Changed == s.Created {
		s.Changed = Stamp{}
	}
	s.Config = s.Config.without(defaultConfig(s.Sink != ""))
	if s.Sink != "" {
		s.Told = &b.Proof
		if s.Protocol = ""; reflect.DeepEqual(s.ProtocolSettings, (&ProtocolSettings{}).filled()) {
			s.ProtocolSettings = nil
		}
	}
	raw, err := marshal(s)
	if err != nil {
		return subscriptionRecord{}, fmt.Errorf("subscription %s: %w", b.ID, err)
	}
	return subscriptionRecord{kept: table.NewKept(raw)}, nil
}

// readStored reads what is kept of a subscription, all of which is read when a replica starts: it takes half as long as
// encoding/json does.
func readStored(raw []byte) (*storedSubscription, error) {
	s := &storedSubscription{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	if s.Streams == nil {
		s.Streams = s.Asked
	}
	if n := len(s.Version); n != 0 && n != len(uuid.UUID{}) {
		return nil, fmt.Errorf("version of %d bytes: it was not made by this program", n)
	}
	return s, nil
}

// bodyOf reads a subscription, nil where there is none. The result is the caller's.
func bodyOf(o *object[subscriptionRecord]) *subscriptionBody {
	if o == nil {
		return nil
	}
	s, err := readStored(o.v.kept.Version().Body)
	if err != nil {
		return nil // it was read before it was kept
	}
	b := &subscriptionBody{Subscription: s.Subscription, asked: s.Asked}
	b.ID, b.ready, b.signers, b.sealed = o.key, o.v.ready, s.Signers, s.Sealed
	b.Incarnation, b.Start, b.Revision = s.Life, bornAt(s.Begins, o.offset), o.u
	if b.version = o.u; s.Version != nil {
		b.version = uuid.UUID(s.Version)
	}
	if b.Changed == (Stamp{}) {
		b.Changed = b.Created
	}
	b.Config.fill(b.Sink != "")
	if b.Sink == "" {
		return b
	}
	b.Protocol, b.ProtocolSettings = protocolHTTP, b.ProtocolSettings.filled()
	if len(b.signers) > 0 {
		b.PublicKey = b.signers[0].Public
	}
	b.Paused, b.Disabled, b.Replays = s.Stopped, s.Ended, s.Repeated
	for i := range b.Replays {
		b.Replays[i].Start = bornAt(b.Replays[i].Start, o.offset)
	}
	if s.Told != nil {
		b.Proof = *s.Told
	}
	b.Proof.Sink = b.Sink
	return b
}

func subscribed(o *object[subscriptionRecord]) (Subscription, bool) {
	b := bodyOf(o)
	if b == nil {
		return Subscription{}, false
	}
	return b.Subscription, true
}

// askedFor is the subscription as it was asked for.
func (b *subscriptionBody) askedFor() Subscription {
	s := b.Subscription
	s.Streams = b.asked
	return s
}

// bornAt says of the positions that say nothing yet that they were born with the record at offset. It changes them.
func bornAt(positions map[string]Position, offset int64) map[string]Position {
	for stream, at := range positions {
		if at.Born == 0 {
			at.Born = offset
			positions[stream] = at
		}
	}
	return positions
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

// fill gives what is zero its default.
func (c *SubscriptionConfig) fill(sink bool) {
	d := defaultConfig(sink)
	c.From = cmp.Or(c.From, d.From)
	c.Ordering = cmp.Or(c.Ordering, d.Ordering)
	c.AckTimeout = cmp.Or(c.AckTimeout, d.AckTimeout)
	c.MaxUncommitted = cmp.Or(c.MaxUncommitted, d.MaxUncommitted)
	c.MaxSessions = cmp.Or(c.MaxSessions, d.MaxSessions)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, d.MaxAttempts)
	c.Concurrency = cmp.Or(c.Concurrency, d.Concurrency)
	c.RatePerSecond = cmp.Or(c.RatePerSecond, d.RatePerSecond)
	c.Timeout = cmp.Or(c.Timeout, d.Timeout)
	if c.Retry.Schedule == nil {
		c.Retry.Schedule = d.Retry.Schedule
	}
	c.OnExhausted = cmp.Or(c.OnExhausted, d.OnExhausted)
	c.Batch.Max = cmp.Or(c.Batch.Max, d.Batch.Max)
	c.Batch.MaxWait = cmp.Or(c.Batch.MaxWait, d.Batch.MaxWait)
	c.Batch.MaxBytes = cmp.Or(c.Batch.MaxBytes, d.Batch.MaxBytes)
	c.DisableAfter = cmp.Or(c.DisableAfter, d.DisableAfter)
}

// without leaves out what is the default: what fill gives back.
func (c SubscriptionConfig) without(d SubscriptionConfig) SubscriptionConfig {
	omit(&c.From, d.From)
	omit(&c.Ordering, d.Ordering)
	omit(&c.AckTimeout, d.AckTimeout)
	omit(&c.MaxUncommitted, d.MaxUncommitted)
	omit(&c.MaxSessions, d.MaxSessions)
	omit(&c.MaxAttempts, d.MaxAttempts)
	omit(&c.Concurrency, d.Concurrency)
	omit(&c.RatePerSecond, d.RatePerSecond)
	omit(&c.Timeout, d.Timeout)
	if slices.Equal(c.Retry.Schedule, d.Retry.Schedule) {
		c.Retry.Schedule = nil
	}
	omit(&c.OnExhausted, d.OnExhausted)
	omit(&c.Batch, d.Batch)
	omit(&c.DisableAfter, d.DisableAfter)
	return c
}

func omit[T comparable](value *T, otherwise T) {
	if *value == otherwise {
		var zero T
		*value = zero
	}
}
