package schema

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// refusal compiles a schema that must not be taken, and returns its problems, one a line.
func refusal(t *testing.T, text string, o Options) string {
	t.Helper()
	_, err := Compile([]byte(text), o)
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("%.200s is taken, or the error is none of ours: %v", text, err)
	}
	if n := len(invalid.Problems); n == 0 || n > 20 {
		t.Errorf("%d problems, want 1 to 20", n)
	}
	var lines []string
	for _, p := range invalid.Problems {
		lines = append(lines, p.Pointer+": "+p.Message)
	}
	return strings.Join(lines, "\n")
}

func TestSchemasThatAreNotTakenAreRefusedWithWhereAndWhy(t *testing.T) {
	deep := strings.Repeat(`{"not":`, 70) + "{}" + strings.Repeat("}", 70)
	many := `{"anyOf":[` + strings.Repeat("{},", 6000) + `{}]}`
	properties := make([]string, 1001)
	for i := range properties {
		properties[i] = fmt.Sprintf(`"p%d":true`, i)
	}
	tests := []struct{ name, schema, want string }{
		{"no JSON", `{"type":`, ": not valid JSON at byte 8: expected a value, got the end"},
		{"no schema", `[]`, ": expected a schema, which is an object or a boolean, got an array"},
		{"another draft", `{"$schema":"http://json-schema.org/draft-04/schema#"}`, `/$schema: $schema is "http://json-schema.org/draft-04/schema#": taken are https://json-schema.org/draft/2020-12/schema (the default) and http://json-schema.org/draft-07/schema#`},
		{"another draft within", `{"$defs":{"a":{"$id":"http://x/y","$schema":"urn:mine"}}}`, `/$defs/a/$schema: $schema is "urn:mine"`},
		{"unknown type", `{"properties":{"a":{"type":"int"}}}`, `/properties/a/type: type "int" is unknown: expected array, boolean, integer, null, number, object or string, or a list of them`},
		{"wrong keyword", `{"minLength":-1}`, `/minLength: `},
		{"wrong required", `{"required":"a"}`, `/required: got string, want array`},
		{"too long", `{"title":"` + strings.Repeat("a", 300<<10) + `"}`, `: the schema has 307212 bytes: at most 262144 are taken`},
		{"too deep", deep, `: the schema is nested more than 64 levels deep`},
		{"too many", many, `: the schema has more than 5000 subschemas`},
		{"too many properties", `{"properties":{` + strings.Join(properties, ",") + `}}`, `/properties: 1001 properties in one object: at most 1000 are taken`},
		{"number too big to compute with", `{"maximum":1e999999999}`, `a number has more than 1000 digits`},
		{"count too big", `{"maxLength":1e20}`, `/maxLength: maxLength is 1e20: at most 9007199254740991 is taken`},
		{"pattern too long", `{"pattern":"` + strings.Repeat("a", 1001) + `"}`, `/pattern: a regular expression of 1001 bytes: at most 1000 are taken`},
		{"pattern that explodes", `{"pattern":"((a{100}){100})"}`, `/pattern: regular expression "((a{100}){100})"`},
		{"lookahead", `{"pattern":"^(?!x)"}`, `/pattern: regular expression "^(?!x)": lookahead (?! is not taken, for matching takes linear time here; write it without, or as two patterns in allOf`},
		{"lookbehind", `{"patternProperties":{"(?<=a)b":{}}}`, `/patternProperties/(?<=a)b: regular expression "(?<=a)b": lookbehind (?<= is not taken`},
		{"back reference", `{"pattern":"(a)\\1"}`, `/pattern: regular expression "(a)\\1": a back reference is not taken`},
		{"file", `{"properties":{"a":{"$ref":"file:///etc/passwd"}}}`, `/properties/a/$ref: the reference to file:///etc/passwd: no schema is known by this address, and nothing is fetched: refer to a schema of this registry`},
		{"network", `{"$ref":"http://127.0.0.1:1/x.json"}`, `/$ref: the reference to http://127.0.0.1:1/x.json: no schema is known by this address, and nothing is fetched`},
		{"relative", `{"$ref":"other.json#/a"}`, `/$ref: the reference to schema:///other.json: no schema is known`},
		{"nowhere", `{"$ref":"#/$defs/a"}`, `/$ref: the reference to #/$defs/a leads nowhere`},
		{"no anchor", `{"$ref":"#a"}`, `/$ref: the reference to #a leads nowhere: there is no such anchor`},
		{"itself", `{"$ref":"#"}`, `the schema refers to itself for the same value without end`},
		{"in a circle", `{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}`, `the schema refers to itself for the same value without end`},
		{"an old metaschema", `{"$ref":"http://json-schema.org/draft-04/schema#"}`, `which is of another draft: taken are 2020-12 and draft-07`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := refusal(t, test.schema, Options{}); !strings.Contains(got, test.want) {
				t.Errorf("the problems are\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestAllMistakesOfASchemaAreToldAtOnce(t *testing.T) {
	got := refusal(t, `{"properties":{"a":{"type":"int"},"b":{"minItems":"1"},"c":{"enum":1}}}`, Options{})
	for _, want := range []string{"/properties/a/type: ", "/properties/b/minItems: ", "/properties/c/enum: "} {
		if !strings.Contains(got, want) {
			t.Errorf("the problems are\n%s\nwant one at %s", got, want)
		}
	}
}

func TestReferencesResolveWithinTheDocumentAndToTheRegistryOnly(t *testing.T) {
	registry := map[string]string{
		"https://events.example/schemas/position":        `{"type":"object","properties":{"lat":{"$ref":"lat"}}}`,
		"https://events.example/schemas/lat":             `{"$schema":"http://json-schema.org/draft-07/schema#","type":"number","maximum":90}`,
		"https://events.example/schemas/wrong":           `{"type":"int"}`,
		"https://events.example/schemas/looking-outside": `{"$ref":"https://elsewhere.example/"}`,
	}
	asked := map[string]bool{}
	o := Options{
		URI: "https://events.example/schemas/train",
		Resolve: func(uri string) ([]byte, bool) {
			asked[uri] = true
			s, ok := registry[uri]
			return []byte(s), ok
		},
	}
	for _, text := range []string{
		`{"properties":{"p":{"$ref":"position"}}}`,
		`{"properties":{"p":{"$ref":"https://events.example/schemas/position#"}}}`,
		`{"properties":{"p":{"properties":{"lat":{"$ref":"position#/properties/lat"}}}}}`,
		`{"properties":{"p":{"properties":{"lat":{"$ref":"#l"}}}},"$defs":{"x":{"$anchor":"l","maximum":90}}}`,
		`{"properties":{"p":{"$ref":"inner#/$defs/p"}},"$defs":{"x":{"$id":"inner","$defs":{"p":{"properties":{"lat":{"maximum":90}}}}}}}`,
		`{"properties":{"p":{"properties":{"lat":{"$dynamicRef":"#l"}}}},"$defs":{"x":{"$dynamicAnchor":"l","maximum":90}}}`,
	} {
		s, err := Compile([]byte(text), o)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if v := s.Validate([]byte(`{"p":{"lat":90}}`), Verbatim); v != nil {
			t.Errorf("%s: %v", text, v)
		}
		if v := s.Validate([]byte(`{"p":{"lat":91}}`), Verbatim); len(v) != 1 || v[0].Pointer != "/p/lat" {
			t.Errorf("%s: %v, want one violation at /p/lat", text, v)
		}
	}
	if got := refusal(t, `{"$ref":"wrong"}`, o); !strings.Contains(got, "schemas/wrong") || !strings.Contains(got, `"int"`) {
		t.Errorf("a referred schema's mistake is told as %s", got)
	}
	if got := refusal(t, `{"$ref":"looking-outside"}`, o); !strings.Contains(got, "nothing is fetched") {
		t.Errorf("a reference to the outside of a referred schema is told as %s", got)
	}
	for _, meta := range []string{"https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"} {
		s, err := Compile([]byte(`{"$ref":"`+meta+`"}`), o)
		if err != nil {
			t.Fatalf("the metaschema %s: %v", meta, err)
		}
		if s.Validate([]byte(`{"type":"string"}`), Verbatim) != nil || s.Validate([]byte(`{"properties":{"a":{"type":1}}}`), Verbatim) == nil {
			t.Errorf("the metaschema %s does not tell schemas from others", meta)
		}
		if asked[strings.TrimSuffix(meta, "#")] {
			t.Errorf("the metaschema %s was asked for", meta)
		}
	}
}

func TestPatternsAreTakenAsECMA262(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no string
	}{
		{`^\d+$`, "12", "١"},
		{`^\/a\/$`, "/a/", "a"},
		{`^\cA$`, "\x01", "A"},
		{`^\u00e9$`, "é", "e"},
		{`^\uD83D\uDE80$`, "🚀", "x"},
		{`^\u{1F680}$`, "🚀", "x"},
		{`^\s$`, "\u00a0", "a"},
		{`^[\s]$`, "\ufeff", "a"},
		{`^\S$`, "a", "\u2003"},
		{`^[\S]$`, "a", "\u2003"},
		{`^[^]$`, "\n", ""},
		{`^.$`, "a", "\r"},
		{`^[[:a]+$`, "[:", "b"},
		{`^\p{Letter}+$`, "é", "1"},
		{`^\p{Script=Greek}$`, "λ", "l"},
		{`^(?<year>\d{4})$`, "2026", "26"},
		{`^[\b]$`, "\b", "b"},
		{`a$`, "ba", "a\n"},
		{`^\-\.\{$`, "-.{", "x"},
	}
	for _, test := range tests {
		p, err := compilePattern(test.pattern, 1000)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		if !p.MatchString(test.yes) || p.MatchString(test.no) {
			t.Errorf("%s: matches %q: %v, want true; matches %q: %v, want false",
				test.pattern, test.yes, p.MatchString(test.yes), test.no, p.MatchString(test.no))
		}
	}
	for _, bad := range []string{`\1`, `\k<a>`, `(?=a)`, `(?<!a)`, `\A`, `\z`, `\Qa\E`, `\c1`, `\x1`, `\u12`, `\ud800`, `\`, `(`, `a{2,1}`, `\p{Nonsense}`, `\pL`} {
		if _, err := compilePattern(bad, 1000); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestSpellingsOfOneSchemaHaveOneDigest(t *testing.T) {
	spellings := []string{
		`{"type":"number","maximum":100,"title":"é/"}`,
		` { "title" : "\u00e9\/" , "maximum" : 1e2, "type":"number" } `,
		`{"maximum":100.0,"title":"\u00E9/","type":"number"}`,
		`{"maximum":1000E-1,"title":"é/","type":"\u006eumber"}`,
	}
	want := compiled(t, spellings[0]).Digest()
	for _, s := range spellings[1:] {
		if got := compiled(t, s).Digest(); got != want {
			t.Errorf("%s has another digest than %s", s, spellings[0])
		}
	}
	for _, s := range []string{`{"type":"number","maximum":101,"title":"é/"}`, `{"type":"number","maximum":"100","title":"é/"}`} {
		if got, err := Digest([]byte(s)); err != nil || got == want {
			t.Errorf("%s has the digest of %s: %v", s, spellings[0], err)
		}
	}
}

func TestCanonicalFormIsThatOfRFC8785(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"b":1,"a":[true,null,false]}`, `{"a":[true,null,false],"b":1}`},
		{`[333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001, -0, 0.0]`, `[333333333.33333329,1e+30,4.5,0.002,1e-27,0,0]`},
		{`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"`, `"€$\u000f\nA'B\"\\\\\"/"`},
		{`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`, "{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}"},
		{`123456789012345678901234567890`, `1.2345678901234567890123456789e+29`},
	}
	for _, test := range tests {
		got, err := Canonical([]byte(test.in))
		if err != nil || string(got) != test.want {
			t.Errorf("%s is canonically %s (%v), want %s", test.in, got, err, test.want)
		}
	}
	for _, bad := range []string{``, `{`, `{"a":1,"a":1}`, `"\ud800"`, "\"\xff\"", "\"\n\"", `01`, `1.`, `.5`, `+1`, `1e`, `nul`, `[1,]`, `{"a":1,}`, `1 2`, `{a:1}`, `'a'`, `NaN`, `1e99999`} {
		if c, err := Canonical([]byte(bad)); err == nil {
			t.Errorf("%q is taken for JSON: %s", bad, c)
		}
	}
}
