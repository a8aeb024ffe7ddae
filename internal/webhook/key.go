package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
)

const (
	keyPrefix       = "whsk_"
	publicKeyPrefix = "whpk_"
)

// SigningKey is an Ed25519 key of one subscription. It never shows itself. The zero SigningKey is none.
type SigningKey struct{ private ed25519.PrivateKey }

// NewSigningKey returns a new key.
func NewSigningKey() SigningKey {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil { // it has no other source of randomness that could fail
		panic(err)
	}
	return SigningKey{private}
}

// ParseSigningKey reads the text of a key: "whsk_" and the Base64 of its 32 bytes of seed, alone or with the 32 of the
// public key behind them. Its errors do not show the text.
func ParseSigningKey(text string) (SigningKey, error) {
	b, err := decodeText(text, keyPrefix)
	if err != nil {
		return SigningKey{}, fmt.Errorf("signing key: %w", err)
	}
	switch len(b) {
	case ed25519.SeedSize, ed25519.PrivateKeySize:
	default:
		return SigningKey{}, fmt.Errorf("signing key: it has %d bytes, and must have %d, or %d with its public key",
			len(b), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	private := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	// A wrong public half would make signatures from which the key can be computed.
	if len(b) == ed25519.PrivateKeySize && !private.Equal(ed25519.PrivateKey(b)) {
		return SigningKey{}, fmt.Errorf("signing key: its last %d bytes are not its public key", ed25519.PublicKeySize)
	}
	return SigningKey{private}, nil
}

// IsZero reports whether there is no key.
func (k SigningKey) IsZero() bool { return len(k.private) == 0 }

// Text is the key as it is kept; the inverse of [ParseSigningKey]. It is "whsk_" for the zero SigningKey.
func (k SigningKey) Text() string { return keyPrefix + base64.StdEncoding.EncodeToString(k.private) }

// PublicKey is what its signatures are verified with, nil for the zero SigningKey.
func (k SigningKey) PublicKey() ed25519.PublicKey {
	if k.IsZero() {
		return nil
	}
	return k.private.Public().(ed25519.PublicKey)
}

// Public is the text of the public key, "whpk_…", as a receiver configures it; "" for the zero SigningKey.
func (k SigningKey) Public() string {
	if k.IsZero() {
		return ""
	}
	return publicKeyPrefix + base64.StdEncoding.EncodeToString(k.PublicKey())
}

// ParsePublicKey reads the text of a public key: "whpk_" and the Base64 of 32 bytes.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	b, err := decodeText(text, publicKeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key: it has %d bytes, and must have %d", len(b), ed25519.PublicKeySize)
	}
	return b, nil
}

// Format implements [fmt.Formatter]: every verb gives "[secret]".
func (SigningKey) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, withheld) // fmt has nobody to tell either
}

// LogValue implements [slog.LogValuer].
func (SigningKey) LogValue() slog.Value { return slog.StringValue(withheld) }
