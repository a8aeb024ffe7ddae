package schema

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDigits bounds how many digits a number may have on either side of the decimal point when written without an exponent,
// so that exact arithmetic on it stays cheap: 1e999999999 is eleven bytes to write and a gigabyte to compute with.
const maxDigits = 1000

var errTooDeep = errors.New("nested too deeply")

// syntaxError is text that is not JSON as RFC 7493 (I-JSON) has it: duplicate names and lone surrogates are none, for
// readers would differ in what they make of them.
type syntaxError struct {
	offset  int
	message string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("not valid JSON at byte %d: %s", e.offset, e.message)
}

// decoder reads one JSON text. Strings without escapes share the text's memory.
type decoder struct {
	s     string
	i     int
	depth int // how many levels may still be entered
	stack []value
}

// decode reads a whole JSON text of at most so many levels of arrays and objects.
func decode(data []byte, depth int) (value, error) {
	d := decoder{s: string(data), depth: depth, stack: make([]value, 0, min(len(data)/32+4, 256))}
	return d.document()
}

func (d *decoder) document() (value, error) {
	v, err := d.value()
	if err != nil {
		return value{}, err
	}
	if d.space(); d.i < len(d.s) {
		return value{}, d.fail("expected the end after the value")
	}
	return v, nil
}

func (d *decoder) fail(format string, args ...any) error {
	return &syntaxError{offset: d.i, message: fmt.Sprintf(format, args...)}
}

func (d *decoder) space() {
	for d.i < len(d.s) {
		switch d.s[d.i] {
		case ' ', '\t', '\n', '\r':
			d.i++
		default:
			return
		}
	}
}

func (d *decoder) value() (value, error) {
	d.space()
	if d.i == len(d.s) {
		return value{}, d.fail("expected a value, got the end")
	}
	switch c := d.s[d.i]; c {
	case '{':
		return d.object()
	case '[':
		return d.array()
	case '"':
		s, err := d.string()
		return stringValue(s), err
	case 't':
		return boolValue(true), d.word("true")
	case 'f':
		return boolValue(false), d.word("false")
	case 'n':
		return nullValue(), d.word("null")
	default:
		return d.number()
	}
}

func (d *decoder) word(w string) error {
	if !strings.HasPrefix(d.s[d.i:], w) {
		return d.fail("expected %s", w)
	}
	d.i += len(w)
	return nil
}

func (d *decoder) enter() error {
	if d.depth == 0 {
		return errTooDeep
	}
	d.depth--
	d.i++
	d.space()
	return nil
}

// leave takes what was read since mark off the stack, into memory of exactly its size.
func (d *decoder) leave(k kind, mark int) value {
	d.depth++
	d.i++
	v := value{kind: k}
	if n := len(d.stack) - mark; n > 0 {
		v.items = make([]value, n)
		copy(v.items, d.stack[mark:])
		d.stack = d.stack[:mark]
	}
	return v
}

func (d *decoder) peek() byte {
	if d.i < len(d.s) {
		return d.s[d.i]
	}
	return 0
}

func (d *decoder) array() (value, error) {
	if err := d.enter(); err != nil {
		return value{}, err
	}
	mark := len(d.stack)
	if d.peek() == ']' {
		return d.leave(kindArray, mark), nil
	}
	for {
		v, err := d.value()
		if err != nil {
			return value{}, err
		}
		d.stack = append(d.stack, v)
		d.space()
		switch d.peek() {
		case ',':
			d.i++
		case ']':
			return d.leave(kindArray, mark), nil
		default:
			return value{}, d.fail("expected , or ] in an array")
		}
	}
}

func (d *decoder) object() (value, error) {
	if err := d.enter(); err != nil {
		return value{}, err
	}
	mark := len(d.stack)
	if d.peek() == '}' {
		return d.leave(kindObject, mark), nil
	}
	var seen map[string]bool // of objects with many members
	for {
		if d.space(); d.peek() != '"' {
			return value{}, d.fail("expected a property's name in quotes")
		}
		at := d.i
		name, err := d.string()
		if err != nil {
			return value{}, err
		}
		if d.space(); d.peek() != ':' {
			return value{}, d.fail("expected : after a property's name")
		}
		members := d.stack[mark:]
		twice := false
		if len(members) <= 16 {
			for i := range members {
				twice = twice || members[i].name == name
			}
		} else {
			if seen == nil {
				seen = make(map[string]bool, 64)
				for i := range members {
					seen[members[i].name] = true
				}
			}
			twice = seen[name]
			seen[name] = true
		}
		if twice {
			d.i = at
			return value{}, d.fail("an object has the same property twice")
		}
		d.i++
		v, err := d.value()
		if err != nil {
			return value{}, err
		}
		v.name = name
		d.stack = append(d.stack, v)
		d.space()
		switch d.peek() {
		case ',':
			d.i++
		case '}':
			return d.leave(kindObject, mark), nil
		default:
			return value{}, d.fail("expected , or } in an object")
		}
	}
}

func (d *decoder) string() (string, error) {
	d.i++
	start, ascii := d.i, true
	for ; d.i < len(d.s); d.i++ {
		switch c := d.s[d.i]; {
		case c == '"':
			s := d.s[start:d.i]
			if !ascii && !utf8.ValidString(s) {
				return "", d.fail("a string is not UTF-8")
			}
			d.i++
			return s, nil
		case c == '\\':
			return d.escaped(start)
		case c < 0x20:
			return "", d.fail("a control character in a string must be escaped")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", d.fail("a string has no end")
}

func (d *decoder) escaped(start int) (string, error) {
	b := make([]byte, 0, d.i-start+32)
	b = append(b, d.s[start:d.i]...)
	for d.i < len(d.s) {
		c := d.s[d.i]
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				return "", d.fail("a string is not UTF-8")
			}
			d.i++
			return string(b), nil
		case c < 0x20:
			return "", d.fail("a control character in a string must be escaped")
		case c != '\\':
			b = append(b, c)
			d.i++
			continue
		}
		d.i++
		if d.i == len(d.s) {
			break
		}
		c = d.s[d.i]
		d.i++
		switch c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, err := d.hex()
			if err != nil {
				return "", err
			}
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if strings.HasPrefix(d.s[d.i:], `\u`) {
					d.i += 2
					if low, err = d.hex(); err != nil {
						return "", err
					}
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", d.fail("half a surrogate pair in a string")
				}
			}
			b = utf8.AppendRune(b, r)
		default:
			return "", d.fail("an unknown escape in a string")
		}
	}
	return "", d.fail("a string has no end")
}

func (d *decoder) hex() (rune, error) {
	if d.i+4 > len(d.s) {
		return 0, d.fail("expected four hexadecimal digits after \\u")
	}
	r := rune(0)
	for _, c := range []byte(d.s[d.i : d.i+4]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, d.fail("expected four hexadecimal digits after \\u")
		}
	}
	d.i += 4
	return r, nil
}

func (d *decoder) digits() int {
	start := d.i
	for d.i < len(d.s) && '0' <= d.s[d.i] && d.s[d.i] <= '9' {
		d.i++
	}
	return d.i - start
}

func (d *decoder) number() (value, error) {
	start := d.i
	if d.peek() == '-' {
		d.i++
	}
	zero := d.peek() == '0'
	whole, fraction, exponent := d.digits(), 0, 0
	if whole == 0 {
		d.i = start
		return value{}, d.fail("expected a value")
	}
	if zero && whole > 1 {
		d.i = start
		return value{}, d.fail("a number starts with 0")
	}
	if d.peek() == '.' {
		d.i++
		if fraction = d.digits(); fraction == 0 {
			return value{}, d.fail("expected digits after the decimal point")
		}
	}
	if d.peek()|0x20 == 'e' {
		d.i++
		sign := d.peek()
		if sign == '+' || sign == '-' {
			d.i++
		}
		at := d.i
		if d.digits() == 0 {
			return value{}, d.fail("expected digits after the exponent's e")
		}
		var err error
		if exponent, err = strconv.Atoi(d.s[at:d.i]); err != nil || exponent > len(d.s)+maxDigits {
			exponent = len(d.s) + maxDigits + 1 // too much whatever is before it
		}
		if sign == '-' {
			exponent = -exponent
		}
	}
	if whole+exponent > maxDigits || fraction-exponent > maxDigits {
		d.i = start
		return value{}, d.fail("a number has more than %d digits before or after the decimal point", maxDigits)
	}
	return numberValue(d.s[start:d.i]), nil
}
