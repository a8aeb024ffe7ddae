package schema

import "slices"

// conjunction stands for the values that all of some schemas hold for, none of some others does, and of some kinds. As
// the left side of a proof it may stand for more values than there are, never for fewer.
type conjunction struct {
	nodes    []*node
	expanded int // so many of the nodes have theirs that they apply in place beside them already
	excluded []*node
	kinds    kind
}

// maxCases bounds how many alternatives a conjunction is taken apart into.
const maxCases = 256

func (c conjunction) and(n *node) conjunction {
	c.nodes = append(slices.Clip(slices.Clone(c.nodes)), n)
	return c
}

func (c conjunction) butNot(n *node) conjunction {
	c.excluded = append(slices.Clip(slices.Clone(c.excluded)), n)
	return c
}

// meet are the kinds in both sets.
func meet(a, b kind) kind {
	m := a & b
	if (a&kindNumber != 0 && b&kindInteger != 0) || (b&kindNumber != 0 && a&kindInteger != 0) {
		m |= kindInteger
	}
	if m&kindNumber != 0 {
		m &^= kindInteger
	}
	return m
}

// cases takes a conjunction apart into ones without alternatives: every schema that is applied in place is a member.
// What cannot be expressed is left out, which makes a case stand for more values than there are. Cases that hold for
// nothing are left out.
func (p *prover) cases(c conjunction) []conjunction {
	type state struct {
		done conjunction
		todo []*node
	}
	work := []state{{
		done: conjunction{nodes: slices.Clip(c.nodes[:c.expanded]), kinds: c.kinds, excluded: c.excluded},
		todo: c.nodes[c.expanded:],
	}}
	var out []conjunction
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		if len(s.todo) == 0 {
			s.done.expanded = len(s.done.nodes)
			if !p.empty(&s.done, emptyDepth) {
				out = append(out, s.done)
			}
			continue
		}
		if !p.spend() {
			return []conjunction{c}
		}
		n := s.todo[len(s.todo)-1]
		s.todo = slices.Clip(s.todo[:len(s.todo)-1])
		if slices.Contains(s.done.nodes, n) {
			work = append(work, s)
			continue
		}
		s.done = s.done.and(n)
		if n.kinds != 0 {
			s.done.kinds = meet(s.done.kinds, n.kinds)
		}
		if n.never || s.done.kinds == 0 {
			continue
		}
		if n.ref != nil {
			s.todo = append(s.todo, n.ref)
		}
		s.todo = append(s.todo, n.all...)
		if n.not != nil {
			s.done = s.done.butNot(n.not)
		}
		states := []state{s}
		fork := func(branches []func(state) state) {
			if len(work)+len(states)*len(branches)+len(out) > maxCases {
				return // leave the alternatives out
			}
			var next []state
			for _, s := range states {
				for _, b := range branches {
					t := s
					t.todo = slices.Clip(slices.Clone(s.todo))
					next = append(next, b(t))
				}
			}
			states = next
		}
		with := func(n *node) func(state) state {
			return func(s state) state {
				if n != nil {
					s.todo = append(s.todo, n)
				}
				return s
			}
		}
		if n.any != nil {
			var branches []func(state) state
			for _, b := range n.any {
				branches = append(branches, with(b))
			}
			fork(branches)
		}
		if n.one != nil {
			var branches []func(state) state
			for i, b := range n.one {
				branches = append(branches, func(s state) state {
					for j, other := range n.one {
						if j != i {
							s.done = s.done.butNot(other)
						}
					}
					return with(b)(s)
				})
			}
			fork(branches)
		}
		if n.ifs != nil {
			fork([]func(state) state{
				func(s state) state { return with(n.then)(with(n.ifs)(s)) },
				func(s state) state { s.done = s.done.butNot(n.ifs); return with(n.elses)(s) },
			})
		}
		for i := range n.needs {
			if d := &n.needs[i]; d.node != nil {
				has := p.having(d.property)
				fork([]func(state) state{
					func(s state) state { return with(d.node)(with(has)(s)) },
					func(s state) state { s.done = s.done.butNot(has); return s },
				})
			}
		}
		work = append(work, states...)
	}
	slices.Reverse(out)
	return out
}

// having is a schema of objects with a property, and of whatever is no object. They are made once for each name, so
// that they are equal by identity.
func (p *prover) having(name string) *node {
	n := p.made[name]
	if n == nil {
		n = &node{kinds: kindObject, required: []string{name}, draft: 2020}
		p.made[name] = n
	}
	return n
}

// split gives the kinds of a case one by one, in a fixed order.
func (c conjunction) split() []conjunction {
	var out []conjunction
	for _, k := range kinds {
		if c.kinds&k.kind != 0 {
			d := c
			d.kinds = k.kind
			out = append(out, d)
		}
	}
	return out
}

// finite lists all values of a case of one kind, where they are few.
func (p *prover) finite(c *conjunction) ([]value, bool) {
	var candidates []value
	found := false
	switch c.kinds {
	case kindNull:
		candidates, found = []value{nullValue()}, true
	case kindBoolean:
		candidates, found = []value{boolValue(false), boolValue(true)}, true
	}
	for _, n := range c.nodes {
		if n.hasConst {
			candidates, found = []value{n.constant}, true
		} else if n.enum != nil && !found {
			candidates, found = n.enum, true
		}
	}
	if !found && c.kinds == kindInteger {
		candidates, found = c.bounds().integers()
	}
	if !found {
		return nil, false
	}
	var values []value
	for i := range candidates {
		if in, sure := p.member(c, &candidates[i]); in || !sure {
			values = append(values, candidates[i])
		}
	}
	return values, true
}

// member is whether a value is one that a case stands for, and whether that is sure.
func (p *prover) member(c *conjunction, x *value) (in, sure bool) {
	if !c.kinds.has(x) {
		return false, true
	}
	r := run{steps: evaluationSteps}
	defer func() { p.charge(&r) }()
	for _, n := range c.nodes {
		if !r.valid(n, x) {
			return false, !r.exhausted
		}
	}
	for _, n := range c.excluded {
		if r.valid(n, x) {
			return false, !r.exhausted
		}
	}
	return !r.exhausted, !r.exhausted
}

// emptyDepth is how deep required properties are looked into for being impossible.
const emptyDepth = 4

// empty is whether a case surely holds for no value. Kinds for which that is sure are taken off it.
func (p *prover) empty(c *conjunction, depth int) bool {
	if c.kinds == 0 {
		return true
	}
	for _, n := range c.nodes {
		if n.never {
			return true
		}
		for _, e := range c.excluded {
			if p.equal(n, e) {
				return true
			}
		}
	}
	for _, k := range c.split() {
		if p.emptyKind(&k, depth) {
			c.kinds &^= k.kinds
		}
	}
	return c.kinds == 0
}

func (p *prover) emptyKind(c *conjunction, depth int) bool {
	if values, ok := p.finite(c); ok {
		return len(values) == 0
	}
	switch c.kinds {
	case kindNumber, kindInteger:
		return c.bounds().empty()
	case kindString:
		least, most := c.span(func(n *node) (*int, *int) { return n.minLength, n.maxLength })
		return most != nil && *most < least
	case kindArray:
		least, most := c.span(func(n *node) (*int, *int) { return n.minItems, n.maxItems })
		if most != nil && *most < least {
			return true
		}
		for i := 0; depth > 0 && i < min(least, 16); i++ {
			if p.nothing(p.item(c, i), depth-1) {
				return true
			}
		}
	case kindObject:
		required := c.required()
		least, most := c.span(func(n *node) (*int, *int) { return n.minProperties, n.maxProperties })
		if most != nil && *most < max(least, len(required)) {
			return true
		}
		for _, name := range required {
			for _, e := range c.excluded {
				if e.kinds == kindObject && e.draft == 2020 && p.made[name] == e {
					return true
				}
			}
			if depth > 0 && p.nothing(p.child(c, class{name: name, explicit: true}), depth-1) {
				return true
			}
		}
	}
	return false
}

// nothing is whether a conjunction surely holds for no value.
func (p *prover) nothing(c conjunction, depth int) bool {
	if len(c.nodes) == 0 || depth == 0 {
		return slices.ContainsFunc(c.nodes, func(n *node) bool { return n.never })
	}
	if p.depth > maxProofDepth || !p.spend() {
		return false
	}
	p.depth++
	defer func() { p.depth-- }()
	return len(p.cases(c)) == 0
}

// span is the tightest of lower and upper counts.
func (c *conjunction) span(of func(n *node) (least, most *int)) (least int, most *int) {
	for _, n := range c.nodes {
		lo, hi := of(n)
		if lo != nil && *lo > least {
			least = *lo
		}
		if hi != nil && (most == nil || *hi < *most) {
			most = hi
		}
	}
	return least, most
}

// required are the properties that every object of a case has.
func (c *conjunction) required() []string {
	set := map[string]bool{}
	for _, n := range c.nodes {
		for _, name := range n.required {
			set[name] = true
		}
	}
	for again := true; again; {
		again = false
		for _, n := range c.nodes {
			for _, d := range n.needs {
				if !set[d.property] {
					continue
				}
				for _, name := range d.required {
					if !set[name] {
						set[name], again = true, true
					}
				}
			}
		}
	}
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
