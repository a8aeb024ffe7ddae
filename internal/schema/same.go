package schema

import "slices"

// equal is whether two schemas surely hold for the same values, for having the same keywords, whatever their notes.
// Schemas that refer to themselves are equal if nothing tells them apart.
func (p *prover) equal(x, y *node) bool {
	if x == y {
		return true
	}
	assumed := map[[2]*node]bool{}
	if known, ok := p.same[[2]*node{x, y}]; ok {
		return known
	}
	same := p.equalNodes(x, y, assumed)
	p.same[[2]*node{x, y}] = same
	if same {
		for pair := range assumed {
			p.same[pair] = true
		}
	}
	return same
}

func (p *prover) equalNodes(x, y *node, assumed map[[2]*node]bool) bool {
	if x == y {
		return true
	}
	if x == nil || y == nil {
		return false
	}
	pair := [2]*node{x, y}
	if assumed[pair] {
		return true
	}
	if known, ok := p.same[pair]; ok {
		return known
	}
	if !x.equalScalars(y) || x.dynamic != nil || y.dynamic != nil || !p.spend() {
		return false
	}
	assumed[pair] = true
	children := func(n *node) []*node {
		return []*node{
			n.items, n.contains, n.unevaluatedItems, n.additional, n.names, n.unevaluatedProperties, n.ref, n.not, n.ifs, n.then, n.elses,
		}
	}
	list := func(a, b []*node) bool {
		return slices.EqualFunc(a, b, func(a, b *node) bool { return p.equalNodes(a, b, assumed) })
	}
	return list(children(x), children(y)) && list(x.prefix, y.prefix) && list(x.all, y.all) && list(x.any, y.any) && list(x.one, y.one) &&
		slices.EqualFunc(x.properties, y.properties, func(a, b property) bool {
			return a.name == b.name && p.equalNodes(a.node, b.node, assumed)
		}) &&
		slices.EqualFunc(x.patterns, y.patterns, func(a, b patternProperty) bool {
			return a.pattern.source == b.pattern.source && p.equalNodes(a.node, b.node, assumed)
		}) &&
		slices.EqualFunc(x.needs, y.needs, func(a, b need) bool {
			return a.property == b.property && slices.Equal(a.required, b.required) && p.equalNodes(a.node, b.node, assumed)
		})
}

func (n *node) equalScalars(m *node) bool {
	return n.never == m.never && n.kinds == m.kinds && n.hasConst == m.hasConst && n.unique == m.unique &&
		n.draft == m.draft && n.constant.equal(&m.constant) && (n.enum == nil) == (m.enum == nil) &&
		slices.EqualFunc(n.enum, m.enum, func(a, b value) bool { return a.equal(&b) }) &&
		slices.EqualFunc(
			[]*number{n.minimum, n.maximum, n.exclusiveMinimum, n.exclusiveMaximum, n.divisor},
			[]*number{m.minimum, m.maximum, m.exclusiveMinimum, m.exclusiveMaximum, m.divisor},
			func(a, b *number) bool { return (a == nil) == (b == nil) && (a == nil || a.equal(*b)) }) &&
		slices.EqualFunc(n.counts(), m.counts(), func(a, b *int) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }) &&
		(n.pattern == nil) == (m.pattern == nil) && (n.pattern == nil || n.pattern.source == m.pattern.source) &&
		(n.format == nil) == (m.format == nil) && (n.format == nil || n.format.Name == m.format.Name) &&
		sameSet(n.required, m.required)
}

func (n *node) counts() []*int {
	return []*int{n.minLength, n.maxLength, n.minItems, n.maxItems, n.minContains, n.maxContains, n.minProperties, n.maxProperties}
}

func sameSet(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}
