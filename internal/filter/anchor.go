package filter

import (
	"slices"
	"strings"

	"github.com/eventissuer/eventissuer/internal/event"
)

// maxAnchors bounds what an index has to hold for one filter; one with more is evaluated for every event instead.
const maxAnchors = 1000

// anchorKind is how an anchor holds an attribute against its text.
type anchorKind uint8

const (
	equals anchorKind = iota
	begins
	ends
)

// anchor is a condition on one attribute that an index can look up.
type anchor struct {
	name string
	text string
	kind anchorKind
}

func (a anchor) holds(e *event.Event) bool {
	v, ok := e.Attribute(a.name)
	if !ok {
		return false
	}
	switch a.kind {
	case begins:
		return strings.HasPrefix(v.String(), a.text)
	case ends:
		return strings.HasSuffix(v.String(), a.text)
	}
	return v.String() == a.text
}

// weight ranks anchors by how many events usually hold one. Nothing but speed depends on it.
func (a anchor) weight() int {
	weight := 8 // extension attributes, and time
	switch a.name {
	case "id":
		weight = 1
	case "subject":
		weight = 2
	case "resource":
		weight = 4
	case "source", "type":
		weight = 64
	case "specversion", "datacontenttype", "dataschema":
		weight = 512
	}
	switch a.kind {
	case begins:
		weight *= 8
	case ends:
		weight *= 16
	}
	return weight
}

// anchors are conditions of which one holds in every event that a part of a filter matches: in none, if there are none.
type anchors []anchor

func (s anchors) weight() (heaviest int) {
	for _, a := range s {
		heaviest = max(heaviest, a.weight())
	}
	return heaviest
}

// candidatesOf lists the anchors that an index may file a part by, any of them. It is nil where there are no such.
func candidatesOf(n node) []anchors {
	switch n := n.(type) {
	case exact:
		return []anchors{{{name: n.name, text: n.value}}}
	case shared:
		return candidatesOf(n.Value())
	case oneOf:
		set := make(anchors, len(n.values))
		for i, v := range n.values {
			set[i] = anchor{name: n.name, text: v}
		}
		return candidate(set)
	case prefix:
		return []anchors{{{name: n.name, text: n.text, kind: begins}}}
	case suffix:
		return []anchors{{{name: n.name, text: n.text, kind: ends}}}
	case like:
		return n.candidates()
	case sql:
		return n.candidates
	case *both:
		return append(candidatesOf(n.first), candidatesOf(n.second)...)
	case all:
		var out []anchors
		for _, part := range n {
			out = append(out, candidatesOf(part)...)
		}
		return out
	case anyone:
		parts := make([][]anchors, len(n))
		for i, part := range n {
			parts[i] = candidatesOf(part)
		}
		return either(parts...)
	}
	return nil
}

// candidates are the literals that the pattern begins with and ends in.
func (n like) candidates() (out []anchors) {
	first, last := n.pattern.ends()
	if first != "" {
		out = append(out, anchors{{name: n.name, text: first, kind: begins}})
	}
	if last != "" {
		out = append(out, anchors{{name: n.name, text: last, kind: ends}})
	}
	return out
}

// candidatesIn lists the anchors of an expression: what holds wherever its value is true. An error is no match, so what
// errors do to the operators does not matter.
func candidatesIn(x *expr) []anchors {
	switch x.op {
	case opBoolean:
		if !x.boolean {
			return []anchors{{}}
		}
	case opAnd:
		return append(candidatesIn(x.args[0]), candidatesIn(x.args[1])...)
	case opOr, opXor:
		return either(candidatesIn(x.args[0]), candidatesIn(x.args[1]))
	case opEqual, opIn, opLike:
		if n := lowerComparison(x); n != nil {
			return candidatesOf(n)
		}
	}
	return nil
}

// either joins the lightest candidates of parts of which one has to match.
func either(parts ...[]anchors) []anchors {
	set := anchors{}
	for _, candidates := range parts {
		if len(candidates) == 0 {
			return nil
		}
		set = append(set, slices.MinFunc(candidates, func(a, b anchors) int {
			if n := a.weight() - b.weight(); n != 0 {
				return n
			}
			return len(a) - len(b)
		})...)
	}
	return candidate(set)
}

// candidate is one set to choose from: each of its anchors once, and not too many.
func candidate(set anchors) []anchors {
	slices.SortFunc(set, func(a, b anchor) int {
		if n := strings.Compare(a.name, b.name); n != 0 {
			return n
		}
		if n := int(a.kind) - int(b.kind); n != 0 {
			return n
		}
		return strings.Compare(a.text, b.text)
	})
	if set = slices.Compact(set); len(set) > maxAnchors {
		return nil
	}
	return []anchors{set}
}
