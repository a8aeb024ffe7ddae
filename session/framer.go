package session

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
)

// framer makes a server's frames of messages (RFC 6455, section 5.2), and compresses those of a client that takes it
// (permessage-deflate, RFC 7692). It belongs to who writes to the connection.
//
// A message is compressed once for all who are given it behind the same other one, with that as the dictionary, as the blocks of
// [zipped] are: by the extension a client's window is what was compressed for it, and a message that goes as it is leaves that alone.
// So no connection has a window here. Clients that keep none are given each message compressed by itself.
type framer struct {
	zip      *zipper // static; nil: the client takes no compressed messages
	takeover bool    // static: the client keeps its window from message to message

	last *inflated // what the client has inflated last; nil: nothing that serves as a dictionary
}

// inflated is the text of a message that was compressed for some, and its hash. nil is none.
type inflated struct {
	hash uint64
	text []byte
}

func (i *inflated) is(other *inflated) bool {
	return i == other || i != nil && other != nil && i.hash == other.hash && bytes.Equal(i.text, other.text)
}

// The first byte of a message in one frame.
const (
	finText    = 0x81
	compressed = 0x40
)

// append frames what o has.
func (f *framer) append(dst []byte, o *output) []byte {
	from := 0
	for _, to := range o.cuts {
		dst = f.message(dst, o.buf[from:to])
		from = to
	}
	return dst
}

func (f *framer) message(dst, text []byte) []byte {
	if f.zip == nil {
		return appendFrame(dst, finText, text)
	}
	short, last := f.zip.message(f.last, text)
	if short == nil {
		return appendFrame(dst, finText, text)
	}
	if f.takeover {
		f.last = last
	}
	return appendFrame(dst, finText|compressed, short)
}

// appendFrame appends a message as one frame, not masked, as a server's are.
func appendFrame(dst []byte, first byte, message []byte) []byte {
	switch n := len(message); {
	case n < 126:
		dst = append(dst, first, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, first, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, 127), uint64(n))
	}
	return append(dst, message...)
}

// zippedMessage is a message behind another one. What tells both is what they say: clients that came by different ways to where
// they are, or had one of them compressed for themselves alone, share what follows.
type zippedMessage struct {
	behind *inflated // nil: by itself
	text   *inflated
	once   sync.Once
	bytes  []byte // nil: it is sent as it is
}

func (m *zippedMessage) is(behind *inflated, hash uint64, text []byte) bool {
	return m != nil && m.text.hash == hash && m.behind.is(behind) && bytes.Equal(m.text.text, text)
}

// dictionaryLeast is the smallest message that is worth compressing behind another one.
const dictionaryLeast = 64

// message compresses text for who has inflated after last. It returns nil where it is to be sent as it is, and else also what is
// inflated last then. It keeps nothing of text itself.
func (t *zipper) message(after *inflated, text []byte) (short []byte, last *inflated) {
	least, place := zippedLeast, uint64(0)
	var dictionary []byte
	if after != nil {
		least, place, dictionary = dictionaryLeast, after.hash, after.text
	}
	switch {
	case len(text) < least:
		return nil, nil
	case len(text) > zippedMost: // nor would its end be much of a dictionary
		return t.deflated(text, dictionary), nil
	}
	hash := maphash.Bytes(slotSeed, text)
	slot := &t.messages[(hash+place)%zippedSlots]
	m := slot.Load()
	if !m.is(after, hash, text) {
		fresh := &zippedMessage{behind: after, text: &inflated{hash, bytes.Clone(text)}}
		if slot.CompareAndSwap(m, fresh) {
			m = fresh
		} else if m = slot.Load(); !m.is(after, hash, text) {
			m = fresh // for this one alone
		}
	}
	m.once.Do(func() { m.bytes = t.deflated(m.text.text, dictionary) })
	return m.bytes, m.text
}

// deflateTail is what ends a flush, and a compressed message does without (RFC 7692, section 7.2.1).
const deflateTail = "\x00\x00\xff\xff"

// deflated compresses a message where there is the time for it and it pays, and returns nil else.
func (t *zipper) deflated(text, dictionary []byte) []byte {
	short, ok := t.deflate(nil, text, dictionary, false)
	if !ok {
		return nil
	}
	short, ok = bytes.CutSuffix(short, []byte(deflateTail))
	if !ok || len(short) >= len(text) {
		return nil
	}
	return short
}

// extensions is the header in which they are offered and chosen.
const extensions = "Sec-Websocket-Extensions"

// chooseDeflate says which of a request's offers is taken, where the library has found one that it can (RFC 7692, section 7.1):
// the client is to compress each message by itself, and the server does so only where it is asked to.
func chooseDeflate(offer, answer http.Header) (f framer, chosen bool) {
	if answer.Get(extensions) == "" {
		return framer{}, false
	}
	f.takeover = true
	for _, line := range offer.Values(extensions) {
		f.takeover = f.takeover && !strings.Contains(line, "server_no_context_takeover")
	}
	if f.takeover {
		answer.Set(extensions, "permessage-deflate; client_no_context_takeover")
	}
	return f, true
}
