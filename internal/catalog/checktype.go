package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/schema"
)

// Bounds of an event type.
const (
	maxType          = 255
	maxDocumentation = 64 << 10
	maxExamples      = 10
	maxExample       = 16 << 10
	maxSources       = 100
	maxSource        = 500
	maxAttributes    = 32 << 10
	maxDedupe        = Duration(7 * 24 * time.Hour)
)

// reservedTypes begin the types of the events that this server itself sends among those of others.
const reservedTypes = "no.eventissuer."

// IsReservedType reports whether events of a type can only be this server's own.
func IsReservedType(typ string) bool { return strings.HasPrefix(typ, reservedTypes) }

// fill sets what was left out.
func (t *EventType) fill(owner string) {
	t.Owner = cmp.Or(t.Owner, owner)
	t.Audience = cmp.Or(t.Audience, Internal)
	t.KeyAttribute = cmp.Or(t.KeyAttribute, "subject")
	t.Compatibility = cmp.Or(t.Compatibility, schema.Backward)
	if t.Dedupe == nil {
		window := Duration(DefaultDedupe)
		t.Dedupe = &window
	}
	t.rules = &rules{}
	for i, e := range t.Examples { // so that white space is no change
		t.Examples[i] = compacted(e)
	}
	t.Attributes = compacted(t.Attributes)
}

func compacted(raw json.RawMessage) json.RawMessage {
	var one bytes.Buffer
	if len(raw) == 0 || json.Compact(&one, raw) != nil {
		return raw
	}
	return one.Bytes()
}

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
	if !isAttribute(t.KeyAttribute) || t.KeyAttribute == "data" {
		v.add("/keyAttribute", "the name of a context attribute, 1 to 64 of a-z and 0-9 and not data; got %q", t.KeyAttribute)
	}
	checkTexts(v, t.Owner, t.Description)
	if len(t.Documentation) > maxDocumentation {
		v.add("/documentation", "at most %d bytes of Markdown; got %d", maxDocumentation, len(t.Documentation))
	}
	if _, err := schema.ParseMode(string(t.Compatibility)); err != nil {
		v.add("/compatibility", "%v", err)
	}
	if d := t.DedupeWindow(); d < 0 || Duration(d) > maxDedupe {
		v.add("/dedupe", "\"0s\" (off) to %q; got %v", maxDedupe, Duration(d))
	}
	t.checkSources(v)
	t.checkRules(v)
	t.checkExamples(v)
	t.checkQuota(v)
	t.checkDeprecation(v)
}

func (t *EventType) checkSources(v *InvalidError) {
	if len(t.Sources) > maxSources {
		v.add("/sources", "at most %d; got %d", maxSources, len(t.Sources))
		return
	}
	for i, s := range t.Sources {
		if s == "" || len(s) > maxSource || !utf8.ValidString(s) {
			v.add(fmt.Sprintf("/sources/%d", i), "the beginning of a source, 1 to %d bytes", maxSource)
		}
	}
}

// checkRules makes the rules ready, which is the check of them.
func (t *EventType) checkRules(v *InvalidError) {
	if len(t.Attributes) > maxAttributes {
		v.add("/attributes", "a schema of at most %d bytes; got %d", maxAttributes, len(t.Attributes))
		return
	}
	if len(t.Attributes) > 0 {
		if _, err := schema.Compile(t.Attributes, schema.Options{}); err != nil {
			addSchemaProblems(v, "/attributes", err)
			return
		}
	}
	if len(t.Promote) == 0 {
		return
	}
	if _, err := event.CompilePromote(t.Promote); err != nil {
		var invalid *event.MappingError
		if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
			v.add("/promote", "%v", err)
			return
		}
		for _, p := range invalid.Problems {
			v.add("/promote"+p.Pointer, "%s", strings.TrimSuffix(p.Message+"; expected "+p.Expected, "; expected "))
		}
	}
}

// addSchemaProblems tells what is wrong with a schema at its place in a larger document.
func addSchemaProblems(v *InvalidError, at string, err error) {
	var invalid *schema.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
		v.add(at, "%v", err)
		return
	}
	for _, p := range invalid.Problems {
		v.add(at+p.Pointer, "%s", p.Message)
	}
}

func (t *EventType) checkExamples(v *InvalidError) {
	switch {
	case len(t.Examples) > 0 && t.IsPattern():
		v.add("/examples", "none for a pattern: the types under it may differ")
		return
	case len(t.Examples) > maxExamples:
		v.add("/examples", "at most %d; got %d", maxExamples, len(t.Examples))
		return
	}
	for i, e := range t.Examples {
		if len(e) > maxExample {
			v.add(fmt.Sprintf("/examples/%d", i), "at most %d bytes; got %d", maxExample, len(e))
		}
	}
}

// fits tells which examples the schema does not take.
func (t *EventType) fits(v *InvalidError, s *schema.Schema) {
	for i, e := range t.Examples {
		for _, bad := range s.Validate(e, schema.Verbatim) {
			v.add(fmt.Sprintf("/examples/%d%s", i, bad.Pointer), "not valid under the schema: %s", bad.Message)
		}
	}
}

func (t *EventType) checkQuota(v *InvalidError) {
	if t.Quota == nil {
		return
	}
	for name, n := range map[string]int64{"eventsPerSecond": t.Quota.EventsPerSecond, "bytesPerSecond": t.Quota.BytesPerSecond} {
		if n < 0 || n > 1<<40 {
			v.add("/quota/"+name, "a number above 0, or 0 for no bound; got %d", n)
		}
	}
	if *t.Quota == (Quota{}) {
		t.Quota = nil
	}
}

func (t *EventType) checkDeprecation(v *InvalidError) {
	d := t.Deprecation
	if d == nil {
		return
	}
	if d.Date != "" {
		_, day := time.Parse(time.DateOnly, d.Date)
		_, instant := time.Parse(time.RFC3339, d.Date)
		if day != nil && instant != nil {
			v.add("/deprecation/date", "a day such as 2027-01-31, or a time as in RFC 3339; got %q", d.Date)
		}
	}
	if d.Successor != "" && (len(d.Successor) > maxType || !isName(d.Successor, "._-:~+")) {
		v.add("/deprecation/successor", "an event type; got %q", d.Successor)
	}
	if len(d.Note) > maxDescription {
		v.add("/deprecation/note", "at most %d bytes; got %d", maxDescription, len(d.Note))
	}
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

// same reports whether two definitions say the same, whoever made them and when.
func (t EventType) same(other EventType) bool {
	equal := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
	return t.Type == other.Type && t.Stream == other.Stream && t.Owner == other.Owner && t.Description == other.Description &&
		t.Documentation == other.Documentation && t.Audience == other.Audience && t.KeyAttribute == other.KeyAttribute &&
		t.Compatibility == other.Compatibility && t.DedupeWindow() == other.DedupeWindow() && t.DedupeRequired == other.DedupeRequired &&
		t.Personal == other.Personal && t.AllowOpenProperties == other.AllowOpenProperties && slices.EqualFunc(t.Examples, other.Examples, equal) && equal(t.Attributes, other.Attributes) &&
		slices.Equal(t.Sources, other.Sources) && maps.Equal(t.Promote, other.Promote) &&
		pointee(t.Quota) == pointee(other.Quota) && pointee(t.Deprecation) == pointee(other.Deprecation)
}

func pointee[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
