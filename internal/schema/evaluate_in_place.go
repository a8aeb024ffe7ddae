package schema

func (r *run) evalInPlace(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	ok := true
	if n.ref != nil && !r.eval(n.ref, x, sc, ev, out, at) {
		if ok = false; out == nil {
			return false
		}
	}
	for _, m := range n.all {
		if !r.eval(m, x, sc, ev, out, at) {
			if ok = false; out == nil {
				return false
			}
		}
	}
	if n.dynamic != nil && !r.eval(r.dynamicTarget(n, sc), x, sc, ev, out, at) {
		if ok = false; out == nil {
			return false
		}
	}
	if n.any != nil && !r.evalAny(n, x, sc, ev, out, at) {
		if ok = false; out == nil {
			return false
		}
	}
	if n.one != nil && !r.evalOne(n, x, sc, ev, out, at) {
		if ok = false; out == nil {
			return false
		}
	}
	if n.not != nil && r.eval(n.not, x, sc, nil, nil, nil) {
		if ok = false; out == nil {
			return false
		}
		out.forbidden(n, at)
	}
	if n.ifs != nil && !r.evalIf(n, x, sc, ev, out, at) {
		ok = false
	}
	return ok && !r.exhausted
}

func (r *run) dynamicTarget(n *node, sc *scope) *node {
	target := n.dynamic
	if n.dynamicAnchor == "" {
		return target
	}
	for ; sc != nil; sc = sc.parent { // the outermost wins
		if sc.resource != nil {
			if a := sc.resource.anchors[n.dynamicAnchor]; a != nil {
				target = a
			}
		}
	}
	return target
}

// try evaluates a schema whose marks count only if the value is valid.
func (r *run) try(n *node, x *value, sc *scope, ev marks) bool {
	if ev == nil {
		return r.eval(n, x, sc, nil, nil, nil)
	}
	own := make(marks, len(ev))
	ok := r.eval(n, x, sc, own, nil, nil)
	if ok {
		ev.merge(own)
	}
	return ok
}

func (r *run) evalAny(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	found := false
	for _, m := range n.any {
		if r.try(m, x, sc, ev) {
			if found = true; ev == nil {
				break
			}
		}
	}
	if !found {
		r.nearest(n, "anyOf", n.any, x, sc, out, at)
	}
	return found
}

func (r *run) evalOne(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	first := -1
	for i, m := range n.one {
		if !r.try(m, x, sc, ev) {
			continue
		}
		if first >= 0 {
			out.several(n, first, i, at)
			return false
		}
		first = i
	}
	if first < 0 {
		r.nearest(n, "oneOf", n.one, x, sc, out, at)
	}
	return first >= 0
}

func (r *run) evalIf(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	next := n.elses
	if r.try(n.ifs, x, sc, ev) {
		next = n.then
	}
	return next == nil || r.eval(next, x, sc, ev, out, at)
}

func (r *run) evalUnevaluated(n *node, x *value, sc *scope, ev marks, out *report, at *place) bool {
	ok := true
	for i := range x.items {
		if ev[i] {
			continue
		}
		if x.kind == kindObject && !r.eval(n.unevaluatedProperties, &x.items[i], sc, nil, out, out.member(at, x.items[i].name, false)) {
			ok = false
		}
		if x.kind == kindArray && !r.eval(n.unevaluatedItems, &x.items[i], sc, nil, out, out.item(at, i)) {
			ok = false
		}
		if !ok && out == nil {
			return false
		}
	}
	ev.all()
	return ok
}
