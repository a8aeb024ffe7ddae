package filter

import (
	"slices"
	"strconv"
	"strings"

	"github.com/eventissuer/eventissuer/internal/event"
)

// node is a part of a compiled filter. Parts never fail: what cannot be evaluated does not match.
type node interface {
	match(e *event.Event) bool
	// appendKey appends the canonical text of the part.
	appendKey(dst []byte) []byte
	// cost orders parts of one conjunction: the cheapest is tried first.
	cost() int
}

func keyOf(n node) string { return string(n.appendKey(nil)) }

// exact matches an attribute of one value.
type exact struct{ name, value string }

func (n exact) match(e *event.Event) bool {
	v, ok := e.Attribute(n.name)
	return ok && v.String() == n.value
}

func (n exact) appendKey(dst []byte) []byte {
	return oneOf{n.name, []string{n.value}}.appendKey(dst)
}

func (exact) cost() int { return 0 }

// oneOf matches an attribute of several values, which are sorted.
type oneOf struct {
	name   string
	values []string
}

func (n oneOf) match(e *event.Event) bool {
	v, ok := e.Attribute(n.name)
	if !ok {
		return false
	}
	_, ok = slices.BinarySearch(n.values, v.String())
	return ok
}

func (n oneOf) appendKey(dst []byte) []byte {
	dst = append(append(dst, "(= "...), n.name...)
	for _, v := range n.values {
		dst = strconv.AppendQuote(append(dst, ' '), v)
	}
	return append(dst, ')')
}

func (oneOf) cost() int { return 1 }

// prefix matches an attribute that begins with a text, which is not empty.
type prefix struct{ name, text string }

// newPrefix makes a prefix, which every set attribute has if it is empty.
func newPrefix(name, text string) node {
	if text == "" {
		return exists{name}
	}
	return prefix{name, text}
}

func (n prefix) match(e *event.Event) bool {
	v, ok := e.Attribute(n.name)
	return ok && strings.HasPrefix(v.String(), n.text)
}

func (n prefix) appendKey(dst []byte) []byte { return appendKey(dst, "prefix", n.name, n.text) }
func (prefix) cost() int                     { return 1 }

// suffix matches an attribute that ends in a text.
type suffix struct{ name, text string }

func (n suffix) match(e *event.Event) bool {
	v, ok := e.Attribute(n.name)
	return ok && strings.HasSuffix(v.String(), n.text)
}

func (n suffix) appendKey(dst []byte) []byte { return appendKey(dst, "suffix", n.name, n.text) }
func (suffix) cost() int                     { return 1 }

// like matches an attribute by a pattern of CESQL.
type like struct {
	name    string
	pattern *pattern
}

func (n like) match(e *event.Event) bool {
	v, ok := e.Attribute(n.name)
	if !ok {
		return false
	}
	matches, err := n.pattern.match(v.String())
	return matches && err == nil
}

func (n like) appendKey(dst []byte) []byte { return appendKey(dst, "like", n.name, n.pattern.text) }
func (like) cost() int                     { return 2 }

// exists matches an attribute that is set.
type exists struct{ name string }

func (n exists) match(e *event.Event) bool {
	_, ok := e.Attribute(n.name)
	return ok
}

func (n exists) appendKey(dst []byte) []byte {
	return append(append(append(dst, "(exists "...), n.name...), ')')
}

func (exists) cost() int { return 0 }

// all matches where all its parts do.
type all []node

func (n all) match(e *event.Event) bool {
	for _, part := range n {
		if !part.match(e) {
			return false
		}
	}
	return true
}

func (n all) appendKey(dst []byte) []byte { return appendKeys(dst, "all", n) }
func (n all) cost() int                   { return costOf(n) }

// anyone matches where one of its parts does.
type anyone []node

func (n anyone) match(e *event.Event) bool {
	for _, part := range n {
		if part.match(e) {
			return true
		}
	}
	return false
}

func (n anyone) appendKey(dst []byte) []byte { return appendKeys(dst, "any", n) }
func (n anyone) cost() int                   { return costOf(n) }

// not matches where its part does not.
type not struct{ part node }

func (n not) match(e *event.Event) bool { return !n.part.match(e) }

func (n not) appendKey(dst []byte) []byte {
	return append(n.part.appendKey(append(dst, "(not "...)), ')')
}

func (n not) cost() int { return n.part.cost() }

func appendKey(dst []byte, op, name, text string) []byte {
	dst = append(append(append(append(append(dst, '('), op...), ' '), name...), ' ')
	return append(strconv.AppendQuote(dst, text), ')')
}

func appendKeys(dst []byte, op string, parts []node) []byte {
	dst = append(append(dst, '('), op...)
	for _, part := range parts {
		dst = part.appendKey(append(dst, ' '))
	}
	return append(dst, ')')
}

func costOf(parts []node) int {
	sum := 1
	for _, part := range parts {
		sum += part.cost()
	}
	return sum
}

// allOf makes the conjunction of parts in its canonical form: flat, in order, each part once.
func allOf(parts []node) node {
	var flat []node
	for _, part := range parts {
		if inner, ok := part.(all); ok {
			flat = append(flat, inner...)
		} else {
			flat = append(flat, part)
		}
	}
	if flat = ordered(flat); len(flat) == 1 {
		return flat[0]
	}
	return all(flat)
}

// anyOf makes the disjunction of parts in its canonical form: flat, in order, each part once, and the values of one
// attribute together.
func anyOf(parts []node) node {
	var flat []node
	values := map[string][]string{}
	var gather func(parts []node)
	gather = func(parts []node) {
		for _, part := range parts {
			switch part := part.(type) {
			case anyone:
				gather(part)
			case exact:
				values[part.name] = append(values[part.name], part.value)
			case oneOf:
				values[part.name] = append(values[part.name], part.values...)
			default:
				flat = append(flat, part)
			}
		}
	}
	gather(parts)
	for name, list := range values {
		flat = append(flat, newOneOf(name, list))
	}
	if flat = ordered(flat); len(flat) == 1 {
		return flat[0]
	}
	return anyone(flat)
}

func newOneOf(name string, values []string) node {
	values = slices.Clone(values)
	slices.Sort(values)
	if values = slices.Compact(values); len(values) == 1 {
		return exact{name, values[0]}
	}
	return oneOf{name, values}
}

// ordered sorts parts by cost and key, and drops those that are there already.
func ordered(parts []node) []node {
	type keyed struct {
		node
		key string
	}
	sorted := make([]keyed, len(parts))
	for i, part := range parts {
		sorted[i] = keyed{part, keyOf(part)}
	}
	slices.SortFunc(sorted, func(a, b keyed) int {
		if n := a.cost() - b.cost(); n != 0 {
			return n
		}
		return strings.Compare(a.key, b.key)
	})
	out := make([]node, 0, len(sorted))
	for i, part := range sorted {
		if i == 0 || part.key != sorted[i-1].key {
			out = append(out, part.node)
		}
	}
	return out
}
