package group

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/eventissuer/eventissuer/internal/base64url"
	"github.com/eventissuer/eventissuer/internal/cursor"
)

// ErrCursor says that a text is no cursor of a subscription's session.
var ErrCursor = errors.New("not a cursor that a session of a subscription was given")

// ID names a replica or a session: random, and used once.
type ID [8]byte

// String is the ID as people see it.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, id[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	b, err := base64url.Decode(string(text))
	if err != nil || len(b) != len(id) {
		return errors.New("not the name of a replica or session")
	}
	copy(id[:], b)
	return nil
}

// token is the place of one delivery in a session.
type token struct {
	replica ID // where the session is
	session ID
	seq     uint64 // of the delivery, from 1; 0: before the first
}

// The binary form, before base64url: format, replica [8], session [8], uvarint seq, CRC-32C [4]. The first byte differs
// from those of stream cursors, so that neither is taken for the other.
const tokenFormat = 0x67

func (t token) append(dst []byte) []byte {
	h := t.head()
	return h.append(dst, t.seq)
}

// tokenHead is what the tokens of one session have in common, encoded as far as that goes.
type tokenHead struct {
	text [20]byte // of the first 15 bytes
	rest [2]byte
	sum  uint32 // CRC-32C of all 17
}

func (t token) head() (h tokenHead) {
	var b [17]byte
	b[0] = tokenFormat
	copy(b[1:], t.replica[:])
	copy(b[9:], t.session[:])
	base64.RawURLEncoding.Encode(h.text[:], b[:15])
	copy(h.rest[:], b[15:])
	h.sum = crc32.Checksum(b[:], castagnoli)
	return h
}

// append appends the text of the token of a delivery.
func (h *tokenHead) append(dst []byte, seq uint64) []byte {
	var b [16]byte
	p := append(b[:0], h.rest[:]...)
	p = binary.AppendUvarint(p, seq)
	// Of so few bytes; crc32.Update would have them escape to the heap.
	sum := ^h.sum
	for _, v := range p[len(h.rest):] {
		sum = castagnoli[byte(sum)^v] ^ sum>>8
	}
	p = binary.BigEndian.AppendUint32(p, ^sum)
	dst = append(dst, h.text[:]...)
	return base64.RawURLEncoding.AppendEncode(dst, p)
}

func parseToken(text string) (t token, err error) {
	var room [48]byte
	if len(text) > 64 {
		return t, ErrCursor
	}
	b, err := base64url.AppendDecode(room[:0], text)
	if err != nil || len(b) < 22 || b[0] != tokenFormat {
		if _, e := cursor.Parse(text); e == nil {
			return t, errors.Join(ErrCursor, errors.New("it is a cursor of a stream"))
		}
		return t, ErrCursor
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return t, ErrCursor
	}
	copy(t.replica[:], body[1:])
	copy(t.session[:], body[9:])
	seq, n := binary.Uvarint(body[17:])
	if n <= 0 || 17+n != len(body) {
		return t, ErrCursor
	}
	t.seq = seq
	return t, nil
}
