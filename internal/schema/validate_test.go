package schema

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestViolationsSayWhatWasExpectedAndWhatCame(t *testing.T) {
	shapes := `{"oneOf":[
		{"type":"object","properties":{"kind":{"const":"circle"},"r":{"type":"number","exclusiveMinimum":0}},"required":["kind","r"]},
		{"type":"object","properties":{"kind":{"const":"box"},"w":{"type":"number"},"h":{"type":"number"}},"required":["kind","w","h"]}]}`
	tests := []struct {
		name, schema, data string
		want               []Violation
	}{
		{
			"bounds", `{"properties":{"lat":{"type":"number","minimum":0,"maximum":90}}}`, `{"lat":91.2}`,
			[]Violation{{"/lat", "maximum", "/properties/lat/maximum", "expected a number from 0 to 90, got 91.2"}},
		},
		{"type", `{"type":["string","null"]}`, `5`, []Violation{{"", "type", "/type", "expected a string or null, got a number"}}},
		{"integer", `{"type":"integer"}`, `5.5`, []Violation{{"", "type", "/type", "expected an integer, got 5.5"}}},
		{"enum", `{"enum":["a","b",null]}`, `"c"`, []Violation{{"", "enum", "/enum", `expected one of "a", "b", null, got "c"`}}},
		{"missing", `{"required":["a","b"]}`, `{}`, []Violation{
			{"", "required", "/required", `the property "a" is missing`}, {"", "required", "/required", `the property "b" is missing`},
		}},
		{
			"unknown", `{"properties":{"a":{}},"additionalProperties":false}`, `{"a":1,"x/y":2}`,
			[]Violation{{"/x~1y", "additionalProperties", "/additionalProperties", "this property is not allowed here"}},
		},
		{"length", `{"minLength":2,"maxLength":4}`, `"é"`, []Violation{{"", "minLength", "/minLength", "expected 2 to 4 characters, got 1"}}},
		{"pattern", `{"pattern":"^a"}`, `"b"`, []Violation{{"", "pattern", "/pattern", `expected a string that matches ^a, got "b"`}}},
		{"format", `{"format":"date"}`, `"1 March"`, []Violation{{"", "format", "/format", `expected a date such as 2026-03-01, got "1 March"`}}},
		{"items", `{"items":{"type":"string"},"maxItems":1}`, `["a",1]`, []Violation{
			{"", "maxItems", "/maxItems", "expected at most 1 item, got 2"}, {"/1", "type", "/items/type", "expected a string, got a number"},
		}},
		{"unique", `{"uniqueItems":true}`, `[1,2,1.0]`, []Violation{{"", "uniqueItems", "/uniqueItems", "expected items that differ, but items 0 and 2 are equal"}}},
		{"contains", `{"contains":{"const":1}}`, `[]`, []Violation{{"", "contains", "/contains", "expected at least 1 item like contains, got 0"}}},
		{"multiple", `{"multipleOf":0.01}`, `1.005`, []Violation{{"", "multipleOf", "/multipleOf", "expected a multiple of 0.01, got 1.005"}}},
		{
			"nearest of several", shapes, `{"kind":"circle","r":-1}`,
			[]Violation{{"/r", "exclusiveMinimum", "/oneOf/0/properties/r/exclusiveMinimum", "expected a number above 0, got -1 (of 2 alternatives this is the nearest)"}},
		},
		{
			"types of several", `{"anyOf":[{"type":"string","minLength":3},{"type":"null"}]}`, `5`,
			[]Violation{{"", "anyOf", "/anyOf", "expected a string or null, got a number"}},
		},
		{
			"too many fit", `{"oneOf":[{"type":"integer"},{"minimum":0}]}`, `1`,
			[]Violation{{"", "oneOf", "/oneOf", "expected exactly one of the alternatives to fit, but both number 1 and number 2 do"}},
		},
		{
			"names", `{"propertyNames":{"maxLength":3}}`, `{"abcd":1}`,
			[]Violation{{"/abcd", "propertyNames", "/propertyNames", "the property's name is not allowed: expected at most 3 characters, got 4"}},
		},
		{
			"need", `{"dependentRequired":{"a":["b"]}}`, `{"a":1}`,
			[]Violation{{"", "dependentRequired", "/dependentRequired", `the property "b" is missing, which "a" needs beside it`}},
		},
		{
			"through a reference", `{"properties":{"p":{"$ref":"#/$defs/n"}},"$defs":{"n":{"type":"number"}}}`, `{"p":"x"}`,
			[]Violation{{"/p", "type", "/$defs/n/type", "expected a number, got a string"}},
		},
		{"not", `{"not":{"const":1}}`, `1`, []Violation{{"", "not", "/not", "the value is one of those that the schema excludes"}}},
		{"no JSON", `{}`, `{"a":}`, []Violation{{"", "json", "", "not valid JSON at byte 5: expected a value"}}},
		{"twice", `{}`, `{"a":1,"a":2}`, []Violation{{"", "json", "", "not valid JSON at byte 7: an object has the same property twice"}}},
		{"enormous", `{"type":"integer"}`, `1e999999999`, []Violation{{"", "json", "", "not valid JSON at byte 0: a number has more than 1000 digits before or after the decimal point"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, compiled(t, test.schema).Validate([]byte(test.data), Verbatim)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAtMostTwentyViolationsAreTold(t *testing.T) {
	s := compiled(t, `{"items":{"type":"string"}}`)
	if v := s.Validate([]byte("["+strings.Repeat("1,", 99)+"1]"), Verbatim); len(v) != 20 {
		t.Errorf("%d violations, want 20", len(v))
	}
}

func TestNumbersAreExact(t *testing.T) {
	s := compiled(t, `{"properties":{"i":{"type":"integer","maximum":9007199254740993},"d":{"multipleOf":0.01},"c":{"const":100000000000000000000000000001}}}`)
	for data, valid := range map[string]bool{
		`{"i":9007199254740993}`:               true,
		`{"i":9007199254740994}`:               false,
		`{"i":9007199254740992.5}`:             false,
		`{"i":1e2}`:                            true,
		`{"i":1.50e1}`:                         true,
		`{"i":-1e300}`:                         true,
		`{"d":0.07}`:                           true,
		`{"d":1e-3}`:                           false,
		`{"c":100000000000000000000000000001}`: true,
		`{"c":100000000000000000000000000000}`: false,
	} {
		if got := s.Validate([]byte(data), Verbatim); (got == nil) != valid {
			t.Errorf("%s: %v, want valid: %v", data, got, valid)
		}
	}
}

// TestArithmeticIsThatOfRationals holds the quick arithmetic against math/big.
func TestArithmeticIsThatOfRationals(t *testing.T) {
	draw := rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,12})?(e-?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		x, y := parseNumber(a), parseNumber(b)
		rx, _ := new(big.Rat).SetString(a)
		ry, _ := new(big.Rat).SetString(b)
		if x.cmp(y) != rx.Cmp(ry) || x.equal(y) != (rx.Cmp(ry) == 0) || x.integer() != rx.IsInt() {
			t.Fatalf("%s and %s: cmp is %d, want %d; equal %v; integer %v", a, b, x.cmp(y), rx.Cmp(ry), x.equal(y), x.integer())
		}
		if ry.Sign() != 0 && x.multipleOf(y) != new(big.Rat).Quo(rx, ry).IsInt() {
			t.Fatalf("%s is a multiple of %s: %v", a, b, x.multipleOf(y))
		}
		again, _ := new(big.Rat).SetString(x.String())
		if again.Cmp(rx) != 0 || numberOf(rx).String() != x.String() {
			t.Fatalf("%s is written as %s", a, x)
		}
		if c := x.ceiling(false).rat(); !c.IsInt() || c.Cmp(rx) < 0 || new(big.Rat).Sub(c, rx).Cmp(big.NewRat(1, 1)) >= 0 {
			t.Fatalf("the ceiling of %s is %v", a, c)
		}
		if f := x.floor(true).rat(); !f.IsInt() || f.Cmp(rx) >= 0 || new(big.Rat).Sub(rx, f).Cmp(big.NewRat(1, 1)) > 0 {
			t.Fatalf("the integer below %s is %v", a, f)
		}
	})
}

// TestRedactedViolationsHoldNothingOfTheData plants words and numbers in values and names and looks for them.
func TestRedactedViolationsHoldNothingOfTheData(t *testing.T) {
	const word, digits = "Canary", "987654321"
	violations := 0
	rapid.Check(t, func(rt *rapid.T) {
		d := drawing{rt}
		for range 4 * effort(t) {
			s, err := Compile(text(rt, d.root()), Options{})
			if err != nil {
				continue
			}
			for range 10 {
				doc := text(rt, d.canaries(d.document(3), word, digits))
				told := s.Validate(doc, Redacted)
				if (told == nil) != (s.Validate(doc, Verbatim) == nil) {
					rt.Fatalf("%s is valid with one detail and not with the other", doc)
				}
				violations += len(told)
				if all := fmt.Sprint(told); strings.Contains(all, word) || strings.Contains(all, digits) {
					rt.Fatalf("%s\ntells of %s", all, doc)
				}
			}
		}
	})
	if violations < 100 {
		t.Errorf("only %d violations were looked at", violations)
	}
	t.Logf("looked at %d violations", violations)
}

// canaries puts words into strings and names, and digits into numbers.
func (d drawing) canaries(v any, word, digits string) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for _, name := range sortedKeys(v) {
			as := name
			if d.chance(2) {
				as += word
			}
			m[as] = d.canaries(v[name], word, digits)
		}
		return m
	case []any:
		items := []any{}
		for _, e := range v {
			items = append(items, d.canaries(e, word, digits))
		}
		return items
	case string:
		return v + word
	case int:
		return json.Number(digits)
	case float64:
		return json.Number("0." + digits)
	}
	return v
}

func TestRedactedViolationsStillTellWhatToMend(t *testing.T) {
	s := compiled(t, `{"type":"object","properties":{"name":{"type":"string","maxLength":3},"age":{"type":"integer","minimum":0}},"required":["id"],"additionalProperties":false}`)
	got := s.Validate([]byte(`{"name":"Canary","age":-5,"Canary":1}`), Redacted)
	want := []Violation{
		{"", "required", "/required", `the property "id" is missing`},
		{"/name", "maxLength", "/properties/name/maxLength", "expected at most 3 characters"},
		{"/age", "minimum", "/properties/age/minimum", "expected a number at least 0"},
		{"/*", "additionalProperties", "/additionalProperties", "this property is not allowed here"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

func TestDecodedValuesAreValidatedLikeTexts(t *testing.T) {
	s := compiled(t, `{"type":"object","properties":{"time":{"type":"string","format":"date-time"},"n":{"type":"integer","maximum":5}},"required":["time"]}`)
	if v := s.ValidateValue(map[string]any{"time": "2026-03-01T12:00:00Z", "n": 5, "x": []any{1.5, nil, true, json.Number("1e3")}}, Verbatim); v != nil {
		t.Errorf("valid attributes: %v", v)
	}
	want := []Violation{
		{"", "required", "/required", `the property "time" is missing`},
		{"/n", "maximum", "/properties/n/maximum", "expected a number at most 5, got 6"},
	}
	if diff := cmp.Diff(want, s.ValidateValue(map[string]any{"n": int64(6)}, Verbatim)); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if v := s.ValidateValue(struct{}{}, Verbatim); len(v) != 1 || v[0].Keyword != "json" {
		t.Errorf("what is no JSON value: %v", v)
	}
}

// TestNoSchemaMakesValidationTakeForEver has schemas that an evaluation without a bound takes ages for.
func TestNoSchemaMakesValidationTakeForEver(t *testing.T) {
	var doubling strings.Builder
	doubling.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
	for i := range 60 {
		fmt.Fprintf(&doubling, `"d%d":{"anyOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	doubling.WriteString(`"d60":{"type":"string"}}}`)
	tests := []struct{ name, schema, data string }{
		{"doubling in place", doubling.String(), `1`},
		{
			"doubling by depth", `{"anyOf":[{"properties":{"a":{"$ref":"#"}},"required":["b"]},{"properties":{"a":{"$ref":"#"}},"required":["c"]}]}`,
			strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100),
		},
		{"a costly pattern", `{"pattern":"^(a?){500}a{500}$"}`, `"` + strings.Repeat("a", 1_000_000) + `"`},
		{"a dynamic circle", `{"$dynamicRef":"#x","$defs":{"a":{"$dynamicAnchor":"x","properties":{"a":{"$dynamicRef":"#x"}}}}}`, strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)},
		{"nested arrays", `{"items":{"$ref":"#"}}`, strings.Repeat(`[`, 1_000_000)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := compiled(t, test.schema)
			begin := time.Now()
			s.Validate([]byte(test.data), Verbatim)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("validation took %s", took)
			}
			begin = time.Now()
			v := Compare(s, compiled(t, `{"type":"object","required":["z"]}`), Full, CompareOptions{})
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("comparison took %s: %s", took, v.Outcome)
			}
		})
	}
}

func TestOneSchemaServesManyAtOnce(t *testing.T) {
	s := compiled(t, trainSchema)
	good, bad := trainEvent(1000), []byte(`{"train":1}`)
	want := s.Validate(bad, Verbatim)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if v := s.Validate(good, Verbatim); v != nil {
					t.Error(v)
				}
				if diff := cmp.Diff(want, s.Validate(bad, Verbatim)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	wg.Wait()
}

func TestFormatsAreAssertedUnlessTheyAreNotes(t *testing.T) {
	for format, bad := range map[string]string{
		"date-time": "2026-03-01", "date": "2026-13-01", "time": "25:00:00Z", "duration": "15 min", "email": "a", "uri": "a b",
		"uri-reference": "\\\\a", "uuid": "1", "ipv4": "1.2.3", "ipv6": "1", "hostname": "-a-", "regex": "(", "json-pointer": "a",
	} {
		text := []byte(fmt.Sprintf(`{"format":%q}`, format))
		data, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		for _, head := range []string{``, `"$schema":"http://json-schema.org/draft-07/schema#",`} {
			asserting, err := Compile([]byte(strings.Replace(string(text), "{", "{"+head, 1)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if v := asserting.Validate(data, Verbatim); len(v) != 1 || v[0].Keyword != "format" {
				t.Errorf("%s %s: %v, want a violation of format", head, format, v)
			}
			noting, err := Compile([]byte(strings.Replace(string(text), "{", "{"+head, 1)), Options{AnnotateFormat: true})
			if err != nil {
				t.Fatal(err)
			}
			if v := noting.Validate(data, Verbatim); v != nil {
				t.Errorf("%s %s as a note: %v", head, format, v)
			}
		}
	}
}
