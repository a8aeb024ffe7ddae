package schema

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Mode is what is asked of a new version of a schema.
type Mode string

// The modes. The transitive ones ask it of all earlier versions, the others of the latest.
const (
	None               Mode = "none"
	Backward           Mode = "backward" // what was valid stays valid: new readers read old data
	Forward            Mode = "forward"  // what is valid now was valid before: old readers read new data
	Full               Mode = "full"     // both
	BackwardTransitive Mode = "backward_transitive"
	ForwardTransitive  Mode = "forward_transitive"
	FullTransitive     Mode = "full_transitive"
)

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case None, Backward, Forward, Full, BackwardTransitive, ForwardTransitive, FullTransitive:
		return m, nil
	}
	return "", fmt.Errorf("compatibility mode %q: expected none, backward, forward, full, or one of the last three with _transitive", s)
}

func (m Mode) backward() bool {
	return m == Backward || m == BackwardTransitive || m == Full || m == FullTransitive
}

func (m Mode) forward() bool {
	return m == Forward || m == ForwardTransitive || m == Full || m == FullTransitive
}

// Transitive reports whether the mode asks about all earlier versions.
func (m Mode) Transitive() bool {
	return m == BackwardTransitive || m == ForwardTransitive || m == FullTransitive
}

// Outcome is what a comparison came to.
type Outcome string

// The outcomes.
const (
	Compatible   Outcome = "compatible"   // proven for every document
	Incompatible Outcome = "incompatible" // disproven by a document, which a break shows
	Undecided    Outcome = "undecided"    // neither
)

// Verdict is the outcome of a comparison, and what stands in the way.
type Verdict struct {
	Outcome Outcome
	Breaks  []Break // at most 20; none if compatible
}

// Break is one difference that breaks compatibility, or that may.
type Break struct {
	// Rule is the difference's stable name, such as required-added or maximum-lowered.
	Rule string
	// Direction is Backward where old data is no longer valid, Forward where new data was not.
	Direction Mode
	// Path is where in the data, as a JSON Pointer; * stands for names that the schemas do not list.
	Path string
	// OldPointer and NewPointer are where in the two schemas.
	OldPointer, NewPointer string
	// Old and New are what the schemas say there, as JSON; empty where one says nothing.
	Old, New string
	// Message is for a person.
	Message string
	// Witness is a document that is valid under one schema and not under the other; nil where none was found, so that
	// the difference is not proven to break anything.
	Witness json.RawMessage
	// Version is the index in the history of the older schema.
	Version int
}

// CompareOptions choose between rules.
type CompareOptions struct {
	// AllowOpenProperties lets a schema say something about a property that it said nothing about, on an object that
	// was open to any property. Strictly that breaks: old data may hold anything under that name. Who knows that no
	// publisher sends undeclared properties may allow it, as Confluent's registry does in its lenient policy.
	AllowOpenProperties bool
}

// Check holds a new version against the history, the oldest first: against all of it where the mode is transitive, else
// against the latest. With an empty history, or None, everything is compatible.
func Check(history []*Schema, newer *Schema, mode Mode, o CompareOptions) Verdict {
	from := 0
	if !mode.Transitive() && len(history) > 1 {
		from = len(history) - 1
	}
	all := Verdict{Outcome: Compatible}
	for i, older := range history[from:] {
		v := Compare(older, newer, mode, o)
		all.Outcome = worse(all.Outcome, v.Outcome)
		for _, b := range v.Breaks {
			b.Version = from + i
			if len(all.Breaks) < maxBreaks {
				all.Breaks = append(all.Breaks, b)
			}
		}
	}
	return all
}

func worse(a, b Outcome) Outcome {
	switch {
	case a == Incompatible || b == Incompatible:
		return Incompatible
	case a == Undecided || b == Undecided:
		return Undecided
	}
	return Compatible
}

// maxBreaks is how many breaks are told.
const maxBreaks = 20

// Compare decides whether two versions are compatible. Its time is bounded, to some hundred milliseconds; what would take
// longer is undecided. The transitive modes are as their others here.
func Compare(older, newer *Schema, mode Mode, o CompareOptions) Verdict {
	v := Verdict{Outcome: Compatible}
	if mode.backward() {
		v.merge(contained(older, newer, Backward, o))
	}
	if mode.forward() {
		v.merge(contained(newer, older, Forward, o))
	}
	return v
}

func (v *Verdict) merge(w Verdict) {
	v.Outcome = worse(v.Outcome, w.Outcome)
	v.Breaks = append(v.Breaks, w.Breaks...)
	if len(v.Breaks) > maxBreaks {
		v.Breaks = v.Breaks[:maxBreaks]
	}
}

// contained decides whether every document of a is one of b.
func contained(a, b *Schema, direction Mode, o CompareOptions) Verdict {
	if a.digest == b.digest && a.options.AnnotateFormat == b.options.AnnotateFormat && a.options.URI == b.options.URI && !a.refersOut() {
		return Verdict{Outcome: Compatible}
	}
	p := newProver(a, b, o)
	all := conjunction{nodes: []*node{a.root}, kinds: kindAll}
	if p.dynamic {
		p.fail(difference{rule: "undecided", to: b.root, message: "$dynamicRef is not compared"}, all, nil)
	} else if p.contains(all, b.root, nil) {
		return Verdict{Outcome: Compatible}
	}
	if len(p.failures) == 0 {
		p.fail(difference{rule: "undecided", to: b.root, message: "the comparison came to nothing"}, all, nil)
	}
	p.disprove()
	return p.verdict(direction)
}

// refersOut is whether the schema refers to another document, whose text its digest does not cover.
func (s *Schema) refersOut() bool { return refersOut(&s.text) }

func refersOut(v *value) bool {
	for i := range v.items {
		m := &v.items[i]
		if (m.name == "$ref" || m.name == "$dynamicRef") && m.kind == kindString && !strings.HasPrefix(m.text, "#") {
			return true
		}
		if refersOut(m) {
			return true
		}
	}
	return false
}

// verdict words what the proof failed of. Where a document disproves compatibility, the differences that are not proven
// to break it are still told, after those that are.
func (p *prover) verdict(direction Mode) Verdict {
	v := Verdict{Outcome: Undecided}
	for _, proven := range []bool{true, false} {
		for _, f := range p.failures {
			if (f.witness != nil) != proven || len(v.Breaks) >= maxBreaks {
				continue
			}
			v.Breaks = append(v.Breaks, p.wordBreak(f, direction))
			if proven {
				v.Outcome = Incompatible
			}
		}
	}
	return v
}

func (p *prover) wordBreak(f *failure, direction Mode) Break {
	sides := strings.NewReplacer("{from}", "the old schema", "{to}", "the new one")
	if direction == Forward {
		sides = strings.NewReplacer("{from}", "the new schema", "{to}", "the old one")
	}
	b := Break{Rule: ruleName(f.rule, direction), Direction: direction, Path: f.frame.path(), Message: sides.Replace(f.message)}
	from, to := f.from, f.to
	fromText, toText := p.from.textOf(from, f.keyword), p.to.textOf(to, f.keyword)
	if f.rule == "open" {
		fromText = "" // that is what it is about
	}
	b.OldPointer, b.NewPointer, b.Old, b.New = pointerTo(from, f.keyword, fromText), pointerTo(to, f.keyword, toText), fromText, toText
	if direction == Forward {
		b.OldPointer, b.NewPointer, b.Old, b.New = b.NewPointer, b.OldPointer, b.New, b.Old
	}
	if f.witness != nil {
		b.Witness = f.witness.canonical(nil)
	}
	subject := "old data"
	if direction == Forward {
		subject = "new data, read with the old schema,"
	}
	if b.Message == "" {
		b.Message = fmt.Sprintf("%s may be invalid here: the old schema says %s, the new one %s", subject, orNothing(b.Old), orNothing(b.New))
	}
	if f.witness == nil {
		b.Message += "; it could not be decided whether that breaks anything"
	}
	return b
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// textOf is what a schema says by a keyword, as JSON, cut short.
func (s *Schema) textOf(n *node, keyword string) string {
	const most = 200
	if n == nil {
		return ""
	}
	v := s.lookup(n.pointer)
	if v != nil && keyword != "" && v.kind == kindObject {
		v = v.member(keyword)
	}
	if v == nil {
		return ""
	}
	text := string(v.canonical(nil))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	if keyword != "" && v.name == keyword {
		text = strconv.Quote(keyword) + ":" + text
	}
	return text
}

func pointerTo(n *node, keyword, text string) string {
	if n == nil {
		return ""
	}
	if keyword == "" || text == "" || n.never {
		return n.pointer
	}
	return n.pointer + "/" + keyword
}

// lookup follows a JSON Pointer into the schema's own text.
func (s *Schema) lookup(pointer string) *value {
	v := &s.text
	if pointer == "" {
		return v
	}
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch v.kind {
		case kindObject:
			v = v.member(token)
		case kindArray:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v.items) {
				return nil
			}
			v = &v.items[i]
		default:
			return nil
		}
		if v == nil {
			return nil
		}
	}
	return v
}

// ruleName is a rule's stable name: one for what becomes narrower, which breaks old data, and one for what becomes
// wider, which breaks old readers.
func ruleName(rule string, direction Mode) string {
	names, ok := ruleNames[rule]
	if !ok {
		return rule
	}
	if direction == Forward {
		return names[1]
	}
	return names[0]
}

var ruleNames = map[string][2]string{
	"type":              {"type-narrowed", "type-widened"},
	"enum":              {"enum-value-removed", "enum-value-added"},
	"const":             {"const-changed", "const-changed"},
	"required":          {"required-added", "required-removed"},
	"minimum":           {"minimum-raised", "minimum-lowered"},
	"maximum":           {"maximum-lowered", "maximum-raised"},
	"multipleOf":        {"multiple-of-narrowed", "multiple-of-widened"},
	"minLength":         {"min-length-raised", "min-length-lowered"},
	"maxLength":         {"max-length-lowered", "max-length-raised"},
	"pattern":           {"pattern-changed", "pattern-changed"},
	"format":            {"format-changed", "format-changed"},
	"minItems":          {"min-items-raised", "min-items-lowered"},
	"maxItems":          {"max-items-lowered", "max-items-raised"},
	"uniqueItems":       {"unique-items-added", "unique-items-removed"},
	"contains":          {"contains-narrowed", "contains-widened"},
	"minProperties":     {"min-properties-raised", "min-properties-lowered"},
	"maxProperties":     {"max-properties-lowered", "max-properties-raised"},
	"propertyNames":     {"property-names-narrowed", "property-names-widened"},
	"dependentRequired": {"dependency-added", "dependency-removed"},
	"property":          {"property-removed", "property-added"},
	"additional":        {"property-closed", "property-opened"},
	"open":              {"open-property-constrained", "open-property-freed"},
	"item":              {"items-closed", "items-opened"},
	"alternatives":      {"alternative-removed", "alternative-added"},
	"not":               {"exclusion-added", "exclusion-removed"},
	"never":             {"schema-closed", "schema-opened"},
}
