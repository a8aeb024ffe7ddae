package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Error is a mistake in a scenario.
type Error struct {
	File string
	Line int    // 0: nobody knows
	Path string // of the value, as readers[0].connections
	What string // what was expected, and what came
}

// Error implements error.
func (e *Error) Error() string {
	text := e.File
	if e.Line > 0 {
		text += ":" + strconv.Itoa(e.Line)
	}
	if e.Path != "" {
		text += ": " + e.Path
	}
	return text + ": " + e.What
}

// decoder reads YAML into structs whose fields have yaml tags. Keys that are not among them are mistakes.
type decoder struct {
	file  string
	lines map[string]int // where each value stands, by path
}

func newDecoder(file string) *decoder { return &decoder{file: file, lines: map[string]int{}} }

// scalar is a type of our own that reads itself.
type scalar interface{ set(node *yaml.Node) error }

// document reads the one document of a text.
func (d *decoder) document(text []byte, into any, path string) error {
	var node yaml.Node
	in := yaml.NewDecoder(bytes.NewReader(text))
	switch err := in.Decode(&node); {
	case errors.Is(err, io.EOF):
		return &Error{File: d.file, What: "it is empty"}
	case err != nil:
		e := &Error{File: d.file, What: strings.TrimPrefix(err.Error(), "yaml: ")}
		if n, scanErr := fmt.Sscanf(e.What, "line %d:", &e.Line); n == 1 && scanErr == nil {
			_, e.What, _ = strings.Cut(e.What, ": ")
		}
		return e
	}
	if err := in.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return &Error{File: d.file, What: "expected one document, and there are more (---)"}
	}
	return d.decode(node.Content[0], reflect.ValueOf(into).Elem(), path)
}

// mistake is an error at a value, or, where it was not given, at the nearest that was and that it belongs to.
func (d *decoder) mistake(path, format string, args ...any) error {
	line, at := 0, path
	for {
		if n, ok := d.lines[at]; ok {
			line = n
			break
		}
		if at == "" {
			break
		}
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	return &Error{File: d.file, Line: line, Path: path, What: fmt.Sprintf(format, args...)}
}

func (d *decoder) decode(node *yaml.Node, into reflect.Value, path string) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	d.lines[path] = node.Line
	if own, ok := into.Addr().Interface().(scalar); ok {
		if err := own.set(node); err != nil {
			return d.mistake(path, "%v", err)
		}
		return nil
	}
	switch into.Kind() {
	case reflect.Struct:
		return d.structure(node, into, path)
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return d.decode(node, into.Elem(), path)
	case reflect.Slice:
		return d.list(node, into, path)
	}
	if err := value(node, into); err != nil {
		return d.mistake(path, "%v", err)
	}
	return nil
}

func (d *decoder) structure(node *yaml.Node, into reflect.Value, path string) error {
	fields := map[string]reflect.Value{}
	var names []string
	for i := range into.NumField() {
		if name := into.Type().Field(i).Tag.Get("yaml"); name != "" {
			fields[name] = into.Field(i)
			names = append(names, name)
		}
	}
	if node.Kind != yaml.MappingNode {
		return d.mistake(path, "expected the keys %s, got %s", strings.Join(names, ", "), kind(node))
	}
	seen := map[string]bool{}
	for i := 0; i < len(node.Content); i += 2 {
		key := node.Content[i]
		at := join(path, key.Value)
		d.lines[at] = key.Line
		field, ok := fields[key.Value]
		switch {
		case !ok:
			return d.mistake(at, "there is no such key: expected %s", oneOf(names))
		case seen[key.Value]:
			return d.mistake(at, "it is given twice")
		}
		seen[key.Value] = true
		if err := d.decode(node.Content[i+1], field, at); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) list(node *yaml.Node, into reflect.Value, path string) error {
	if node.Kind != yaml.SequenceNode {
		return d.mistake(path, "expected a list, got %s", kind(node))
	}
	for i, one := range node.Content {
		element := reflect.New(into.Type().Elem()).Elem()
		if err := d.decode(one, element, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
		into.Set(reflect.Append(into, element))
	}
	return nil
}

// value reads a scalar of Go's.
func value(node *yaml.Node, into reflect.Value) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("expected one value, got %s", kind(node))
	}
	text := node.Value
	if into.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fmt.Errorf("expected a time such as 10s, 1m30s or 500ms, got %q", text)
		}
		into.SetInt(int64(d))
		return nil
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("expected true or false, got %q", text)
		}
		into.SetBool(b)
		return nil
	case reflect.Float64:
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || f < 0 || math.IsInf(f, 0) || math.IsNaN(f) {
			return fmt.Errorf("expected a number of at least 0, got %q", text)
		}
		into.SetFloat(f)
		return nil
	case reflect.Int, reflect.Uint64:
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("expected a whole number of at least 0, got %q", text)
		}
		if into.Kind() == reflect.Int {
			into.SetInt(n)
		} else {
			into.SetUint(uint64(n))
		}
		return nil
	}
	return fmt.Errorf("a %s cannot be read", into.Type()) // a mistake of ours: every kind that a scenario has is above
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kind(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(node.Value)
}

// oneOf lists what is to be chosen from.
func oneOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// pairs are names with one or several values each, in the order in which they are given.
type pairs [][2]string

func (p *pairs) set(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("expected names with values, got %s", kind(node))
	}
	for i := 0; i < len(node.Content); i += 2 {
		name, v := node.Content[i].Value, node.Content[i+1]
		values := []*yaml.Node{v}
		if v.Kind == yaml.SequenceNode {
			values = v.Content
		}
		for _, one := range values {
			if one.Kind != yaml.ScalarNode {
				return fmt.Errorf("%s: expected a value or a list of values, got %s", name, kind(one))
			}
			*p = append(*p, [2]string{name, one.Value})
		}
	}
	return nil
}

// rate is events a second; fastest is as fast as answers come.
type rate struct {
	perSecond float64
	fastest   bool
	given     bool
}

func (r *rate) set(node *yaml.Node) error {
	r.given = true
	if node.Kind == yaml.ScalarNode && node.Value == "max" {
		r.fastest = true
		return nil
	}
	if err := value(node, reflect.ValueOf(&r.perSecond).Elem()); err != nil || r.perSecond == 0 {
		return fmt.Errorf("expected events a second, or max for as many as are acknowledged, got %s", kind(node))
	}
	return nil
}

// choice checks that a value is one of some, where it is given.
func (d *decoder) choice(path, got string, of ...string) error {
	if got == "" || slices.Contains(of, got) {
		return nil
	}
	return d.mistake(path, "expected %s, got %q", oneOf(of), got)
}
