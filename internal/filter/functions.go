package filter

import (
	"errors"
	"fmt"
	"unicode/utf8"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	"github.com/cloudevents/sdk-go/sql/v2/function"
	"github.com/cloudevents/sdk-go/sql/v2/runtime"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// maxText bounds the texts that functions make: what concatenates must not multiply.
const maxText = 64 << 10

var (
	errTooLong = errors.New("the text is too long")
	errUnknown = errors.New("the operator is not known")
)

const functionNames = "INT, BOOL, STRING, IS_INT, IS_BOOL, ABS, LENGTH, CONCAT, CONCAT_WS, LOWER, UPPER, TRIM, LEFT, RIGHT and SUBSTRING"

// call invokes a function. It is the SDK's node but for that the function is looked up once.
type call struct {
	name string
	fn   cesql.Function // nil: there is none
	args []cesql.Expression
}

func (n call) Evaluate(e cloudevents.Event) (any, error) {
	if n.fn == nil {
		return false, sqlerrors.NewMissingFunctionError(n.name)
	}
	args := make([]any, len(n.args))
	for i, arg := range n.args {
		value, err := arg.Evaluate(e)
		if err != nil {
			return n.fn.ReturnType().ZeroValue(), err
		}
		if value, err = utils.Cast(value, *n.fn.ArgType(i)); err != nil {
			return n.fn.ReturnType().ZeroValue(), err
		}
		args[i] = value
	}
	return n.fn.Run(e, args)
}

// resolve finds a function by name and number of arguments, nil if there is none.
func resolve(name string, args int) cesql.Function {
	str, integer := cesql.StringType, cesql.IntegerType
	one := []cesql.Type{str}
	two := []cesql.Type{str, integer}
	switch {
	case name == "LENGTH" && args == 1:
		return function.NewFunction(name, one, nil, integer, length)
	case name == "LEFT" && args == 2:
		return function.NewFunction(name, two, nil, str, left)
	case name == "RIGHT" && args == 2:
		return function.NewFunction(name, two, nil, str, right)
	case name == "SUBSTRING" && args == 2:
		return function.NewFunction(name, two, nil, str, substring)
	case name == "SUBSTRING" && args == 3:
		return function.NewFunction(name, append(two, integer), nil, str, substring)
	}
	fn := runtime.ResolveFunction(name, args)
	if fn != nil && (name == "CONCAT" || name == "CONCAT_WS") {
		return bounded{fn}
	}
	return fn
}

// bounded keeps a function from making a text that is too long, before it does.
type bounded struct{ cesql.Function }

func (f bounded) Run(e cloudevents.Event, args []any) (any, error) {
	size := 0
	for _, arg := range args {
		size += len(arg.(string))
	}
	if f.Name() == "CONCAT_WS" {
		size += len(args[0].(string)) * len(args)
	}
	if size > maxText {
		return "", sqlerrors.NewFunctionEvaluationError(errTooLong)
	}
	return f.Function.Run(e, args)
}

func length(_ cloudevents.Event, args []any) (any, error) {
	return int32(utf8.RuneCountInString(args[0].(string))), nil
}

func left(_ cloudevents.Event, args []any) (any, error) {
	text, n := args[0].(string), int(args[1].(int32))
	if n < 0 {
		return text, sqlerrors.NewFunctionEvaluationError(fmt.Errorf("LEFT of %d characters", n))
	}
	return text[:skipRunes(text, n)], nil
}

func right(_ cloudevents.Event, args []any) (any, error) {
	text, n := args[0].(string), int(args[1].(int32))
	if n < 0 {
		return text, sqlerrors.NewFunctionEvaluationError(fmt.Errorf("RIGHT of %d characters", n))
	}
	return text[skipRunes(text, utf8.RuneCountInString(text)-n):], nil
}

// substring counts from 1, and from the end where the position is negative.
func substring(_ cloudevents.Event, args []any) (any, error) {
	text, position := args[0].(string), int(args[1].(int32))
	if position == 0 {
		return "", nil
	}
	count := utf8.RuneCountInString(text)
	if position < -count || position > count {
		return "", sqlerrors.NewFunctionEvaluationError(fmt.Errorf("SUBSTRING from position %d of %d", position, count))
	}
	if position < 0 {
		position += count
	} else {
		position--
	}
	text = text[skipRunes(text, position):]
	if len(args) == 2 {
		return text, nil
	}
	n := int(args[2].(int32))
	if n < 0 {
		return "", sqlerrors.NewFunctionEvaluationError(fmt.Errorf("SUBSTRING of %d characters", n))
	}
	return text[:skipRunes(text, n)], nil
}

// skipRunes returns where the character at place n begins, the text's end where it has no more than n.
func skipRunes(text string, n int) int {
	if n >= len(text) {
		return len(text)
	}
	for i := range text {
		if n <= 0 {
			return i
		}
		n--
	}
	return len(text)
}
