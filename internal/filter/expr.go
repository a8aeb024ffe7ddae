package filter

import (
	"strconv"
	"strings"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
)

// op is what an expression does.
type op string

const (
	opString    op = "string"
	opInteger   op = "integer"
	opBoolean   op = "boolean"
	opAttribute op = "attribute"
	opExists    op = "exists"
	opCall      op = "call"
	opLike      op = "like"
	opIn        op = "in"
	opNot       op = "not"
	opNegate    op = "negate"
	opAnd       op = "and"
	opOr        op = "or"
	opXor       op = "xor"
	opEqual     op = "="
	opUnequal   op = "!="
	opLess      op = "<"
	opAtMost    op = "<="
	opGreater   op = ">"
	opAtLeast   op = ">="
	opAdd       op = "+"
	opSubtract  op = "-"
	opMultiply  op = "*"
	opDivide    op = "/"
	opModulo    op = "%"
)

// expr is a CESQL expression.
type expr struct {
	op      op
	text    string // a string's text, a pattern, the name of an attribute or function
	integer int32
	boolean bool
	args    []*expr
	fn      cesql.Function // of opCall; nil: there is none of the name and number of arguments
	at      int            // where it begins, in bytes
}

func negated(x *expr, not bool) *expr {
	if not {
		return &expr{op: opNot, args: []*expr{x}, at: x.at}
	}
	return x
}

// unquoted is the text of a string literal, by the SDK's rules: a backslash before the quote goes, no other.
func unquoted(literal string) string {
	mark := literal[:1]
	return strings.ReplaceAll(literal[1:len(literal)-1], `\`+mark, mark)
}

// appendKey appends the expression in a form in which neither white space nor case nor needless brackets count.
func (x *expr) appendKey(dst []byte) []byte {
	switch x.op {
	case opString:
		return strconv.AppendQuote(dst, x.text)
	case opInteger:
		return strconv.AppendInt(dst, int64(x.integer), 10)
	case opBoolean:
		return strconv.AppendBool(dst, x.boolean)
	case opAttribute:
		return append(dst, x.text...)
	}
	dst = append(append(dst, '('), x.op...)
	switch x.op {
	case opExists, opCall:
		dst = append(append(dst, ' '), x.text...)
	case opLike:
		dst = strconv.AppendQuote(append(dst, ' '), x.text)
	}
	for _, arg := range x.args {
		dst = arg.appendKey(append(dst, ' '))
	}
	return append(dst, ')')
}
