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
// So a connection has no window here, but the message before, which mostly is others', too. Clients that keep no window are given each
// message compressed by itself. What is a session's own and little goes as it is.
type framer struct {
	zip      *zipper // static; nil: the client takes no compressed messages
	takeover bool    // static: the client keeps its window from message to message

	last *inflated // what the client has inflated last; nil: nothing that serves as a dictionary
}

// inflated is the text of a message that was compressed for some, of dictionaryMost at most, and its hash. nil is none.
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

const (
	// messageMost is the largest message that is kept for others: what the slots hold is bounded by it. A piece of a snapshot is no larger.
	messageMost = 64 << 10
	// dictionaryMost is the largest message that serves as a dictionary. In one that is larger there is enough to be like, and a session
	// keeps what its client inflated last.
	dictionaryMost = 4 << 10
	// dictionaryLeast is the smallest message that is worth compressing where the client keeps its window, for that behind it.
	dictionaryLeast = 64
)

// append frames what o has.
func (f *framer) append(dst []byte, o *output) []byte {
	o.messages(func(text []byte, kind int) { dst = f.message(dst, text, kind) })
	return dst
}

func (f *framer) message(dst, text []byte, kind int) []byte {
	least := zippedLeast
	if f.takeover {
		least = dictionaryLeast
	}
	if f.zip == nil || kind == cutPlain || len(text) < least {
		return appendFrame(dst, finText, text)
	}
	short, last := f.zip.message(f.last, text, kind == cutShared)
	begins := f.takeover && f.last == nil && last != nil // then it pays with what is behind it
	if short == nil || len(short) >= len(text) && !begins {
		return appendFrame(dst, finText, text)
	}
	if f.takeover {
		f.last = last
	}
	return appendFrame(dst, finText|compressed, short)
}

// frameHead is the most that a frame takes beside its message.
const frameHead = 10

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
	hash   uint64
	text   []byte
	last   *inflated // for what is behind this one
	once   sync.Once
	bytes  []byte // nil: it is sent as it is
}

func (m *zippedMessage) is(behind *inflated, hash uint64, text []byte) bool {
	return m != nil && m.hash == hash && m.behind.is(behind) && bytes.Equal(m.text, text)
}

// message compresses text for who has inflated after last, and for others, too, if it is shared. It returns nil where it is to be
// sent as it is, and else also what is inflated last then. It keeps nothing of text itself.
func (t *zipper) message(after *inflated, text []byte, shared bool) (short []byte, last *inflated) {
	place := uint64(0)
	var dictionary []byte
	if after != nil {
		place, dictionary = after.hash, after.text
	}
	if len(text) > messageMost {
		return t.deflated(text, dictionary), nil
	}
	hash := maphash.Bytes(slotSeed, text)
	if !shared {
		if short = t.deflated(text, dictionary); short != nil && len(text) <= dictionaryMost {
			last = &inflated{hash, bytes.Clone(text)}
		}
		return short, last
	}
	m := take(&t.messages[(hash+place)%zippedSlots], func(m *zippedMessage) bool { return m.is(after, hash, text) }, func() *zippedMessage {
		fresh := &zippedMessage{behind: after, hash: hash, text: bytes.Clone(text)}
		if len(text) <= dictionaryMost {
			fresh.last = &inflated{hash, fresh.text}
		}
		return fresh
	})
	m.once.Do(func() { m.bytes = t.deflated(m.text, dictionary) })
	return m.bytes, m.last
}

// deflateTail is what ends a flush, and a compressed message does without (RFC 7692, section 7.2.1).
const deflateTail = "\x00\x00\xff\xff"

// deflated compresses a message where there is the time for it, and returns nil else.
func (t *zipper) deflated(text, dictionary []byte) []byte {
	short, ok := t.deflate(nil, text, dictionary, false)
	if !ok {
		return nil
	}
	if short, ok = bytes.CutSuffix(short, []byte(deflateTail)); !ok {
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
	for _, line := range offer.Values(extensions) {
		for one := range strings.SplitSeq(line, ",") {
			if keeps, echo, ok := takeDeflate(one); ok {
				answer.Set(extensions, "permessage-deflate; client_no_context_takeover"+echo)
				return framer{takeover: keeps}, true
			}
		}
	}
	return framer{}, true // the library saw more in them, and has said that the client need not keep its window
}

// takeDeflate reads one offer. It is ok if the library takes it, and echo is what the answer must repeat.
func takeDeflate(offer string) (keeps bool, echo string, ok bool) {
	name, rest, _ := strings.Cut(offer, ";")
	if strings.TrimSpace(name) != "permessage-deflate" {
		return false, "", false
	}
	keeps = true
	for param := range strings.SplitSeq(rest, ";") {
		switch param = strings.TrimSpace(param); {
		case param == "server_no_context_takeover":
			keeps, echo = false, echo+"; "+param
		case param == "server_max_window_bits=15":
			echo += "; " + param
		case param == "" && rest == "", param == "client_no_context_takeover", param == "client_max_window_bits",
			strings.HasPrefix(param, "client_max_window_bits="):
		default:
			return false, "", false
		}
	}
	return keeps, echo, true
}
