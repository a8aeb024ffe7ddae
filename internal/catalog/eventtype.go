package catalog

import (
	"cmp"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/schema"
)

// EventType is a registered type of events, or a pattern that stands for many.
type EventType struct {
	Type          string   `json:"type"` // as in an event's `type`, or a pattern: "app.*", "*"
	Stream        string   `json:"stream"`
	Owner         string   `json:"owner"`
	Description   string   `json:"description,omitempty"`
	Documentation string   `json:"documentation,omitempty"` // Markdown
	Audience      Audience `json:"audience"`
	KeyAttribute  string   `json:"keyAttribute"` // the context attribute that is the record's key, where there is no partitionkey

	// Compatibility says what a new version of the schema must be to those before it.
	Compatibility schema.Mode `json:"compatibility"`
	// AllowOpenProperties lets a new version describe a property that an object left open to anything. Strictly that
	// breaks: events of before may hold anything under the name.
	AllowOpenProperties bool `json:"allowOpenProperties,omitempty"`
	// Dedupe is how long the same source and id are known again; 0: not at all.
	Dedupe *Duration `json:"dedupe"`
	// DedupeRequired refuses an event, to be sent again, where it cannot be known whether it is one again.
	DedupeRequired bool `json:"dedupeRequired,omitempty"`
	// Personal says that the events hold personal data: what is told of a mistake in them never quotes them.
	Personal bool `json:"personal,omitempty"`
	// Examples are values of `data`.
	Examples []json.RawMessage `json:"examples,omitempty"`
	// Attributes is a JSON Schema of the context attributes, as one object.
	Attributes json.RawMessage `json:"attributes,omitempty"`
	// Sources are the beginnings that `source` may have; none: any.
	Sources []string `json:"sources,omitempty"`
	// Promote names the extension attributes that are taken from `data`, by JSON Pointer.
	Promote     map[string]string `json:"promote,omitempty"`
	Quota       *Quota            `json:"quota,omitempty"`
	Deprecation *Deprecation      `json:"deprecation,omitempty"`

	// FormerStreams are where events of the type went before, oldest first; they may hold some still.
	FormerStreams []string `json:"formerStreams,omitempty"`
	// LatestVersion is the number of the schema that events are held to; 0: there is none.
	LatestVersion int   `json:"latestVersion,omitempty"`
	Created       Stamp `json:"created,omitzero"`
	Changed       Stamp `json:"changed,omitzero"`

	u     uuid.UUID
	first int // the first version of the schema in this life of the type
	rules *rules
}

// Has reports whether a version of the schema is one of this type's, and not of an earlier life of it.
func (t EventType) Has(version int) bool { return version >= t.first && version <= t.LatestVersion }

// Quota bounds what one principal publishes of a type; 0: no bound.
type Quota struct {
	EventsPerSecond int64 `json:"eventsPerSecond,omitempty"`
	BytesPerSecond  int64 `json:"bytesPerSecond,omitempty"`
}

// Deprecation says until when a type is there, and what comes after it.
type Deprecation struct {
	Date      string `json:"date,omitempty"` // a day, or a time as in RFC 3339
	Successor string `json:"successor,omitempty"`
	Note      string `json:"note,omitempty"`
}

// DefaultDedupe is the window of a type that says nothing of it.
const DefaultDedupe = 24 * time.Hour

// DedupeWindow is how long the same source and id are known again; 0: not at all.
func (t EventType) DedupeWindow() time.Duration {
	if t.Dedupe == nil {
		return DefaultDedupe
	}
	return time.Duration(*t.Dedupe)
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

// rules are an event type's, made ready for its events when the first of them comes.
type rules struct {
	once       sync.Once
	attributes *schema.Schema
	required   []string          // attributes that the schema names as required
	kinds      map[string]string // JSON types that the schema asks of attributes, where it asks for one
	promotion  *event.Promotion
	err        error

	onceLatest sync.Once
	latest     *schema.Schema
	latestErr  error
}

// AttributeSchema is the schema of the context attributes, nil where there is none. An error says that this version of the
// program cannot read what another one has accepted.
func (t EventType) AttributeSchema() (*schema.Schema, error) {
	if len(t.Attributes) == 0 {
		return nil, nil
	}
	r := t.ready()
	return r.attributes, r.err
}

// AttributeHints tells what the schema of the attributes says plainly: which are required, and which one JSON type others
// are to have. In the binary mode all values are texts, and only this tells what they stand for.
func (t EventType) AttributeHints() (required []string, kinds map[string]string) {
	if len(t.Attributes) == 0 {
		return nil, nil
	}
	r := t.ready()
	return r.required, r.kinds
}

// Promotion takes extension attributes out of data, nil where none are. Its error is as AttributeSchema's.
func (t EventType) Promotion() (*event.Promotion, error) {
	if len(t.Promote) == 0 {
		return nil, nil
	}
	r := t.ready()
	return r.promotion, r.err
}

func (t EventType) ready() *rules {
	r := cmp.Or(t.rules, &rules{})
	r.once.Do(func() {
		if len(t.Attributes) > 0 {
			if r.attributes, r.err = schema.Compile(t.Attributes, schema.Options{}); r.err != nil {
				return
			}
			r.hint(t.Attributes)
		}
		if len(t.Promote) > 0 {
			r.promotion, r.err = event.CompilePromote(t.Promote)
		}
	})
	return r
}

// hint reads what the schema of the attributes says plainly.
func (r *rules) hint(attributes json.RawMessage) {
	var plain struct {
		Required   []string
		Properties map[string]json.RawMessage
	}
	if json.Unmarshal(attributes, &plain) != nil {
		return // true or false
	}
	r.required, r.kinds = plain.Required, map[string]string{}
	for name, property := range plain.Properties {
		var of struct{ Type string }
		if json.Unmarshal(property, &of) == nil && of.Type != "" {
			r.kinds[name] = of.Type
		}
	}
}

// typeBody is an event type as it is in the table.
type typeBody struct {
	EventType
	Phase phase `json:"phase,omitempty"` // a deleted type is remembered, so that no version's number ever means two schemas
	// Versions are all schemas that the type has had, version n at n-1. Those below First are of an earlier life of it.
	Versions []versionBody `json:"versions,omitempty"`
	First    int           `json:"first,omitempty"`
}

type versionBody struct {
	Digest  string `json:"digest"`
	Created Stamp  `json:"created,omitzero"`
	Forced  bool   `json:"forced,omitempty"` // its compatibility was undecided
}

// adopt makes a body from the table ready for use.
func (b *typeBody) adopt() {
	b.rules = &rules{}
	b.LatestVersion = 0
	if n := len(b.Versions); n >= max(b.First, 1) {
		b.LatestVersion = n
	}
}

// registered returns the event type of an object that can be looked up.
func registered(o *object[typeBody]) (EventType, bool) {
	if o == nil || o.v.Phase != phaseReady {
		return EventType{}, false
	}
	t := o.v.EventType
	t.u, t.first = o.u, max(o.v.First, 1)
	return t, true
}

// find looks an event's type up: the exact registration, else the pattern with the longest beginning.
func (c *Catalog) find(typ string) *object[typeBody] {
	if o := c.types.get(typ); o != nil && o.v.Phase == phaseReady && !o.v.IsPattern() {
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
