package schema

import (
	"fmt"
	"slices"
	"sort"
)

// What one comparison may cost.
const (
	proofSteps      = 200_000
	evaluationSteps = 20_000
	witnessSteps    = 400_000
	maxProofDepth   = 200
	maxFailures     = 40
)

// prover tries to prove that every value of one schema is one of another. It proves by the structure of both; what it
// cannot prove it notes as a failure, with candidates for a document that shows that it cannot be proven.
//
// Recursive schemas are proven by induction on the size of data: what is being proven may be assumed for parts of a
// value, never for the value itself.
type prover struct {
	from, to *Schema
	options  CompareOptions
	dynamic  bool
	steps    int
	depth    int // of the proof
	level    int // of the data

	ids      map[*node]int
	assumed  map[string]int // goal, to the level where it was set
	trail    []string
	same     map[[2]*node]bool
	made     map[string]*node
	sampled  map[string][]value
	failures []*failure
	// finding is the steps left for finding documents.
	finding int
}

func newProver(from, to *Schema, o CompareOptions) *prover {
	return &prover{
		from: from, to: to, options: o, dynamic: from.dynamic || to.dynamic,
		steps: proofSteps, finding: witnessSteps,
		ids: map[*node]int{}, assumed: map[string]int{}, same: map[[2]*node]bool{}, made: map[string]*node{}, sampled: map[string][]value{},
	}
}

// charge takes what evaluating values took off both budgets.
func (p *prover) charge(r *run) {
	used := evaluationSteps - r.steps
	p.steps -= used / 40
	p.finding -= used / 4
}

func (p *prover) spend() bool {
	p.steps--
	return p.steps >= 0
}

// goal is the text that names what is to be proven.
func (p *prover) goal(a *conjunction, b *node) string {
	ids := func(nodes []*node) []int {
		out := make([]int, len(nodes))
		for i, n := range nodes {
			id, ok := p.ids[n]
			if !ok {
				id = len(p.ids)
				p.ids[n] = id
			}
			out[i] = id
		}
		sort.Ints(out)
		return slices.Compact(out)
	}
	return fmt.Sprint(ids(a.nodes), ids(a.excluded), a.kinds, ids([]*node{b}))
}

// settled decides what needs no proof: b takes everything or is one of a's own, or no time is left for a proof.
func (p *prover) settled(a conjunction, b *node, f *frame) (contained, settled bool) {
	if b.trivial() || slices.ContainsFunc(a.nodes, func(n *node) bool { return p.equal(n, b) }) {
		return true, true
	}
	if !p.spend() || p.depth > maxProofDepth {
		return p.fail(difference{rule: "undecided", to: b, message: "comparing the two takes too long"}, a, f), true
	}
	return false, false
}

// contains proves that all of a is in b.
func (p *prover) contains(a conjunction, b *node, f *frame) bool {
	if contained, settled := p.settled(a, b, f); settled {
		return contained
	}
	goal := p.goal(&a, b)
	if level, ok := p.assumed[goal]; ok {
		if level < p.level {
			return true
		}
		return p.fail(difference{rule: "undecided", to: b, message: "the comparison goes round in circles"}, a, f)
	}
	p.assumed[goal] = p.level
	mark := len(p.trail)
	p.trail = append(p.trail, goal)
	p.depth++
	ok := true
	for _, c := range p.cases(a) {
		for _, k := range c.split() {
			ok = p.containsCase(k, b, f) && ok
		}
	}
	p.depth--
	if !ok {
		// What was proven since may rest on the assumption that has just fallen.
		for _, g := range p.trail[mark:] {
			delete(p.assumed, g)
		}
		p.trail = p.trail[:mark]
	} else {
		// It is proven, so it holds for the value itself too.
		p.assumed[goal] = -1
	}
	return ok
}

// trivial is whether everything is valid.
func (n *node) trivial() bool {
	return !n.never && n.kinds == 0 && n.enum == nil && !n.hasConst && n.minimum == nil && n.maximum == nil &&
		n.exclusiveMinimum == nil && n.exclusiveMaximum == nil && n.divisor == nil && n.minLength == nil &&
		n.maxLength == nil && n.pattern == nil && n.format == nil && n.minItems == nil && n.maxItems == nil && !n.unique &&
		n.prefix == nil && n.items == nil && n.contains == nil && n.unevaluatedItems == nil && n.minProperties == nil &&
		n.maxProperties == nil && n.required == nil && n.properties == nil && n.patterns == nil && n.additional == nil &&
		n.names == nil && n.unevaluatedProperties == nil && n.needs == nil && n.ref == nil && n.dynamic == nil &&
		n.all == nil && n.any == nil && n.one == nil && n.not == nil && n.ifs == nil
}

// containsCase proves that a case of one kind is in b.
func (p *prover) containsCase(a conjunction, b *node, f *frame) bool {
	if contained, settled := p.settled(a, b, f); settled {
		return contained
	}
	p.depth++
	defer func() { p.depth-- }()
	if b.never {
		return p.fail(p.closed(b, f), a, f)
	}
	if values, ok := p.finite(&a); ok {
		return p.containsValues(a, values, b, f)
	}
	if b.kinds != 0 && meet(a.kinds, b.kinds) != a.kinds && (a.kinds != kindNumber || b.kinds&kindInteger == 0 || !a.bounds().integer) {
		return p.fail(difference{rule: "type", keyword: "type", to: b}, a, f)
	}
	if b.hasConst {
		return p.fail(difference{rule: "const", keyword: "const", to: b}, a, f)
	}
	if b.enum != nil {
		return p.fail(difference{rule: "enum", keyword: "enum", to: b}, a, f)
	}
	ok := true
	switch a.kinds {
	case kindNumber, kindInteger:
		ok = p.containsNumbers(a, b, f)
	case kindString:
		ok = p.containsStrings(a, b, f)
	case kindArray:
		ok = p.containsArrays(a, b, f)
	case kindObject:
		ok = p.containsObjects(a, b, f)
	}
	return p.containsInPlace(a, b, f) && ok
}

// closed words that b allows nothing.
func (p *prover) closed(b *node, f *frame) difference {
	d := difference{rule: "never", to: b}
	switch {
	case f == nil:
	case f.name:
		d.rule, d.keyword = "propertyNames", ""
	case f.index >= 0:
		d.rule = "item"
	case f.class.explicit:
		d.rule = "property"
	default:
		d.rule = "additional"
	}
	return d
}

// containsValues decides a case of few values one by one.
func (p *prover) containsValues(a conjunction, values []value, b *node, f *frame) bool {
	for i := range values {
		r := run{steps: evaluationSteps}
		ok := r.valid(b, &values[i])
		p.charge(&r)
		if ok {
			continue
		}
		d := difference{rule: "undecided", to: b, message: "a value is too entangled with the schema's alternatives"}
		if !r.exhausted {
			d = p.valueDifference(&values[i], b)
		}
		only := &node{hasConst: true, constant: values[i], draft: 2020, pointer: firstPointer(a.nodes)}
		at := a.and(only)
		for _, n := range a.nodes {
			if d.keyword != "" && p.from.textOf(n, d.keyword) != "" {
				d.from = n
			}
		}
		if d.from == nil && len(a.nodes) > 0 {
			d.from = a.nodes[0]
		}
		p.fail(d, at, f)
		return false // one value is enough
	}
	return true
}

func firstPointer(nodes []*node) string {
	if len(nodes) == 0 {
		return ""
	}
	return nodes[0].pointer
}

// valueDifference names what a value fails of.
func (p *prover) valueDifference(x *value, b *node) difference {
	t := b.target()
	switch {
	case t.kinds != 0 && !t.kinds.has(x):
		return difference{rule: "type", keyword: "type", to: t}
	case t.enum != nil && !t.listed(x):
		return difference{rule: "enum", keyword: "enum", to: t}
	case t.hasConst && !t.listed(x):
		return difference{rule: "const", keyword: "const", to: t}
	case t.any != nil:
		return difference{rule: "alternatives", keyword: "anyOf", to: t}
	case t.one != nil:
		return difference{rule: "alternatives", keyword: "oneOf", to: t}
	}
	out := &report{}
	r := run{steps: evaluationSteps}
	r.eval(b, x, nil, nil, out, nil)
	for _, v := range out.violations {
		if _, ok := ruleNames[v.Keyword]; ok {
			return difference{rule: v.Keyword, keyword: v.Keyword, to: b}
		}
	}
	return difference{rule: "enum", keyword: "enum", to: b}
}

func (p *prover) containsNumbers(a conjunction, b *node, f *frame) bool {
	have, ok := a.bounds(), true
	check := func(holds bool, rule, keyword string) {
		if !holds {
			ok = p.fail(difference{rule: rule, keyword: keyword, to: b}, a, f)
		}
	}
	if b.minimum != nil {
		check(have.atLeast(*b.minimum, false), "minimum", "minimum")
	}
	if b.exclusiveMinimum != nil {
		check(have.atLeast(*b.exclusiveMinimum, true), "minimum", "exclusiveMinimum")
	}
	if b.maximum != nil {
		check(have.atMost(*b.maximum, false), "maximum", "maximum")
	}
	if b.exclusiveMaximum != nil {
		check(have.atMost(*b.exclusiveMaximum, true), "maximum", "exclusiveMaximum")
	}
	if b.divisor != nil {
		holds := have.integer && parseNumber("1").multipleOf(*b.divisor)
		for _, d := range have.divisors {
			holds = holds || d.multipleOf(*b.divisor)
		}
		check(holds, "multipleOf", "multipleOf")
	}
	return ok
}

func (p *prover) containsCount(a conjunction, b *node, f *frame, of func(n *node) (least, most *int), floor int, ceiling *int, lower, upper string) bool {
	least, most := a.span(of)
	least = max(least, floor)
	if ceiling != nil && (most == nil || *ceiling < *most) {
		most = ceiling
	}
	wantLeast, wantMost := of(b)
	ok := true
	if wantLeast != nil && least < *wantLeast {
		ok = p.fail(difference{rule: lower, keyword: lower, to: b}, a, f)
	}
	if wantMost != nil && (most == nil || *most > *wantMost) {
		ok = p.fail(difference{rule: upper, keyword: upper, to: b}, a, f)
	}
	return ok
}

func (p *prover) containsStrings(a conjunction, b *node, f *frame) bool {
	ok := p.containsCount(a, b, f, func(n *node) (least, most *int) { return n.minLength, n.maxLength }, 0, nil, "minLength", "maxLength")
	if b.pattern != nil && !b.pattern.everything() &&
		!slices.ContainsFunc(a.nodes, func(n *node) bool { return n.pattern != nil && n.pattern.source == b.pattern.source }) {
		ok = p.fail(difference{rule: "pattern", keyword: "pattern", to: b}, a, f)
	}
	if b.format != nil && !slices.ContainsFunc(a.nodes, func(n *node) bool { return n.format != nil && n.format.Name == b.format.Name }) {
		ok = p.fail(difference{rule: "format", keyword: "format", to: b}, a, f)
	}
	return ok
}

// everything is whether a pattern surely matches every string.
func (p *pattern) everything() bool {
	return slices.Contains([]string{"", "^", "$", ".*", "^.*", ".*$"}, p.source)
}

// into proves something of a part of the value.
func (p *prover) into(a conjunction, b *node, f *frame) bool {
	p.level++
	ok := p.contains(a, b, f)
	p.level--
	return ok
}
