package webhook

import (
	"crypto/sha1" //nolint:gosec // what a signature of the older kind is made with, for endpoints that know no other
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strconv"
)

// What a legacy signature is made with.
const (
	HashSHA1   = "sha1"
	HashSHA256 = "sha256"
	HashSHA512 = "sha512"

	EncodingHex    = "hex"
	EncodingBase64 = "base64"
)

// maxLegacySecret bounds a legacy secret; the longest in use are some hundred bytes.
const maxLegacySecret = 1024

// Legacy is one signature more, for receivers that move here from another sender: an HMAC over the body alone in a
// header of its own. GitHub's is {X-Hub-Signature-256, sha256, hex, "sha256="}, Shopify's {X-Shopify-Hmac-Sha256,
// sha256, base64}. It does not keep a message from being replayed: the others do.
type Legacy struct {
	Header   string `json:"header"`
	Hash     string `json:"hash"`             // HashSHA1, HashSHA256 or HashSHA512
	Encoding string `json:"encoding"`         // EncodingHex (in lower case) or EncodingBase64
	Prefix   string `json:"prefix,omitempty"` // what stands before the signature
	Secret   Secret `json:"-"`                // as the receiver has it, of any form: its bytes are the HMAC's key
}

// Check says what is wrong, by JSON Pointers.
func (l Legacy) Check() []Problem {
	var p problems
	if fault := headerNameFault(l.Header); fault != "" {
		p.add("/header", "%s", fault)
	} else if len(l.Header) > 128 {
		p.add("/header", "the name has %d bytes, and may have 128", len(l.Header))
	}
	if newHash(l.Hash) == nil {
		p.add("/hash", "%s, %s or %s is expected, and %q came", HashSHA1, HashSHA256, HashSHA512, abbreviate(l.Hash))
	}
	if l.Encoding != EncodingHex && l.Encoding != EncodingBase64 {
		p.add("/encoding", "%s or %s is expected, and %q came", EncodingHex, EncodingBase64, abbreviate(l.Encoding))
	}
	switch {
	case len(l.Prefix) > 128:
		p.add("/prefix", "it has %d bytes, and may have 128", len(l.Prefix))
	case l.Prefix != "" && headerValueFault(l.Prefix+".") != "": // a space at the end is one within the value
		p.add("/prefix", "it %s", headerValueFault(l.Prefix+"."))
	}
	switch n := len(l.Secret); {
	case n == 0:
		p.add("/secret", "the secret that the receiver verifies with is expected, and it is empty")
	case n > maxLegacySecret:
		p.add("/secret", "it has %d bytes, and may have %d", n, maxLegacySecret)
	}
	return p
}

// Format implements [fmt.Formatter]: every verb gives the header's name and "[secret]".
func (l Legacy) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, l.summary()) // fmt has nobody to tell either
}

// LogValue implements [slog.LogValuer].
func (l Legacy) LogValue() slog.Value { return slog.StringValue(l.summary()) }

func (l Legacy) summary() string {
	return "legacy signature " + strconv.Quote(l.Header) + " " + withheld
}

// newHash makes the hash of a name, nil where it is not known.
func newHash(name string) func() hash.Hash {
	switch name {
	case HashSHA1:
		return sha1.New
	case HashSHA256:
		return sha256.New
	case HashSHA512:
		return sha512.New
	}
	return nil
}

// append appends the value of the header for a MAC.
func (l *Legacy) append(dst, mac []byte) []byte {
	dst = append(dst, l.Prefix...)
	if l.Encoding == EncodingBase64 {
		return base64.StdEncoding.AppendEncode(dst, mac)
	}
	return hex.AppendEncode(dst, mac)
}

func abbreviate(text string) string {
	const longest = 40
	if len(text) <= longest {
		return text
	}
	return fmt.Sprintf("%.*s…", longest, text)
}
