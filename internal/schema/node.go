package schema

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// node is a compiled subschema: what the library made of it, in a form that is quick to evaluate and to compare.
type node struct {
	pointer  string // where it is: a JSON Pointer into the document, after the URI and # where that is another's
	resource *resource
	draft    int

	never bool // the schema false
	kinds kind // 0: any

	enum     []value
	hasConst bool
	constant value

	minimum, maximum, exclusiveMinimum, exclusiveMaximum, divisor *number

	minLength, maxLength *int
	pattern              *pattern
	format               *jsonschema.Format

	minItems, maxItems       *int
	unique                   bool
	prefix                   []*node
	items                    *node // after the prefix
	itemsKeyword             string
	contains                 *node
	minContains, maxContains *int
	unevaluatedItems         *node

	minProperties, maxProperties *int
	required                     []string
	properties                   []property
	byName                       map[string]*node // of properties, where there are many
	patterns                     []patternProperty
	additional                   *node
	names                        *node
	unevaluatedProperties        *node
	needs                        []need // dependentRequired, dependentSchemas, dependencies

	ref           *node
	dynamic       *node
	dynamicAnchor string
	all, any, one []*node
	not           *node
	ifs           *node
	then, elses   *node

	marksItems, marksProperties bool // it, or a schema it applies in place, has unevaluated… to hear what was evaluated
}

type property struct {
	name string
	node *node
}

type patternProperty struct {
	pattern *pattern
	node    *node
}

// need is what the presence of a property asks for.
type need struct {
	keyword  string
	property string
	required []string
	node     *node
}

// resource is a schema resource, for what $dynamicRef finds in the resources passed.
type resource struct{ anchors map[string]*node }

func (n *node) property(name string) *node {
	if n.byName != nil {
		return n.byName[name]
	}
	for i := range n.properties {
		if n.properties[i].name == name {
			return n.properties[i].node
		}
	}
	return nil
}

// builder compiles the documents with the library and takes over what it made.
type builder struct {
	inspection
	main      *document
	documents map[string]*document
	compiler  *jsonschema.Compiler
	nodes     map[*jsonschema.Schema]*node
	queue     []*jsonschema.Schema
	resources map[string]*resource // by URL and pointer
	dynamic   bool
}

// Load gives the library a document of the caller's; it implements jsonschema.URLLoader.
func (b *builder) Load(uri string) (any, error) {
	raw, ok := b.options.Resolve(uri)
	if !ok {
		return nil, errors.New("no schema is known by this address, and nothing is fetched: refer to a schema of this registry")
	}
	if len(b.documents) > b.options.MaxDocuments {
		return nil, fmt.Errorf("the schema refers to more than %d others", b.options.MaxDocuments)
	}
	doc, err := b.read(uri, raw)
	if err != nil {
		return nil, err
	}
	b.documents[uri] = doc
	return doc.root.plain(), nil
}

func (b *builder) build() (*node, error) {
	b.compiler = jsonschema.NewCompiler()
	b.compiler.DefaultDraft(jsonschema.Draft2020)
	b.compiler.UseLoader(b)
	b.compiler.UseRegexpEngine(func(s string) (jsonschema.Regexp, error) { return compilePattern(s, b.options.MaxPattern) })
	if !b.options.AnnotateFormat {
		b.compiler.AssertFormat()
	}
	if err := b.compiler.AddResource(b.options.URI, b.main.root.plain()); err != nil {
		return nil, b.invalid(err)
	}
	root, err := b.compiler.Compile(b.options.URI)
	if err != nil {
		return nil, b.invalid(err)
	}
	b.resources = map[string]*resource{}
	n := b.node(root)
	for len(b.queue) > 0 {
		s := b.queue[len(b.queue)-1]
		b.queue = b.queue[:len(b.queue)-1]
		b.fill(b.nodes[s], s)
		if len(b.nodes) > 4*b.options.MaxSubschemas {
			b.problems.add("", "the schema has more than %d subschemas with those it refers to", 4*b.options.MaxSubschemas)
			return nil, b.problems.err()
		}
	}
	if err := b.anchors(); err != nil {
		return nil, err
	}
	all := make([]*node, 0, len(b.nodes))
	for _, n := range b.nodes {
		all = append(all, n)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].pointer < all[j].pointer })
	b.loops(all)
	return n, b.problems.err()
}

// node is the node of a schema, which is filled in later: schemas refer to each other in circles.
func (b *builder) node(s *jsonschema.Schema) *node {
	if s == nil {
		return nil
	}
	n := b.nodes[s]
	if n == nil {
		n = &node{}
		b.nodes[s] = n
		b.queue = append(b.queue, s)
	}
	return n
}

func (b *builder) list(in []*jsonschema.Schema) []*node {
	var out []*node
	for _, s := range in {
		out = append(out, b.node(s))
	}
	return out
}

// either is a keyword that the library gives as a boolean or a schema.
func (b *builder) either(v any, at string) *node {
	switch v := v.(type) {
	case bool:
		return &node{never: !v, pointer: at}
	case *jsonschema.Schema:
		return b.node(v)
	}
	return nil
}

func splitLocation(location string) (uri, pointer string) {
	uri, pointer, _ = strings.Cut(location, "#")
	if p, err := url.PathUnescape(pointer); err == nil {
		pointer = p
	}
	return uri, pointer
}

func (b *builder) fill(n *node, s *jsonschema.Schema) {
	uri, pointer := splitLocation(s.Location)
	n.pointer = pointer
	if uri != b.options.URI {
		n.pointer = uri + "#" + pointer
	}
	n.draft = s.DraftVersion
	if s.DraftVersion != 7 && s.DraftVersion != 2020 {
		b.problems.add("", "it refers to %s, which is of another draft: taken are 2020-12 and draft-07", s.Location)
		return
	}
	n.resource = b.resource(uri, pointer)
	if s.Bool != nil {
		n.never = !*s.Bool
		return
	}
	if s.DynamicAnchor != "" && n.resource != nil {
		if n.resource.anchors == nil {
			n.resource.anchors = map[string]*node{}
		}
		n.resource.anchors[s.DynamicAnchor] = n
	}
	n.ref = b.node(s.Ref)
	if n.ref != nil && s.DraftVersion < 2019 {
		return // draft-07 takes no other keyword beside $ref
	}
	if s.DynamicRef != nil {
		b.dynamic = true
		n.dynamic = b.node(s.DynamicRef.Ref)
		if s.DynamicRef.Anchor != "" && s.DynamicRef.Ref.DynamicAnchor == s.DynamicRef.Anchor {
			n.dynamicAnchor = s.DynamicRef.Anchor
		}
	}
	b.fillAssertions(n, s)
	b.fillObject(n, s)
	b.fillArray(n, s)
	n.all, n.any, n.one = b.list(s.AllOf), b.list(s.AnyOf), b.list(s.OneOf)
	n.not, n.ifs = b.node(s.Not), b.node(s.If)
	if n.ifs != nil {
		n.then, n.elses = b.node(s.Then), b.node(s.Else)
		if n.then == nil && n.elses == nil {
			// It asserts nothing, but what it evaluates counts.
			n.then = &node{pointer: n.pointer + "/then", draft: n.draft}
		}
	}
	n.marksItems, n.marksProperties = n.unevaluatedItems != nil, n.unevaluatedProperties != nil
}

func (b *builder) fillAssertions(n *node, s *jsonschema.Schema) {
	if s.Types != nil {
		for _, name := range s.Types.ToStrings() {
			n.kinds |= kindNamed(name)
		}
		if n.kinds&kindNumber != 0 {
			n.kinds &^= kindInteger
		}
	}
	if s.Enum != nil {
		n.enum = []value{}
		for _, v := range s.Enum.Values {
			if e, err := valueOf(v, maxDepth); err == nil {
				n.enum = append(n.enum, e)
			}
		}
	}
	if s.Const != nil {
		if c, err := valueOf(*s.Const, maxDepth); err == nil {
			n.hasConst, n.constant = true, c
		}
	}
	n.minimum, n.maximum = numberOf(s.Minimum), numberOf(s.Maximum)
	n.exclusiveMinimum, n.exclusiveMaximum = numberOf(s.ExclusiveMinimum), numberOf(s.ExclusiveMaximum)
	n.divisor = numberOf(s.MultipleOf)
	n.minLength, n.maxLength = s.MinLength, s.MaxLength
	n.pattern, _ = s.Pattern.(*pattern)
	if !b.options.AnnotateFormat { // the library always asserts it in draft-07
		n.format = s.Format
	}
}

func (b *builder) fillArray(n *node, s *jsonschema.Schema) {
	n.minItems, n.maxItems, n.unique = s.MinItems, s.MaxItems, s.UniqueItems
	n.itemsKeyword = "items"
	if s.DraftVersion >= 2020 {
		n.prefix, n.items = b.list(s.PrefixItems), b.node(s.Items2020)
	} else {
		switch items := s.Items.(type) {
		case *jsonschema.Schema:
			n.items = b.node(items)
		case []*jsonschema.Schema:
			n.prefix = b.list(items)
			n.itemsKeyword = "additionalItems"
			n.items = b.either(s.AdditionalItems, n.pointer+"/additionalItems")
		}
	}
	n.contains, n.minContains, n.maxContains = b.node(s.Contains), s.MinContains, s.MaxContains
	n.unevaluatedItems = b.node(s.UnevaluatedItems)
}

func (b *builder) fillObject(n *node, s *jsonschema.Schema) {
	n.minProperties, n.maxProperties, n.required = s.MinProperties, s.MaxProperties, s.Required
	for name, p := range s.Properties {
		n.properties = append(n.properties, property{name, b.node(p)})
	}
	slices.SortFunc(n.properties, func(x, y property) int { return strings.Compare(x.name, y.name) })
	if len(n.properties) > 8 {
		n.byName = make(map[string]*node, len(n.properties))
		for _, p := range n.properties {
			n.byName[p.name] = p.node
		}
	}
	for re, p := range s.PatternProperties {
		if re, ok := re.(*pattern); ok {
			n.patterns = append(n.patterns, patternProperty{re, b.node(p)})
		}
	}
	slices.SortFunc(n.patterns, func(x, y patternProperty) int { return strings.Compare(x.pattern.source, y.pattern.source) })
	n.additional = b.either(s.AdditionalProperties, n.pointer+"/additionalProperties")
	n.names = b.node(s.PropertyNames)
	n.unevaluatedProperties = b.node(s.UnevaluatedProperties)
	for name, d := range s.Dependencies {
		switch d := d.(type) {
		case []string:
			n.needs = append(n.needs, need{keyword: "dependencies", property: name, required: d})
		case *jsonschema.Schema:
			n.needs = append(n.needs, need{keyword: "dependencies", property: name, node: b.node(d)})
		}
	}
	for name, required := range s.DependentRequired {
		n.needs = append(n.needs, need{keyword: "dependentRequired", property: name, required: required})
	}
	for name, d := range s.DependentSchemas {
		n.needs = append(n.needs, need{keyword: "dependentSchemas", property: name, node: b.node(d)})
	}
	slices.SortFunc(n.needs, func(x, y need) int { return strings.Compare(x.keyword+x.property, y.keyword+y.property) })
}

// resource is the innermost schema with an $id around a pointer.
func (b *builder) resource(uri, pointer string) *resource {
	at := ""
	if doc := b.documents[uri]; doc != nil {
		for _, r := range doc.resources {
			if (pointer == r || strings.HasPrefix(pointer, r+"/")) && len(r) > len(at) {
				at = r
			}
		}
	}
	key := uri + "#" + at
	r := b.resources[key]
	if r == nil {
		r = &resource{}
		b.resources[key] = r
	}
	return r
}

// anchors sees to the dynamic anchors that no static reference leads to.
func (b *builder) anchors() error {
	if !b.dynamic {
		return nil
	}
	for uri, doc := range b.documents {
		for pointer := range doc.anchors {
			u := url.URL{Fragment: pointer}
			s, err := b.compiler.Compile(uri + u.String())
			if pointer == "" {
				s, err = b.compiler.Compile(uri)
			}
			if err != nil {
				return b.invalid(err)
			}
			b.node(s)
		}
	}
	for len(b.queue) > 0 {
		s := b.queue[len(b.queue)-1]
		b.queue = b.queue[:len(b.queue)-1]
		b.fill(b.nodes[s], s)
	}
	return nil
}

// inPlace are the schemas that a schema applies to the same value.
func (n *node) inPlace() []*node {
	var out []*node
	add := func(more ...*node) {
		for _, m := range more {
			if m != nil {
				out = append(out, m)
			}
		}
	}
	add(n.ref, n.dynamic, n.not, n.ifs, n.then, n.elses)
	add(n.all...)
	add(n.any...)
	add(n.one...)
	for _, d := range n.needs {
		add(d.node)
	}
	return out
}

// loops refuses schemas that apply themselves to the same value for ever.
func (b *builder) loops(all []*node) {
	const open, done = 1, 2
	state := map[*node]int{}
	var visit func(n *node)
	visit = func(n *node) {
		state[n] = open
		for _, m := range n.inPlace() {
			switch state[m] {
			case open:
				b.problems.add(m.pointer, "the schema refers to itself for the same value without end, from %s", strconv.Quote(n.pointer))
			case 0:
				visit(m)
			}
		}
		state[n] = done
	}
	for _, n := range all {
		if state[n] == 0 {
			visit(n)
		}
	}
}

// invalid words the library's errors.
func (b *builder) invalid(err error) error {
	var own *InvalidError
	var meta *jsonschema.SchemaValidationError
	var load *jsonschema.LoadURLError
	var missing *jsonschema.JSONPointerNotFoundError
	var noAnchor *jsonschema.AnchorNotFoundError
	p := problems{}
	switch {
	case errors.As(err, &load) && errors.As(err, &own):
		for _, q := range own.Problems {
			p.add(b.main.pointerOf(load.URL), "%s: %s: %s", load.URL, q.Pointer, q.Message)
		}
	case errors.As(err, &load):
		p.add(b.main.pointerOf(load.URL), "the reference to %s: %v", load.URL, load.Err)
	case errors.As(err, &missing):
		p.add(b.main.pointerOf(missing.URL), "the reference to %s leads nowhere", b.short(missing.URL))
	case errors.As(err, &noAnchor):
		p.add(b.main.pointerOf(noAnchor.Reference), "the reference to %s leads nowhere: there is no such anchor", b.short(noAnchor.Reference))
	case errors.As(err, &meta):
		var v *jsonschema.ValidationError
		if errors.As(meta.Err, &v) {
			uri, pointer := splitLocation(meta.URL)
			prefix := pointer
			if uri != b.options.URI {
				prefix = uri + "#" + pointer
			}
			metaProblems(&p, prefix, v)
		}
	}
	if len(p) == 0 {
		p.add("", "%s", strings.ReplaceAll(err.Error(), b.options.URI, ""))
	}
	return &InvalidError{Problems: p}
}

func (b *builder) short(u string) string { return strings.TrimPrefix(u, b.options.URI) }
