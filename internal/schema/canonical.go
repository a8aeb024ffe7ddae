package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf16"
)

// maxDepth bounds the nesting of what is read without a Schema's own bound.
const maxDepth = 512

// Canonical is a JSON text in the one form that all its spellings share: without white space, members in the order of
// RFC 8785, the fewest escapes, and numbers exactly, in one form whatever their spelling (1, 1.0, 1e0). It differs from
// RFC 8785 where a number has more digits than a double: none is lost here.
func Canonical(raw []byte) ([]byte, error) {
	v, err := decode(raw, maxDepth)
	if err != nil {
		return nil, err
	}
	return v.canonical(make([]byte, 0, len(raw))), nil
}

// Digest names a JSON text by the SHA-256 of its canonical form, in hexadecimal.
func Digest(raw []byte) (string, error) {
	c, err := Canonical(raw)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(c)
	return hex.EncodeToString(sum[:]), nil
}

func (v *value) canonical(b []byte) []byte {
	switch v.kind {
	case kindNull:
		return append(b, "null"...)
	case kindBoolean:
		if v.truth {
			return append(b, "true"...)
		}
		return append(b, "false"...)
	case kindNumber:
		return append(b, parseNumber(v.text).String()...)
	case kindString:
		return appendString(b, v.text)
	case kindArray:
		b = append(b, '[')
		for i := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.items[i].canonical(b)
		}
		return append(b, ']')
	default:
		order := make([]*value, len(v.items))
		for i := range v.items {
			order[i] = &v.items[i]
		}
		slices.SortFunc(order, func(x, y *value) int { return compareUTF16(x.name, y.name) })
		b = append(b, '{')
		for i, m := range order {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, m.name)
			b = append(b, ':')
			b = m.canonical(b)
		}
		return append(b, '}')
	}
}

// compareUTF16 orders by UTF-16 code units, as RFC 8785 wants it: other than by bytes only beyond the basic plane.
func compareUTF16(x, y string) int {
	if x == y || (isBasic(x) && isBasic(y)) {
		return strings.Compare(x, y)
	}
	return slices.Compare(utf16.Encode([]rune(x)), utf16.Encode([]rune(y)))
}

func isBasic(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0xffff }) < 0
}

func appendString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
