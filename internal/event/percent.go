package event

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// encodePercent is what appendPercent appends to nothing. Text that stands for itself is returned as it is.
func encodePercent(text string) string {
	for i := range len(text) {
		if mustEncode(text[i]) {
			return textOf(appendPercent(make([]byte, 0, len(text)+2*(len(text)-i)), text))
		}
	}
	return text
}

func mustEncode(c byte) bool { return c <= ' ' || c == '"' || c == '%' || c > '~' }

// appendPercent appends an attribute's value as a header carries it (HTTP binding, section 3.1.3.2): space, double
// quote, percent and all outside U+0021 to U+007E are percent-encoded as UTF-8.
func appendPercent(dst []byte, text string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; mustEncode(c) {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

var (
	errQuote   = errors.New("a quoted string is not closed")
	errPercent = errors.New("a percent sign is not followed by two hex digits")
	errUTF8    = errors.New("it is not UTF-8 once decoded")
)

// decodePercent is the inverse: it first unquotes (older senders quote), then decodes once, and refuses what is not
// UTF-8 then, overlong forms among it.
func decodePercent(text string) (string, error) {
	text = strings.Trim(text, " \t")
	if strings.HasPrefix(text, `"`) {
		var err error
		if text, err = unquote(text); err != nil {
			return "", err
		}
	}
	if strings.IndexByte(text, '%') >= 0 {
		out := make([]byte, 0, len(text))
		for i := 0; i < len(text); i++ {
			c := text[i]
			if c == '%' {
				if i+2 >= len(text) {
					return "", errPercent
				}
				high, ok1 := hexDigit(text[i+1])
				low, ok2 := hexDigit(text[i+2])
				if !ok1 || !ok2 {
					return "", errPercent
				}
				c = high<<4 | low
				i += 2
			}
			out = append(out, c)
		}
		text = textOf(out)
	}
	if !utf8.ValidString(text) {
		return "", errUTF8
	}
	return text, nil
}

// unquote reads a quoted-string (RFC 7230, section 3.2.6).
func unquote(text string) (string, error) {
	if len(text) < 2 || text[len(text)-1] != '"' {
		return "", errQuote
	}
	inside := text[1 : len(text)-1]
	out := make([]byte, 0, len(inside))
	for i := 0; i < len(inside); i++ {
		c := inside[i]
		switch c {
		case '"':
			return "", errQuote
		case '\\':
			i++
			if i == len(inside) {
				return "", errQuote
			}
			c = inside[i]
		}
		out = append(out, c)
	}
	return textOf(out), nil
}
