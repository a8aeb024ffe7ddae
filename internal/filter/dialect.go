package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// reader reads a filter array, of which each filter has to match.
type reader struct {
	*compiler
	text string
	dec  *json.Decoder
}

// filters compiles a filter array.
func (c *compiler) filters(text string) ([]node, error) {
	if len(text) > maxFilters {
		return nil, &Error{Expression: text, Position: maxFilters, Message: "the filters are longer than 64 KiB"}
	}
	r := &reader{compiler: c, text: text, dec: json.NewDecoder(bytes.NewReader([]byte(text)))}
	if err := r.checkJSON(); err != nil {
		return nil, err
	}
	return r.list("", 0, "an array of filters")
}

// checkJSON finds mistakes in the JSON before it is read token by token, which does not tell their place.
func (r *reader) checkJSON() error {
	if json.Valid([]byte(r.text)) {
		return nil
	}
	var value json.RawMessage
	err := json.Unmarshal([]byte(r.text), &value)
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || syntax.Offset >= int64(len(r.text)) && !strings.Contains(syntax.Error(), "invalid") {
		return r.fail(len(r.text), "the JSON ends too early")
	}
	return r.fail(max(int(syntax.Offset)-1, 0), "this is no JSON: %s", syntax)
}

func (r *reader) fail(at int, format string, args ...any) *Error {
	return &Error{Expression: r.text, Position: at, Message: fmt.Sprintf(format, args...)}
}

// position is where the next token begins.
func (r *reader) position() int {
	at := int(r.dec.InputOffset())
	return at + len(r.text[at:]) - len(strings.TrimLeft(r.text[at:], " \t\r\n,:"))
}

// token reads the next token and tells where it begins.
func (r *reader) token() (token json.Token, at int, err error) {
	at = r.position()
	if token, err = r.dec.Token(); err != nil {
		return nil, at, r.fail(at, "this is no JSON: %s", err)
	}
	return token, at, nil
}

// open reads the bracket that begins what is expected.
func (r *reader) open(bracket json.Delim, expected string) error {
	token, at, err := r.token()
	if err != nil {
		return err
	}
	if token != bracket {
		return r.fail(at, "%s is expected", expected)
	}
	return nil
}

// list reads an array of filters, which is empty only at the top.
func (r *reader) list(pointer string, depth int, expected string) ([]node, error) {
	at := r.position()
	if err := r.open('[', expected); err != nil {
		return nil, err
	}
	var nodes []node
	for r.dec.More() {
		n, err := r.filter(pointer+"/"+strconv.Itoa(len(nodes)), depth+1)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	if _, _, err := r.token(); err != nil {
		return nil, err
	}
	if len(nodes) == 0 && depth > 0 {
		return nil, r.fail(at, "the array is empty: at least one filter is expected")
	}
	return nodes, nil
}

const dialects = "exact, prefix, suffix, all, any, not or sql"

// filter reads one filter, an object of one dialect.
func (r *reader) filter(pointer string, depth int) (node, error) {
	begin := r.position()
	if depth > maxDepth {
		return nil, r.fail(begin, "filters nest deeper than %d", maxDepth)
	}
	if !r.take() {
		return nil, r.fail(begin, tooManyNodes)
	}
	if err := r.open('{', "a filter, an object with one of "+dialects+","); err != nil {
		return nil, err
	}
	token, at, err := r.token()
	if err != nil {
		return nil, err
	}
	dialect, ok := token.(string)
	if !ok {
		return nil, r.fail(at, "the filter is empty: one of %s is expected", dialects)
	}
	pointer += "/" + dialect
	var n node
	switch dialect {
	case "exact", "prefix", "suffix":
		n, err = r.attributes(dialect)
	case "all", "any":
		var parts []node
		if parts, err = r.list(pointer, depth, "an array of filters"); err != nil {
			return nil, err
		}
		if dialect == "all" {
			n = allOf(parts)
		} else {
			n = anyOf(parts)
		}
	case "not":
		if n, err = r.filter(pointer, depth+1); err == nil {
			n = not{n}
		}
	case "sql":
		n, err = r.sqlText(pointer)
	default:
		return nil, r.fail(at, "the dialect %s is not known: one of %s is expected", quote(dialect), dialects)
	}
	if err != nil {
		return nil, err
	}
	token, at, err = r.token()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('}') {
		return nil, r.fail(at, "a filter has one dialect: put several filters into an array of all or any")
	}
	return n, nil
}

// attributes reads the object of attributes and values of exact, prefix or suffix, which all have to match.
func (r *reader) attributes(dialect string) (node, error) {
	begin := r.position()
	if err := r.open('{', "an object of attributes and values"); err != nil {
		return nil, err
	}
	var nodes []node
	seen := map[string]bool{}
	for r.dec.More() {
		token, at, err := r.token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if !validAttribute(name) {
			return nil, r.fail(at, "%s is not the name of an attribute, which has lower-case letters and digits", quote(name))
		}
		if seen[name] {
			return nil, r.fail(at, "the attribute %s comes twice", name)
		}
		name = known(name)
		seen[name] = true
		if token, at, err = r.token(); err != nil {
			return nil, err
		}
		value, ok := token.(string)
		switch {
		case !ok:
			return nil, r.fail(at, "a string is expected as the value of %s", name)
		case value == "":
			return nil, r.fail(at, "the value of %s is empty", name)
		case len(value) > maxLength:
			return nil, r.fail(at, "the value of %s is longer than 8 KiB", name)
		case len(nodes) > 0 && !r.take():
			return nil, r.fail(at, tooManyNodes)
		}
		switch dialect {
		case "exact":
			nodes = append(nodes, exact{name, value})
		case "prefix":
			nodes = append(nodes, prefix{name, value})
		default:
			nodes = append(nodes, suffix{name, value})
		}
	}
	if _, _, err := r.token(); err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, r.fail(begin, "the object is empty: at least one attribute is expected")
	}
	return allOf(nodes), nil
}

func (r *reader) sqlText(pointer string) (node, error) {
	token, at, err := r.token()
	if err != nil {
		return nil, err
	}
	text, ok := token.(string)
	if !ok {
		return nil, r.fail(at, "a CESQL expression, a string, is expected")
	}
	n, err := r.sql(text)
	var mistake *Error
	if errors.As(err, &mistake) {
		mistake.Pointer = pointer
	}
	return n, err
}

// validAttribute tells whether name can be that of a context attribute.
func validAttribute(name string) bool {
	return name != "" && name != "data" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// known is the name, as one string for all filters where it is a common one.
func known(name string) string {
	for _, common := range [...]string{"type", "source", "subject", "resource", "id", "time"} {
		if name == common {
			return common
		}
	}
	return name
}
