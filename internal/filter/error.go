package filter

import (
	"fmt"
	"strconv"
)

// Error tells where the mistake in a filter is.
type Error struct {
	Expression string // the text that has the mistake: a CESQL expression, a filter array or a parameter's value
	Position   int    // where in Expression, in bytes from 0
	Pointer    string // JSON Pointer of Expression in Query.Filters, where it is a CESQL expression from there
	Message    string // what is wrong, and what was expected
}

// Error implements error.
func (e *Error) Error() string {
	where := "filter"
	if e.Pointer != "" {
		where += " " + e.Pointer
	}
	return fmt.Sprintf("%s: at position %d of %s: %s", where, e.Position, quote(e.Expression), e.Message)
}

// quote quotes a text for a message, not all of it if it is long.
func quote(text string) string {
	const longest = 80
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return strconv.Quote(text)
}
