package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What Verify finds wrong.
var (
	// ErrHeaders says that the message lacks a header of Standard Webhooks, or that one is malformed.
	ErrHeaders = errors.New("not signed by Standard Webhooks")
	// ErrTimestamp says that the message is too old, or from the future: it may be replayed, or a clock is wrong.
	ErrTimestamp = errors.New("the timestamp is out of tolerance")
	// ErrSignature says that no signature is by a secret or key that the receiver knows.
	ErrSignature = errors.New("no signature matches")
)

// maxSignatures bounds how many signatures of a message are looked at: a sender has a few while it rotates.
const maxSignatures = 16

// Verify is what a receiver does: it tells whether one of the secrets or public keys has signed the message, no longer
// ago than tolerance, and no later than tolerance from now. Errors: [ErrHeaders], [ErrTimestamp], [ErrSignature].
func Verify(h http.Header, body []byte, secrets []Secret, keys []ed25519.PublicKey, now time.Time, tolerance time.Duration) error {
	id, err := only(h, HeaderID)
	if err != nil {
		return err
	}
	timestamp, err := only(h, HeaderTimestamp)
	if err != nil {
		return err
	}
	signatures, err := only(h, HeaderSignature)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("%w: webhook-timestamp is to be in Unix seconds, and is %q", ErrHeaders, abbreviate(timestamp))
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("%w: the message is %s old, and may be %s older or newer than now: check the clock", ErrTimestamp,
			age.Truncate(time.Second), tolerance)
	}

	message := make([]byte, 0, len(id)+len(timestamp)+len(body)+2)
	message = append(append(message, id...), '.')
	message = append(append(message, timestamp...), '.')
	message = append(message, body...)
	var macs [][]byte
	for _, s := range secrets {
		if len(s) == 0 { // which everybody knows
			continue
		}
		m := newMAC(newHash(HashSHA256))
		m.begin(s)
		m.inner.Write(message)
		macs = append(macs, m.end())
	}
	for range maxSignatures {
		var one string
		one, signatures, _ = strings.Cut(signatures, " ")
		if matches(one, message, macs, keys) {
			return nil
		}
		if signatures == "" {
			break
		}
	}
	return fmt.Errorf("%w: is it the secret or key of this subscription, and the body as it came?", ErrSignature)
}

func matches(signature string, message []byte, macs [][]byte, keys []ed25519.PublicKey) bool {
	version, text, ok := strings.Cut(signature, ",")
	if !ok {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	switch version + "," {
	case hmacVersion:
		for _, m := range macs {
			if hmac.Equal(b, m) {
				return true
			}
		}
	case ed25519Version:
		for _, k := range keys {
			if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, b) {
				return true
			}
		}
	}
	return false
}

func only(h http.Header, name string) (string, error) {
	switch values := h[name]; {
	case len(values) == 0 || values[0] == "":
		return "", fmt.Errorf("%w: the header %s is missing", ErrHeaders, strings.ToLower(name))
	case len(values) > 1:
		return "", fmt.Errorf("%w: the header %s comes %d times", ErrHeaders, strings.ToLower(name), len(values))
	default:
		return values[0], nil
	}
}
