package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/schema"
)

// Bounds of a subscription. Filters have those of package filter.
const (
	maxSubscribed  = 64 // streams of one subscription
	maxAskedTypes  = 64
	minAckTimeout  = Duration(time.Second)
	maxAckTimeout  = Duration(time.Hour)
	maxUncommitted = 10_000
	maxSessions    = 1000
	maxAttempts    = 1_000_000
)

// prepare fills in what was left out, and checks what can be checked without looking anything up.
func (s *Subscription) prepare(owner string, sinks SinkChecker) error {
	s.Owner = cmp.Or(s.Owner, owner)
	s.Config.fill(s.Sink != "")
	v := &InvalidError{}
	s.check(v, sinks)
	if err := v.orNil(); err != nil {
		return err
	}
	if s.Filters = compacted(s.Filters); string(s.Filters) == "null" || string(s.Filters) == "[]" {
		s.Filters = nil
	}
	if t, err := time.Parse(time.RFC3339, s.Config.From); err == nil {
		s.Config.From = t.UTC().Format(time.RFC3339Nano)
	}
	return nil
}

func (s *Subscription) check(v *InvalidError, sinks SinkChecker) {
	if s.Name != "" && (!isName(s.Name, "._-") || len(s.Name) > maxName) {
		v.add("/name", "1 to %d letters, digits and any of . _ -, beginning with a letter or digit, or nothing; got %.100q", maxName, s.Name)
	}
	checkTexts(v, s.Owner, s.Description)
	switch {
	case len(s.Streams) > maxSubscribed:
		v.add("/streams", "at most %d; got %d", maxSubscribed, len(s.Streams))
	case len(s.Streams) == 0 && len(s.Types) == 0:
		v.add("/streams", "the names of the streams to read, or types, whose streams are then read")
	}
	if len(s.Types) > maxAskedTypes {
		v.add("/types", "at most %d; got %d", maxAskedTypes, len(s.Types))
	}
	for i, t := range s.Types {
		if t == "" || len(t) > maxType || !utf8.ValidString(t) {
			v.add(fmt.Sprintf("/types/%d", i), "an event type, or the beginning of some and a *, of 1 to %d bytes; got %.100q", maxType, t)
		}
	}
	s.checkFilters(v)
	s.Config.check(v, s.Sink != "")
	if s.Sink != "" {
		s.checkDelivery(v, sinks)
	}
	sortProblems(v)
}

// checkFilters compiles the filter, which is the check of it.
func (s *Subscription) checkFilters(v *InvalidError) {
	_, err := filter.Compile(filter.Query{Filters: s.Filters})
	at := ""
	if err != nil {
		// Which of them is wrong is told for CESQL alone, where it has a place of its own.
		var each []json.RawMessage
		if json.Unmarshal(s.Filters, &each) == nil {
			for i, f := range each {
				if _, one := filter.Compile(filter.Query{Filters: slices.Concat(json.RawMessage("["), f, json.RawMessage("]"))}); one != nil {
					at, err = fmt.Sprintf("/%d", i), one
					break
				}
			}
		}
	} else if len(v.Problems) == 0 {
		_, err = filter.Compile(filter.Query{Types: s.Types, Filters: s.Filters})
	}
	var mistake *filter.Error
	switch {
	case errors.As(err, &mistake):
		if rest, ok := strings.CutPrefix(mistake.Pointer, "/0"); ok {
			at += rest
		}
		v.add("/filters"+at, "%s; at byte %d of %.200q", mistake.Message, mistake.Position, mistake.Expression)
	case err != nil:
		v.add("/filters", "%v", err)
	case len(s.Filters) > 0:
		if _, err := schema.Canonical(s.Filters); err != nil {
			addSchemaProblems(v, "/filters", err)
		}
	}
}

func (c *SubscriptionConfig) check(v *InvalidError, sink bool) {
	if _, err := time.Parse(time.RFC3339, c.From); err != nil && c.From != FromLatest && c.From != FromOldest {
		v.add("/config/from", "latest, oldest, or a time such as 2026-01-02T03:04:05Z; got %.100q", c.From)
	}
	if c.Ordering != OrderingKey && c.Ordering != OrderingNone {
		v.add("/config/ordering", "key or none; got %.100q", c.Ordering)
	}
	if sink {
		c.PushConfig.check(v)
		return
	}
	within(v, "/config/ackTimeout", c.AckTimeout, minAckTimeout, maxAckTimeout)
	within(v, "/config/maxUncommitted", c.MaxUncommitted, 1, maxUncommitted)
	within(v, "/config/maxSessions", c.MaxSessions, 1, maxSessions)
	within(v, "/config/maxAttempts", c.MaxAttempts, 1, maxAttempts)
}

// within holds a value to its bounds.
func within[T cmp.Ordered](v *InvalidError, pointer string, got, least, most T) {
	if got < least || got > most {
		v.add(pointer, "%v to %v; got %v", least, most, got)
	}
}

// identity gives the id of a subscription that is prepared, and the digest of all that it asks for. What says the same has
// the same: the order of streams and types, and the spelling of filters, make no difference. Secrets are no part of it.
func (s *Subscription) identity() (id, digest string, err error) {
	raw, err := json.Marshal(struct {
		Streams     []string           `json:"streams,omitempty"`
		Types       []string           `json:"types,omitempty"`
		Filters     json.RawMessage    `json:"filters,omitempty"`
		Config      SubscriptionConfig `json:"config"`
		Description string             `json:"description,omitempty"`
		Delivery
	}{sortedSet(s.Streams), sortedSet(s.Types), s.Filters, s.Config, s.Description, s.public()})
	if err != nil {
		return "", "", fmt.Errorf("subscription: %w", err)
	}
	content, err := schema.Canonical(raw)
	if err != nil {
		return "", "", fmt.Errorf("subscription: %w", err)
	}
	named := []byte("n\x00" + s.Name)
	if s.Name == "" {
		named = append([]byte("c\x00"), content...)
	}
	of, sum := sha256.Sum256(slices.Concat([]byte(s.Owner), []byte{0}, named)), sha256.Sum256(content)
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(of[:16])
	return "s" + strings.ToLower(text), hex.EncodeToString(sum[:]), nil
}

func sortedSet(values []string) []string { return slices.Compact(slices.Sorted(slices.Values(values))) }

func sameSet(a, b []string) bool { return slices.Equal(sortedSet(a), sortedSet(b)) }

// streamsFor finds what a subscription that is prepared reads: the streams that it names, else those of its types. was is
// the body that it replaces, nil where there is none.
func (c *Catalog) streamsFor(s Subscription, was *subscriptionBody) ([]string, error) {
	v := &InvalidError{}
	var streams []string
	// What is read already goes on being read, also where it is gone: it must not keep the rest from being changed.
	kept := was != nil && sameSet(s.Streams, was.asked) && sameSet(s.Types, was.Types)
	if kept {
		streams = append(streams, was.Streams...)
	}
	for i, name := range s.Streams {
		if _, ok := c.Stream(name); ok || was != nil && slices.Contains(was.Streams, name) {
			streams = append(streams, name)
		} else {
			v.add(fmt.Sprintf("/streams/%d", i), "a stream that exists; there is none named %.200q: create it first", name)
		}
	}
	if len(s.Streams) == 0 {
		for i, want := range s.Types {
			found := c.streamsOfType(want)
			streams = append(streams, found...)
			if len(found) == 0 && !kept {
				v.add(fmt.Sprintf("/types/%d", i), "where no streams are named, a registered type or the beginning of some; none meets %.255q: register it first, or name the streams", want)
			}
		}
	}
	if streams = sortedSet(streams); len(streams) > maxSubscribed {
		v.add("/types", "types of %d streams at most; these are of %d", maxSubscribed, len(streams))
	}
	return streams, v.orNil()
}

// streamsOfType finds the streams of the registered types that a type, or prefix, meets.
func (c *Catalog) streamsOfType(want string) (streams []string) {
	for _, t := range c.EventTypes() {
		if !t.Meets(want) {
			continue
		}
		if _, ok := c.Stream(t.Stream); ok {
			streams = append(streams, t.Stream)
		}
	}
	return streams
}

// Meets reports whether events of the registered type, or pattern, may be of the type, or prefix that ends in *, that is
// asked for.
func (t EventType) Meets(asked string) bool {
	registered, open := strings.CutSuffix(t.Type, "*")
	ask, prefix := strings.CutSuffix(asked, "*")
	switch {
	case open && prefix:
		return strings.HasPrefix(registered, ask) || strings.HasPrefix(ask, registered)
	case open:
		return strings.HasPrefix(ask, registered)
	case prefix:
		return strings.HasPrefix(registered, ask)
	}
	return registered == ask
}
