package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// kind is the type of a JSON value. The bits make sets of them.
type kind uint8

const (
	kindNull kind = 1 << iota
	kindBoolean
	kindNumber // in a set: any number
	kindString
	kindArray
	kindObject
	kindInteger // only in sets: a number without a fraction

	kindAll = kindNull | kindBoolean | kindNumber | kindString | kindArray | kindObject
)

// kinds in the order in which messages list them.
var kinds = [...]struct {
	kind kind
	name string
}{
	{kindObject, "object"},
	{kindArray, "array"},
	{kindString, "string"},
	{kindNumber, "number"},
	{kindInteger, "integer"},
	{kindBoolean, "boolean"},
	{kindNull, "null"},
}

func (k kind) String() string {
	var names []string
	for _, t := range kinds {
		if k&t.kind != 0 {
			names = append(names, t.name)
		}
	}
	return strings.Join(names, " or ")
}

func kindNamed(name string) kind {
	for _, t := range kinds {
		if t.name == name {
			return t.kind
		}
	}
	return 0
}

// value is a decoded JSON value: small, in few allocations, with numbers as they were written.
type value struct {
	kind  kind
	truth bool
	name  string  // of the member, where it is one of an object
	text  string  // of a string, unescaped; of a number, as written
	items []value // of an array, or members of an object in their order
}

// member finds a member of an object by its name; nil where there is none.
func (v *value) member(name string) *value {
	for i := range v.items {
		if v.items[i].name == name {
			return &v.items[i]
		}
	}
	return nil
}

// with is the object with one member set.
func (v value) with(name string, member value) value {
	member.name = name
	items := slices.Clone(v.items)
	if i := slices.IndexFunc(items, func(m value) bool { return m.name == name }); i >= 0 {
		items[i] = member
	} else {
		items = append(items, member)
	}
	v.items = items
	return v
}

func nullValue() value            { return value{kind: kindNull} }
func boolValue(b bool) value      { return value{kind: kindBoolean, truth: b} }
func numberValue(s string) value  { return value{kind: kindNumber, text: s} }
func stringValue(s string) value  { return value{kind: kindString, text: s} }
func arrayValue(v ...value) value { return value{kind: kindArray, items: v} }
func objectValue() value          { return value{kind: kindObject} }

// valueOf turns a value decoded elsewhere into ours. Maps are taken in the order of their keys, so that violations come
// in one order.
func valueOf(v any, depth int) (value, error) {
	if depth < 0 {
		return value{}, errTooDeep
	}
	switch v := v.(type) {
	case nil:
		return nullValue(), nil
	case bool:
		return boolValue(v), nil
	case string:
		return stringValue(v), nil
	case json.Number:
		return checkedNumber(string(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return value{}, fmt.Errorf("%v is no JSON number", v)
		}
		return numberValue(strconv.FormatFloat(v, 'g', -1, 64)), nil
	case int:
		return numberValue(strconv.Itoa(v)), nil
	case int32:
		return numberValue(strconv.FormatInt(int64(v), 10)), nil
	case int64:
		return numberValue(strconv.FormatInt(v, 10)), nil
	case uint64:
		return numberValue(strconv.FormatUint(v, 10)), nil
	case []any:
		items := make([]value, len(v))
		for i, e := range v {
			var err error
			if items[i], err = valueOf(e, depth-1); err != nil {
				return value{}, err
			}
		}
		return arrayValue(items...), nil
	case map[string]any:
		items := make([]value, 0, len(v))
		for name, e := range v {
			m, err := valueOf(e, depth-1)
			if err != nil {
				return value{}, err
			}
			m.name = name
			items = append(items, m)
		}
		sort.Slice(items, func(i, j int) bool { return items[i].name < items[j].name })
		return value{kind: kindObject, items: items}, nil
	}
	return value{}, fmt.Errorf("%T is no JSON value: expected nil, bool, string, a number, []any or map[string]any", v)
}

func checkedNumber(s string) (value, error) {
	d := decoder{s: s, depth: 1}
	v, err := d.document()
	if err == nil && v.kind != kindNumber {
		err = fmt.Errorf("expected a number, got %v", v.kind)
	}
	return v, err
}

// plain is the value as encoding/json would decode it, with numbers as json.Number.
func (v *value) plain() any {
	switch v.kind {
	case kindBoolean:
		return v.truth
	case kindNumber:
		return json.Number(v.text)
	case kindString:
		return v.text
	case kindArray:
		items := make([]any, len(v.items))
		for i := range v.items {
			items[i] = v.items[i].plain()
		}
		return items
	case kindObject:
		members := make(map[string]any, len(v.items))
		for i := range v.items {
			members[v.items[i].name] = v.items[i].plain()
		}
		return members
	default:
		return nil
	}
}

// equal is JSON Schema's equality: numbers by their value, objects whatever the order of members.
func (v *value) equal(w *value) bool {
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case kindBoolean:
		return v.truth == w.truth
	case kindString:
		return v.text == w.text
	case kindNumber:
		return v.text == w.text || parseNumber(v.text).equal(parseNumber(w.text))
	case kindArray:
		return slices.EqualFunc(v.items, w.items, func(a, b value) bool { return a.equal(&b) })
	case kindObject:
		if len(v.items) != len(w.items) {
			return false
		}
		if len(v.items) > 16 { // the member-by-member search below is quadratic
			return string(v.canonical(nil)) == string(w.canonical(nil))
		}
		for i := range v.items {
			m := w.member(v.items[i].name)
			if m == nil || !v.items[i].equal(m) {
				return false
			}
		}
	}
	return true
}
