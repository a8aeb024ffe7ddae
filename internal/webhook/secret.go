package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// How long a secret may be, by Standard Webhooks.
const (
	MinSecret = 24
	MaxSecret = 64
)

const (
	secretPrefix = "whsec_"
	withheld     = "[secret]"
)

// Secret is what HMACs are made with: 24 to 64 bytes where it signs by Standard Webhooks. It never shows itself.
type Secret []byte

// NewSecret returns a secret of 32 random bytes.
func NewSecret() Secret {
	s := make(Secret, 32)
	rand.Read(s) // never fails: it ends the program instead
	return s
}

// ParseSecret reads the text of a secret: "whsec_" and the Base64 of 24 to 64 bytes. Its errors do not show the text.
func ParseSecret(text string) (Secret, error) {
	b, err := decodeText(text, secretPrefix)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	if len(b) < MinSecret || len(b) > MaxSecret {
		return nil, fmt.Errorf("secret: it has %d bytes, and must have %d to %d: make one by openssl rand -base64 32",
			len(b), MinSecret, MaxSecret)
	}
	return b, nil
}

// Text is the secret as its receiver configures it; the inverse of [ParseSecret].
func (s Secret) Text() string { return secretPrefix + base64.StdEncoding.EncodeToString(s) }

// Respond is a receiver's answer to a challenge: the Base64 of HMAC-SHA256(secret, challenge). It proves that who runs
// the endpoint knows the secret.
func (s Secret) Respond(challenge string) string {
	return base64.StdEncoding.EncodeToString(s.hmac(challenge))
}

// Responded tells whether response answers the challenge.
func (s Secret) Responded(challenge, response string) bool {
	b, err := base64.StdEncoding.DecodeString(response)
	return err == nil && len(s) > 0 && hmac.Equal(b, s.hmac(challenge))
}

func (s Secret) hmac(text string) []byte {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// Format implements [fmt.Formatter]: every verb gives "[secret]".
func (Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, withheld) // fmt has nobody to tell either
}

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(withheld) }

// MarshalText implements [encoding.TextMarshaler], so that JSON does not show the secret either.
func (Secret) MarshalText() ([]byte, error) { return []byte(withheld), nil }

// decodeText decodes the Base64 behind a prefix. Padding may be missing, as some tools leave it out.
func decodeText(text, prefix string) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return nil, fmt.Errorf("%s and Base64 are expected, and it begins otherwise", prefix)
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(rest, "="))
	if err != nil || strings.ContainsAny(rest, "\r\n") {
		// Not err itself: it could tell of the text.
		return nil, errors.New("what follows " + prefix + " is no Base64 (RFC 4648, the standard alphabet)")
	}
	return b, nil
}
