package schema

// Detail is how much of the data violations may tell.
type Detail int

// The details.
const (
	// Verbatim violations quote the offending values, cut short.
	Verbatim Detail = iota
	// Redacted violations hold nothing of the data: no value, and of the names of properties only those that the schema
	// has. Another name is * in a pointer.
	Redacted
)

// Violation is one mistake in data.
type Violation struct {
	Pointer       string // where in the data, as a JSON Pointer (RFC 6901)
	Keyword       string // the schema's keyword that is not met; "json" where the data is no JSON
	SchemaPointer string // that keyword, as a JSON Pointer into the schema, or a URI with one for another document
	Message       string // for a person: what was expected, what came
}

// Validate holds a JSON text against the schema: nil if it is valid, else what is wrong, at most 20 mistakes in the order
// of the data. Of alternatives (anyOf, oneOf) only the one that came nearest is told. The text must be I-JSON (RFC 7493):
// UTF-8, no property twice, no half surrogates; numbers may have 1,000 digits and are exact.
func (s *Schema) Validate(data []byte, d Detail) []Violation {
	v, err := decode(data, s.options.MaxDataDepth)
	if err != nil {
		return unreadable(err)
	}
	return s.validate(&v, d)
}

// ValidateValue holds an already decoded value against the schema, as Validate does a text. It may consist of nil, bool,
// string, json.Number, float64, int, int32, int64, uint64, []any and map[string]any.
func (s *Schema) ValidateValue(v any, d Detail) []Violation {
	x, err := valueOf(v, s.options.MaxDataDepth)
	if err != nil {
		return unreadable(err)
	}
	return s.validate(&x, d)
}

// unreadable is the one violation of what is no JSON; the decoder's messages hold nothing of the data.
func unreadable(err error) []Violation {
	return []Violation{{Keyword: "json", Message: err.Error()}}
}

func (s *Schema) validate(x *value, d Detail) []Violation {
	r := run{steps: s.options.MaxSteps, dynamic: s.dynamic}
	if r.valid(s.root, x) {
		return nil
	}
	out := &report{redacted: d == Redacted}
	if !r.exhausted {
		// Steps with a report cost some ten times those without.
		r = run{steps: min(s.options.MaxSteps, 10_000+s.options.MaxSteps/20), dynamic: s.dynamic}
		r.eval(s.root, x, nil, nil, out, nil)
	}
	if r.exhausted || len(out.violations) == 0 {
		out.violations = append(out.violations, Violation{Message: "the data and the schema's alternatives are too entangled to tell whether, or where, they fit: simplify one of them"})
	}
	return out.violations
}
