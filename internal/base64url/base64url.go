// Package base64url reads tokens that this server made, in Base64 of the URL's alphabet without padding (RFC 4648, section 5), such
// that one text stands for one token. encoding/base64 by itself passes over line breaks, and unless it is strict over the bits
// behind the last byte: several texts would then be equal and look different, to those who compare, cache or count them.
package base64url

import (
	"encoding/base64"
	"strings"
)

var strict = base64.RawURLEncoding.Strict()

// Decode returns what a text stands for. The error is a base64.CorruptInputError.
func Decode(text string) ([]byte, error) {
	return AppendDecode(make([]byte, 0, strict.DecodedLen(len(text))), text)
}

// AppendDecode is Decode that appends to dst, so that short texts need no memory of their own. With an error dst is returned as it
// was.
func AppendDecode(dst []byte, text string) ([]byte, error) {
	if i := strings.IndexAny(text, "\r\n"); i >= 0 {
		return dst, base64.CorruptInputError(i)
	}
	out, err := strict.AppendDecode(dst, []byte(text))
	if err != nil {
		return dst, err
	}
	return out, nil
}
