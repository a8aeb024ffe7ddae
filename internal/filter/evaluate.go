package filter

import (
	"slices"
	"sync"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	"github.com/cloudevents/sdk-go/sql/v2/expression"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/eventissuer/eventissuer/internal/event"
)

// sql evaluates an expression by the SDK's nodes.
type sql struct {
	tree       cesql.Expression
	key        string
	candidates []anchors
}

func newSQL(x *expr) node {
	return sql{tree: build(x), key: string(x.appendKey(nil)), candidates: candidatesIn(x)}
}

// views lends what events are carried in through the SDK's nodes: one for each evaluation that is under way.
var views = sync.Pool{New: func() any { return &view{} }}

func (n sql) match(e *event.Event) (matched bool) {
	defer func() {
		if recover() != nil { // a mistake of the SDK's must not end the hub of a stream
			matched = false
		}
	}()
	v := views.Get().(*view)
	v.event = e
	value, err := n.tree.Evaluate(cloudevents.Event{Context: v})
	v.event = nil
	views.Put(v)
	if err != nil {
		return false
	}
	value, err = utils.Cast(value, cesql.BooleanType)
	return err == nil && value == true
}

func (n sql) appendKey(dst []byte) []byte {
	return append(append(append(dst, "(sql "...), n.key...), ')')
}

func (sql) cost() int { return 10 }

// view carries an event of ours through the SDK's nodes to the leaves below, which are the only ones that look at it:
// so no event of the SDK's has to be made.
type view struct {
	cloudevents.EventContext
	event *event.Event
}

func attributeOf(e cloudevents.Event, name string) (event.Value, bool) {
	v, ok := e.Context.(*view)
	if !ok {
		return event.Value{}, false
	}
	return v.event.Attribute(name)
}

// attributeLeaf is an attribute's value.
type attributeLeaf struct {
	name    string
	missing error
}

func newAttribute(name string) attributeLeaf {
	return attributeLeaf{name, sqlerrors.NewMissingAttributeError(name)}
}

func (l attributeLeaf) Evaluate(e cloudevents.Event) (any, error) {
	v, ok := attributeOf(e, l.name)
	if !ok {
		return false, l.missing
	}
	switch v.Kind() {
	case event.Integer:
		return v.Int(), nil
	case event.Boolean:
		return v.Bool(), nil
	}
	return v.String(), nil
}

// existsLeaf tells whether an attribute is set.
type existsLeaf string

func (l existsLeaf) Evaluate(e cloudevents.Event) (any, error) {
	_, ok := attributeOf(e, string(l))
	return ok, nil
}

// equalLeaf compares an attribute with a string, without making an interface of it.
type equalLeaf struct {
	attributeLeaf
	text  string
	equal bool
}

func (l equalLeaf) Evaluate(e cloudevents.Event) (any, error) {
	v, ok := attributeOf(e, l.name)
	if !ok {
		return false, l.missing
	}
	return (v.String() == l.text) == l.equal, nil
}

// inLeaf looks an attribute up in a set of strings.
type inLeaf struct {
	attributeLeaf
	texts []string
	cast  cesql.Expression // for attributes that are no strings, to which the set is cast
}

func (l inLeaf) Evaluate(e cloudevents.Event) (any, error) {
	v, ok := attributeOf(e, l.name)
	if !ok {
		return false, l.missing
	}
	if v.Kind() != event.String {
		return l.cast.Evaluate(e)
	}
	return slices.Contains(l.texts, v.String()), nil
}

// likeNode matches a pattern.
type likeNode struct {
	child   cesql.Expression
	pattern *pattern
}

func (n likeNode) Evaluate(e cloudevents.Event) (any, error) {
	text := ""
	if leaf, ok := n.child.(attributeLeaf); ok {
		v, ok := attributeOf(e, leaf.name)
		if !ok {
			return false, leaf.missing
		}
		text = v.String()
	} else {
		value, err := n.child.Evaluate(e)
		if err != nil {
			return false, err
		}
		if value, err = utils.Cast(value, cesql.StringType); err != nil {
			return false, err
		}
		text = value.(string)
	}
	matches, err := n.pattern.match(text)
	return matches, err
}

// constant is an expression without attributes, evaluated once.
type constant struct {
	value any
	err   error
}

func (n constant) Evaluate(cloudevents.Event) (any, error) { return n.value, n.err }

// build makes the tree that evaluates x.
func build(x *expr) cesql.Expression {
	tree := buildNode(x)
	if len(x.args) > 0 && isConstant(x) {
		value, err := tree.Evaluate(cloudevents.Event{Context: &view{event: &event.Event{}}})
		return constant{value, err}
	}
	return tree
}

func isConstant(x *expr) bool {
	return x.op != opAttribute && x.op != opExists && !slices.ContainsFunc(x.args, func(arg *expr) bool { return !isConstant(arg) })
}

func buildNode(x *expr) cesql.Expression {
	switch x.op {
	case opString:
		return expression.NewLiteralExpression(x.text)
	case opInteger:
		return expression.NewLiteralExpression(x.integer)
	case opBoolean:
		return expression.NewLiteralExpression(x.boolean)
	case opAttribute:
		return newAttribute(x.text)
	case opExists:
		return existsLeaf(x.text)
	case opEqual, opUnequal:
		if x.args[0].op == opAttribute && x.args[1].op == opString {
			return equalLeaf{newAttribute(x.args[0].text), x.args[1].text, x.op == opEqual}
		}
	}
	args := make([]cesql.Expression, len(x.args))
	for i, arg := range x.args {
		args[i] = build(arg)
	}
	switch x.op {
	case opCall:
		return call{x.text, x.fn, args}
	case opLike:
		return likeNode{args[0], newPattern(x.text)}
	case opIn:
		in := expression.NewInExpression(args[0], args[1:])
		if texts, ok := literals(x.args[1:]); ok && x.args[0].op == opAttribute {
			return inLeaf{newAttribute(x.args[0].text), texts, in}
		}
		return in
	case opNot:
		return expression.NewNotExpression(args[0])
	case opNegate:
		return expression.NewNegateExpression(args[0])
	case opAnd:
		return expression.NewAndExpression(args[0], args[1])
	case opOr:
		return expression.NewOrExpression(args[0], args[1])
	case opXor:
		return expression.NewXorExpression(args[0], args[1])
	case opEqual:
		return expression.NewEqualExpression(args[0], args[1])
	case opUnequal:
		return expression.NewNotEqualExpression(args[0], args[1])
	case opLess:
		return expression.NewLessExpression(args[0], args[1])
	case opAtMost:
		return expression.NewLessOrEqualExpression(args[0], args[1])
	case opGreater:
		return expression.NewGreaterExpression(args[0], args[1])
	case opAtLeast:
		return expression.NewGreaterOrEqualExpression(args[0], args[1])
	case opAdd:
		return expression.NewSumExpression(args[0], args[1])
	case opSubtract:
		return expression.NewDifferenceExpression(args[0], args[1])
	case opMultiply:
		return expression.NewMultiplicationExpression(args[0], args[1])
	case opDivide:
		return expression.NewDivisionExpression(args[0], args[1])
	case opModulo:
		return expression.NewModuleExpression(args[0], args[1])
	}
	return constant{false, sqlerrors.NewFunctionEvaluationError(errUnknown)}
}
