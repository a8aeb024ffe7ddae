package fanout

import (
	"errors"
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
	cursorLen int32 // of the cursor's text inside frame; 0 in a catch-up block
	Offset    int64
	Key       uint64 // a hash of the record's key, that of this process; 0: it has none
	twin      uint64 // another hash of it: both together are taken for the key itself
	Time      int64  // the record's timestamp in Unix milliseconds
	// Event is the record's event; where the record is none, Skipped says why, and Event is empty.
	Event   event.Event
	Skipped string
	// Removed is the event that readers of a picture no longer have to show: the entry takes it away, and what else it
	// may hold is not for them. nil but for those readers.
	Removed *Entry
	// Beside says that the entry tells of something beside the reader's position, which it does not move.
	Beside bool

	tombstone bool
	seq       uint64  // the entry's place in the hub's order; 0 in a catch-up block
	vec       []int64 // the hub's vector after this entry; nil in a catch-up block
	frame     []byte  // the SSE block, "id: <cursor>\ndata: <json>\n\n"; in a catch-up block from "data:" on
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
	if e.cursorLen == 0 {
		return e.frame
	}
	return e.frame[len(ssePrefix)+int(e.cursorLen)+1:]
}

// Cursor is the text of the hub's own cursor after this entry. It is nil for entries read from the log.
func (e *Entry) Cursor() []byte {
	if e.cursorLen == 0 {
		return nil
	}
	end := len(ssePrefix) + int(e.cursorLen)
	return e.frame[len(ssePrefix):end:end]
}

func (e *Entry) size() int64 {
	return entryOverhead + int64(cap(e.frame)) + int64(8*len(e.vec))
}

// keySeed is that of all keys' hashes. Keys that share one are taken for the same, which orders more than has to be.
var keySeed, twinSeed = maphash.MakeSeed(), maphash.MakeSeed()

// keyID stands for a record's key in this process. With 128 bits, no two keys of a stream will ever share one.
type keyID struct{ key, twin uint64 }

func (e *Entry) id() keyID { return keyID{e.Key, e.twin} }

func idOf(key []byte) keyID {
	return keyID{max(1, maphash.Bytes(keySeed, key)), maphash.Bytes(twinSeed, key)}
}

// maxReason bounds what is told of a record that is passed, in bytes.
const maxReason = 400

// newEntry turns a record into an entry whose frame begins with the cursor's text, if there is one. The event's strings
// alias the frame, so that an entry holds its bytes once, and nothing of the record.
func newEntry(r *broker.Record, cursorText []byte, wrap *event.Wrap) *Entry {
	e := &Entry{}
	e.read(r, nil, wrap)
	e.lay(make([]byte, 0, e.frameBytes(cursorText)), cursorText)
	return e
}

// Entries of a block are made in pieces that share memory, since there are many of them: with 300 B an event, one that
// is kept keeps about 20 KB.
const (
	pieceEntries = 32
	pieceBytes   = 16 << 10 // of records, unless one alone has more
)

// newEntries turns the records of a block into entries without cursors, and tells what they cost.
func newEntries(records []broker.Record, wrap *event.Wrap) (entries []*Entry, bytes int64) {
	entries = make([]*Entry, 0, len(records))
	events := event.NewReader(len(records))
	for len(records) > 0 {
		n, size := 1, len(records[0].Value)
		for n < min(len(records), pieceEntries) && size+len(records[n].Value) <= pieceBytes {
			size += len(records[n].Value)
			n++
		}
		piece, frames := make([]Entry, n), 0
		for i := range piece {
			piece[i].read(&records[i], events, wrap)
			frames += piece[i].frameBytes(nil)
		}
		room := make([]byte, 0, frames)
		for i := range piece {
			e := &piece[i]
			room = e.lay(room, nil)
			bytes += e.size()
			entries = append(entries, e)
		}
		records = records[n:]
	}
	return entries, bytes
}

// read takes the record's event, which aliases the record until lay has moved it.
func (e *Entry) read(r *broker.Record, events *event.Reader, wrap *event.Wrap) {
	e.Partition, e.Offset, e.Time = r.Partition, r.Offset, r.Timestamp.UnixMilli()
	if r.Key != nil {
		id := idOf(r.Key)
		e.Key, e.twin = id.key, id.twin
	}
	if err := events.Read(&e.Event, r, wrap); err != nil {
		e.Skipped, e.tombstone = reasonOf(err), errors.Is(err, event.ErrTombstone)
	}
}

// removal is the entry as readers of a picture get it that it takes an event from.
func (e *Entry) removal(gone *Entry) *Entry {
	r := *e
	r.Event, r.Skipped, r.Removed = event.Event{}, "", gone
	return &r
}

// departure tells that an event is no longer kept, since others took its place or it grew old, which e brought to light.
func (e *Entry) departure(gone *Entry) *Entry {
	return &Entry{
		Partition: gone.Partition, Offset: gone.Offset, Key: gone.Key, twin: gone.twin, Time: gone.Time,
		Removed: gone, Beside: true, seq: e.seq,
	}
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
	if e.tombstone {
		return "tombstone"
	}
	return "unreadable"
}

// unkeyed is the entry as it is folded: what is no event takes the place of none, whatever its key.
func (e *Entry) unkeyed() *Entry {
	if e.Skipped == "" || e.tombstone {
		return e
	}
	u := *e
	u.Key, u.twin = 0, 0
	return &u
}

// Tombstone reports whether the entry's record is one.
func (e *Entry) Tombstone() bool { return e.tombstone }

// frameBytes is what the entry's frame takes.
func (e *Entry) frameBytes(cursorText []byte) int {
	n := len(sseData) - 1 + len(e.Event.JSON()) + len(sseEnd)
	if len(cursorText) > 0 {
		n += len(ssePrefix) + len(cursorText) + 1
	}
	return n
}

// lay appends the SSE block to room, which has the capacity for it, as the entry's frame, and moves the event there.
func (e *Entry) lay(room, cursorText []byte) []byte {
	from := len(room)
	e.cursorLen = int32(len(cursorText))
	if len(cursorText) > 0 {
		room = append(room, ssePrefix...)
		room = append(room, cursorText...)
		room = append(room, sseData...)
	} else {
		room = append(room, sseData[1:]...)
	}
	at := len(room)
	room = append(room, e.Event.JSON()...)
	e.Event.MoveTo(room[at:len(room):len(room)])
	room = append(room, sseEnd...)
	e.frame = room[from:len(room):len(room)]
	return room
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

func (t *Tip) position() (vec []int64, epoch uint64, text []byte) { return t.vec, t.ep, t.Cursor() }

// Bytes is about what the entry takes in memory.
func (e *Entry) Bytes() int64 { return e.size() }

// Clone returns the entry with memory of its own: an entry that was read from the log shares that of its neighbours, so
// that who keeps one for long keeps them all.
func (e *Entry) Clone() *Entry {
	if e.vec != nil {
		return e // from the ring: its memory is its own
	}
	c := *e
	c.Event.Unshare()
	c.lay(make([]byte, 0, c.frameBytes(nil)), nil)
	return &c
}
