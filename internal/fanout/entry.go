package fanout

import (
	"bytes"
	"hash/maphash"
	"strings"
	"sync"
	"unsafe"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/event"
)

// Entry is one record as all readers share it. It is immutable.
type Entry struct {
	Partition int32
	Offset    int64
	Key       uint64 // a hash of the record's key, that of this process; 0: it has none
	Time      int64  // the record's timestamp in Unix milliseconds
	// Event is the record's event; where the record is none, Skipped says why, and Event is empty.
	Event   event.Event
	Skipped string

	vec    []int64 // the hub's vector after this entry; nil in a catch-up block
	frame  []byte  // the SSE block, "id: <cursor>\ndata: <json>\n\n"; in a catch-up block from "data:" on
	cursor []byte  // the cursor's text inside frame; nil in a catch-up block
}

const (
	ssePrefix = "id: "
	sseData   = "\ndata: "
	sseEnd    = "\n\n"
	// entryOverhead is what an entry costs beside its frame and vector: its own size, and what parsing the event
	// allocates.
	entryOverhead = int64(unsafe.Sizeof(Entry{})) + 128
)

// SSE is the whole block with the id of the hub's own order, shared by all readers whose position that is.
func (e *Entry) SSE() []byte { return e.frame }

// SSEData is the block from "data:" on, for readers that write an id of their own.
func (e *Entry) SSEData() []byte {
	if e.cursor == nil {
		return e.frame
	}
	return e.frame[len(ssePrefix)+len(e.cursor)+1:]
}

// Cursor is the text of the hub's own cursor after this entry. It is nil for entries read from the log.
func (e *Entry) Cursor() []byte { return e.cursor }

func (e *Entry) size() int64 {
	return entryOverhead + int64(cap(e.frame)) + int64(8*len(e.vec))
}

// keySeed is that of all keys' hashes. Keys that share one are taken for the same, which orders more than has to be.
var keySeed = maphash.MakeSeed()

// maxReason bounds what is told of a record that is passed, in bytes.
const maxReason = 400

// newEntry turns a record into an entry whose frame begins with the cursor's text, if there is one. The event's strings
// alias the frame, so that an entry holds its bytes once; a record's value that is the structured form already is copied
// there before it is read.
func newEntry(r broker.Record, cursorText []byte, wrap *event.Wrap) *Entry {
	e := &Entry{Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixMilli()}
	if r.Key != nil {
		e.Key = max(1, maphash.Bytes(keySeed, r.Key))
	}
	var frame []byte
	var at int
	if wrap == nil && r.Value != nil {
		n := len(r.Value)
		frame, at = newFrame(cursorText, r.Value)
		r.Value = frame[at : at+n : at+n]
	}
	ev, err := event.FromRecordOf(r, wrap)
	if err != nil {
		e.Skipped = reasonOf(err)
		frame, _ = newFrame(cursorText, nil)
	} else {
		if json := ev.JSON(); frame == nil || !sameBytes(json, r.Value) {
			frame, at = newFrame(cursorText, json)
			ev = ev.MovedTo(frame[at : at+len(json) : at+len(json)])
		}
		e.Event = ev
	}
	e.frame = frame
	if cursorText != nil {
		e.cursor = e.frame[len(ssePrefix) : len(ssePrefix)+len(cursorText) : len(ssePrefix)+len(cursorText)]
	}
	return e
}

// reasonOf tells readers why a record is no event.
func reasonOf(err error) string {
	text := err.Error()
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// cause is why the entry was skipped, as a label.
func (e *Entry) cause() string {
	if e.Skipped == event.ErrTombstone.Error() {
		return "tombstone"
	}
	return "unreadable"
}

// newFrame lays out an SSE block in one allocation and returns where the JSON stands in it.
func newFrame(cursorText, json []byte) (frame []byte, at int) {
	n := len(sseData) - 1 + len(json) + len(sseEnd)
	if cursorText != nil {
		n += len(ssePrefix) + len(cursorText) + 1
	}
	frame = make([]byte, 0, n)
	if cursorText != nil {
		frame = append(frame, ssePrefix...)
		frame = append(frame, cursorText...)
		frame = append(frame, sseData...)
	} else {
		frame = append(frame, sseData[1:]...)
	}
	at = len(frame)
	frame = append(frame, json...)
	frame = append(frame, sseEnd...)
	return frame, at
}

func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || bytes.Equal(a, b))
}

// Tip is the hub's position at one moment. It is immutable.
type Tip struct {
	seq  uint64
	vec  []int64
	tag  cursor.Tag
	ep   uint64
	once sync.Once
	text []byte
}

// Cursor is the tip's text, encoded at most once.
func (t *Tip) Cursor() []byte {
	t.once.Do(func() {
		t.text = cursor.AppendOne(nil, cursor.StreamCursor{Tag: t.tag, Epoch: t.ep, Next: t.vec})
	})
	return t.text
}
