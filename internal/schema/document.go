package schema

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The dialects taken, by their $schema without a fragment and without its scheme.
const (
	dialect2020 = "json-schema.org/draft/2020-12/schema"
	dialect07   = "json-schema.org/draft-07/schema"
)

// The keywords whose values are schemas, lists of schemas, and maps of schemas, in both dialects.
var (
	schemaKeywords = []string{
		"not", "if", "then", "else", "items", "additionalItems", "contains", "additionalProperties", "propertyNames",
		"unevaluatedItems", "unevaluatedProperties", "contentSchema",
	}
	schemaListKeywords = []string{"allOf", "anyOf", "oneOf", "prefixItems", "items"}
	schemaMapKeywords  = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
	countKeywords      = []string{
		"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains",
	}
)

// document is one schema text under inspection, before anything costly is done with it.
type document struct {
	uri  string
	root value
	// resources are the pointers of the schemas with an $id of their own, the root first.
	resources []string
	// anchors are the pointers of $dynamicAnchors, by pointer.
	anchors map[string]string
	refs    []reference
}

type reference struct{ pointer, target string }

// inspection bounds the documents of one schema: its own and those it refers to.
type inspection struct {
	options  Options
	schemas  int
	problems problems
}

// problems are collected up to the number that is told.
type problems []Problem

func (p *problems) add(pointer, format string, args ...any) {
	if len(*p) < maxProblems {
		*p = append(*p, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
}

func (in *inspection) read(uri string, raw []byte) (*document, error) {
	if len(raw) > in.options.MaxBytes {
		return nil, &InvalidError{Problems: []Problem{{
			Message: fmt.Sprintf("the schema has %d bytes: at most %d are taken", len(raw), in.options.MaxBytes),
		}}}
	}
	root, err := decode(raw, in.options.MaxDepth)
	if err != nil {
		message := err.Error()
		if errors.Is(err, errTooDeep) {
			message = fmt.Sprintf("the schema is nested more than %d levels deep", in.options.MaxDepth)
		}
		return nil, &InvalidError{Problems: []Problem{{Message: message}}}
	}
	if root.kind != kindObject && root.kind != kindBoolean {
		return nil, &InvalidError{Problems: []Problem{{
			Message: fmt.Sprintf("expected a schema, which is an object or a boolean, got %s", article(root.kind)),
		}}}
	}
	doc := &document{uri: uri, root: root, resources: []string{""}, anchors: map[string]string{}}
	in.walk(doc, &doc.root, "")
	return doc, in.problems.err()
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return &InvalidError{Problems: p}
}

func (in *inspection) walk(doc *document, v *value, pointer string) {
	in.schemas++
	if in.schemas == in.options.MaxSubschemas+1 {
		in.problems.add(pointer, "the schema has more than %d subschemas", in.options.MaxSubschemas)
	}
	if v.kind != kindObject || in.schemas > in.options.MaxSubschemas {
		return
	}
	for i := range v.items {
		m := &v.items[i]
		at := pointer + "/" + escapePointer(m.name)
		switch m.name {
		case "$schema":
			if m.kind == kindString && !takenDialect(m.text) {
				in.problems.add(at, "$schema is %q: taken are https://%s (the default) and http://%s#", m.text, dialect2020, dialect07)
			}
		case "$id":
			if m.kind == kindString && pointer != "" && !strings.HasPrefix(m.text, "#") {
				doc.resources = append(doc.resources, pointer)
			}
		case "$dynamicAnchor":
			if m.kind == kindString {
				doc.anchors[pointer] = m.text
			}
		case "$ref", "$dynamicRef":
			if m.kind == kindString {
				doc.refs = append(doc.refs, reference{pointer: at, target: m.text})
			}
		case "pattern":
			if m.kind == kindString {
				in.pattern(m.text, at)
			}
		case "properties", "patternProperties":
			if m.kind == kindObject && len(m.items) > in.options.MaxProperties {
				in.problems.add(at, "%d properties in one object: at most %d are taken", len(m.items), in.options.MaxProperties)
			}
			if m.kind == kindObject && m.name == "patternProperties" {
				for j := range m.items {
					in.pattern(m.items[j].name, at+"/"+escapePointer(m.items[j].name))
				}
			}
		}
		if m.kind == kindNumber && slices.Contains(countKeywords, m.name) {
			if n := parseNumber(m.text); n.cmp(parseNumber("9007199254740991")) > 0 {
				in.problems.add(at, "%s is %s: at most 9007199254740991 is taken", m.name, m.text)
			}
		}
		in.subschemas(doc, m, at)
	}
}

func (in *inspection) subschemas(doc *document, m *value, at string) {
	switch {
	case m.kind == kindArray && slices.Contains(schemaListKeywords, m.name):
		for i := range m.items {
			in.walk(doc, &m.items[i], at+"/"+strconv.Itoa(i))
		}
	case m.kind == kindObject && slices.Contains(schemaMapKeywords, m.name):
		for i := range m.items {
			if s := &m.items[i]; s.kind != kindArray { // of dependencies, lists of names are no schemas
				in.walk(doc, s, at+"/"+escapePointer(s.name))
			}
		}
	case slices.Contains(schemaKeywords, m.name):
		in.walk(doc, m, at)
	}
}

func (in *inspection) pattern(source, at string) {
	if _, err := compilePattern(source, in.options.MaxPattern); err != nil {
		in.problems.add(at, "%v", err)
	}
}

func takenDialect(s string) bool {
	s = strings.TrimSuffix(s, "#")
	for _, scheme := range []string{"https://", "http://"} {
		if name, ok := strings.CutPrefix(s, scheme); ok && (name == dialect2020 || name == dialect07) {
			return true
		}
	}
	return false
}

// pointerOf finds the reference that a compile error is about, by the URL that could not be had.
func (doc *document) pointerOf(target string) string {
	base, fragment, _ := strings.Cut(target, "#")
	for _, r := range doc.refs {
		b, f, _ := strings.Cut(r.target, "#")
		if decoded, err := url.PathUnescape(f); err == nil {
			f = decoded
		}
		if decoded, err := url.PathUnescape(fragment); err == nil {
			fragment = decoded
		}
		if (fragment == "" || f == fragment) && (b == "" && fragment != "" || b != "" && strings.HasSuffix(base, strings.TrimLeft(b, "./"))) {
			return r.pointer
		}
	}
	return ""
}

func escapePointer(token string) string {
	if !strings.ContainsAny(token, "~/") {
		return token
	}
	return strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
}

// article is a kind with its article: "a string", "an object".
func article(k kind) string {
	s := k.String()
	switch {
	case k == kindNull:
		return s
	case strings.ContainsRune("aeiou", rune(s[0])):
		return "an " + s
	}
	return "a " + s
}
