// Package schema validates events' data against JSON Schemas and tells whether a new version of a schema is compatible
// with an old one.
//
// What it guarantees:
//
//   - Nothing is ever fetched. A reference leads within the document, to a metaschema, or to what Options.Resolve gives;
//     any other is refused when the schema is compiled.
//   - Everything is bounded: a schema's size and depth, its regular expressions (matched in linear time), and the steps
//     of a validation, whatever the schema and the data.
//   - Numbers are exact, whatever their size.
//   - [Schema.Validate] with Redact tells nothing of the data but its structure under names that the schema has.
//   - [Compare] never calls compatible what a document disproves, and incompatible only what a document, which it
//     shows, proves. What it cannot decide is Undecided.
//
// A compiled [Schema] never changes and may be used concurrently. Nothing here blocks, logs, or starts a goroutine.
package schema

import (
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Both lists that are told are cut here.
const (
	maxProblems   = 20
	maxViolations = 20
)

// Options bound what is compiled and say how references and formats are taken. The zero Options are the defaults.
type Options struct {
	// MaxBytes bounds a schema's text; default 256 KiB.
	MaxBytes int
	// MaxDepth bounds the nesting of a schema's text; default 64.
	MaxDepth int
	// MaxSubschemas bounds the schemas within a schema, those of documents it refers to included; default 5,000.
	MaxSubschemas int
	// MaxPattern bounds a regular expression, in bytes; default 1,000.
	MaxPattern int
	// MaxProperties bounds the properties of one object in a schema; default 1,000.
	MaxProperties int
	// MaxDocuments bounds the documents that a schema refers to, directly or not; default 50.
	MaxDocuments int
	// MaxDataDepth bounds the nesting of data; default 128.
	MaxDataDepth int
	// MaxSteps bounds the work of one validation: about one step for each pair of a value and a schema it is held
	// against; default 1,000,000, some 50 ms. Data that would take more is refused.
	MaxSteps int

	// URI is the schema's own address, against which relative references resolve; default one that nothing else has.
	URI string
	// Resolve gives the schema under an absolute URI without a fragment, from the caller's own store; it must not
	// fetch. Default: no schema is known by its URI.
	Resolve func(uri string) ([]byte, bool)

	// AnnotateFormat takes format as the specification has it by default, as a note to readers. The default here is
	// to assert it, which is what publishers expect: date-time, date, time, duration, email, uri, uri-reference, uuid,
	// ipv4, ipv6, hostname, regex, json-pointer and the library's others. Unknown formats are notes in any case.
	AnnotateFormat bool
}

func (o Options) withDefaults() Options {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&o.MaxBytes, 256<<10)
	set(&o.MaxDepth, 64)
	set(&o.MaxSubschemas, 5000)
	set(&o.MaxPattern, 1000)
	set(&o.MaxProperties, 1000)
	set(&o.MaxDocuments, 50)
	set(&o.MaxDataDepth, 128)
	set(&o.MaxSteps, 1_000_000)
	if o.URI == "" {
		o.URI = "schema:///"
	}
	if o.Resolve == nil {
		o.Resolve = func(string) ([]byte, bool) { return nil, false }
	}
	return o
}

// Problem is one mistake in a schema.
type Problem struct {
	Pointer string // where it is, as a JSON Pointer (RFC 6901) into the schema
	Message string
}

// InvalidError is a schema that is not taken, with at most 20 of the reasons.
type InvalidError struct{ Problems []Problem }

// Error implements error.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Message
		if p.Pointer != "" {
			lines[i] = p.Pointer + ": " + p.Message
		}
	}
	return "invalid schema: " + strings.Join(lines, "; ")
}

// Schema is a compiled schema. It is immutable, and safe for concurrent use.
type Schema struct {
	options Options
	root    *node
	text    value  // the document
	digest  string // of its canonical form
	dynamic bool   // has $dynamicRef
}

// Digest is the SHA-256 of the schema's canonical form, in hexadecimal: equal for schemas that differ in spelling only.
func (s *Schema) Digest() string { return s.digest }

// Draft names what the schema is written in: "2020-12" or "draft-07".
func (s *Schema) Draft() string {
	if s.root.draft == 7 {
		return "draft-07"
	}
	return "2020-12"
}

// Compile reads a schema of JSON Schema 2020-12, which is the default, or draft-07, which its $schema then names. The
// error is an *InvalidError. It takes time in proportion to the schema, and calls Options.Resolve for what it refers to.
func Compile(raw []byte, o Options) (*Schema, error) {
	o = o.withDefaults()
	b := &builder{inspection: inspection{options: o}, documents: map[string]*document{}, nodes: map[*jsonschema.Schema]*node{}}
	doc, err := b.read(o.URI, raw)
	if err != nil {
		return nil, err
	}
	b.main = doc
	b.documents[o.URI] = doc
	root, err := b.build()
	if err != nil {
		return nil, err
	}
	digest, err := Digest(raw)
	if err != nil {
		return nil, fmt.Errorf("digest a schema: %w", err)
	}
	return &Schema{options: o, root: root, text: doc.root, digest: digest, dynamic: b.dynamic}, nil
}
