package catalog

import (
	"strings"

	"github.com/google/uuid"
)

// EventType is a registered type of events, or a pattern that stands for many.
type EventType struct {
	Type         string   `json:"type"` // as in an event's `type`, or a pattern: "app.*", "*"
	Stream       string   `json:"stream"`
	Owner        string   `json:"owner"`
	Description  string   `json:"description,omitempty"`
	Audience     Audience `json:"audience"`
	KeyAttribute string   `json:"keyAttribute"` // the context attribute that is the record's key, where there is no partitionkey

	u uuid.UUID
}

// ETag identifies the version of the definition, in the form of the header.
func (t EventType) ETag() string { return etag(t.u) }

// IsPattern reports whether the registration stands for many types.
func (t EventType) IsPattern() bool { return isPattern(t.Type) }

func isPattern(typ string) bool { return strings.HasSuffix(typ, "*") }

// Audience says whom an event type is meant for.
type Audience string

// The audiences.
const (
	Public   Audience = "public"
	Partner  Audience = "partner"
	Internal Audience = "internal"
)

const maxType = 255

func (t *EventType) check(v *InvalidError) {
	base := t.Type
	if isPattern(base) {
		base = strings.TrimSuffix(strings.TrimSuffix(base, "*"), ".")
	}
	switch {
	case t.Type == "*":
	case len(t.Type) > maxType || !isName(base, "._-:~+") || isPattern(t.Type) && t.Type != base+".*":
		v.add("/type", "1 to %d letters, digits and any of . _ - : ~ +, beginning with a letter or digit; or a pattern, \"*\" or such a name followed by \".*\"; got %q", maxType, t.Type)
	}
	if t.Stream == "" {
		v.add("/stream", "the name of the stream that such events go to")
	}
	switch t.Audience {
	case Public, Partner, Internal:
	default:
		v.add("/audience", "one of public, partner, internal; got %q", t.Audience)
	}
	if !isAttribute(t.KeyAttribute) {
		v.add("/keyAttribute", "the name of a context attribute, 1 to 64 of a-z and 0-9; got %q", t.KeyAttribute)
	}
	checkTexts(v, t.Owner, t.Description)
}

// isAttribute reports whether s is a CloudEvents attribute's name.
func isAttribute(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func typeOf(o *object[EventType]) (EventType, bool) {
	if o == nil {
		return EventType{}, false
	}
	t := o.v
	t.u = o.u
	return t, true
}

// find looks an event's type up: the exact registration, else the pattern with the longest beginning.
func (c *Catalog) find(typ string) *object[EventType] {
	if o := c.types.get(typ); o != nil && !o.v.IsPattern() {
		return o
	}
	if c.patterns.Load() == 0 {
		return nil
	}
	// The patterns' keys all end in ".*": shortening the type dot by dot meets the longest first.
	for end := len(typ); end > 0; end-- {
		if typ[end-1] != '.' || end == len(typ) {
			continue
		}
		if o := c.byPrefix.get(typ[:end]); o != nil {
			return o
		}
	}
	return c.byPrefix.get("")
}
