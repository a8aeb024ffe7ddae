package cursor

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"
	"slices"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/base64url"
)

// What Parse says about a token that it cannot use.
var (
	// ErrMalformed says that the token is no cursor, or was damaged on its way.
	ErrMalformed = errors.New("malformed cursor")
	// ErrVersion says that the token is whole but in a format later than this program's.
	ErrVersion = errors.New("cursor of a later format")
)

// Bounds of what Parse accepts. Append does not check them.
const (
	MaxStreams    = 64
	MaxPartitions = 4096    // of one stream
	MaxToken      = 1 << 16 // length of the text in bytes
	MaxCut        = 1 << 32
)

// Tag stands for a stream in a token: four bytes of a hash of its name, so that a token is short and tells nothing.
// Two streams may share a tag; their epochs then tell them apart.
type Tag [4]byte

// TagOf returns the tag of a stream's name.
func TagOf(stream string) Tag {
	h := fnv.New32a()
	h.Write([]byte(stream))
	return Tag(h.Sum(nil))
}

// Lease is the number under which a named consumer's session reads; zero where there is no named consumer.
type Lease struct {
	Incarnation uint64 // of the consumer: another one after it was deleted and made again
	Number      uint64 // from 1, one higher at every take-over
}

// IsZero reports whether there is no lease.
func (l Lease) IsZero() bool { return l == Lease{} }

// StreamCursor is a place in one stream.
type StreamCursor struct {
	Tag   Tag
	Epoch uint64  // see EpochOf
	Next  []int64 // per partition the offset to read next; partitions beyond it count as 0
	Lease Lease
	// Cut is how often the log lost its end under the consumer; 0 without one. A cursor of a lower number than the
	// consumer's points at what may be lost.
	Cut uint64
	// Doubt says that the client's picture of what is true now may have what is gone: who comes back with it is given a
	// snapshot.
	Doubt bool
}

// Cursor is a place in each of a number of streams.
type Cursor struct {
	Streams []StreamCursor
}

// EpochOf shortens a topic's epoch to the form that tokens carry: its first eight bytes, big endian.
func EpochOf(e broker.Epoch) uint64 { return binary.BigEndian.Uint64(e[:8]) }

// For returns the place in the named stream, and whether the cursor has one.
func (c Cursor) For(stream string) (StreamCursor, bool) {
	tag := TagOf(stream)
	for _, s := range c.Streams {
		if s.Tag == tag {
			return s, true
		}
	}
	return StreamCursor{}, false
}

// Max returns the element-wise maximum; missing elements count as 0. The result is the caller's own.
func Max(a, b []int64) []int64 {
	if len(a) < len(b) {
		a, b = b, a
	}
	m := slices.Clone(a)
	for i, v := range b {
		m[i] = max(m[i], v)
	}
	return m
}

// The binary form, before base64url:
//
//	version byte
//	per stream, to the end:
//	  tag [4], epoch [8]
//	  uvarint partitions<<1 | (1 if there is a lease)
//	  uvarint next offset, per partition
//	  with a lease: incarnation [8], uvarint number; in format 2 also uvarint cut
//	CRC-32C of all that precedes [4], big endian
//
// Format 2 is used where a stream's cut is not 0, and only there, so that a cursor has one text.
//
// Every later version keeps the first byte and the checksum, so that a token of a later version is told apart from a
// damaged one.
const (
	format      = 1
	formatCut   = 2
	formatDoubt = 3
	crcLen      = 4
	minStream   = 4 + 8 + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the text of c to dst. Offsets must not be negative.
func Append(dst []byte, c Cursor) []byte {
	n := len(dst)
	version := byte(format)
	for i := range c.Streams {
		version = max(version, c.Streams[i].format())
	}
	dst = append(dst, version)
	for i := range c.Streams {
		dst = appendStream(dst, &c.Streams[i], version)
	}
	return seal(dst, n)
}

// AppendOne appends the same text as Append of this one stream. It allocates nothing where dst has room for twice the
// token's length.
func AppendOne(dst []byte, s StreamCursor) []byte {
	n := len(dst)
	version := s.format()
	dst = append(dst, version)
	dst = appendStream(dst, &s, version)
	return seal(dst, n)
}

// cut is the number that a token carries: it means nothing without a lease.
func (s *StreamCursor) cut() uint64 {
	if s.Lease.IsZero() {
		return 0
	}
	return s.Cut
}

// format is the lowest that can tell all of the place.
func (s *StreamCursor) format() byte {
	switch {
	case s.Doubt:
		return formatDoubt
	case s.cut() > 0:
		return formatCut
	}
	return format
}

func appendStream(dst []byte, s *StreamCursor, version byte) []byte {
	dst = append(dst, s.Tag[:]...)
	dst = binary.BigEndian.AppendUint64(dst, s.Epoch)
	head := uint64(len(s.Next)) << 1
	if version == formatDoubt {
		head <<= 1
		if s.Doubt {
			head |= 2
		}
	}
	if !s.Lease.IsZero() {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	for _, o := range s.Next {
		dst = binary.AppendUvarint(dst, uint64(o))
	}
	if head&1 != 0 {
		dst = binary.BigEndian.AppendUint64(dst, s.Lease.Incarnation)
		dst = binary.AppendUvarint(dst, s.Lease.Number)
		if version >= formatCut {
			dst = binary.AppendUvarint(dst, s.Cut)
		}
	}
	return dst
}

// seal turns the binary form in dst[n:] into text. The text is written behind the binary form and moved down over it,
// so that no second buffer is needed.
func seal(dst []byte, n int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[n:], castagnoli))
	raw := dst[n:]
	dst = base64.RawURLEncoding.AppendEncode(dst, raw)
	return append(dst[:n], dst[n+len(raw):]...)
}

// Parse reads a token. It returns ErrMalformed or ErrVersion.
func Parse(token string) (Cursor, error) {
	if len(token) > MaxToken {
		return Cursor{}, ErrMalformed
	}
	raw, err := base64url.Decode(token)
	if err != nil || len(raw) < 1+crcLen {
		return Cursor{}, ErrMalformed
	}
	body, sum := raw[:len(raw)-crcLen], raw[len(raw)-crcLen:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return Cursor{}, ErrMalformed
	}
	version := body[0]
	if version > formatDoubt {
		return Cursor{}, ErrVersion
	}
	if version < format || len(body) == 1 {
		return Cursor{}, ErrMalformed
	}
	var c Cursor
	lowest := byte(format)
	for body = body[1:]; len(body) > 0; {
		s, rest, ok := parseStream(body, version)
		if !ok || len(c.Streams) == MaxStreams {
			return Cursor{}, ErrMalformed
		}
		c.Streams, body = append(c.Streams, s), rest
		lowest = max(lowest, s.format())
	}
	if version != lowest {
		return Cursor{}, ErrMalformed
	}
	return c, nil
}

func parseStream(b []byte, version byte) (s StreamCursor, rest []byte, ok bool) {
	if len(b) < minStream {
		return s, nil, false
	}
	copy(s.Tag[:], b)
	s.Epoch = binary.BigEndian.Uint64(b[4:])
	head, b, ok := uvarint(b[12:])
	// Each offset takes a byte at least: what follows bounds the allocation, whatever the count says.
	leased := head&1 != 0
	if version == formatDoubt {
		s.Doubt = head&2 != 0
		head >>= 1
	}
	if n := head >> 1; !ok || n > MaxPartitions || n > uint64(len(b)) {
		return s, nil, false
	}
	s.Next = make([]int64, head>>1)
	for i := range s.Next {
		var v uint64
		if v, b, ok = uvarint(b); !ok || v > 1<<63-1 {
			return s, nil, false
		}
		s.Next[i] = int64(v)
	}
	if !leased {
		return s, b, true
	}
	if len(b) < 8 {
		return s, nil, false
	}
	s.Lease.Incarnation = binary.BigEndian.Uint64(b)
	s.Lease.Number, b, ok = uvarint(b[8:])
	if ok && version >= formatCut {
		s.Cut, b, ok = uvarint(b)
	}
	return s, b, ok && !s.Lease.IsZero() && s.Cut <= MaxCut
}

// uvarint reads one canonical varint: the shortest form only, so that a cursor has one text.
func uvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || (n > 1 && b[n-1] == 0) {
		return 0, nil, false
	}
	return v, b[n:], true
}
