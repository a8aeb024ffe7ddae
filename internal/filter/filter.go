package filter

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/eventissuer/eventissuer/internal/event"
)

// What a filter may have at most. A filter is evaluated for every event of a stream that an index does not rule out.
const (
	maxLength  = 8 << 10  // bytes of a CESQL expression or of a value
	maxFilters = 64 << 10 // bytes of a filter array
	maxNodes   = 1000     // parts
	maxDepth   = 32       // of one part in another
)

// Query is what a reader asks for. Its fields, and different attributes, AND together; the values of one attribute OR.
type Query struct {
	// Types, Sources, Subjects and Resources are values of the attributes type, source, subject and resource. A
	// trailing * makes a value a prefix.
	Types, Sources, Subjects, Resources []string
	Filters                             json.RawMessage // an array of filters as the CloudEvents Subscriptions API has them
	SQL                                 string          // a CESQL expression
}

// Filter is a compiled [Query]. A nil *Filter matches every event.
//
// It keeps no more than what evaluates it, since there may be a million of them.
type Filter struct {
	root node
}

// Compile compiles a query. It returns nil for an empty one, and an [*Error] for one with a mistake in it.
func Compile(q Query) (*Filter, error) {
	c := compiler{nodes: maxNodes}
	var parts []node
	for _, list := range []struct {
		name   string
		values []string
	}{{"type", q.Types}, {"source", q.Sources}, {"subject", q.Subjects}, {"resource", q.Resources}} {
		n, err := c.values(list.name, list.values)
		if err != nil {
			return nil, err
		}
		if n != nil {
			parts = append(parts, n)
		}
	}
	if text := strings.TrimSpace(string(q.Filters)); text != "" && text != "null" {
		more, err := c.filters(string(q.Filters))
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	if q.SQL != "" {
		n, err := c.sql(q.SQL)
		if err != nil {
			return nil, err
		}
		parts = append(parts, n)
	}
	if len(parts) == 0 {
		return nil, nil
	}
	return &Filter{compact(allOf(parts))}, nil
}

// Match tells whether e passes. It does not block.
func (f *Filter) Match(e *event.Event) bool {
	return f == nil || f.root.match(e)
}

// Key is the filter's canonical identity: filters with the same key match the same events. The order of what ANDs or
// ORs together does not change it. It is "" for nil only. It is put together anew by each call.
func (f *Filter) Key() string {
	if f == nil {
		return ""
	}
	return string(f.appendKey(nil))
}

func (f *Filter) appendKey(dst []byte) []byte {
	if f.root == nil { // it was never compiled
		return dst
	}
	return f.root.appendKey(dst)
}

// compiler counts what it has made of one query.
type compiler struct {
	nodes int // how many more there may be
}

// take counts a part and tells whether there may be one more.
func (c *compiler) take() bool {
	c.nodes--
	return c.nodes >= 0
}

const tooManyNodes = "the filter has more than 1,000 parts"

// values compiles the values of a query parameter.
func (c *compiler) values(name string, values []string) (node, error) {
	var nodes []node
	for _, v := range values {
		switch {
		case v == "":
			return nil, &Error{Expression: v, Message: fmt.Sprintf("the parameter %s is empty: give a value, or a prefix that ends in *", name)}
		case len(v) > maxLength:
			return nil, &Error{Expression: v, Position: maxLength, Message: fmt.Sprintf("the parameter %s is longer than 8 KiB", name)}
		case !c.take():
			return nil, &Error{Expression: v, Message: tooManyNodes}
		}
		if prefix, ok := strings.CutSuffix(v, "*"); ok {
			nodes = append(nodes, newPrefix(name, prefix))
		} else {
			nodes = append(nodes, exact{name, v})
		}
	}
	if len(nodes) == 0 {
		return nil, nil
	}
	return anyOf(nodes), nil
}
