package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/antlr/antlr4/runtime/Go/antlr"
	cesql "github.com/cloudevents/sdk-go/sql/v2"
	"github.com/cloudevents/sdk-go/sql/v2/gen"
	"github.com/cloudevents/sdk-go/sql/v2/parser"
)

// maxBrackets bounds how deep brackets nest: beyond, the generated parser takes more than linear time.
const maxBrackets = 64

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

// parseCESQL reads an expression by the grammar of the CloudEvents SDK, whose own reader tells neither positions nor
// what its lexer passed over.
func (c *compiler) parseCESQL(text string) (x *expr, err error) {
	switch {
	case len(text) > maxLength:
		return nil, &Error{Expression: text, Position: maxLength, Message: "the expression is longer than 8 KiB"}
	case !utf8.ValidString(text):
		at := 0
		for at < len(text) {
			r, n := utf8.DecodeRuneInString(text[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return nil, &Error{Expression: text, Position: at, Message: "the expression is not UTF-8"}
	}
	if at := tooDeep(text); at >= 0 {
		return nil, &Error{Expression: text, Position: at, Message: fmt.Sprintf("brackets nest deeper than %d", maxBrackets)}
	}
	w := &walker{compiler: c, text: text}
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case *Error: // the first mistake ends the reading
			x, err = nil, failure
		default: // a mistake of the generated parser must not end the process
			x, err = nil, &Error{Expression: text, Message: "the expression cannot be read"}
		}
	}()
	lexer := gen.NewCESQLParserLexer(parser.NewCaseChangingStream(antlr.NewInputStream(text), true))
	lexer.RemoveErrorListeners()
	lexer.AddErrorListener(w)
	p := gen.NewCESQLParserParser(antlr.NewCommonTokenStream(lexer, antlr.TokenDefaultChannel))
	p.RemoveErrorListeners()
	p.AddErrorListener(w)
	tree := p.Cesql().(*gen.CesqlContext)
	return w.walk(tree.Expression()), nil
}

// tooDeep finds the bracket that is one too many, -1 if there is none.
func tooDeep(text string) int {
	depth := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(':
			if depth++; depth > maxBrackets {
				return i
			}
		case c == ')':
			depth--
		}
	}
	return -1
}

// walker turns the parser's tree into an expression. It panics with an *Error at the first mistake.
type walker struct {
	antlr.DefaultErrorListener
	*compiler
	text string
}

// SyntaxError implements antlr.ErrorListener.
func (w *walker) SyntaxError(_ antlr.Recognizer, symbol any, line, column int, _ string, _ antlr.RecognitionException) {
	at := w.offset(line, column)
	token, ok := symbol.(antlr.Token)
	switch {
	case !ok:
		if c := w.text[min(at, len(w.text)):]; c != "" && (c[0] == '\'' || c[0] == '"') {
			w.fail(at, "the quotes are not closed")
		}
		w.fail(at, "%s begins nothing that CESQL has", quote(firstRune(w.text[min(at, len(w.text)):])))
	case token.GetTokenType() == antlr.TokenEOF:
		w.fail(len(w.text), "the expression ends too early: a value, or what completes the expression, is expected")
	default:
		w.fail(at, "%s is not expected here", quote(token.GetText()))
	}
}

func (w *walker) fail(at int, format string, args ...any) {
	panic(&Error{Expression: w.text, Position: at, Message: fmt.Sprintf(format, args...)})
}

func firstRune(text string) string {
	_, n := utf8.DecodeRuneInString(text)
	return text[:n]
}

// offset turns a line from 1 and a column in characters into an offset in bytes.
func (w *walker) offset(line, column int) int {
	at := 0
	for ; line > 1; line-- {
		n := strings.IndexByte(w.text[at:], '\n')
		if n < 0 {
			return len(w.text)
		}
		at += n + 1
	}
	for ; column > 0 && at < len(w.text); column-- {
		_, n := utf8.DecodeRuneInString(w.text[at:])
		at += n
	}
	return at
}

func (w *walker) begin(tree antlr.ParserRuleContext) int {
	token := tree.GetStart()
	return w.offset(token.GetLine(), token.GetColumn())
}

// walk turns a tree into an expression.
func (w *walker) walk(tree antlr.Tree) *expr {
	context, ok := tree.(antlr.ParserRuleContext)
	if !ok {
		w.fail(0, "the expression cannot be read")
	}
	switch t := tree.(type) { // what only leads to its one child
	case *gen.SubExpressionContext:
		return w.walk(t.Expression())
	case *gen.AtomExpressionContext, *gen.BooleanAtomContext, *gen.IntegerAtomContext, *gen.StringAtomContext, *gen.IdentifierAtomContext:
		return w.walk(context.GetChild(0))
	}
	x := &expr{at: w.begin(context)}
	if !w.take() {
		w.fail(x.at, tooManyNodes)
	}
	switch t := tree.(type) {
	case *gen.BooleanLiteralContext:
		x.op, x.boolean = opBoolean, t.TRUE() != nil
	case *gen.IntegerLiteralContext:
		n, err := strconv.ParseInt(t.GetText(), 10, 32)
		if err != nil {
			w.fail(x.at, "%s is no Integer, which is between -2147483648 and 2147483647", quote(t.GetText()))
		}
		x.op, x.integer = opInteger, int32(n)
	case *gen.StringLiteralContext:
		x.op, x.text = opString, unquoted(t.GetText())
	case *gen.IdentifierContext:
		x.op, x.text = opAttribute, w.attribute(t, x.at)
	case *gen.ExistsExpressionContext:
		name := t.Identifier().(*gen.IdentifierContext)
		x.op, x.text = opExists, w.attribute(name, w.begin(name))
	case *gen.FunctionInvocationExpressionContext:
		x.op, x.text = opCall, strings.ToUpper(t.FunctionIdentifier().GetText())
		w.walkAll(x, t.FunctionParameterList().(*gen.FunctionParameterListContext).AllExpression())
		x.fn = resolve(x.text, len(x.args))
	case *gen.LikeExpressionContext:
		x.op, x.text = opLike, unquoted(t.StringLiteral().GetText())
		w.walkAll(x, []gen.IExpressionContext{t.Expression()})
		return negated(x, t.NOT() != nil)
	case *gen.InExpressionContext:
		x.op = opIn
		w.walkAll(x, []gen.IExpressionContext{t.Expression()})
		w.walkAll(x, t.SetExpression().(*gen.SetExpressionContext).AllExpression())
		return negated(x, t.NOT() != nil)
	case *gen.UnaryLogicExpressionContext:
		x.op = opNot
		w.walkAll(x, []gen.IExpressionContext{t.Expression()})
	case *gen.UnaryNumericExpressionContext:
		x.op = opNegate
		w.walkAll(x, []gen.IExpressionContext{t.Expression()})
	case *gen.BinaryLogicExpressionContext:
		x.op = choose(t.AND(), opAnd, t.OR(), opOr, opXor)
		w.walkAll(x, t.AllExpression())
	case *gen.BinaryMultiplicativeExpressionContext:
		x.op = choose(t.STAR(), opMultiply, t.MODULE(), opModulo, opDivide)
		w.walkAll(x, t.AllExpression())
	case *gen.BinaryAdditiveExpressionContext:
		x.op = choose(t.PLUS(), opAdd, nil, "", opSubtract)
		w.walkAll(x, t.AllExpression())
	case *gen.BinaryComparisonExpressionContext:
		x.op = choose(t.EQUAL(), opEqual, t.LESS(), opLess, opUnequal)
		x.op = choose(t.LESS_OR_EQUAL(), opAtMost, t.GREATER(), opGreater, x.op)
		x.op = choose(t.GREATER_OR_EQUAL(), opAtLeast, nil, "", x.op)
		w.walkAll(x, t.AllExpression())
	default:
		w.fail(x.at, "the expression cannot be read")
	}
	return x
}

func (w *walker) walkAll(x *expr, trees []gen.IExpressionContext) {
	for _, tree := range trees {
		x.args = append(x.args, w.walk(tree))
	}
}

// attribute is an attribute's name, which CESQL writes in either case.
func (w *walker) attribute(tree *gen.IdentifierContext, at int) string {
	name := strings.ToLower(tree.GetText())
	if !validAttribute(name) {
		w.fail(at, "%s is not the name of an attribute, which has letters and digits", quote(tree.GetText()))
	}
	return name
}

func choose(first antlr.TerminalNode, one op, second antlr.TerminalNode, two, other op) op {
	switch {
	case first != nil:
		return one
	case second != nil:
		return two
	}
	return other
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
