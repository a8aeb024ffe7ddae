package schema

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// report collects violations. A nil report takes none, so that evaluation need not ask.
type report struct {
	redacted   bool
	violations []Violation
	places     []int // how deep each is in the data
}

func (out *report) add(n *node, keyword string, at *place, format string, args ...any) {
	if out == nil || len(out.violations) >= maxViolations {
		return
	}
	v := Violation{
		Pointer:       at.pointer(out.redacted),
		Keyword:       keyword,
		SchemaPointer: n.pointer,
		Message:       fmt.Sprintf(format, args...),
	}
	if keyword != "" && !n.never {
		v.SchemaPointer += "/" + keyword
	}
	if !slices.Contains(out.violations, v) { // two ways to one schema find one mistake
		out.violations = append(out.violations, v)
		out.places = append(out.places, at.depth())
	}
}

func (out *report) never(n *node, at *place) {
	if out == nil {
		return
	}
	what := "no value is allowed here"
	if at != nil {
		what = "this is not allowed here"
		if _, err := strconv.Atoi(at.token); err != nil {
			what = "this property is not allowed here"
		}
	}
	out.add(n, lastKeyword(n.pointer), at, "%s", what)
}

// lastKeyword is the keyword that holds the schema at a pointer.
func lastKeyword(pointer string) string {
	tokens := strings.Split(pointer, "/")
	for _, t := range slices.Backward(tokens[1:]) {
		if slices.Contains(schemaKeywords, t) || slices.Contains(schemaListKeywords, t) || slices.Contains(schemaMapKeywords, t) {
			return t
		}
	}
	return ""
}

// got is the offending value for a message, "" where it must not be told.
func (out *report) got(x *value) string {
	if out.redacted {
		return ""
	}
	return ", got " + show(x)
}

// show is a value for a message, cut short.
func show(x *value) string {
	const most = 60
	switch x.kind {
	case kindArray:
		return fmt.Sprintf("an array of %d", len(x.items))
	case kindObject:
		return "an object"
	}
	s := string(x.canonical(nil))
	if x.kind == kindNumber {
		s = x.text
	}
	if len(s) > most {
		cut := most
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return s
}

func (out *report) kind(n *node, x *value, at *place) {
	if out != nil {
		out.add(n, "type", at, "expected %s, got %s", articles(n.kinds), out.typed(x, n.kinds))
	}
}

func (out *report) typed(x *value, want kind) string {
	if want&kindInteger != 0 && x.kind == kindNumber {
		if out.redacted {
			return "a number with a fraction"
		}
		return show(x)
	}
	return article(x.kind)
}

func articles(k kind) string {
	var names []string
	for _, t := range kinds {
		if k&t.kind != 0 {
			names = append(names, article(t.kind))
		}
	}
	return strings.Join(names, " or ")
}

func (out *report) listed(n *node, x *value, at *place) {
	if out == nil {
		return
	}
	if n.hasConst && !n.constant.equal(x) {
		out.add(n, "const", at, "expected %s%s", show(&n.constant), out.got(x))
		return
	}
	out.add(n, "enum", at, "expected %s%s", oneOf(n.enum), out.got(x))
}

func oneOf(values []value) string {
	const most = 10
	var b strings.Builder
	if len(values) > 1 {
		b.WriteString("one of ")
	}
	for i := range values {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(values)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(show(&values[i]))
	}
	return b.String()
}

func (out *report) number(n *node, keyword string, x *value, at *place) {
	if out == nil {
		return
	}
	if keyword == "multipleOf" {
		out.add(n, keyword, at, "expected a multiple of %v%s", n.divisor, out.got(x))
		return
	}
	var want string
	switch {
	case n.minimum != nil && n.maximum != nil:
		want = fmt.Sprintf("from %v to %v", n.minimum, n.maximum)
	default:
		var parts []string
		for _, b := range []struct {
			words string
			bound *number
		}{{"at least", n.minimum}, {"above", n.exclusiveMinimum}, {"at most", n.maximum}, {"below", n.exclusiveMaximum}} {
			if b.bound != nil {
				parts = append(parts, b.words+" "+b.bound.String())
			}
		}
		want = strings.Join(parts, " and ")
	}
	out.add(n, keyword, at, "expected a number %s%s", want, out.got(x))
}

// span words how many of something are wanted.
func span(least, most *int, one, many string) string {
	noun := func(n int) string {
		if n == 1 {
			return one
		}
		return many
	}
	switch {
	case least != nil && most != nil && *least == *most:
		return fmt.Sprintf("exactly %d %s", *least, noun(*least))
	case least != nil && most != nil:
		return fmt.Sprintf("%d to %d %s", *least, *most, noun(*most))
	case least != nil:
		return fmt.Sprintf("at least %d %s", *least, noun(*least))
	case most != nil:
		return fmt.Sprintf("at most %d %s", *most, noun(*most))
	}
	return "any number of " + many
}

func (out *report) count(n *node, least, most *int, lower, upper string, got int, at *place, one, many string) {
	if out == nil {
		return
	}
	keyword := upper
	if least != nil && got < *least {
		keyword = lower
	}
	if out.redacted {
		out.add(n, keyword, at, "expected %s", span(least, most, one, many))
		return
	}
	out.add(n, keyword, at, "expected %s, got %d", span(least, most, one, many), got)
}

func (out *report) length(n *node, got int, at *place) {
	out.count(n, n.minLength, n.maxLength, "minLength", "maxLength", got, at, "character", "characters")
}

func (out *report) items(n *node, got int, at *place) {
	out.count(n, n.minItems, n.maxItems, "minItems", "maxItems", got, at, "item", "items")
}

func (out *report) properties(n *node, got int, at *place) {
	out.count(n, n.minProperties, n.maxProperties, "minProperties", "maxProperties", got, at, "property", "properties")
}

func (out *report) contains(n *node, found, least int, at *place) {
	out.count(n, &least, n.maxContains, containsKeyword(n), "maxContains", found, at, "item like contains", "items like contains")
}

func containsKeyword(n *node) string {
	if n.minContains != nil {
		return "minContains"
	}
	return "contains"
}

func (out *report) pattern(n *node, x *value, at *place) {
	if out != nil {
		out.add(n, "pattern", at, "expected a string that matches %s%s", n.pattern.source, out.got(x))
	}
}

func (out *report) format(n *node, x *value, at *place) {
	if out == nil {
		return
	}
	want := n.format.Name
	switch want {
	case "date-time":
		want = "a date-time such as 2026-03-01T12:00:00Z"
	case "date":
		want = "a date such as 2026-03-01"
	case "time":
		want = "a time such as 12:00:00Z"
	case "duration":
		want = "a duration such as PT15M"
	case "email", "idn-email":
		want = "an email address"
	case "uri", "iri":
		want = "an absolute URI"
	case "uuid":
		want = "a UUID"
	case "ipv4":
		want = "an IPv4 address"
	case "ipv6":
		want = "an IPv6 address"
	case "hostname":
		want = "a host name"
	case "regex":
		want = "a regular expression"
	case "json-pointer":
		want = "a JSON Pointer"
	}
	out.add(n, "format", at, "expected %s%s", want, out.got(x))
}

func (out *report) duplicate(n *node, i, j int, at *place) {
	out.add(n, "uniqueItems", at, "expected items that differ, but items %d and %d are equal", i, j)
}

func (out *report) missing(n *node, keyword, name, because string, at *place) {
	if because != "" {
		out.add(n, keyword, at, "the property %q is missing, which %q needs beside it", name, because)
		return
	}
	out.add(n, keyword, at, "the property %q is missing", name)
}

func (out *report) badName(n *node, sub *report, at *place) {
	what := "the property's name is not allowed"
	if len(sub.violations) > 0 {
		what += ": " + sub.violations[0].Message
	}
	out.add(n, "propertyNames", at, "%s", what)
}

func (out *report) forbidden(n *node, at *place) {
	out.add(n, "not", at, "the value is one of those that the schema excludes")
}

func (out *report) several(n *node, i, j int, at *place) {
	out.add(n, "oneOf", at, "expected exactly one of the alternatives to fit, but both number %d and number %d do", i+1, j+1)
}

// nearest reports of alternatives, none of which fits, the one that comes nearest: of the right type, with the right
// constants, with the fewest mistakes.
func (r *run) nearest(n *node, keyword string, branches []*node, x *value, sc *scope, out *report, at *place) {
	if out == nil || len(out.violations) >= maxViolations {
		return
	}
	var best *report
	lowest, allKinds := math.MaxInt, true
	var want kind
	var values []value
	for _, b := range branches {
		sub := &report{redacted: out.redacted}
		r.eval(b, x, sc, nil, sub, at)
		if r.exhausted {
			return
		}
		score := len(sub.violations)
		isKind, isValue := false, false
		for i, v := range sub.violations {
			switch depth := sub.places[i] - at.depth(); {
			case v.Keyword == "type" && depth == 0:
				score, isKind = score+10_000, true
			case (v.Keyword == "const" || v.Keyword == "enum") && depth == 0:
				score, isValue = score+10_000, true
			case (v.Keyword == "const" || v.Keyword == "enum") && depth == 1:
				score += 100
			}
		}
		target := b.target()
		if isKind {
			want |= target.kinds
		}
		if isValue {
			values = append(values, target.enum...)
			if target.hasConst {
				values = append(values, target.constant)
			}
		}
		allKinds = allKinds && (isKind && target.kinds != 0 || isValue && (target.enum != nil || target.hasConst))
		if score < lowest {
			best, lowest = sub, score
		}
	}
	if best == nil {
		return
	}
	if allKinds {
		parts := make([]string, 0, 2)
		if len(values) > 0 {
			parts = append(parts, oneOf(values))
		}
		if want != 0 {
			parts = append(parts, articles(want))
		}
		got := out.got(x)
		if len(values) == 0 {
			got = ", got " + out.typed(x, want)
		}
		out.add(n, keyword, at, "expected %s%s", strings.Join(parts, " or "), got)
		return
	}
	for i, v := range best.violations {
		if len(out.violations) >= maxViolations {
			return
		}
		if len(branches) > 1 {
			v.Message += fmt.Sprintf(" (of %d alternatives this is the nearest)", len(branches))
		}
		out.violations = append(out.violations, v)
		out.places = append(out.places, best.places[i])
	}
}

// target is where a schema that is nothing but a reference leads.
func (n *node) target() *node {
	for n.ref != nil && n.kinds == 0 {
		n = n.ref
	}
	return n
}
