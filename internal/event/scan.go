package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// maxDepth bounds how deep data may nest. Readers have bounds of their own, some of them lower; none needs more.
const maxDepth = 256

// scanner walks over JSON text (RFC 8259) and checks its grammar. Each method expects the position at the first byte
// of what it reads, leaves it after the last, and returns false at a mistake, which fault then describes.
type scanner struct {
	text  string
	at    int
	lines bool   // a line break was passed; there are none inside a value that has no parts
	fault string // what is wrong; the position is at
}

func (s *scanner) fail(at int, fault string) bool {
	s.at, s.fault = at, fault
	return false
}

// next passes white space and returns the byte there, 0 at the end.
func (s *scanner) next() byte {
	if s.at < len(s.text) {
		if c := s.text[s.at]; c > ' ' {
			return c
		}
	}
	return s.passSpace()
}

func (s *scanner) passSpace() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case '\r', '\n':
			s.lines = true
			s.at++
		case ' ', '\t':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// plain tells the bytes that stand for themselves inside a string; what lies above ASCII is checked beforehand, for
// the whole text at once.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

// passPlain returns the position of the first byte at or behind i that is not plain.
func passPlain(text string, i int) int {
	for ; len(text)-i >= 8; i += 8 {
		if found := special(eight(text, i)); found != 0 {
			return i + bits.TrailingZeros64(found)>>3
		}
	}
	for i < len(text) && plain[text[i]] {
		i++
	}
	return i
}

// eight returns the eight bytes at i, the first the lowest.
func eight(text string, i int) uint64 {
	return binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(text), len(text))[i:])
}

// special sets the highest bit of the lowest of eight bytes that is not plain, and perhaps bits above it: subtracting one
// from a byte of 0 borrows, and so for the other comparisons, and disturbs only the bytes above.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, escape := w^'"'*ones, w^'\\'*ones
	return ((quote-ones)&^quote | (escape-ones)&^escape | (w-0x20*ones)&^w) & highs
}

// str reads a string and returns the span between its quotes.
func (s *scanner) str() (from, to int, escaped, ok bool) {
	from = s.at + 1
	text, i := s.text, from
	for ; len(text)-i >= 8; i += 8 {
		if found := special(eight(text, i)); found != 0 {
			i += bits.TrailingZeros64(found) >> 3
			if text[i] == '"' {
				s.at = i + 1
				return from, i, false, true
			}
			break
		}
	}
	return s.strFrom(from, passPlain(text, i))
}

// strFrom goes on in a string where it is not plain.
func (s *scanner) strFrom(from, i int) (_, to int, escaped, ok bool) {
	text := s.text
	for i < len(text) {
		switch text[i] {
		case '"':
			s.at = i + 1
			return from, i, escaped, true
		case '\\':
			n := escapeLength(text[i:])
			if n == 0 {
				return 0, 0, false, s.fail(i, `an escape that JSON does not have: use \" \\ \/ \b \f \n \r \t or \u and four hex digits`)
			}
			escaped = true
			i = passPlain(text, i+n)
		default:
			return 0, 0, false, s.fail(i, "a control character inside a string: escape it")
		}
	}
	return 0, 0, false, s.fail(len(text), "the text ends inside a string")
}

// escapeLength is the length of the escape at the beginning of text, 0 if it is none.
func escapeLength(text string) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(text); ok {
			return 6
		}
	}
	return 0
}

// hex4 decodes \uXXXX at the beginning of text.
func hex4(text string) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var r rune
	for i := 2; i < 6; i++ {
		d, ok := hexDigit(text[i])
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// appendUnescaped appends what the inside of a JSON string stands for. Half a surrogate pair becomes U+FFFD, and whole
// is false. The escapes must have been checked.
func appendUnescaped(dst []byte, inside string) (_ []byte, whole bool) {
	whole = true
	for i := 0; i < len(inside); {
		c := inside[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		switch c = inside[i+1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(inside[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				low, _ := hex4(inside[i:])
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					r = pair
					i += 6
				} else {
					r, whole = utf8.RuneError, false
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
		i += 2
	}
	return dst, whole
}

// number reads a number and tells whether it is written as an integer.
func (s *scanner) number() (integer, ok bool) {
	text, i := s.text, s.at
	if i < len(text) && text[i] == '-' {
		i++
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else {
		from := i
		if i = passDigits(text, from); i == from {
			return false, s.fail(i, "a digit is missing")
		}
	}
	if i >= len(text) || text[i] != '.' && text[i]|0x20 != 'e' {
		s.at = i
		return true, true
	}
	if text[i] == '.' {
		from := i + 1
		if i = passDigits(text, from); i == from {
			return false, s.fail(i, "a digit is missing after the decimal point")
		}
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		from := i
		if i = passDigits(text, from); i == from {
			return false, s.fail(i, "a digit is missing in the exponent")
		}
	}
	s.at = i
	return false, true
}

func passDigits(text string, i int) int {
	for i < len(text) && text[i]-'0' <= 9 {
		i++
	}
	return i
}

func (s *scanner) word(w string) bool {
	if len(s.text)-s.at < len(w) || s.text[s.at:s.at+len(w)] != w {
		return s.fail(s.at, "a value is missing: JSON's words are true, false and null")
	}
	s.at += len(w)
	return true
}

// skip passes one value of any kind that stands inside depth others.
func (s *scanner) skip(depth int) bool {
	switch c := s.next(); c {
	case '"':
		_, _, _, ok := s.str()
		return ok
	case '{':
		return s.skipObject(depth + 1)
	case '[':
		return s.skipArray(depth + 1)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	case 0:
		if s.at >= len(s.text) {
			return s.fail(s.at, "the text ends where a value is expected")
		}
	default:
		if c == '-' || '0' <= c && c <= '9' {
			_, ok := s.number()
			return ok
		}
	}
	return s.fail(s.at, "a value is expected")
}

func (s *scanner) skipObject(depth int) bool {
	if depth > maxDepth {
		return s.fail(s.at, "objects and arrays nest deeper than 256")
	}
	if s.empty('}') {
		return true
	}
	for {
		if _, _, _, ok := s.key(); !ok {
			return false
		}
		if !s.skip(depth) {
			return false
		}
		if s.comma() {
			continue
		}
		if more, ok := s.more('}'); !more {
			return ok
		}
	}
}

// empty passes the opening byte of an object or array and, where there is nothing in it, the closing one.
func (s *scanner) empty(closing byte) bool {
	s.at++
	if s.next() != closing {
		return false
	}
	s.at++
	return true
}

// comma passes a comma if there is one here.
func (s *scanner) comma() bool {
	if s.at < len(s.text) && s.text[s.at] == ',' {
		s.at++
		return true
	}
	return false
}

// more passes what follows a member or an element: a comma, after which there are more, or the closing byte.
func (s *scanner) more(closing byte) (more, ok bool) {
	switch s.next() {
	case ',':
		s.at++
		return true, true
	case closing:
		s.at++
		return false, true
	}
	return false, s.fail(s.at, "a comma or "+string(rune(closing))+" is expected")
}

// key passes a member's name and the colon after it. The name is between from and to.
func (s *scanner) key() (from, to int, escaped, ok bool) {
	if s.next() != '"' {
		return 0, 0, false, s.fail(s.at, "a member's name in quotes is expected")
	}
	from, to, escaped, ok = s.str()
	return from, to, escaped, ok && s.colon()
}

func (s *scanner) colon() bool {
	if s.at < len(s.text) && s.text[s.at] == ':' {
		s.at++
		return true
	}
	return s.farColon()
}

func (s *scanner) farColon() bool {
	if s.next() != ':' {
		return s.fail(s.at, "a colon is expected after a member's name")
	}
	s.at++
	return true
}

func (s *scanner) skipArray(depth int) bool {
	if depth > maxDepth {
		return s.fail(s.at, "objects and arrays nest deeper than 256")
	}
	if s.empty(']') {
		return true
	}
	for {
		if !s.skip(depth) {
			return false
		}
		if s.comma() {
			continue
		}
		if more, ok := s.more(']'); !more {
			return ok
		}
	}
}

// end tells whether nothing but white space is left.
func (s *scanner) end() bool {
	s.next()
	if s.at < len(s.text) {
		return s.fail(s.at, "something follows the value")
	}
	return true
}
