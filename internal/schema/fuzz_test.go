package schema

import (
	"strings"
	"testing"
	"time"
)

// within fails what takes longer than a bound that is generous for the machine and mean for an explosion.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	begin := time.Now()
	do()
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("%s took %s", what, took)
	}
}

func seeds(f *testing.F, add func(schema, data string)) {
	f.Helper()
	for _, s := range []string{
		`{}`, `true`, `{"type":["string","null"],"pattern":"^a\\d$","format":"date"}`,
		`{"$ref":"#/$defs/a","$defs":{"a":{"properties":{"a":{"$ref":"#"}},"required":["a"],"unevaluatedProperties":false}}}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"const":1}],"additionalItems":{"enum":[1,"a"]},"dependencies":{"a":["b"]}}`,
		`{"oneOf":[{"type":"integer","multipleOf":3},{"minimum":0.5}],"not":{"const":7},"if":{"maximum":5},"then":true,"else":false}`,
		`{"$id":"http://x/y","$dynamicRef":"#n","$defs":{"n":{"$dynamicAnchor":"n","contains":{"minLength":1},"uniqueItems":true}}}`,
		trainSchema,
	} {
		add(s, `{"a":{"a":[1,2.50e3,"é\u0041",null,true]},"x-1":{}}`)
		add(s, `[1,"a",7]`)
	}
}

func FuzzCompile(f *testing.F) {
	seeds(f, func(schema, _ string) { f.Add([]byte(schema)) })
	f.Fuzz(func(t *testing.T, schema []byte) {
		within(t, "compiling", func() {
			_, err := Compile(schema, Options{})
			if invalid, ok := err.(*InvalidError); err != nil && (!ok || len(invalid.Problems) == 0 || len(invalid.Problems) > 20) { //nolint:errorlint // it is documented to be this type itself
				t.Errorf("the error is %v", err)
			}
		})
	})
}

func FuzzValidate(f *testing.F) {
	seeds(f, func(schema, data string) { f.Add([]byte(schema), []byte(data)) })
	f.Fuzz(func(t *testing.T, schema, data []byte) {
		s, err := Compile(schema, Options{})
		if err != nil {
			return
		}
		within(t, "validating", func() {
			a, b := s.Validate(data, Verbatim), s.Validate(data, Redacted)
			if (a == nil) != (b == nil) || len(a) > 20 || len(b) > 20 {
				t.Errorf("verbatim %v, redacted %v", a, b)
			}
			canonical, err := Canonical(data)
			if err == nil && (s.Validate(canonical, Verbatim) == nil) != (a == nil) {
				t.Errorf("%s and its canonical form %s are not valid alike", data, canonical)
			}
		})
	})
}

func FuzzCanonical(f *testing.F) {
	seeds(f, func(schema, data string) { f.Add([]byte(schema)); f.Add([]byte(data)) })
	f.Add([]byte("1" + strings.Repeat("0", 600) + "1"))
	f.Add([]byte("[1e1000, 1e999, 1e-1000, 0.1e1000, 123e-1000]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := Canonical(data)
		if err != nil {
			return
		}
		twice, err := Canonical(once)
		if err != nil || string(twice) != string(once) {
			t.Errorf("%s is canonically %s, and that %s (%v)", data, once, twice, err)
		}
	})
}

func FuzzCompare(f *testing.F) {
	seeds(f, func(schema, _ string) {
		f.Add([]byte(schema), []byte(trainSchema))
		f.Add([]byte(schema), []byte(schema))
	})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		older, err := Compile(a, Options{})
		if err != nil {
			return
		}
		newer, err := Compile(b, Options{})
		if err != nil {
			return
		}
		within(t, "comparing", func() {
			checkWitnesses(t, older, newer, Compare(older, newer, Backward, CompareOptions{}))
			checkWitnesses(t, older, newer, Compare(older, newer, Forward, CompareOptions{}))
			if v := Compare(older, older, Full, CompareOptions{}); v.Outcome != Compatible {
				t.Errorf("a schema is not compatible with itself: %v", v)
			}
		})
	})
}
