package attempts

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/internal/base64url"
)

// ErrID tells that a text is no attempt's id.
var ErrID = errors.New("no id of an attempt: use one as a page gave it")

// reference points at an attempt in the topic, and holds what most queries go by.
type reference struct {
	at        int64 // in Unix milliseconds
	outcome   byte
	event     uint32 // the hash of its first event's id
	partition int32
	offset    int64
}

// referenceBytes is the length of a packed reference: 6 bytes of time, 1 of the outcome, 4 of the hash, 2 of the partition
// and 6 of the offset.
const referenceBytes = 6 + 1 + 4 + 2 + 6

// maxPartition is the highest that a reference holds.
const maxPartition = 1<<16 - 1

func referenceTo(a *Attempt) reference {
	return reference{at: a.At.UnixMilli(), outcome: a.Outcome.code(), event: hash(clip(a.EventID))}
}

func hash(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum32()
}

func (r reference) packed() string {
	b := make([]byte, 0, 8+referenceBytes)
	b = binary.BigEndian.AppendUint64(b, uint64(r.at))[2:]
	b = append(b, r.outcome)
	b = binary.BigEndian.AppendUint32(b, r.event)
	b = binary.BigEndian.AppendUint16(b, uint16(r.partition))
	n := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	return string(append(b[:n], b[n+2:]...))
}

func unpack(text string) (r reference, ok bool) {
	if len(text) != referenceBytes {
		return r, false
	}
	b := []byte(text)
	r.at = int64(high(b))
	r.outcome = b[6]
	r.event = binary.BigEndian.Uint32(b[7:])
	r.partition = int32(binary.BigEndian.Uint16(b[11:]))
	r.offset = int64(high(b[13:]))
	return r, true
}

// high reads 6 bytes.
func high(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

// id is the reference as owners see it.
func (r reference) id() string { return base64.RawURLEncoding.EncodeToString([]byte(r.packed())) }

func parseID(id string) (reference, error) {
	raw, err := base64url.Decode(id)
	if r, ok := unpack(string(raw)); err == nil && ok {
		return r, nil
	}
	return reference{}, fmt.Errorf("%q is %w", clip(id), ErrID)
}

// newer orders references for pages: the newest first, and those of one moment by their places in the log.
func newer(a, b reference) int {
	return cmp.Or(
		cmp.Compare(b.at, a.at), cmp.Compare(b.offset, a.offset), cmp.Compare(b.partition, a.partition),
		cmp.Compare(b.outcome, a.outcome), cmp.Compare(b.event, a.event),
	)
}

// arrange brings references into the order of pages. Those that Redis was given twice are there once.
func arrange(refs []reference) []reference {
	slices.SortFunc(refs, newer)
	return slices.Compact(refs)
}

// Query says which attempts a page is to have. The zero Query asks for the latest.
type Query struct {
	Outcomes []Outcome // any of these; none: all
	Event    string    // the id of the first event; "": any
	Since    time.Time // those made at that time or later; zero: all
	Until    time.Time // those made before it; zero: all
	Before   string    // the page after the one that told this; "": the first
	Limit    int       // attempts on the page; default 50, at most MaxPage
}

// MaxPage bounds a page.
const MaxPage = 200

// pick returns those references that the query may ask for.
func (q Query) pick(refs []reference) ([]reference, error) {
	var codes [256]bool
	for _, o := range q.Outcomes {
		codes[o.code()] = true
	}
	event := hash(clip(q.Event))
	var before reference
	if q.Before != "" {
		var err error
		if before, err = parseID(q.Before); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(refs, func(r reference) bool {
		return len(q.Outcomes) > 0 && !codes[r.outcome] || q.Event != "" && r.event != event ||
			!q.Since.IsZero() && r.at < q.Since.UnixMilli() || !q.Until.IsZero() && !time.UnixMilli(r.at).Before(q.Until) ||
			q.Before != "" && newer(r, before) <= 0
	}), nil
}

// wants looks closer at an attempt that a reference was picked for: references hold a hash, and times in milliseconds.
func (q Query) wants(a *Attempt) bool {
	return (q.Event == "" || a.EventID == clip(q.Event)) && (q.Since.IsZero() || !a.At.Before(q.Since)) && (q.Until.IsZero() || a.At.Before(q.Until))
}
