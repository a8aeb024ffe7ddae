package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func compiled(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := Compile([]byte(text), Options{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// The evolutions that event types go through, with what backward and forward make of them, and the rules named.
func TestUsualEvolutionsAreDecided(t *testing.T) {
	const draft7 = `"$schema":"http://json-schema.org/draft-07/schema#",`
	const yes, no, open = Compatible, Incompatible, Undecided
	tests := []struct {
		name, older, newer string
		backward, forward  Outcome
		rules              string // of the breaks, backward then forward
	}{
		{"notes", `{"type":"string"}`, `{"type":"string","title":"T","description":"d","examples":["a"],"default":"x","deprecated":true}`, yes, yes, ""},
		{
			"order", `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"number"}},"required":["a","b"]}`,
			`{"required":["b","a"],"properties":{"b":{"type":"number"},"a":{"type":"string"}},"type":"object"}`, yes, yes, "",
		},
		{
			"optional property on a closed object", `{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`,
			`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"additionalProperties":false}`, yes, no, "property-added",
		},
		{
			"optional property on an open object", `{"type":"object","properties":{"a":{"type":"string"}}}`,
			`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}}}`, no, yes, "open-property-constrained",
		},
		{"optional untyped property on an open object", `{"type":"object"}`, `{"type":"object","properties":{"b":{"description":"x"}}}`, yes, yes, ""},
		{
			"required property", `{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`,
			`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`, no, yes, "required-added",
		},
		{
			"required and new", `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`,
			`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"required":["a","b"],"additionalProperties":false}`, no, no, "required-added property-added",
		},
		{
			"property removed from a closed object", `{"properties":{"a":{"type":"string"},"b":{}},"additionalProperties":false}`,
			`{"properties":{"a":{"type":"string"}},"additionalProperties":false}`, no, yes, "property-removed",
		},
		{"object closed", `{"properties":{"a":{"type":"string"}}}`, `{"properties":{"a":{"type":"string"}},"additionalProperties":false}`, no, yes, "property-closed"},
		{"enum widened", `{"enum":["a","b"]}`, `{"enum":["b","a","c"]}`, yes, no, "enum-value-added"},
		{"enum narrowed", `{"type":"string","enum":["a","b"]}`, `{"type":"string","enum":["a"]}`, no, yes, "enum-value-removed"},
		{"enum dropped", `{"type":"string","enum":["a","b"]}`, `{"type":"string"}`, yes, no, "enum-value-added"},
		{"const to enum", `{"const":"a"}`, `{"enum":["a","b"]}`, yes, no, "const-changed"},
		{"nullable by type list", `{"type":"string"}`, `{"type":["string","null"]}`, yes, no, "type-widened"},
		{"nullable by anyOf", `{"type":"string","minLength":2}`, `{"anyOf":[{"type":"string","minLength":2},{"type":"null"}]}`, yes, no, "type-widened"},
		{"nullable by oneOf", `{"type":"string","minLength":2}`, `{"oneOf":[{"type":"null"},{"type":"string","minLength":1}]}`, yes, no, "type-widened min-length-lowered"},
		{"nullable respelled", `{"type":["string","null"]}`, `{"anyOf":[{"type":"string"},{"type":"null"}]}`, yes, yes, ""},
		{"nullable enum respelled", `{"type":["string","null"],"enum":["a",null]}`, `{"anyOf":[{"const":"a"},{"type":"null"}]}`, yes, yes, ""},
		{"integer to number", `{"type":"integer"}`, `{"type":"number"}`, yes, no, "type-widened"},
		{"number to integer", `{"type":"number"}`, `{"type":"integer"}`, no, yes, "type-narrowed"},
		{"integer as multiple", `{"type":"integer"}`, `{"type":"number","multipleOf":1}`, yes, yes, ""},
		{"string to number", `{"type":"string"}`, `{"type":"number"}`, no, no, "type-narrowed type-widened"},
		{"bounds relaxed", `{"type":"number","minimum":0,"maximum":90}`, `{"type":"number","minimum":-90,"maximum":180}`, yes, no, "minimum-lowered maximum-raised"},
		{"maximum lowered", `{"type":"number","maximum":90}`, `{"type":"number","maximum":89.5}`, no, yes, "maximum-lowered"},
		{"exclusive bound", `{"type":"number","exclusiveMinimum":0}`, `{"type":"number","minimum":0}`, yes, no, "minimum-lowered"},
		{"integers between bounds", `{"type":"integer","exclusiveMinimum":0}`, `{"type":"integer","minimum":1}`, yes, yes, ""},
		{"few integers", `{"type":"integer","minimum":1,"maximum":3}`, `{"enum":[1,2,3,4]}`, yes, no, "maximum-raised"},
		{"multiples", `{"type":"number","multipleOf":10}`, `{"type":"number","multipleOf":2.5}`, yes, no, "multiple-of-widened"},
		{"lengths", `{"type":"string","maxLength":10}`, `{"type":"string","maxLength":20}`, yes, no, "max-length-raised"},
		{"min length", `{"type":"string"}`, `{"type":"string","minLength":1}`, no, yes, "min-length-raised"},
		{"pattern", `{"type":"string"}`, `{"type":"string","pattern":"^[A-Z]{2}$"}`, no, yes, "pattern-changed"},
		{"pattern changed", `{"type":"string","pattern":"^[A-Z]{2}$"}`, `{"type":"string","pattern":"^[A-Z]{3}$"}`, no, no, "pattern-changed pattern-changed"},
		{"pattern respelled", `{"type":"string","pattern":"^[a-b]$"}`, `{"type":"string","pattern":"^(a|b)$"}`, open, open, "pattern-changed pattern-changed"},
		{"format", `{"type":"string"}`, `{"type":"string","format":"date-time"}`, no, yes, "format-changed"},
		{"unknown format", `{"type":"string"}`, `{"type":"string","format":"train-number"}`, yes, yes, ""},
		{"items", `{"type":"array","items":{"type":"integer"}}`, `{"type":"array","items":{"type":"number"}}`, yes, no, "type-widened"},
		{"items bounds", `{"type":"array","minItems":1,"maxItems":5}`, `{"type":"array","maxItems":6}`, yes, no, "min-items-lowered max-items-raised"},
		{
			"long arrays", `{"type":"object","properties":{"a":{"type":"array","items":{"type":"object","required":["x"]},"maxItems":1000}}}`,
			`{"type":"object","properties":{"a":{"type":"array","items":{"type":"object","required":["x"]},"maxItems":500}}}`, no, yes, "max-items-lowered",
		},
		{"long strings", `{"type":"string","maxLength":4000,"pattern":"^x"}`, `{"type":"string","maxLength":2000,"pattern":"^x"}`, no, yes, "max-length-lowered"},
		{"unique items", `{"type":"array","items":{"type":"string"}}`, `{"type":"array","items":{"type":"string"},"uniqueItems":true}`, no, yes, "unique-items-added"},
		{
			"tuple", `{"type":"array","prefixItems":[{"type":"number"},{"type":"number"}],"items":false}`,
			`{"type":"array","prefixItems":[{"type":"number"},{"type":"number"},{"type":"string"}],"items":false}`, yes, no, "items-opened",
		},
		{
			"tuple across drafts", `{` + draft7 + `"type":"array","items":[{"type":"number"}],"additionalItems":{"type":"string"}}`,
			`{"type":"array","prefixItems":[{"type":"number"}],"items":{"type":"string"}}`, yes, yes, "",
		},
		{"contains", `{"type":"array","contains":{"const":1},"minContains":2}`, `{"type":"array","contains":{"type":"integer"}}`, yes, no, "contains-widened"},
		{"property names", `{"type":"object"}`, `{"type":"object","propertyNames":{"maxLength":5}}`, no, yes, "property-names-narrowed"},
		{"map values", `{"type":"object","additionalProperties":{"type":"integer"}}`, `{"type":"object","additionalProperties":{"type":"number"}}`, yes, no, "type-widened"},
		{
			"patterns of names", `{"patternProperties":{"^x-":{"type":"integer"}},"additionalProperties":false}`,
			`{"patternProperties":{"^x-":{"type":"number"}},"additionalProperties":false}`, yes, no, "type-widened",
		},
		{
			"pattern to name", `{"patternProperties":{"^x-":{"type":"integer"}},"additionalProperties":false}`,
			`{"properties":{"x-a":{"type":"integer"}},"additionalProperties":false}`, no, yes, "property-closed",
		},
		{"dependent required", `{"type":"object","dependentRequired":{"a":["b"]}}`, `{"type":"object","dependentRequired":{"a":["b","c"]}}`, no, yes, "dependency-added"},
		{"dependencies across drafts", `{` + draft7 + `"type":"object","dependencies":{"a":["b"]}}`, `{"type":"object","dependentRequired":{"a":["b"]}}`, yes, yes, ""},
		{
			"nested", `{"type":"object","properties":{"p":{"type":"object","properties":{"lat":{"type":"number","maximum":90}},"required":["lat"]}},"required":["p"]}`,
			`{"type":"object","properties":{"p":{"type":"object","properties":{"lat":{"type":"number","maximum":80}},"required":["lat"]}},"required":["p"]}`, no, yes, "maximum-lowered",
		},
		{
			"reference or inline", `{"type":"object","properties":{"a":{"$ref":"#/$defs/n"}},"$defs":{"n":{"type":"integer"}}}`,
			`{"type":"object","properties":{"a":{"type":"integer"}}}`, yes, yes, "",
		},
		{
			"recursive", `{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#"}},"additionalProperties":false}`,
			`{"type":"object","properties":{"v":{"type":"number"},"next":{"$ref":"#/$defs/n"}},"additionalProperties":false,
			"$defs":{"n":{"type":"object","properties":{"v":{"type":"number"},"next":{"$ref":"#"}},"additionalProperties":false}}}`, yes, no, "type-widened",
		},
		{
			"alternative added", `{"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}`,
			`{"oneOf":[{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"c"}},"required":["k"]}]}`,
			yes, no, "alternative-added",
		},
		{
			"alternative widened", `{"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}`,
			`{"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"number"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}`,
			yes, no, "type-widened",
		},
		{
			"enum taken apart", `{"type":"object","properties":{"k":{"enum":["a","b"]}},"required":["k"]}`,
			`{"oneOf":[{"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}`, yes, yes, "",
		},
		{
			"allOf or inline", `{"allOf":[{"type":"object","properties":{"a":{"type":"string"}}},{"required":["a"]}]}`,
			`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, yes, yes, "",
		},
		{"not", `{"type":"string","not":{"const":"x"}}`, `{"type":"string","not":{"enum":["x","y"]}}`, no, yes, "exclusion-added"},
		{
			"if", `{"if":{"properties":{"k":{"const":"a"}},"required":["k"]},"then":{"required":["x"]}}`,
			`{"if":{"properties":{"k":{"const":"a"}},"required":["k"]},"then":{"required":["x","y"]}}`, no, yes, "required-added",
		},
		{"if dropped", `{"type":"object","if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}`, `{"type":"object"}`, yes, no, "required-removed"},
		{
			"unevaluated", `{"allOf":[{"properties":{"a":{"type":"string"}}}],"unevaluatedProperties":false}`,
			`{"allOf":[{"properties":{"a":{"type":"string"}}}],"properties":{"b":{"type":"integer"}},"unevaluatedProperties":false}`, yes, no, "property-added",
		},
		{
			"unevaluated or closed", `{"type":"object","allOf":[{"properties":{"a":{"type":"string"}}}],"unevaluatedProperties":false}`,
			`{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`, yes, yes, "",
		},
		{"booleans", `true`, `{}`, yes, yes, ""},
		{"everything or nothing", `true`, `false`, no, yes, "schema-closed"},
		{"boolean values", `{"type":"boolean"}`, `{"enum":[true,false]}`, yes, yes, ""},
		{
			"drafts", `{` + draft7 + `"type":"object","properties":{"a":{"type":"string","maxLength":3}},"definitions":{}}`,
			`{"type":"object","properties":{"a":{"type":"string","maxLength":3}}}`, yes, yes, "",
		},
		{"impossible old", `{"type":"string","minLength":5,"maxLength":2}`, `{"type":"number"}`, yes, no, "type-widened"},
		{"maximum of properties", `{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false}`, `{"type":"object","maxProperties":2}`, yes, no, "property-opened"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			older, newer := compiled(t, test.older), compiled(t, test.newer)
			backward := Compare(older, newer, Backward, CompareOptions{})
			forward := Compare(older, newer, Forward, CompareOptions{})
			if backward.Outcome != test.backward || forward.Outcome != test.forward {
				t.Errorf("backward is %s, want %s; forward is %s, want %s", backward.Outcome, test.backward, forward.Outcome, test.forward)
			}
			var rules []string
			last := Break{}
			for _, b := range append(backward.Breaks, forward.Breaks...) {
				if b.Rule != last.Rule || b.Direction != last.Direction {
					rules = append(rules, b.Rule)
				}
				last = b
			}
			if got := strings.Join(rules, " "); got != test.rules {
				t.Errorf("the rules are %q, want %q", got, test.rules)
			}
			if t.Failed() {
				for _, b := range append(backward.Breaks, forward.Breaks...) {
					t.Log(describe(b))
				}
			}
			checkWitnesses(t, older, newer, backward)
			checkWitnesses(t, older, newer, forward)
		})
	}
}

func describe(b Break) string {
	return fmt.Sprintf("%s %s at %q: old %s (%s), new %s (%s): %s; witness %s",
		b.Direction, b.Rule, b.Path, b.OldPointer, b.Old, b.NewPointer, b.New, b.Message, b.Witness)
}

// checkWitnesses holds every document that a verdict shows against both schemas.
func checkWitnesses(t testing.TB, older, newer *Schema, v Verdict) {
	t.Helper()
	proven := false
	for _, b := range v.Breaks {
		if b.Witness == nil {
			continue
		}
		proven = true
		valid, invalid := older, newer
		if b.Direction == Forward {
			valid, invalid = newer, older
		}
		if w := valid.Validate(b.Witness, Verbatim); w != nil {
			t.Errorf("the witness %s is not valid under the schema it should be: %v", b.Witness, w)
		}
		if invalid.Validate(b.Witness, Verbatim) == nil {
			t.Errorf("the witness %s is valid under the schema it should break", b.Witness)
		}
	}
	if proven != (v.Outcome == Incompatible) {
		t.Errorf("the verdict is %s, but a document that proves it: %v", v.Outcome, proven)
	}
	if (v.Outcome == Compatible) != (len(v.Breaks) == 0) {
		t.Errorf("the verdict is %s with %d breaks", v.Outcome, len(v.Breaks))
	}
	if _, err := json.Marshal(v); err != nil {
		t.Error(err)
	}
}

func TestHistoryIsCheckedAsTheModeSays(t *testing.T) {
	var (
		v1 = compiled(t, `{"type":"string","maxLength":10}`)
		v2 = compiled(t, `{"type":"string","maxLength":5}`)
		v3 = compiled(t, `{"type":"string","maxLength":7}`)
	)
	tests := []struct {
		mode    Mode
		want    Outcome
		version []int // of the breaks
	}{
		{None, Compatible, nil},
		{Backward, Compatible, nil},
		{BackwardTransitive, Incompatible, []int{0}},
		{Forward, Incompatible, []int{1}},
		{ForwardTransitive, Incompatible, []int{1}},
		{Full, Incompatible, []int{1}},
		{FullTransitive, Incompatible, []int{0, 1}},
	}
	for _, test := range tests {
		mode, err := ParseMode(string(test.mode))
		if err != nil {
			t.Fatal(err)
		}
		v := Check([]*Schema{v1, v2}, v3, mode, CompareOptions{})
		var versions []int
		for _, b := range v.Breaks {
			versions = append(versions, b.Version)
		}
		if v.Outcome != test.want || fmt.Sprint(versions) != fmt.Sprint(test.version) {
			t.Errorf("%s: %s with breaks of versions %v, want %s with %v", mode, v.Outcome, versions, test.want, test.version)
		}
		if v := Check(nil, v3, mode, CompareOptions{}); v.Outcome != Compatible {
			t.Errorf("%s: the first version is %s", mode, v.Outcome)
		}
	}
	if _, err := ParseMode("backwards"); err == nil {
		t.Error("a mode that does not exist is read")
	}
}

func TestOpenPropertiesMayBeDescribedWhereThatIsAllowed(t *testing.T) {
	older := compiled(t, `{"type":"object","properties":{"a":{"type":"string"}}}`)
	newer := compiled(t, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}}}`)
	if v := Compare(older, newer, Backward, CompareOptions{}); v.Outcome != Incompatible {
		t.Errorf("strictly it is %s", v.Outcome)
	}
	if v := Compare(older, newer, Backward, CompareOptions{AllowOpenProperties: true}); v.Outcome != Compatible {
		t.Errorf("where it is allowed it is %s", v.Outcome)
	}
	changed := compiled(t, `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}`)
	if v := Compare(older, changed, Backward, CompareOptions{AllowOpenProperties: true}); v.Outcome != Incompatible {
		t.Errorf("a property that was described is taken for open: %s", v.Outcome)
	}
}

func TestBreaksNameThePathAndBothTexts(t *testing.T) {
	older := compiled(t, `{"type":"object","properties":{"position":{"$ref":"#/$defs/p"}},"required":["position"],"$defs":{"p":{"type":"object","properties":{"lat":{"type":"number","minimum":-90,"maximum":90}}}}}`)
	newer := compiled(t, `{"type":"object","properties":{"position":{"type":"object","properties":{"lat":{"type":"number","minimum":-90,"maximum":80}}}},"required":["position"]}`)
	v := Compare(older, newer, Backward, CompareOptions{})
	if len(v.Breaks) != 1 {
		t.Fatalf("%d breaks, want 1: %v", len(v.Breaks), v.Breaks)
	}
	b := v.Breaks[0]
	if b.Witness == nil {
		t.Error("no witness")
	}
	b.Witness = nil
	want := Break{
		Rule: "maximum-lowered", Direction: Backward, Path: "/position/lat",
		OldPointer: "/$defs/p/properties/lat/maximum", NewPointer: "/properties/position/properties/lat/maximum",
		Old: `"maximum":90`, New: `"maximum":80`,
		Message: `old data may be invalid here: the old schema says "maximum":90, the new one "maximum":80`,
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("break (-want +got):\n%s", diff)
	}
}

// What a proof cannot decide must not be called compatible, however alike the two are.
func TestWhatIsNotComparedIsUndecidedOrDisproven(t *testing.T) {
	tests := []struct{ older, newer string }{
		{`{"$dynamicRef":"#n","$defs":{"n":{"$dynamicAnchor":"n","type":"string"}}}`, `{"$dynamicRef":"#n","$defs":{"n":{"$dynamicAnchor":"n","type":"string","title":"T"}}}`},
		{`{"type":"string","pattern":"^a+$"}`, `{"type":"string","pattern":"^aa*$"}`},
		{`{"patternProperties":{"a":{},"b":{},"c":{},"d":{},"e":{}},"type":"object"}`, `{"patternProperties":{"a":{"title":"A"},"f":{}},"type":"object","additionalProperties":true}`},
	}
	for _, test := range tests {
		v := Compare(compiled(t, test.older), compiled(t, test.newer), Backward, CompareOptions{})
		if v.Outcome != Undecided || len(v.Breaks) == 0 || v.Breaks[0].Message == "" {
			t.Errorf("%s and %s: %v, want it undecided with a reason", test.older, test.newer, v)
		}
	}
}
