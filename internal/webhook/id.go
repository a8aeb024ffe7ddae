package webhook

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"

	"github.com/google/uuid"
)

const idPrefix = "msg_"

// idAlphabet is Base32 in lower case: no full stop, nothing that a header, a URL or a log would escape.
var idAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// MessageID is the webhook-id of the message that holds the events at these offsets, in this order, of one partition of
// one life of a topic, for one life of a subscription. Messages that differ in any of it have different ids: the parts
// of a batch that was split, too.
func MessageID(incarnation uuid.UUID, epoch [16]byte, partition int32, offsets ...int64) string {
	var room [16 + 16 + 4 + 4*8]byte
	b := append(room[:0], incarnation[:]...)
	b = append(b, epoch[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	for _, o := range offsets {
		b = binary.BigEndian.AppendUint64(b, uint64(o))
	}
	sum := sha256.Sum256(b)
	return idText([16]byte(sum[:16]))
}

// NewMessageID is the webhook-id of a message of no event of the log, such as a challenge or a test.
func NewMessageID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return idText(b)
}

func idText(b [16]byte) string {
	var text [len(idPrefix) + 26]byte
	copy(text[:], idPrefix)
	idAlphabet.Encode(text[len(idPrefix):], b[:])
	return string(text[:])
}
