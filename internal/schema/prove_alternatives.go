package schema

// containsInPlace proves what b applies to the same value.
func (p *prover) containsInPlace(a conjunction, b *node, f *frame) bool {
	ok := true
	if b.ref != nil {
		ok = p.containsCase(a, b.ref, f) && ok
	}
	if b.dynamic != nil {
		ok = p.fail(difference{rule: "undecided", keyword: "$dynamicRef", to: b, message: "$dynamicRef is not compared"}, a, f)
	}
	for _, m := range b.all {
		ok = p.containsCase(a, m, f) && ok
	}
	if b.any != nil {
		ok = p.containsAny(a, b, f, emptyDepth) && ok
	}
	if b.one != nil {
		ok = p.containsOne(a, b, f, emptyDepth) && ok
	}
	if b.not != nil && !p.disjoint(a, b.not) {
		ok = p.fail(difference{rule: "not", keyword: "not", to: b}, a.and(b.not), f)
	}
	if b.ifs != nil {
		if b.then != nil {
			ok = p.contains(a.and(b.ifs), b.then, f) && ok
		}
		if b.elses != nil {
			ok = p.contains(a.butNot(b.ifs), b.elses, f) && ok
		}
	}
	return ok
}

// containsAny proves that each value is in one of b's alternatives: all in the same, or, taken apart by a property that
// tells them apart, each in its own.
func (p *prover) containsAny(a conjunction, b *node, f *frame, splits int) bool {
	var nearest []*failure
	for _, m := range b.any {
		ok, failures := p.attempt(func() bool { return p.containsCase(a, m, f) })
		if ok {
			return true
		}
		if nearest == nil || len(failures) < len(nearest) {
			nearest = failures
		}
	}
	if parts := p.apart(&a); splits > 0 && parts != nil {
		for _, part := range parts {
			if !p.containsAny(part, b, f, splits-1) {
				return false
			}
		}
		return true
	}
	return p.failAlternatives(a, b, "anyOf", nearest, f)
}

func (p *prover) containsOne(a conjunction, b *node, f *frame, splits int) bool {
	var nearest []*failure
	for i, m := range b.one {
		ok, failures := p.attempt(func() bool { return p.containsCase(a, m, f) })
		if !ok {
			if nearest == nil || len(failures) < len(nearest) {
				nearest = failures
			}
			continue
		}
		alone := true
		for j, other := range b.one {
			alone = alone && (i == j || p.disjoint(a, other))
		}
		if alone {
			return true
		}
	}
	if parts := p.apart(&a); splits > 0 && parts != nil {
		for _, part := range parts {
			if !p.containsOne(part, b, f, splits-1) {
				return false
			}
		}
		return true
	}
	return p.failAlternatives(a, b, "oneOf", nearest, f)
}

// failAlternatives notes the failures of the nearest alternative, where they are about something within.
func (p *prover) failAlternatives(a conjunction, b *node, keyword string, nearest []*failure, f *frame) bool {
	deeper := nearest != nil && len(nearest) <= 3
	for _, n := range nearest {
		deeper = deeper && (n.frame != f || n.rule == "required") && n.rule != "const" && n.rule != "never"
	}
	if deeper {
		p.note(nearest...)
		return false
	}
	return p.fail(difference{rule: "alternatives", keyword: keyword, to: b}, a, f)
}

// apart divides a case of objects by a required property that has few values.
func (p *prover) apart(a *conjunction) []conjunction {
	if a.kinds != kindObject {
		return nil
	}
	for _, name := range a.required() {
		var values []value
		found := false
		few := true
		for _, c := range p.cases(p.child(a, class{name: name, explicit: true})) {
			for _, k := range c.split() {
				v, ok := p.finite(&k)
				few = few && ok
				values = append(values, v...)
				found = true
			}
		}
		if !few || !found || len(values) < 2 || len(values) > 16 {
			continue
		}
		var parts []conjunction
		for i := range values {
			key := name + "=" + string(values[i].canonical(nil))
			n := p.made[key]
			if n == nil {
				only := &node{hasConst: true, constant: values[i], draft: 2020}
				n = &node{kinds: kindObject, draft: 2020, properties: []property{{name, only}}, required: []string{name}}
				p.made[key] = n
			}
			parts = append(parts, a.and(n))
		}
		return parts
	}
	return nil
}

// disjoint proves that no value of a case is valid under n.
func (p *prover) disjoint(a conjunction, n *node) bool {
	for _, e := range a.excluded {
		if p.equal(e, n) {
			return true
		}
	}
	if len(p.cases(a.and(n))) == 0 {
		return true
	}
	for _, e := range a.excluded {
		if ok, _ := p.attempt(func() bool {
			return p.contains(conjunction{nodes: append([]*node{n}, a.nodes...), kinds: a.kinds}, e, nil)
		}); ok {
			return true
		}
	}
	return false
}
