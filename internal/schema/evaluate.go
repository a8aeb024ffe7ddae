package schema

import (
	"slices"
	"unicode/utf8"
)

// maxRecursion bounds how far schemas may apply each other within one validation; only $dynamicRef can get there.
const maxRecursion = 4000

// run is one validation. Values are held against schemas in two ways with one code: quickly, to know whether they are
// valid, and, once they are known not to be, with a report, which goes on to the next mistake.
type run struct {
	steps     int
	depth     int
	dynamic   bool
	exhausted bool // the steps are used up: nothing that was found since means anything
}

// scope is the way of resources to where evaluation is, for $dynamicRef.
type scope struct {
	resource *resource
	parent   *scope
}

// marks tells which members or items of one value some schema has looked at, for unevaluated….
type marks []bool

func (m marks) all() {
	for i := range m {
		m[i] = true
	}
}

func (m marks) merge(other marks) {
	for i, b := range other {
		m[i] = m[i] || b
	}
}

// spend takes steps off the budget; false when there are none left.
func (r *run) spend(n int) bool {
	r.steps -= n
	if r.steps < 0 || r.depth > maxRecursion {
		r.exhausted = true
	}
	return !r.exhausted
}

// valid is whether a value is valid, as far as the steps reach.
func (r *run) valid(n *node, x *value) bool {
	return r.eval(n, x, nil, nil, nil, nil)
}

// eval holds a value against a schema. Marks, where given, get what the schema evaluates; a report gets the mistakes,
// and without one the first mistake ends it.
func (r *run) eval(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	if !r.spend(1) {
		return false
	}
	if n.never {
		out.never(n, at)
		return false
	}
	if r.dynamic && (sc == nil || sc.resource != n.resource) {
		sc = &scope{resource: n.resource, parent: sc}
	}
	r.depth++
	ok := r.evalOpen(n, x, sc, ev, out, at)
	r.depth--
	return ok
}

func (r *run) evalOpen(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	if n.kinds != 0 && !n.kinds.has(x) {
		out.kind(n, x, at)
		return false
	}
	if !n.listed(x) {
		out.listed(n, x, at)
		return false
	}
	mine := ev
	if (n.marksProperties && x.kind == kindObject) || (n.marksItems && x.kind == kindArray) {
		mine = make(marks, len(x.items))
	}
	var ok, fine bool
	switch x.kind {
	case kindNumber:
		ok = n.evalNumber(x, out, at)
	case kindString:
		ok = r.evalString(n, x, out, at)
	case kindArray:
		ok = r.evalArray(n, x, sc, mine, out, at)
	case kindObject:
		ok = r.evalObject(n, x, sc, mine, out, at)
	default:
		ok = true
	}
	if !ok && out == nil {
		return false
	}
	if fine = r.evalInPlace(n, x, sc, mine, out, at); !fine && out == nil {
		return false
	}
	ok = ok && fine
	if (n.marksProperties && x.kind == kindObject) || (n.marksItems && x.kind == kindArray) {
		// What the schemas in place did not evaluate is known only now, and only if they hold.
		if ok && !r.evalUnevaluated(n, x, sc, mine, out, at) {
			return false
		}
		if ev != nil {
			ev.merge(mine)
		}
	}
	return ok
}

func (k kind) has(x *value) bool {
	return k&x.kind != 0 || (k&kindInteger != 0 && x.kind == kindNumber && parseNumber(x.text).integer())
}

func (n *node) listed(x *value) bool {
	if n.hasConst && !n.constant.equal(x) {
		return false
	}
	return n.enum == nil || slices.ContainsFunc(n.enum, func(e value) bool { return e.equal(x) })
}

func (n *node) evalNumber(x *value, out *report, at *place) bool {
	if n.minimum == nil && n.maximum == nil && n.exclusiveMinimum == nil && n.exclusiveMaximum == nil && n.divisor == nil {
		return true
	}
	v := parseNumber(x.text)
	keyword := ""
	switch {
	case n.minimum != nil && v.cmp(*n.minimum) < 0:
		keyword = "minimum"
	case n.exclusiveMinimum != nil && v.cmp(*n.exclusiveMinimum) <= 0:
		keyword = "exclusiveMinimum"
	case n.maximum != nil && v.cmp(*n.maximum) > 0:
		keyword = "maximum"
	case n.exclusiveMaximum != nil && v.cmp(*n.exclusiveMaximum) >= 0:
		keyword = "exclusiveMaximum"
	case n.divisor != nil && !v.multipleOf(*n.divisor):
		keyword = "multipleOf"
	default:
		return true
	}
	out.number(n, keyword, x, at)
	return false
}

func (r *run) evalString(n *node, x *value, out *report, at *place) bool {
	ok := true
	if n.minLength != nil || n.maxLength != nil {
		length := utf8.RuneCountInString(x.text)
		if (n.minLength != nil && length < *n.minLength) || (n.maxLength != nil && length > *n.maxLength) {
			out.length(n, length, at)
			ok = false
		}
	}
	if ok && n.pattern != nil && !r.matches(n.pattern, x.text) {
		out.pattern(n, x, at)
		ok = false
	}
	if ok && n.format != nil {
		if err := n.format.Validate(x.text); err != nil {
			out.format(n, x, at)
			ok = false
		}
	}
	return ok
}

// matches spends steps by what matching may take.
func (r *run) matches(p *pattern, s string) bool {
	return r.spend(len(s)*p.cost/64) && p.re.MatchString(s)
}

func (r *run) evalArray(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	ok := true
	if (n.minItems != nil && len(x.items) < *n.minItems) || (n.maxItems != nil && len(x.items) > *n.maxItems) {
		if ok = false; out == nil {
			return false
		}
		out.items(n, len(x.items), at)
	}
	for i := range x.items {
		var child *node
		switch {
		case i < len(n.prefix):
			child = n.prefix[i]
		case n.items != nil:
			child = n.items
		default:
			continue
		}
		if !r.eval(child, &x.items[i], sc, nil, out, out.item(at, i)) {
			if ok = false; out == nil || r.exhausted {
				return false
			}
		}
		if ev != nil {
			ev[i] = true
		}
	}
	if n.unique {
		if i, j := r.duplicates(x.items); j > 0 {
			if ok = false; out == nil {
				return false
			}
			out.duplicate(n, i, j, at)
		}
	}
	if n.contains == nil {
		return ok
	}
	found, least := 0, 1
	if n.minContains != nil {
		least = *n.minContains
	}
	for i := range x.items {
		if r.eval(n.contains, &x.items[i], sc, nil, nil, nil) {
			found++
			if ev != nil && n.draft >= 2020 {
				ev[i] = true
			}
		}
		if r.exhausted {
			return false
		}
	}
	if found < least || (n.maxContains != nil && found > *n.maxContains) {
		out.contains(n, found, least, at)
		return false
	}
	return ok
}

// duplicates finds two equal items, the earlier first; 0, 0 where there are none.
func (r *run) duplicates(items []value) (i, j int) {
	if len(items) <= 12 {
		for j := range items {
			for i := range j {
				if items[i].equal(&items[j]) {
					return i, j
				}
			}
		}
		return 0, 0
	}
	seen := make(map[string]int, len(items))
	var b []byte
	for j := range items {
		b = items[j].canonical(b[:0])
		if i, ok := seen[string(b)]; ok {
			return i, j
		}
		seen[string(b)] = j
	}
	return 0, 0
}

func (r *run) evalObject(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	ok := true
	if (n.minProperties != nil && len(x.items) < *n.minProperties) || (n.maxProperties != nil && len(x.items) > *n.maxProperties) {
		if ok = false; out == nil {
			return false
		}
		out.properties(n, len(x.items), at)
	}
	for _, name := range n.required {
		if x.member(name) == nil {
			if ok = false; out == nil {
				return false
			}
			out.missing(n, "required", name, "", at)
		}
	}
	for i := range n.needs {
		if !r.evalNeed(n, &n.needs[i], x, sc, ev, out, at) {
			if ok = false; out == nil {
				return false
			}
		}
	}
	if n.properties == nil && n.patterns == nil && n.additional == nil && n.names == nil {
		return ok
	}
	for i := range x.items {
		m := &x.items[i]
		seen := false
		if child := n.property(m.name); child != nil {
			seen = true
			if !r.eval(child, m, sc, nil, out, out.member(at, m.name, true)) {
				ok = false
			}
		}
		for j := range n.patterns {
			if r.matches(n.patterns[j].pattern, m.name) {
				seen = true
				if !r.eval(n.patterns[j].node, m, sc, nil, out, out.member(at, m.name, false)) {
					ok = false
				}
			}
		}
		if !seen && n.additional != nil {
			seen = true
			if !r.eval(n.additional, m, sc, nil, out, out.member(at, m.name, false)) {
				ok = false
			}
		}
		if n.names != nil && !r.evalName(n, m.name, sc, out, at) {
			ok = false
		}
		if (!ok && out == nil) || r.exhausted {
			return false
		}
		if ev != nil && seen {
			ev[i] = true
		}
	}
	return ok
}

func (r *run) evalName(n *node, name string, sc *scope, out *report, at *place) bool {
	x := stringValue(name)
	if r.eval(n.names, &x, sc, nil, nil, nil) {
		return true
	}
	if out != nil && !r.exhausted {
		sub := &report{redacted: out.redacted}
		r.eval(n.names, &x, sc, nil, sub, nil)
		out.badName(n, sub, out.member(at, name, false))
	}
	return false
}

func (r *run) evalNeed(n *node, d *need, x *value, sc *scope, ev marks, out *report, at *place) bool {
	if x.member(d.property) == nil {
		return true
	}
	if d.node != nil {
		return r.eval(d.node, x, sc, ev, out, at)
	}
	ok := true
	for _, name := range d.required {
		if x.member(name) == nil {
			if ok = false; out == nil {
				return false
			}
			out.missing(n, d.keyword, name, d.property, at)
		}
	}
	return ok
}
