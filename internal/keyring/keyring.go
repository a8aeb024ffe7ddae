// Package keyring encrypts secrets that are kept in a log, by keys that are kept outside it.
//
// What it guarantees:
//
//   - A sealed text opens only as what it was sealed as: for the same place and the same field. One that was copied to
//     another place, or changed in any character, is refused ([ErrForged]).
//   - The first key of a ring seals, and each opens what it has sealed. A key is replaced in two steps: the new one is
//     added below it on all replicas, then put above it; it stays as long as something sealed with it is kept. A text
//     whose key is not in the ring says which it was ([UnknownKeyError]).
//   - Neither errors nor formatting show a key, or what was sealed.
//
// Sealing is AES-256-GCM with a random nonce: one key is good for 2^32 texts. Keys of each use are derived from those of
// the ring by HKDF-SHA-256, so that no use can be turned against another.
//
// A Ring never changes: its methods may be called concurrently.
package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/eventissuer/eventissuer/internal/base64url"
)

// Bounds.
const (
	KeySize  = 32       // bytes of a key
	MaxKeys  = 64       // of a ring
	MaxPlain = 64 << 10 // bytes that can be sealed
	maxID    = 32
)

// ErrForged says that a text was not sealed for this place and field by the key that it names: it was damaged, moved or
// made up, or the ring has another key of the same id.
var ErrForged = errors.New("the sealed text does not authenticate")

// UnknownKeyError says that a text was sealed with a key that the ring does not have.
type UnknownKeyError struct {
	ID string // of the key
}

// Error implements error.
func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("the key ring has no key %s: add it again below the first, until nothing is sealed with it", e.ID)
}

// Ring is one or more keys, of which the first seals.
type Ring struct{ keys []key }

type key struct {
	id   string
	root []byte // what the keys of each use are derived from
	aead cipher.AEAD
}

// What a key is derived for.
const (
	sealing        = "eventissuer keyring 1 seal"
	authentication = "eventissuer keyring 1 mac "
)

func newKey(id string, root []byte) (key, error) {
	block, err := aes.NewCipher(derive(root, sealing))
	if err != nil {
		return key{}, fmt.Errorf("key %s: %w", id, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, fmt.Errorf("key %s: %w", id, err)
	}
	return key{id: id, root: root, aead: aead}, nil
}

func derive(root []byte, use string) []byte {
	k, err := hkdf.Key(sha256.New, root, nil, use, KeySize)
	if err != nil { // only of a length that HKDF cannot give
		panic(err)
	}
	return k
}

// Seal encrypts plain, 64 KiB at most, for a place (such as an object's id) and a field of it, which together say what
// the text may be opened as; they are not in the text. The text is "<key id>.<Base64 for URLs of nonce, ciphertext and
// tag>", and is another at each call.
func (r *Ring) Seal(plain []byte, place, field string) (string, error) {
	if len(plain) > MaxPlain {
		return "", fmt.Errorf("seal the %s: it has %d bytes, and may have %d", field, len(plain), MaxPlain)
	}
	k := &r.keys[0]
	sealed := k.aead.Seal(nil, nil, plain, additional(place, field)) //nolint:gosec // the cipher draws the nonce itself, at random
	return k.id + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Open decrypts what [Ring.Seal] has made for the same place and field. Errors: [*UnknownKeyError], [ErrForged].
func (r *Ring) Open(sealed, place, field string) ([]byte, error) {
	id, text, ok := strings.Cut(sealed, ".")
	if !ok || idFault(id) != "" {
		return nil, fmt.Errorf("open the %s: %w: it does not begin with a key's id", field, ErrForged)
	}
	for i := range r.keys {
		if k := &r.keys[i]; k.id == id {
			plain, err := k.open(text, additional(place, field))
			if err != nil {
				return nil, fmt.Errorf("open the %s with the key %s: %w", field, id, err)
			}
			return plain, nil
		}
	}
	return nil, fmt.Errorf("open the %s: %w", field, &UnknownKeyError{ID: id})
}

func (k *key) open(text string, additional []byte) ([]byte, error) {
	if base64.RawURLEncoding.DecodedLen(len(text)) > MaxPlain+k.aead.Overhead() {
		return nil, ErrForged
	}
	b, err := base64url.Decode(text) // of which none can be changed without being noticed
	if err != nil {
		return nil, ErrForged
	}
	plain, err := k.aead.Open(nil, nil, b, additional)
	if err != nil {
		return nil, ErrForged
	}
	return plain, nil
}

// additional is the additional data: each part behind its length, so that no two pairs have the same.
func additional(place, field string) []byte {
	b := make([]byte, 0, 2*binary.MaxVarintLen64+len(place)+len(field))
	b = binary.AppendUvarint(b, uint64(len(place)))
	b = append(b, place...)
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

// MAC authenticates data for a purpose by the first key: 32 bytes that only who has the ring can make. MACs of one
// purpose say nothing about another's.
func (r *Ring) MAC(purpose string, data []byte) []byte { return r.keys[0].mac(purpose, data) }

// VerifyMAC tells whether one of the keys has made mac of data for the purpose.
func (r *Ring) VerifyMAC(purpose string, data, mac []byte) bool {
	for i := range r.keys {
		if hmac.Equal(mac, r.keys[i].mac(purpose, data)) {
			return true
		}
	}
	return false
}

func (k *key) mac(purpose string, data []byte) []byte {
	h := hmac.New(sha256.New, derive(k.root, authentication+purpose))
	h.Write(data)
	return h.Sum(nil)
}

// String names the keys by their ids, the first first.
func (r *Ring) String() string {
	ids := make([]string, len(r.keys))
	for i := range r.keys {
		ids[i] = r.keys[i].id
	}
	return "key ring [" + strings.Join(ids, " ") + "]"
}

// Format implements [fmt.Formatter]: every verb gives [Ring.String].
func (r *Ring) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, r.String()) // fmt has nobody to tell either
}

// LogValue implements [slog.LogValuer].
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Parse reads a key ring: one key a line, "<id> <Base64 of 32 bytes>", the one that seals first. Blank lines and those
// that begin with # are passed over. Errors name the line, and show nothing of a key.
func Parse(text []byte) (*Ring, error) {
	r := &Ring{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k, err := parseKey(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for i := range r.keys {
			if r.keys[i].id == k.id {
				return nil, fmt.Errorf("line %d: the id %s stands on a line above: give each key an id of its own", n, k.id)
			}
		}
		if len(r.keys) == MaxKeys {
			return nil, fmt.Errorf("line %d: there are more than %d keys: leave out those that nothing is sealed with", n, MaxKeys)
		}
		r.keys = append(r.keys, k)
	}
	if len(r.keys) == 0 {
		return nil, errors.New(`no key: a line "<id> <Base64 of 32 bytes>" is expected, such as one of openssl rand -base64 32`)
	}
	return r, nil
}

func parseKey(line string) (key, error) {
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return key{}, fmt.Errorf("an id and a key are expected with a space between, and there are %d fields", len(fields))
	}
	id := fields[0]
	if fault := idFault(id); fault != "" {
		return key{}, errors.New(fault) // without the id: it may be the key, in the wrong place
	}
	root, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		// Not err itself: it could tell of the key.
		return key{}, fmt.Errorf("the key %s is no Base64 (RFC 4648, the standard alphabet, padded)", id)
	}
	if len(root) != KeySize {
		return key{}, fmt.Errorf("the key %s has %d bytes, and must have %d: make one by openssl rand -base64 32", id, len(root), KeySize)
	}
	return newKey(id, root)
}

// idFault says why a text cannot be a key's id, "" if it can.
func idFault(id string) string {
	ok := id != "" && len(id) <= maxID
	for i := range len(id) {
		c := id[i]
		ok = ok && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("a key's id is 1 to %d letters, digits, - and _", maxID)
}
