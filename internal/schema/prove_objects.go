package schema

import (
	"fmt"
	"slices"
)

func (p *prover) containsObjects(a conjunction, b *node, f *frame) bool {
	required := a.required()
	var most *int
	if b.maxProperties != nil {
		most = p.mostProperties(&a)
	}
	ok := p.containsCount(a, b, f, func(n *node) (*int, *int) { return n.minProperties, n.maxProperties }, len(required), most, "minProperties", "maxProperties")
	for _, name := range b.required {
		if !slices.Contains(required, name) {
			ok = p.fail(difference{
				rule: "required", keyword: "required", to: b, from: p.declaring(&a, "required"),
				message: fmt.Sprintf("%q is not required by {from}, but is by {to}", name),
			}, a.butNot(p.having(name)), f)
		}
	}
	for i := range b.needs {
		d := &b.needs[i]
		has := a.and(p.having(d.property))
		if p.empty(&has, emptyDepth) {
			continue
		}
		if d.node != nil {
			ok = p.contains(has, d.node, f) && ok
			continue
		}
		given := has.required()
		for _, name := range d.required {
			if !slices.Contains(given, name) {
				ok = p.fail(difference{rule: "dependentRequired", keyword: d.keyword, to: b}, has.butNot(p.having(name)), f)
			}
		}
	}
	return p.containsProperties(a, b, f) && ok
}

func (p *prover) declaring(a *conjunction, keyword string) *node {
	for _, n := range a.nodes {
		if p.from.textOf(n, keyword) != "" {
			return n
		}
	}
	if len(a.nodes) > 0 {
		return a.nodes[0]
	}
	return nil
}

// mostProperties counts the properties that an object may have; nil where it is open.
func (p *prover) mostProperties(a *conjunction) *int {
	classes := p.classes(a, nil)
	if classes == nil {
		return nil
	}
	most := 0
	for _, k := range classes {
		switch possible := p.nameable(a, k) && !p.nothing(p.child(a, k), 1); {
		case possible && !k.explicit:
			return nil
		case possible:
			most++
		}
	}
	return &most
}

// maxPatterns bounds the patterns of property names that are compared in all their combinations.
const maxPatterns = 4

// classes divides all property names: each that a schema lists is one, the others fall by the patterns that they match.
// Nil where there are too many.
func (p *prover) classes(a *conjunction, b *node) []class {
	nodes := slices.Clone(a.nodes)
	if b != nil {
		nodes = append(nodes, b)
	}
	for _, n := range slices.Clone(nodes) {
		if n.unevaluatedProperties != nil {
			nodes = append(nodes, n.reach(true)...)
		}
	}
	var out []class
	names := sortedNames(nodes...)
	for _, n := range nodes {
		if n.names != nil {
			for _, v := range append(slices.Clone(n.names.enum), n.names.constant) {
				if v.kind == kindString {
					names = append(names, v.text)
				}
			}
		}
		for _, d := range n.needs {
			names = append(names, d.property)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		out = append(out, class{name: name, explicit: true})
	}
	var patterns []string
	for _, n := range nodes {
		for _, pp := range n.patterns {
			patterns = append(patterns, pp.pattern.source)
		}
	}
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	if len(patterns) > maxPatterns {
		return nil
	}
	for set := range 1 << len(patterns) {
		k := class{}
		for i, s := range patterns {
			if set&(1<<i) != 0 {
				k.patterns = append(k.patterns, s)
			}
		}
		out = append(out, k)
	}
	return out
}

func (p *prover) containsProperties(a conjunction, b *node, f *frame) bool {
	if b.properties == nil && b.patterns == nil && b.additional == nil && b.unevaluatedProperties == nil && b.names == nil {
		return true
	}
	classes := p.classes(&a, b)
	if classes == nil {
		return p.fail(difference{
			rule: "undecided", keyword: "patternProperties", to: b,
			message: fmt.Sprintf("more than %d patterns of property names are not compared", maxPatterns),
		}, a, f)
	}
	ok := true
	for _, k := range classes {
		if !p.nameable(&a, k) {
			continue
		}
		have := p.child(&a, k)
		if b.names != nil && !p.nothing(have, emptyDepth) {
			ok = p.containsName(a, b, k, f) && ok
		}
		step := &frame{parent: f, of: a, class: k, index: -1}
		for _, child := range b.appliedProperties(k, false) {
			open := k.explicit && len(have.nodes) == 0
			if open && p.options.AllowOpenProperties && !child.never {
				continue
			}
			proven, failures := p.attempt(func() bool { return p.into(have, child, step) })
			if open && !proven && !child.never {
				failures = []*failure{{
					difference: difference{rule: "open", to: child, from: p.declaring(&a, "properties"), message: fmt.Sprintf(
						"{from} says nothing of %q and is open to any property, so that data may hold anything there; {to} says %s",
						k.name, p.to.textOf(child, ""))},
					frame: step, at: failures[0].at,
				}}
			}
			p.note(failures...)
			ok = ok && proven
		}
	}
	return ok
}

// nameable is whether a case may have properties of a class at all, by its propertyNames.
func (p *prover) nameable(a *conjunction, k class) bool {
	for _, n := range a.nodes {
		if n.names == nil {
			continue
		}
		if !k.explicit {
			if n.names.enum != nil || n.names.hasConst || n.names.never {
				return false
			}
			continue
		}
		x := stringValue(k.name)
		if r := (run{steps: evaluationSteps}); !r.valid(n.names, &x) && !r.exhausted {
			return false
		}
	}
	return true
}

// containsName proves that b allows the names of a class.
func (p *prover) containsName(a conjunction, b *node, k class, f *frame) bool {
	if k.explicit {
		x := stringValue(k.name)
		if r := (run{steps: evaluationSteps}); r.valid(b.names, &x) {
			return true
		}
		return p.fail(difference{rule: "propertyNames", keyword: "propertyNames", to: b}, a.and(p.having(k.name)), f)
	}
	names := conjunction{kinds: kindString}
	for _, n := range a.nodes {
		if n.names != nil {
			names.nodes = append(names.nodes, n.names)
		}
	}
	proven, failures := p.attempt(func() bool {
		return p.into(names, b.names, &frame{parent: f, of: a, class: k, index: -1, name: true})
	})
	if proven {
		return true
	}
	p.note(&failure{
		difference: difference{rule: "propertyNames", keyword: "propertyNames", to: b, from: p.declaring(&a, "propertyNames")},
		at:         failures[0].at, frame: failures[0].frame,
	})
	return false
}
