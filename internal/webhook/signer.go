package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/textproto"
	"strconv"
	"sync"
	"time"
)

// The headers of Standard Webhooks, as net/http spells them.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

const (
	hmacVersion    = "v1,"
	ed25519Version = "v1a,"
)

// Signer holds all that signs one subscription's messages. During a rotation there are several secrets and keys, the
// newest first; each signs. It may be copied.
type Signer struct {
	Secrets []Secret
	Keys    []SigningKey
	Legacy  *Legacy // nil: none
}

// Format implements [fmt.Formatter]: every verb gives how many secrets and keys there are. What it points to would
// otherwise be shown by verbs that do not fit it.
func (s Signer) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.summary()) // fmt has nobody to tell either
}

// LogValue implements [slog.LogValuer].
func (s Signer) LogValue() slog.Value { return slog.StringValue(s.summary()) }

func (s *Signer) summary() string {
	return fmt.Sprintf("signer of %d secrets and %d keys %s", len(s.Secrets), len(s.Keys), withheld)
}

// Sign sets the headers webhook-id, -timestamp and -signature, and the legacy signature's where there is one. The id
// is stable over a message's attempts and has no full stop ([MessageID]); at is the time of this attempt. An
// empty secret and a zero key sign nothing, since everybody knows them; where nothing signs, there is no
// webhook-signature.
func (s *Signer) Sign(h http.Header, id string, at time.Time, body []byte) {
	w := works.Get().(*work)
	defer w.done()

	// All texts are made in one piece, and so are the slices that hold them: two allocations for a message.
	text := strconv.AppendInt(w.text[:0], at.Unix(), 10)
	signed := len(text)
	text = s.appendSignatures(text, w, id, body)
	legacy := len(text)
	if s.Legacy != nil {
		text = s.appendLegacy(text, w, body)
	}
	w.text = text

	all := string(text)
	values := [...]string{id, all[:signed], all[signed:legacy], all[legacy:]}
	h[HeaderID] = values[0:1:1]
	h[HeaderTimestamp] = values[1:2:2]
	if signed < legacy {
		h[HeaderSignature] = values[2:3:3]
	} else {
		delete(h, HeaderSignature)
	}
	if legacy < len(all) {
		h[textproto.CanonicalMIMEHeaderKey(s.Legacy.Header)] = values[3:4:4]
	}
}

// appendSignatures appends the signatures of id, the timestamp that is all of text, and body, separated by spaces.
func (s *Signer) appendSignatures(text []byte, w *work, id string, body []byte) []byte {
	begin := len(text)
	w.signed = append(w.signed[:0], id...)
	w.signed = append(w.signed, '.')
	w.signed = append(w.signed, text...)
	w.signed = append(w.signed, '.')
	for _, secret := range s.Secrets {
		if len(secret) == 0 {
			continue
		}
		text = appendSeparator(text, begin, hmacVersion)
		text = base64.StdEncoding.AppendEncode(text, w.mac(HashSHA256, secret, w.signed, body))
	}
	whole := false
	for _, k := range s.Keys {
		if k.IsZero() {
			continue
		}
		if !whole { // Ed25519 reads the message twice, and so needs it in one piece
			w.signed = append(w.signed, body...)
			whole = true
		}
		text = appendSeparator(text, begin, ed25519Version)
		text = base64.StdEncoding.AppendEncode(text, ed25519.Sign(k.private, w.signed))
	}
	return text
}

func appendSeparator(text []byte, begin int, version string) []byte {
	if len(text) > begin {
		text = append(text, ' ')
	}
	return append(text, version...)
}

func (s *Signer) appendLegacy(text []byte, w *work, body []byte) []byte {
	if len(s.Legacy.Secret) == 0 {
		return text
	}
	m := w.mac(s.Legacy.Hash, s.Legacy.Secret, nil, body)
	if m == nil {
		return text // a hash that Check refuses
	}
	return s.Legacy.append(text, m)
}

// work is what signing a message needs for a moment.
type work struct {
	text   []byte // of the headers
	signed []byte // what is signed: id, timestamp and, for Ed25519, body
	macs   [3]*mac
}

var works = sync.Pool{New: func() any { return new(work) }}

// maxKept bounds the buffers that are kept for the next message: few bodies are larger.
const maxKept = 64 << 10

func (w *work) done() {
	if cap(w.signed) > maxKept {
		w.signed = nil
	}
	works.Put(w)
}

// mac returns the HMAC of head and body, which holds until the next one, nil where the hash is not known.
func (w *work) mac(hash string, key, head, body []byte) []byte {
	var m **mac
	switch hash {
	case HashSHA256:
		m = &w.macs[0]
	case HashSHA1:
		m = &w.macs[1]
	case HashSHA512:
		m = &w.macs[2]
	default:
		return nil
	}
	if *m == nil {
		*m = newMAC(newHash(hash))
	}
	(*m).begin(key)
	(*m).inner.Write(head)
	(*m).inner.Write(body)
	return (*m).end()
}
