package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/eventissuer/eventissuer/internal/schema"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// What callers decide on. Errors of the table and the log pass through: table.ErrInDoubt, table.ErrNotReady,
// broker.ErrUnavailable.
var (
	ErrExists             = errors.New("already exists")
	ErrNotFound           = errors.New("not found")
	ErrPreconditionFailed = errors.New("another version is current than If-Match names")
	// ErrBusy says that others were faster again and again: nothing was changed.
	ErrBusy = errors.New("others change it at the same time")
	// ErrOldSchema says that a schema is registered already, and is not the one in force.
	ErrOldSchema = errors.New("an earlier version is the same schema")
	// ErrInUse says that a stream still has event types or subscriptions.
	ErrInUse = errors.New("the stream is still in use")
	// ErrNoKeys says that there is no key ring to keep the secrets of a subscription with a sink under.
	ErrNoKeys = errors.New("the server has no key ring, and so no subscriptions with a sink")
	// ErrNotPushed says that what was asked for is of subscriptions with a sink alone.
	ErrNotPushed = errors.New("the subscription has no sink: its sessions read it")
	// ErrPushed says that what was asked for is of subscriptions without a sink alone.
	ErrPushed = errors.New("the subscription has a sink, and no sessions")
	// ErrOrdered says that a subscription that keeps the order of keys has no replay beside it.
	ErrOrdered = errors.New("the subscription keeps the order of keys: it can only be taken back as a whole")
	// ErrTooMany says that there are as many of something at a time as there may be.
	ErrTooMany = errors.New("there are as many as there may be at a time")
	// ErrKeyOrder says that more partitions would break the order of each key's events.
	ErrKeyOrder = errors.New("with more partitions the events of one key are no longer in order")
)

// Problem is one thing that is wrong with an object.
type Problem struct {
	Pointer string // JSON Pointer into the object
	Message string // what was expected, and what came
}

// InvalidError says what is wrong with an object: all of it, not only the first.
type InvalidError struct {
	Problems []Problem

	ofSchema bool // the pointers are into a schema, not into the object that has it
}

// Error implements error.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString("invalid")
	for i, p := range e.Problems {
		fmt.Fprintf(&b, "%s %s: %s", [2]string{":", ";"}[min(i, 1)], p.Pointer, p.Message)
	}
	return b.String()
}

func (e *InvalidError) add(pointer, format string, args ...any) {
	if !slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Pointer == pointer }) {
		e.Problems = append(e.Problems, Problem{pointer, fmt.Sprintf(format, args...)})
	}
}

func (e *InvalidError) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// take adds what another error complains of, in the part of the object that is at a pointer. It returns what is no complaint.
func (e *InvalidError) take(at string, err error) error {
	var inner *InvalidError
	if !errors.As(err, &inner) {
		return err
	}
	for _, p := range inner.Problems {
		e.add(at+p.Pointer, "%s", p.Message)
	}
	return nil
}

func invalid(pointer, format string, args ...any) error {
	e := &InvalidError{}
	e.add(pointer, format, args...)
	return e
}

// DecodeStream reads a stream's JSON. It returns *InvalidError for what is no stream's; values are checked by
// CreateStream.
func DecodeStream(raw []byte) (Stream, error) {
	var s Stream
	var retention *Duration
	var state json.RawMessage
	err := decode(raw, map[string]any{
		"name": &s.Name, "topic": &s.Topic, "partitions": &s.Partitions, "retention": &retention,
		"compaction": &s.Compaction, "owner": &s.Owner, "description": &s.Description,
		"format": &s.Format, "wrap": &s.Wrap, "state": &state,
	}, nil)
	v := &InvalidError{}
	if err := v.take("", err); err != nil {
		return s, err
	}
	if retention != nil {
		s.Retention = *retention
		checkGiven(v, s.Retention)
	}
	if s.State, err = decodeState(v, state); err != nil {
		return s, err
	}
	sortProblems(v)
	return s, v.orNil()
}

// checkGiven refuses a retention of nothing, which is how what was not given is told.
func checkGiven(v *InvalidError, d Duration) {
	if checkRetention(v, d); d == 0 {
		v.add("/retention", "%v or longer, or \"forever\"; got %v", minRetention, d)
	}
}

// DecodeStreamPatch reads a JSON merge patch (RFC 7396) of a stream: null takes the owner, the description or the state
// away, gives a member of the state its default, and is no value for the rest. It returns *InvalidError.
func DecodeStreamPatch(raw []byte) (StreamPatch, error) {
	const fixed = "cannot be changed: make another stream"
	var p StreamPatch
	var partitions, retention, owner, description, state json.RawMessage
	err := decode(raw, map[string]any{
		"partitions": &partitions, "retention": &retention, "owner": &owner, "description": &description, "state": &state,
	}, map[string]string{"name": fixed, "topic": fixed, "compaction": fixed, "format": fixed, "wrap": fixed})
	var inner *InvalidError
	if err != nil && !errors.As(err, &inner) {
		return p, err
	}
	v := cmp.Or(inner, &InvalidError{})
	required(v, "/partitions", partitions, &p.Partitions)
	required(v, "/retention", retention, &p.Retention)
	removable(v, "/owner", owner, &p.Owner)
	removable(v, "/description", description, &p.Description)
	if p.State, err = decodeStatePatch(v, state); err != nil {
		return p, err
	}
	if p.Retention != nil && *p.Retention == 0 {
		v.add("/retention", "%v or longer, or \"forever\"; got %v", minRetention, *p.Retention)
	}
	sortProblems(v)
	return p, v.orNil()
}

// required reads a member that is left out or has a value.
func required[T any](v *InvalidError, pointer string, raw json.RawMessage, to **T) {
	if raw == nil {
		return
	}
	if err := json.Unmarshal(raw, to); err != nil || *to == nil {
		v.add(pointer, "%s; got %.40s", expected(to, err), raw)
		*to = nil
	}
}

// removable reads a member that null takes away, which makes it zero.
func removable[T any](v *InvalidError, pointer string, raw json.RawMessage, to **T) {
	if string(raw) == "null" {
		*to = new(T)
		return
	}
	required(v, pointer, raw, to)
}

// DecodeEventType reads an event type's JSON, and the text of its schema where it has one. It returns *InvalidError for
// what is no event type's; values are checked by CreateEventType and UpdateEventType. What GET adds is taken back without
// a word, so that what was read can be written.
func DecodeEventType(raw []byte) (t EventType, text []byte, err error) {
	var document, ignored json.RawMessage
	err = decode(raw, map[string]any{
		"type": &t.Type, "stream": &t.Stream, "owner": &t.Owner, "description": &t.Description, "documentation": &t.Documentation,
		"audience": &t.Audience, "keyAttribute": &t.KeyAttribute, "compatibility": &t.Compatibility, "allowOpenProperties": &t.AllowOpenProperties,
		"dedupe": &t.Dedupe, "dedupeRequired": &t.DedupeRequired, "personal": &t.Personal, "examples": &t.Examples,
		"attributes": &t.Attributes, "sources": &t.Sources, "promote": &t.Promote, "quota": &t.Quota, "deprecation": &t.Deprecation,
		"schema":        &document,
		"latestVersion": &ignored, "schemaUrl": &ignored, "formerStreams": &ignored, "created": &ignored, "changed": &ignored,
	}, nil)
	if bytes.Equal(t.Attributes, []byte("null")) {
		t.Attributes = nil
	}
	if !bytes.Equal(document, []byte("null")) {
		text = document
	}
	return t, text, err
}

// decode reads a JSON object member by member, so that each mistake has its pointer. A member that is not known is a
// mistake: it would be lost without a word.
func decode(raw []byte, members map[string]any, refused map[string]string) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return invalid("", "a JSON object; got %.40q", bytes.TrimSpace(raw))
	}
	v := &InvalidError{}
	for _, name := range repeated(raw) {
		v.add("/"+escapePointer(name), "one member of the name; it comes twice")
	}
	for name, value := range object {
		pointer := "/" + escapePointer(name)
		target, ok := members[name]
		switch {
		case refused[name] != "":
			v.add(pointer, "%s", refused[name])
		case !ok:
			known := make([]string, 0, len(members))
			for m := range members {
				known = append(known, m)
			}
			slices.Sort(known)
			v.add(pointer, "not a member here; there are %s", strings.Join(known, ", "))
		default:
			if raw, ok := target.(*json.RawMessage); ok {
				*raw = value // a null too
			} else if err := strictly(value, target); err != nil {
				v.add(pointer, "%s; got %.40s", expected(target, err), value)
			}
		}
	}
	sortProblems(v)
	return v.orNil()
}

// strictly reads a member, whose own members must be known too.
func strictly(value []byte, target any) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	return dec.Decode(target)
}

// repeated names the members of an object that come more than once.
func repeated(raw []byte) (names []string) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return names // it has been read as a whole before
		}
		if text, _ := name.(string); seen[text] {
			names = append(names, text)
		} else {
			seen[text] = true
		}
	}
	return names
}

// escapePointer makes a member's name a part of a JSON Pointer (RFC 6901).
func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func sortProblems(v *InvalidError) {
	slices.SortFunc(v.Problems, func(a, b Problem) int { return strings.Compare(a.Pointer, b.Pointer) })
}

func expected(target any, err error) string {
	switch target.(type) {
	case *string, **string, *Audience, *Format, *Ordering, *OnExhausted, *webhook.Mode, *webhook.CredentialType, *schema.Mode:
		return "a string"
	case *[]string, *[]Signature:
		return "an array of strings"
	case *[]Duration:
		return `an array of durations, such as ["5s","30s","2m"]`
	case *map[string]string:
		return "an object whose values are strings"
	case *[]json.RawMessage:
		return "an array"
	case **Quota:
		return `an object such as {"eventsPerSecond":100,"bytesPerSecond":1000000}`
	case **Deprecation:
		return `an object such as {"date":"2027-01-31","successor":"…"}`
	case *int, **int, *int32, **int32:
		return "a whole number"
	case *bool:
		return "true or false"
	case *Duration, **Duration:
		return new(Duration).UnmarshalText(nil).Error()
	case *Size, **Size:
		return new(Size).UnmarshalText(nil).Error()
	}
	if err == nil {
		return "a value"
	}
	return err.Error()
}
