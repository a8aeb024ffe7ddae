package schema

import "slices"

func (p *prover) containsArrays(a conjunction, b *node, f *frame) bool {
	least, most := a.span(func(n *node) (*int, *int) { return n.minItems, n.maxItems })
	ok := p.containsCount(a, b, f, func(n *node) (*int, *int) { return n.minItems, n.maxItems }, 0, nil, "minItems", "maxItems")
	if b.unique && (most == nil || *most > 1) && !slices.ContainsFunc(a.nodes, func(n *node) bool { return n.unique }) {
		ok = p.fail(difference{rule: "uniqueItems", keyword: "uniqueItems", to: b}, a, f)
	}
	length := len(b.prefix)
	for _, n := range a.nodes {
		length = max(length, n.longestPrefix())
	}
	length = max(length, b.longestPrefix())
	for i := 0; i <= length && (most == nil || i < *most); i++ { // the last stands for all after the prefixes
		if child := b.appliedItem(i, false); child != nil {
			ok = p.into(p.item(&a, i), child, &frame{parent: f, of: a, index: i}) && ok
		}
	}
	return p.containsContains(a, b, least, most, length, f) && ok
}

// longestPrefix looks into the schemas in place too, for unevaluatedItems depends on theirs.
func (n *node) longestPrefix() int {
	length := 0
	for _, m := range n.reach(true) {
		length = max(length, len(m.prefix))
	}
	return length
}

func (p *prover) containsContains(a conjunction, b *node, least int, most *int, prefix int, f *frame) bool {
	if b.contains == nil {
		return true
	}
	want := 1
	if b.minContains != nil {
		want = *b.minContains
	}
	enough, few := want == 0, b.maxContains == nil || (most != nil && *most <= *b.maxContains)
	for _, n := range a.nodes {
		if n.contains == nil {
			continue
		}
		has := 1
		if n.minContains != nil {
			has = *n.minContains
		}
		if !enough && has >= want {
			enough, _ = p.attempt(func() bool {
				return p.into(conjunction{nodes: []*node{n.contains}, kinds: kindAll}, b.contains, nil)
			})
		}
		if !few && n.maxContains != nil && *n.maxContains <= *b.maxContains {
			few, _ = p.attempt(func() bool {
				return p.into(conjunction{nodes: []*node{b.contains}, kinds: kindAll}, n.contains, nil)
			})
		}
	}
	if !enough && least >= want && prefix < 64 {
		enough, _ = p.attempt(func() bool {
			for i := range prefix + 1 {
				if !p.into(p.item(&a, i), b.contains, nil) {
					return false
				}
			}
			return true
		})
	}
	if enough && few {
		return true
	}
	return p.fail(difference{rule: "contains", keyword: "contains", to: b}, a, f)
}
