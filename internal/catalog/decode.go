package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What callers decide on. Errors of the table and the log pass through: table.ErrInDoubt, table.ErrNotReady,
// broker.ErrUnavailable.
var (
	ErrExists             = errors.New("already exists")
	ErrNotFound           = errors.New("not found")
	ErrPreconditionFailed = errors.New("another version is current than If-Match names")
	// ErrInUse says that a stream still has event types.
	ErrInUse = errors.New("the stream still has event types")
	// ErrKeyOrder says that more partitions would break the order of each key's events.
	ErrKeyOrder = errors.New("with more partitions the events of one key are no longer in order")
)

// Problem is one thing that is wrong with an object.
type Problem struct {
	Pointer string // JSON Pointer into the object
	Message string // what was expected, and what came
}

// InvalidError says what is wrong with an object: all of it, not only the first.
type InvalidError struct{ Problems []Problem }

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

func invalid(pointer, format string, args ...any) error {
	e := &InvalidError{}
	e.add(pointer, format, args...)
	return e
}

// DecodeStream reads a stream's JSON. It returns *InvalidError for what is no stream's; values are checked by
// CreateStream.
func DecodeStream(raw []byte) (Stream, error) {
	var s Stream
	return s, decode(raw, map[string]any{
		"name": &s.Name, "topic": &s.Topic, "partitions": &s.Partitions, "retention": &s.Retention,
		"compaction": &s.Compaction, "owner": &s.Owner, "description": &s.Description,
		"format": &s.Format, "wrap": &s.Wrap,
	}, nil)
}

// DecodeStreamPatch reads a JSON merge patch of a stream. It returns *InvalidError.
func DecodeStreamPatch(raw []byte) (StreamPatch, error) {
	var p StreamPatch
	const fixed = "cannot be changed: make another stream"
	return p, decode(raw, map[string]any{
		"partitions": &p.Partitions, "retention": &p.Retention, "owner": &p.Owner, "description": &p.Description,
	}, map[string]string{"name": fixed, "topic": fixed, "compaction": fixed, "format": fixed, "wrap": fixed})
}

// DecodeEventType reads an event type's JSON. It returns *InvalidError for what is no event type's; values are checked
// by CreateEventType and UpdateEventType.
func DecodeEventType(raw []byte) (EventType, error) {
	var t EventType
	return t, decode(raw, map[string]any{
		"type": &t.Type, "stream": &t.Stream, "owner": &t.Owner, "description": &t.Description,
		"audience": &t.Audience, "keyAttribute": &t.KeyAttribute,
	}, nil)
}

// decode reads a JSON object member by member, so that each mistake has its pointer. A member that is not known is a
// mistake: it would be lost without a word.
func decode(raw []byte, members map[string]any, refused map[string]string) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return invalid("", "a JSON object; got %.40q", bytes.TrimSpace(raw))
	}
	v := &InvalidError{}
	for name, value := range object {
		pointer := "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
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
			if err := json.Unmarshal(value, target); err != nil {
				v.add(pointer, "%s; got %.40s", expected(target, err), value)
			}
		}
	}
	slices.SortFunc(v.Problems, func(a, b Problem) int { return strings.Compare(a.Pointer, b.Pointer) })
	return v.orNil()
}

func expected(target any, err error) string {
	switch target.(type) {
	case *string, **string, *Audience, *Format:
		return "a string"
	case *int32, **int32:
		return "a whole number"
	case *bool:
		return "true or false"
	case *Duration, **Duration:
		return new(Duration).UnmarshalText(nil).Error()
	}
	return err.Error()
}
