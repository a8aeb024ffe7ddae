// Package filter compiles filters on events.
package filter

import (
	"encoding/json"
	"fmt"

	"github.com/eventissuer/eventissuer/internal/event"
)

// Query is what a reader asks for: attributes of different names AND together, values of one name OR.
type Query struct {
	Types, Sources, Subjects, Resources []string        // exact values; a trailing * makes a prefix
	Filters                             json.RawMessage // an array of CloudEvents Subscriptions API filters
	SQL                                 string          // a CESQL expression
}

// Filter is a compiled filter. It is immutable; nil matches everything.
type Filter struct {
	key        string
	equalities []Equality
}

// Equality is an attribute and the value that it has to have.
type Equality struct{ Attribute, Value string }

// Error tells where the mistake in a filter is.
type Error struct {
	Expression string // the text that has the mistake
	Position   int    // the byte offset in it
	Pointer    string // JSON Pointer into Query.Filters, where the expression stands in there
	Message    string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("filter %q, position %d: %s", e.Expression, e.Position, e.Message)
}

// Compile compiles a query; nil for an empty one.
func Compile(q Query) (*Filter, error) { return nil, nil }

// Match tells whether e passes.
func (f *Filter) Match(e *event.Event) bool { return true }

// Key is the filter's canonical identity.
func (f *Filter) Key() string {
	if f == nil {
		return ""
	}
	return f.key
}

// Equalities lists equalities of which one holds in every event that matches.
func (f *Filter) Equalities() []Equality {
	if f == nil {
		return nil
	}
	return f.equalities
}
