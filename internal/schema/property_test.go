package schema

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// effort multiplies what the property tests do: EVENTISSUER_TEST_EFFORT=50 is some minutes.
func effort(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("EVENTISSUER_TEST_EFFORT"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// drawing draws schemas and documents over few names and values, so that they often have to do with each other.
type drawing struct{ t *rapid.T }

func (d drawing) n(n int) int        { return rapid.IntRange(0, n-1).Draw(d.t, "n") }
func (d drawing) one(of ...any) any  { return of[d.n(len(of))] }
func (d drawing) chance(in int) bool { return d.n(in) == 0 }
func (d drawing) name() string       { return d.one("a", "b", "c", "x-1").(string) }
func (d drawing) number() any        { return d.one(-1, 0, 1, 2, 3, 0.5, 1.5, 10) }
func (d drawing) text() string {
	return d.one("", "a", "b", "ab", "aaa", "x-1", "2026-03-01", "é").(string)
}

func (d drawing) names() []any {
	var names []any
	for range d.n(3) {
		if n := d.name(); !slices.Contains(names, any(n)) {
			names = append(names, n)
		}
	}
	return names
}

func (d drawing) document(depth int) any {
	switch k := d.n(9); {
	case k < 2 && depth > 0:
		m := map[string]any{}
		for range d.n(4) {
			m[d.name()] = d.document(depth - 1)
		}
		return m
	case k < 4 && depth > 0:
		items := []any{}
		for range d.n(4) {
			items = append(items, d.document(depth-1))
		}
		return items
	case k < 6:
		return d.number()
	case k < 7:
		return d.one(nil, true, false)
	default:
		return d.text()
	}
}

func (d drawing) schemas(depth, least int) []any {
	var out []any
	for range least + d.n(3) {
		out = append(out, d.schema(depth-1))
	}
	return out
}

func (d drawing) properties(depth int) map[string]any {
	m := map[string]any{}
	for range d.n(4) {
		m[d.name()] = d.schema(depth - 1)
	}
	return m
}

func (d drawing) types() any {
	t := []any{"object", "object", "array", "string", "number", "integer", "boolean", "null"}
	if d.chance(3) {
		a, b := d.one(t...), d.one(t...)
		if a != b {
			return []any{a, b}
		}
	}
	return d.one(t...)
}

func (d drawing) schema(depth int) any {
	if depth <= 0 {
		return d.one(true, map[string]any{}, map[string]any{"type": d.types()}, map[string]any{"const": d.document(1)},
			map[string]any{"type": d.types()}, map[string]any{"$ref": "#/$defs/d"}, map[string]any{"$ref": "#"}, false)
	}
	m := map[string]any{}
	for range 1 + d.n(5) {
		d.keyword(m, depth)
	}
	return m
}

// keyword sets one keyword.
func (d drawing) keyword(m map[string]any, depth int) {
	switch d.n(34) {
	case 0, 1, 2:
		m["type"] = d.types()
	case 3, 4, 5:
		m["properties"] = d.properties(depth)
	case 6, 7:
		m["required"] = append([]any{}, d.names()...)
	case 8:
		m["additionalProperties"] = d.one(false, false, d.schema(depth-1))
	case 9:
		m["patternProperties"] = map[string]any{d.one("^x-", "a", "^[ab]$").(string): d.schema(depth - 1)}
	case 10:
		m["propertyNames"] = d.one(map[string]any{"pattern": "^[ab]"}, map[string]any{"enum": []any{"a", "b"}}, map[string]any{"maxLength": 1})
	case 11:
		m[d.one("minProperties", "maxProperties", "minItems", "maxItems").(string)] = d.n(4)
	case 12:
		m[d.one("minLength", "maxLength").(string)] = d.n(4)
	case 13, 14:
		m[d.one("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum").(string)] = d.number()
	case 15:
		m["multipleOf"] = d.one(1, 2, 0.5, 1.5)
	case 16:
		m["enum"] = []any{d.document(1), d.document(1), d.text(), d.number()}
	case 17:
		m["const"] = d.document(1)
	case 18:
		m["pattern"] = d.one("^a", "b$", "^.?$", "^x-")
	case 19:
		m["format"] = d.one("date", "ipv4")
	case 20, 21:
		m["items"] = d.schema(depth - 1)
	case 22:
		m["prefixItems"] = d.schemas(depth, 1)
	case 23:
		m["contains"] = d.schema(depth - 1)
		if d.chance(2) {
			m[d.one("minContains", "maxContains").(string)] = d.n(3)
		}
	case 24:
		m["uniqueItems"] = true
	case 25:
		m["anyOf"] = d.schemas(depth, 1)
	case 26:
		m["oneOf"] = d.schemas(depth, 1)
	case 27:
		m["allOf"] = d.schemas(depth, 1)
	case 28:
		m["not"] = d.schema(depth - 1)
	case 29:
		m["if"] = d.schema(depth - 1)
		m["then"] = d.schema(depth - 1)
		m["else"] = d.schema(depth - 1)
	case 30:
		m["dependentRequired"] = map[string]any{d.name(): append([]any{}, d.names()...)}
	case 31:
		m["dependentSchemas"] = map[string]any{d.name(): d.schema(depth - 1)}
	case 32:
		m[d.one("unevaluatedProperties", "unevaluatedItems").(string)] = d.one(false, d.schema(depth-1))
	case 33:
		m["$ref"] = "#/$defs/d"
	}
}

func (d drawing) root() map[string]any {
	m := map[string]any{"$defs": map[string]any{"d": d.schema(1)}}
	for range 1 + d.n(5) {
		d.keyword(m, 2)
	}
	return m
}

// mutated changes a schema here or there.
func (d drawing) mutated(v any, depth int) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for _, name := range sortedKeys(v) {
			switch {
			case depth > 0 && d.chance(14):
				// left out
			case depth > 0 && d.chance(10) && name != "$defs" && name != "$ref":
				if _, ok := v[name].(map[string]any); ok {
					m[name] = d.schema(1)
				}
			default:
				m[name] = d.mutated(v[name], depth+1)
			}
		}
		if d.chance(6) && depth != 1 {
			d.keyword(m, 1)
		}
		return m
	case []any:
		items := []any{}
		for _, e := range v {
			if !d.chance(10) || len(v) == 1 {
				items = append(items, d.mutated(e, depth+1))
			}
		}
		return items
	case int:
		if d.chance(4) {
			return max(0, v+d.n(3)-1)
		}
	}
	return v
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func text(t rapid.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// documents are ones drawn and ones that the schemas themselves suggest.
func (d drawing) documents(schemas ...*Schema) [][]byte {
	var out [][]byte
	for range 12 {
		out = append(out, text(d.t, d.document(3)))
	}
	for _, s := range schemas {
		for _, against := range schemas {
			p := newProver(s, against, CompareOptions{})
			for _, x := range p.samples(conjunction{nodes: []*node{s.root}, kinds: kindAll}, against.root, 4) {
				out = append(out, x.canonical(nil))
			}
		}
	}
	return out
}

// TestNoVerdictIsDisprovenByADocument draws pairs of schemas and looks for documents that show a verdict to be wrong.
func TestNoVerdictIsDisprovenByADocument(t *testing.T) {
	count := map[Outcome]int{}
	documents, telling := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d := drawing{rt}
		first := d.root()
		for range 30 * effort(t) {
			second := d.mutated(first, 0)
			older, err := Compile(text(rt, first), Options{})
			if err != nil {
				return
			}
			newer, err := Compile(text(rt, second), Options{})
			if err != nil {
				continue
			}
			v := Compare(older, newer, Backward, CompareOptions{})
			count[v.Outcome]++
			checkWitnesses(t, older, newer, v)
			for _, doc := range d.documents(older, newer) {
				documents++
				if older.Validate(doc, Verbatim) != nil {
					continue
				}
				telling++
				if newer.Validate(doc, Verbatim) == nil {
					continue
				}
				if v.Outcome == Compatible {
					rt.Fatalf("called compatible, but %s is valid under the old schema and not under the new: %v\nold %s\nnew %s",
						doc, newer.Validate(doc, Verbatim), text(rt, first), text(rt, second))
				}
			}
			if t.Failed() {
				rt.Fatalf("old %s\nnew %s", text(rt, first), text(rt, second))
			}
		}
	})
	t.Logf("verdicts: %v; %d documents, %d of them valid under the old schema", count, documents, telling)
}

// TestEvaluationAgreesWithTheLibrary holds our evaluation against the library's, on the library's own compilation.
func TestEvaluationAgreesWithTheLibrary(t *testing.T) {
	compared, invalid := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d := drawing{rt}
		for range 4 * effort(t) {
			raw := text(rt, d.root())
			ours, err := Compile(raw, Options{})
			if err != nil {
				continue
			}
			c := jsonschema.NewCompiler()
			c.AssertFormat()
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
			if err != nil {
				rt.Fatal(err)
			}
			if err := c.AddResource("schema:///x", doc); err != nil {
				rt.Fatal(err)
			}
			theirs, err := c.Compile("schema:///x")
			if err != nil {
				rt.Fatalf("we compile %s and the library does not: %v", raw, err)
			}
			for _, doc := range d.documents(ours) {
				v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(doc)))
				if err != nil {
					rt.Fatal(err)
				}
				want := theirs.Validate(v)
				got := ours.Validate(doc, Verbatim)
				compared++
				if got != nil {
					invalid++
				}
				if (got == nil) != (want == nil) {
					rt.Fatalf("we say %v, the library %v\nschema %s\ndata %s", got, want, raw, doc)
				}
			}
		}
	})
	t.Logf("compared %d, of which %d were invalid", compared, invalid)
}
