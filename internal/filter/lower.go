package filter

import (
	"fmt"
	"slices"
	"strings"
)

// sql compiles a CESQL expression.
func (c *compiler) sql(text string) (node, error) {
	x, err := c.parseCESQL(text)
	if err != nil {
		return nil, err
	}
	if call := missingFunction(x); call != nil {
		return nil, &Error{Expression: text, Position: call.at, Message: fmt.Sprintf("there is no function %s of %d arguments: CESQL has %s", call.text, len(call.args), functionNames)}
	}
	return lower(x), nil
}

func missingFunction(x *expr) *expr {
	if x.op == opCall && x.fn == nil {
		return x
	}
	for _, arg := range x.args {
		if call := missingFunction(arg); call != nil {
			return call
		}
	}
	return nil
}

// lower turns the parts of an expression that say what the other dialects can say into their nodes, which are quicker
// and which an index can use, and leaves the others to the SDK.
//
// The difference between the two to be kept is that in CESQL an attribute that is missing is an error, which ends the
// whole evaluation and does not match; whereas a node just does not match.
func lower(x *expr) node {
	switch x.op {
	case opBoolean:
		if x.boolean {
			return all(nil)
		}
		return anyone(nil)
	case opAnd: // matches where both sides do, for an error of either is no match
		return allOf([]node{lower(x.args[0]), lower(x.args[1])})
	case opOr:
		// An error of the left side is no match, even if the right side is true. That is the same as "any" if the right
		// side cannot match then either.
		right := lower(x.args[1])
		if missing, ok := failures(x.args[0]); ok && containsAll(needs(right), missing) {
			return anyOf([]node{lower(x.args[0]), right})
		}
	case opNot:
		return lowerNot(x)
	case opUnequal:
		return lowerNot(&expr{op: opNot, args: []*expr{{op: opEqual, args: x.args, at: x.at}}, at: x.at})
	case opExists:
		return exists{x.text}
	case opEqual, opIn, opLike:
		if n := lowerComparison(x); n != nil {
			return n
		}
	}
	return newSQL(x)
}

// lowerComparison makes a node of a comparison with literals, nil where there is none that says the same.
func lowerComparison(x *expr) node {
	switch x.op {
	case opEqual:
		left, right := x.args[0], x.args[1]
		if left.op == opString && isCore(right) { // a string as well, so it does not matter which is cast
			left, right = right, left
		}
		if left.op == opAttribute && right.op == opString {
			return exact{left.text, strings.Clone(right.text)} // not to keep the whole expression
		}
	case opIn:
		if values, ok := literals(x.args[1:]); ok && isCore(x.args[0]) {
			return newOneOf(x.args[0].text, values)
		}
	case opLike:
		if x.args[0].op == opAttribute {
			return lowerLike(x.args[0].text, x.text)
		}
	}
	return nil
}

func lowerLike(name, text string) node {
	p := newPattern(text)
	switch kind, literal := p.simple(); kind {
	case '=':
		return exact{name, literal}
	case '^':
		return newPrefix(name, literal)
	case '$':
		return suffix{name, literal}
	}
	return like{name, p}
}

// lowerNot negates: not to match is the same as to be false only where there was no error.
func lowerNot(x *expr) node {
	part := x.args[0]
	missing, ok := failures(part)
	switch {
	case !ok:
		return newSQL(x)
	case len(missing) == 0:
		return not{lower(part)}
	case len(missing) == 1 && (part.op == opEqual || part.op == opLike || part.op == opIn):
		return allOf([]node{exists{missing[0]}, not{lower(part)}})
	}
	return newSQL(x)
}

// failures lists the attributes whose absence can be an error in the evaluation of x, a Boolean expression; ok is
// false where there can be other errors, or x is not known to be Boolean.
func failures(x *expr) (missing []string, ok bool) {
	switch x.op {
	case opBoolean, opExists:
		return nil, true
	case opAnd, opOr, opXor, opNot:
		for _, arg := range x.args {
			more, ok := failures(arg)
			if !ok {
				return nil, false
			}
			missing = append(missing, more...)
		}
		return missing, true
	case opEqual, opUnequal:
		// The left side is cast to the type of the right one, which is always possible if that is a string.
		left, right := x.args[0], x.args[1]
		if (left.op == opAttribute || left.op == opString) && (right.op == opString || isCore(right)) {
			return append(absence(left), absence(right)...), true
		}
	case opLike:
		if x.args[0].op == opAttribute && !newPattern(x.text).slow {
			return absence(x.args[0]), true
		}
	case opIn:
		if _, ok := literals(x.args[1:]); ok && isCore(x.args[0]) {
			return absence(x.args[0]), true
		}
	}
	return nil, false
}

// absence is the attribute that x is, if it is one that events may lack.
func absence(x *expr) []string {
	if x.op != opAttribute {
		return nil
	}
	switch x.text {
	case "specversion", "id", "source", "type":
		return nil
	}
	return []string{x.text}
}

// isCore tells whether x is an attribute of the specification's own, which are strings.
func isCore(x *expr) bool {
	if x.op != opAttribute {
		return false
	}
	switch x.text {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return true
	}
	return false
}

// literals returns the texts of what are string literals altogether.
func literals(xs []*expr) ([]string, bool) {
	texts := make([]string, len(xs))
	for i, x := range xs {
		if x.op != opString {
			return nil, false
		}
		texts[i] = x.text
	}
	return texts, true
}

// needs lists attributes without which n does not match.
func needs(n node) []string {
	switch n := n.(type) {
	case exact:
		return []string{n.name}
	case oneOf:
		return []string{n.name}
	case prefix:
		return []string{n.name}
	case suffix:
		return []string{n.name}
	case like:
		return []string{n.name}
	case exists:
		return []string{n.name}
	case all:
		var names []string
		for _, part := range n {
			names = append(names, needs(part)...)
		}
		return names
	case anyone:
		if len(n) == 0 {
			return nil
		}
		names := needs(n[0])
		for _, part := range n[1:] {
			also := needs(part)
			names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(also, name) })
		}
		return names
	}
	return nil
}

func containsAll(set, names []string) bool {
	for _, name := range names {
		if !slices.Contains(set, name) {
			return false
		}
	}
	return true
}
