package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/eventissuer/eventissuer/internal/schema"
)

// A type's schemas are texts, kept by their digest beside it, and a list of versions in the type's own object. The list
// is what counts: of two racing registrations the type's version decides, so that numbers, equality and compatibility
// are those of one order. A text whose registration was lost is never looked at again.

// maxVersions bounds the schemas of one type, those of earlier lives of it among them.
const maxVersions = 1000

// SchemaVersion is one schema of an event type. It never changes.
type SchemaVersion struct {
	Type    string
	Version int
	Digest  string // of the canonical text: equal schemas have equal ones
	Created Stamp
	Forced  bool   // registered although its compatibility could not be decided
	Text    string // as it was registered

	compiled   *compiled
	references map[string]string
}

// compiled is a schema made ready for its events when the first of them comes.
type compiled struct {
	once   sync.Once
	schema *schema.Schema
	err    error
}

// textBody is a schema's text as it is in the table.
type textBody struct {
	Text string `json:"text"`
	// References are the versions, as "type/number", that the absolute addresses in the text meant when it was
	// registered: under another address of this server, or on another replica, they mean the same.
	References map[string]string `json:"references,omitempty"`

	compiled *compiled
}

func (b *textBody) adopt() { b.compiled = &compiled{} }

func textKey(typ, digest string) string { return typ + "/" + digest }

// Compiled returns the schema ready to validate with. An error says that this version of the program cannot read what
// another one has accepted.
func (c *Catalog) Compiled(v SchemaVersion) (*schema.Schema, error) {
	v.compiled.once.Do(func() {
		v.compiled.schema, v.compiled.err = schema.Compile([]byte(v.Text), c.schemaOptions(v.Type, v.resolver(c)))
	})
	return v.compiled.schema, v.compiled.err
}

// Schema looks up a version of a type's schema, also of a type that is deleted by now: events may name it still.
func (c *Catalog) Schema(typ string, version int) (SchemaVersion, bool) {
	return c.version(c.types.get(typ), version)
}

// Schemas returns the versions of a type that is registered, oldest first.
func (c *Catalog) Schemas(typ string) []SchemaVersion {
	o := c.types.get(typ)
	if _, ok := registered(o); !ok {
		return nil
	}
	return c.history(o)
}

func (c *Catalog) history(o *object[typeBody]) []SchemaVersion {
	var all []SchemaVersion
	for n := max(o.v.First, 1); n <= len(o.v.Versions); n++ {
		if v, ok := c.version(o, n); ok {
			all = append(all, v)
		}
	}
	return all
}

func (c *Catalog) version(o *object[typeBody], n int) (SchemaVersion, bool) {
	if o == nil || n < 1 || n > len(o.v.Versions) {
		return SchemaVersion{}, false
	}
	entry := o.v.Versions[n-1]
	text := c.schemas.get(textKey(o.key, entry.Digest))
	if text == nil {
		return SchemaVersion{}, false
	}
	return SchemaVersion{
		Type: o.key, Version: n, Digest: entry.Digest, Created: entry.Created, Forced: entry.Forced,
		Text: text.v.Text, compiled: text.v.compiled, references: text.v.References,
	}, true
}

// SchemaPath is the path of a version's address, behind the server's own.
func SchemaPath(typ string, version int) string {
	return "/v1/event-types/" + url.PathEscape(typ) + "/schemas/" + strconv.Itoa(version)
}

// ParseSchemaPath reads what SchemaPath writes, wherever the server is mounted. Version 0 stands for "latest".
func ParseSchemaPath(path string) (typ string, version int, ok bool) {
	at := strings.LastIndex(path, "/v1/event-types/")
	if at < 0 {
		return "", 0, false
	}
	typ, number, ok := strings.Cut(path[at+len("/v1/event-types/"):], "/schemas/")
	if unescaped, err := url.PathUnescape(typ); err == nil {
		typ = unescaped
	}
	if !ok || typ == "" {
		return "", 0, false
	}
	if number == "latest" {
		return typ, 0, true
	}
	version, err := strconv.Atoi(number)
	if err != nil || version < 1 || strconv.Itoa(version) != number {
		return "", 0, false
	}
	return typ, version, true
}

// registryBase stands for this server in references between schemas, wherever it is reached.
const registryBase = "https://registry.invalid"

func (c *Catalog) schemaOptions(typ string, resolve func(uri string) ([]byte, bool)) schema.Options {
	// No number: a version may refer to any other of its own type, and none to itself.
	return schema.Options{URI: registryBase + strings.TrimSuffix(SchemaPath(typ, 0), "0") + "this", Resolve: resolve}
}

// resolver finds what a registered version refers to.
func (v SchemaVersion) resolver(c *Catalog) func(uri string) ([]byte, bool) {
	return func(uri string) ([]byte, bool) {
		if typ, number, ok := strings.Cut(v.references[uri], "/"); ok {
			n, _ := strconv.Atoi(number) // it was written by this program
			found, ok := c.Schema(typ, n)
			return []byte(found.Text), ok
		}
		found, _, ok := c.resolve(uri, "")
		return []byte(found.Text), ok
	}
}

// linker finds what a schema refers to that is being registered, and notes it.
type linker struct {
	c     *Catalog
	base  string // as Actor.Base
	found map[string]string
	fault string // why one leads nowhere
}

func (l *linker) resolve(uri string) ([]byte, bool) {
	v, fault, ok := l.c.resolve(uri, l.base)
	if !ok {
		l.fault = cmp.Or(l.fault, fault)
		return nil, false
	}
	if !strings.HasPrefix(uri, registryBase) {
		if l.found == nil {
			l.found = map[string]string{}
		}
		l.found[uri] = v.Type + "/" + strconv.Itoa(v.Version)
	}
	return []byte(v.Text), true
}

// resolve finds the schema that a reference names: a numbered version of a type of ours. "latest" is none, since what
// refers to it would change without being registered anew. fault says why there is none where that is known.
func (c *Catalog) resolve(uri, base string) (v SchemaVersion, fault string, ok bool) {
	path := ""
	for _, known := range []string{registryBase, c.cfg.PublicURL, strings.TrimSuffix(base, "/")} {
		if rest, ok := strings.CutPrefix(uri, known); ok && known != "" && strings.HasPrefix(rest, "/v1/") {
			path = rest
		}
	}
	typ, version, isPath := ParseSchemaPath(path)
	switch {
	case !isPath:
		return v, "", false
	case version == 0:
		return v, "name a numbered version of event type " + typ + ": what latest means changes", false
	}
	if v, ok = c.Schema(typ, version); !ok {
		return v, fmt.Sprintf("event type %s has no schema %d", typ, version), false
	}
	return v, "", true
}

// Comparison is what became of comparing a schema with those before it.
type Comparison struct {
	Mode    schema.Mode
	With    []int          // the versions
	Verdict schema.Verdict // on all of them; its breaks name the version
	EqualTo int            // the version that is the same schema; 0: none
}

// IncompatibleError refuses a schema for those before it.
type IncompatibleError struct{ Comparison }

// Error implements error.
func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("the schema is %s with %v (compatibility %s)", e.Verdict.Outcome, e.With, e.Mode)
}

// CheckSchema compares a schema with those that a type has, and writes nothing. Errors: *InvalidError, ErrNotFound.
func (e Editor) CheckSchema(typ string, text []byte) (Comparison, error) {
	o := e.c.types.get(typ)
	t, ok := registered(o)
	if !ok {
		return Comparison{}, fmt.Errorf("event type %s: %w", typ, ErrNotFound)
	}
	_, comparison, err := e.compare(o, t, text)
	return comparison, err
}

// compare compiles a schema and compares it with the history of the type.
func (e Editor) compare(o *object[typeBody], t EventType, text []byte) (*candidate, Comparison, error) {
	c := e.c
	result := Comparison{Mode: t.Compatibility, Verdict: schema.Verdict{Outcome: schema.Compatible}}
	if t.IsPattern() {
		return nil, result, invalid("/type", "a pattern stands for many types and has no schema: register the type itself")
	}
	fresh, err := e.compile(t.Type, text)
	if err != nil {
		return nil, result, err
	}
	if o == nil {
		return fresh, result, nil
	}
	var history []*schema.Schema
	for _, v := range c.history(o) {
		if v.Digest == fresh.digest {
			result.EqualTo = v.Version
		}
		old, err := c.Compiled(v)
		if err != nil {
			return nil, result, fmt.Errorf("version %d of event type %s: %w", v.Version, t.Type, err)
		}
		history = append(history, old)
		result.With = append(result.With, v.Version)
	}
	if len(history) == 0 || t.Compatibility == schema.None {
		result.With = nil
		return fresh, result, nil
	}
	result.Verdict = schema.Check(history, fresh.schema, t.Compatibility, schema.CompareOptions{AllowOpenProperties: t.AllowOpenProperties})
	for i := range result.Verdict.Breaks {
		result.Verdict.Breaks[i].Version = result.With[result.Verdict.Breaks[i].Version]
	}
	if !t.Compatibility.Transitive() {
		result.With = result.With[len(result.With)-1:]
	}
	return fresh, result, nil
}

// candidate is a schema that may become a version.
type candidate struct {
	schema     *schema.Schema
	digest     string
	references map[string]string
}

func (e Editor) compile(typ string, text []byte) (*candidate, error) {
	links := &linker{c: e.c, base: e.by.Base}
	s, err := schema.Compile(text, e.c.schemaOptions(typ, links.resolve))
	if err != nil {
		v := &InvalidError{ofSchema: true}
		addSchemaProblems(v, "", err)
		for i := range v.Problems {
			v.Problems[i].Message = strings.ReplaceAll(v.Problems[i].Message, registryBase, "")
			if links.fault != "" {
				v.Problems[i].Message += ": " + links.fault
			}
		}
		return nil, v
	}
	return &candidate{s, s.Digest(), links.found}, nil
}

// inType puts the pointers of mistakes in a schema where the schema stands in an event type's object.
func inType(err error) error {
	var invalid *InvalidError
	if !errors.As(err, &invalid) || !invalid.ofSchema {
		return err
	}
	moved := &InvalidError{}
	for _, p := range invalid.Problems {
		moved.add("/schema"+p.Pointer, "%s", p.Message)
	}
	return moved
}

// RegisterSchema adds a version to a type's schemas, unless one of them is equal: made is then false and v is that one.
// ifMatch is the header's value, of the event type; empty: whatever is current. force takes a schema whose compatibility
// cannot be decided. Errors: *InvalidError, *IncompatibleError, ErrNotFound, ErrPreconditionFailed, and those of the table.
func (e Editor) RegisterSchema(ctx context.Context, typ string, text []byte, ifMatch string, force bool) (v SchemaVersion, made bool, err error) {
	c := e.c
	o, err := retry(ctx, ifMatch, func() (*object[typeBody], error) {
		cur := c.types.get(typ)
		t, ok := registered(cur)
		if !ok {
			cur = nil
		}
		if err := permit(cur, "event type "+typ, ifMatch); err != nil {
			return nil, err
		}
		body, added, err := e.withSchema(ctx, cur, t, text, force)
		made = added
		if err != nil || !added {
			return cur, err
		}
		body.Changed = e.stamp()
		return c.types.put(ctx, typ, cur, body)
	})
	if err != nil {
		return SchemaVersion{}, false, err
	}
	fresh, err := e.compile(typ, text)
	if err != nil {
		return SchemaVersion{}, false, err
	}
	for n := len(o.v.Versions); n >= max(1, o.v.First); n-- {
		if o.v.Versions[n-1].Digest == fresh.digest {
			v, _ = c.version(o, n)
			break
		}
	}
	if made {
		detail := ""
		if v.Forced {
			detail = "forced: its compatibility could not be decided"
		}
		e.audit(ctx, Entry{Action: ActionRegistered, Kind: "schema", Name: typ, Version: v.Version, Detail: detail})
	}
	return v, made, nil
}

// withSchema gives the body of a type with one more version, whose text is written first. added is false where the type
// has the schema already.
func (e Editor) withSchema(ctx context.Context, cur *object[typeBody], t EventType, text []byte, force bool) (body typeBody, added bool, err error) {
	c := e.c
	if cur != nil {
		body = cur.v
	}
	body.EventType = t
	fresh, comparison, err := e.compare(cur, t, text)
	switch {
	case err != nil:
		return body, false, err
	case comparison.EqualTo != 0 && comparison.EqualTo < len(body.Versions):
		return body, false, fmt.Errorf("event type %s: %w: it is version %d, and %d stays in force", t.Type, ErrOldSchema, comparison.EqualTo, len(body.Versions))
	case comparison.EqualTo != 0:
		return body, false, nil
	case comparison.Verdict.Outcome == schema.Incompatible,
		comparison.Verdict.Outcome == schema.Undecided && !force:
		return body, false, &IncompatibleError{comparison}
	case len(body.Versions) >= maxVersions:
		return body, false, invalid("", "a type may have %d schemas at most: register a successor of the type", maxVersions)
	}
	v := &InvalidError{}
	t.fits(v, fresh.schema)
	if err := v.orNil(); err != nil {
		return body, false, err
	}
	if err := c.keepText(ctx, t.Type, fresh, text); err != nil {
		return body, false, err
	}
	body.Versions = append(body.Versions[:len(body.Versions):len(body.Versions)], versionBody{
		Digest: fresh.digest, Created: e.stamp(), Forced: comparison.Verdict.Outcome == schema.Undecided,
	})
	body.adopt()
	return body, true, nil
}

// keepText writes the text, and what it refers to, beside the type. One that is there already, and refers to the same or
// to more, stays as it is.
func (c *Catalog) keepText(ctx context.Context, typ string, fresh *candidate, text []byte) error {
	key := textKey(typ, fresh.digest)
	if c.schemas.get(key) != nil {
		return nil
	}
	_, err := c.schemas.put(ctx, key, nil, textBody{Text: string(text), References: fresh.references})
	if isConflict(err) {
		return nil // another replica has written the same
	}
	return err
}

// Validator returns the schema that a type's events are held to, ready to validate with, and its version; nil and 0 where
// there is none. It is made ready once for each state of the type.
func (c *Catalog) Validator(t EventType) (*schema.Schema, int, error) {
	if t.LatestVersion == 0 {
		return nil, 0, nil
	}
	r := cmp.Or(t.rules, &rules{})
	r.onceLatest.Do(func() {
		v, ok := c.Schema(t.Type, t.LatestVersion)
		if !ok {
			r.latestErr = fmt.Errorf("version %d of event type %s is not in the catalog", t.LatestVersion, t.Type)
			return
		}
		r.latest, r.latestErr = c.Compiled(v)
	})
	return r.latest, t.LatestVersion, r.latestErr
}

// LatestSchema returns the version that a registered type's events are held to.
func (c *Catalog) LatestSchema(typ string) (SchemaVersion, bool) {
	o := c.types.get(typ)
	if _, ok := registered(o); !ok {
		return SchemaVersion{}, false
	}
	return c.latest(o)
}

func (c *Catalog) latest(o *object[typeBody]) (SchemaVersion, bool) {
	if o == nil || o.v.LatestVersion == 0 {
		return SchemaVersion{}, false
	}
	return c.version(o, o.v.LatestVersion)
}
