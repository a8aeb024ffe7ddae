package schema

import (
	"slices"
)

// What is tried to find a document.
const (
	maxSamples     = 12
	maxCandidates  = 48
	maxSampleDepth = 6
	maxSampleItems = 40   // but as many as the other schema's bounds ask for,
	maxLongSample  = 1100 // up to so many
)

// disprove looks for documents that show that what could not be proven is not so.
func (p *prover) disprove() {
	found := false
	for _, f := range p.failures {
		f.witness = p.find(f)
		found = found || f.witness != nil
	}
	if found {
		return
	}
	root := conjunction{nodes: []*node{p.from.root}, kinds: kindAll}
	for _, x := range p.samples(root, p.to.root, maxSampleDepth) {
		if p.disproves(&x) {
			p.failures[0].witness = &x
			return
		}
	}
}

// disproves is whether a document is valid under the one schema and not under the other, which nothing else decides.
func (p *prover) disproves(x *value) bool {
	if p.finding < 0 {
		return false
	}
	p.finding -= 20
	r := run{steps: evaluationSteps, dynamic: p.from.dynamic}
	ok := r.valid(p.from.root, x)
	p.charge(&r)
	if !ok {
		return false
	}
	r = run{steps: evaluationSteps, dynamic: p.to.dynamic}
	ok = r.valid(p.to.root, x)
	p.charge(&r)
	return !ok && !r.exhausted
}

// find makes values that a failure's case holds for and its schema does not, and builds documents around them.
func (p *prover) find(f *failure) *value {
	var candidates []value
	for _, at := range f.at {
		for _, x := range p.samples(at, f.to, maxSampleDepth) {
			r := run{steps: evaluationSteps}
			if f.to == nil || f.frame != nil && f.frame.name || !r.valid(f.to, &x) {
				candidates = append(candidates, x)
			}
			p.charge(&r)
		}
	}
	for at := f.frame; at != nil; at = at.parent {
		candidates = p.around(at, candidates)
	}
	for i := range candidates {
		if p.disproves(&candidates[i]) {
			return &candidates[i]
		}
	}
	return nil
}

// around builds values of a frame's case that hold the candidates where the frame leads.
func (p *prover) around(f *frame, candidates []value) []value {
	var out []value
	candidates = candidates[:min(len(candidates), maxCandidates/4)]
	for _, base := range p.samples(f.of, nil, maxSampleDepth-1) {
		for i := range candidates {
			if len(out) >= maxCandidates || p.finding < 0 {
				return out
			}
			switch {
			case f.index >= 0 && base.kind == kindArray:
				if x, ok := p.withItem(f, base, candidates[i]); ok {
					out = append(out, x)
				}
			case f.name && base.kind == kindObject && candidates[i].kind == kindString:
				for _, m := range p.samples(p.child(&f.of, f.class), nil, 2) {
					out = append(out, base.with(candidates[i].text, m))
					break
				}
			case f.index < 0 && base.kind == kindObject:
				for _, name := range p.namesOf(f) {
					out = append(out, base.with(name, candidates[i]))
				}
			}
		}
	}
	return out
}

func (p *prover) withItem(f *frame, base, x value) (value, bool) {
	items := slices.Clone(base.items)
	for len(items) <= f.index {
		if len(items) == f.index {
			items = append(items, x)
			break
		}
		more := p.samples(p.item(&f.of, len(items)), nil, 2)
		if len(more) == 0 || len(items) > maxSampleItems {
			return value{}, false
		}
		items = append(items, more[0])
	}
	x.name = ""
	items[f.index] = x
	return arrayValue(items...), true
}

// namesOf are names of a frame's class.
func (p *prover) namesOf(f *frame) []string {
	if f.class.explicit {
		return []string{f.class.name}
	}
	candidates := []string{"other", "x", "zz9", "_", "Other-1"}
	for _, n := range f.of.nodes {
		for _, pp := range n.patterns {
			if f.class.matches(pp.pattern) {
				candidates = append(candidates, pp.pattern.samples()...)
			}
		}
		if n.names != nil {
			for _, x := range p.samples(conjunction{nodes: []*node{n.names}, kinds: kindString}, nil, 2) {
				candidates = append(candidates, x.text)
			}
		}
	}
	for _, s := range f.class.patterns {
		if pt, err := compilePattern(s, 1<<16); err == nil {
			candidates = append(candidates, pt.samples()...)
		}
	}
	listed := sortedNames(f.of.nodes...)
	var out []string
	for _, name := range candidates {
		fits := !slices.Contains(listed, name) && len(out) < 3
		for _, n := range f.of.nodes {
			for _, pp := range n.patterns {
				fits = fits && pp.pattern.re.MatchString(name) == f.class.matches(pp.pattern)
			}
		}
		if fits {
			out = append(out, name)
		}
	}
	return out
}

// samples makes some values of a conjunction: plain ones, ones at its bounds, and ones around the bounds of the schema
// that they are to be held against.
func (p *prover) samples(c conjunction, against *node, depth int) []value {
	if depth <= 0 || p.finding < 0 {
		return nil
	}
	if len(c.nodes) == 0 && len(c.excluded) == 0 && c.kinds == kindAll {
		return []value{numberValue("1"), stringValue("a"), nullValue(), boolValue(true), objectValue(), arrayValue(), numberValue("0.5")}
	}
	key := ""
	if against == nil {
		key = p.goal(&c, nil) + formatInt(int64(depth))
		if known, ok := p.sampled[key]; ok {
			return known
		}
	}
	out := p.newSamples(c, against, depth)
	if key != "" {
		p.sampled[key] = out
	}
	return out
}

func (p *prover) newSamples(c conjunction, against *node, depth int) []value {
	most := maxSamples
	if against != nil {
		most *= 4 // these have to hit something
	}
	p.finding -= 10
	p.steps = max(p.steps, 2000) // taking the conjunction apart takes steps of the proof, which may be used up
	var out []value
	for _, part := range p.cases(c) {
		for _, k := range part.split() {
			candidates, ok := p.finite(&k)
			if !ok {
				candidates = p.samplesOf(&k, against, depth)
			}
			taken := 0
			for i := range candidates {
				if taken >= most || p.finding < 0 {
					break
				}
				p.finding -= 5
				if in, _ := p.member(&k, &candidates[i]); in && !slices.ContainsFunc(out, func(v value) bool { return v.equal(&candidates[i]) }) {
					candidates[i].name = ""
					out = append(out, candidates[i])
					taken++
				}
			}
		}
		if len(out) > 4*most {
			break
		}
	}
	return out
}

func (p *prover) samplesOf(c *conjunction, against *node, depth int) []value {
	around := []*node{}
	if against != nil {
		around = against.reach(true)
	}
	switch c.kinds {
	case kindNumber, kindInteger:
		return c.sampleNumbers(around)
	case kindString:
		return c.sampleStrings(around)
	case kindArray:
		return p.sampleArrays(c, around, depth)
	case kindObject:
		return p.sampleObjects(c, around, depth)
	}
	return nil
}

func (p *prover) sampleArrays(c *conjunction, around []*node, depth int) []value {
	least, most := c.span(func(n *node) (*int, *int) { return n.minItems, n.maxItems })
	var lengths []int
	consider := func(n *node, limit int) {
		for _, l := range []*int{n.minItems, n.maxItems, n.minContains, n.maxContains} {
			if l != nil && *l <= limit {
				lengths = append(lengths, *l-1, *l, *l+1)
			}
		}
		lengths = append(lengths, len(n.prefix), len(n.prefix)+1)
	}
	for _, n := range around {
		consider(n, maxLongSample)
	}
	for _, n := range c.nodes {
		consider(n, maxSampleItems)
	}
	lengths = append(lengths, least, least+1, least+2)
	var containing []value
	for _, n := range append(slices.Clone(c.nodes), around...) {
		if n.contains != nil {
			containing = append(containing, p.samples(conjunction{nodes: []*node{n.contains}, kinds: kindAll}, nil, depth-1)...)
		}
	}
	prefix := 0
	for _, n := range c.nodes {
		prefix = max(prefix, n.longestPrefix())
	}
	slices.Sort(lengths)
	var out []value
	for _, l := range slices.Compact(lengths) {
		if l < least || l > maxLongSample || (most != nil && l > *most) {
			continue
		}
		for variant := range 3 {
			items := make([]value, 0, l)
			var options []value
			for i := range l {
				if i <= prefix { // after the prefixes all items are alike
					options = p.samples(p.item(c, i), nil, depth-1)
				}
				from := options
				if variant == 2 && len(containing) > 0 {
					from = containing
				}
				if len(from) == 0 {
					break
				}
				at := 0 // all alike
				if variant > 0 {
					at = i % len(from) // all different, as far as that goes
				}
				items = append(items, from[at])
			}
			if len(items) == l {
				out = append(out, arrayValue(items...))
			}
		}
	}
	return out
}

func (p *prover) sampleObjects(c *conjunction, around []*node, depth int) []value {
	required := c.required()
	names := sortedNames(append(slices.Clone(c.nodes), around...)...)
	for _, n := range append(slices.Clone(c.nodes), around...) {
		names = append(names, n.required...)
		for _, d := range n.needs {
			names = append(append(names, d.property), d.required...)
		}
	}
	names = append(names, required...)
	least, _ := c.span(func(n *node) (*int, *int) { return n.minProperties, n.maxProperties })
	for i := range min(least, maxSampleItems) {
		names = append(names, "p"+formatInt(int64(i)))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	const most = 60
	if len(names) > most {
		names = append(slices.Clone(required), names[:most]...)
	}
	options := map[string][]value{}
	for _, name := range names {
		if s := p.samples(p.child(c, class{name: name, explicit: true}), nil, depth-1); len(s) > 0 {
			options[name] = s
		}
	}
	build := func(include func(name string, at int) bool, variant int) value {
		x := objectValue()
		for i, name := range names {
			if o := options[name]; len(o) > 0 && (slices.Contains(required, name) || include(name, i)) {
				m := o[(variant*(i+1))%len(o)]
				m.name = name
				x.items = append(x.items, m)
			}
		}
		return x
	}
	all := func(string, int) bool { return true }
	out := []value{
		build(func(string, int) bool { return false }, 0),
		build(all, 0), build(all, 1),
		build(func(_ string, i int) bool { return i%2 == 0 }, 0),
	}
	for _, n := range append(slices.Clone(c.nodes), around...) {
		for _, k := range []*int{n.minProperties, n.maxProperties} {
			if k != nil {
				for _, size := range []int{*k - 1, *k, *k + 1} {
					out = append(out, build(func(_ string, i int) bool { return i < size }, 0))
				}
			}
		}
	}
	for at, name := range names {
		if at > maxSamples {
			break
		}
		out = append(out, build(func(n string, _ int) bool { return n != name }, 0), build(func(n string, _ int) bool { return n == name }, 1))
		// Each of the values that a property may have, for what other properties then must be.
		for v := range min(len(options[name]), 6) {
			x := build(all, 0)
			out = append(out, x.with(name, options[name][v]), build(func(string, int) bool { return false }, 0).with(name, options[name][v]))
		}
	}
	return append(out, build(all, 2), objectValue().with("other", numberValue("1")))
}
