package session

import (
	"encoding/binary"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// zipped is a codec whose blocks are compressed, as one gzip stream without end (RFC 1952). Each write ends with a flush, so that
// a client has at once what it was sent.
//
// An event's block is compressed once for all who are given it behind the same other one, with that as the dictionary:
// the bytes are right for every client that was given nothing in between, whatever came before. Most events are like the one before them, so
// that little is left. What is a session's own is compressed by itself, or where it is little or too much is asked, sent as it is
// in stored blocks (RFC 1951, section 3.2.4).
type zipped struct {
	codec  // what is compressed
	shared *zipper
	bulk   bool // all of it at once: it is made for many

	own  output        // not yet compressed
	prev *fanout.Entry // whose block the client was given last, with nothing behind it; nil: none
}

// gzipHead begins a gzip stream: deflate, no flags, no time, unknown system.
const gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

func (z *zipped) form() form {
	switch z.codec.form() {
	case formSSE:
		return formZippedSSE
	case formTypedSSE:
		return formZippedTypedSSE
	case formNDJSON:
		return formZippedNDJSON
	}
	return noForm
}

func (z *zipped) blank() codec { return &zipped{codec: z.codec.blank(), shared: z.shared, bulk: true} }

// open begins the stream, of which text is the first.
func (z *zipped) open(o *output, text []byte) {
	o.buf = append(o.buf, gzipHead...)
	z.own.buf = append(z.own.buf, text...)
}

func (z *zipped) event(o *output, e *fanout.Entry, cursor []byte, whole bool) {
	if z.bulk || !whole {
		z.expect()
		z.codec.event(&z.own, e, cursor, whole)
		z.prev = nil
		return
	}
	z.spill(o)
	o.buf = z.shared.append(o.buf, z.codec, z.prev, e)
	z.prev = e
}

func (z *zipped) end(o *output, cursor []byte) {
	z.codec.end(&z.own, cursor)
	z.beside(o)
}

func (z *zipped) cursor(o *output, cursor []byte) {
	z.codec.cursor(&z.own, cursor)
	z.beside(o)
}

func (z *zipped) control(o *output, name string, payload any, cursor []byte) {
	z.codec.control(&z.own, name, payload, cursor)
	z.beside(o)
}

func (z *zipped) flush(o *output) {
	z.codec.flush(&z.own)
	z.spill(o)
}

// beside ends what is no event.
func (z *zipped) beside(o *output) {
	z.prev = nil
	if !z.bulk {
		z.spill(o)
	}
}

// passed tells that the client is given something that did not go through the codec.
func (z *zipped) passed() { z.prev = nil }

// expect has room for events of the session's own, which mostly are many.
func (z *zipped) expect() {
	if z.own.buf == nil {
		z.own.expect(largeBytes)
	}
}

// spill compresses what is the session's own, and gives up the buffer.
func (z *zipped) spill(o *output) {
	if len(z.own.buf) > 0 {
		o.buf = z.shared.pack(o.buf, z.own.buf, nil, z.bulk)
	}
	if z.own.buf != nil {
		z.own.release()
	}
}

// zipper compresses for all sessions, and keeps what they share for the moment in which they all ask for it.
type zipper struct {
	m     *metrics
	slots [zippedSlots]atomic.Pointer[zippedBlock]

	mu   sync.Mutex
	left time.Duration // processor time that may be spent now; guarded by mu
	at   time.Time     // when that was so; guarded by mu
}

const (
	zippedSlots = 256
	// zippedMost is the largest block that is kept: what the slots hold is bounded by them.
	zippedMost = 32 << 10
	// zippedLeast is the smallest piece of a session's own that is worth compressing.
	zippedLeast = 256
	// The share of the processors that compression may take, and for how long it may take all that at once. Beyond it blocks are
	// sent as they are.
	zippedShare = 0.25
	zippedBurst = 200 * time.Millisecond
)

// zippedBlock is a block behind another one.
type zippedBlock struct {
	form    form
	prev, e *fanout.Entry
	once    sync.Once
	bytes   []byte
}

func (b *zippedBlock) is(f form, prev, e *fanout.Entry) bool {
	return b != nil && b.form == f && b.prev == prev && b.e == e
}

func newZipper(m *metrics) *zipper { return &zipper{m: m, at: time.Now()} }

// append appends the block of an entry, as c writes it whole, behind that of prev.
func (t *zipper) append(dst []byte, c codec, prev, e *fanout.Entry) []byte {
	if e.Bytes() > zippedMost {
		return t.block(dst, c, prev, e)
	}
	kind := c.form()
	slot := &t.slots[slotOf(kind, prev, e)]
	b := slot.Load()
	if !b.is(kind, prev, e) {
		fresh := &zippedBlock{form: kind, prev: prev, e: e}
		if slot.CompareAndSwap(b, fresh) {
			b = fresh
		} else if b = slot.Load(); !b.is(kind, prev, e) {
			return t.block(dst, c, prev, e)
		}
	}
	b.once.Do(func() { b.bytes = t.block(nil, c, prev, e) })
	return append(dst, b.bytes...)
}

var slotSeed = maphash.MakeSeed()

func slotOf(kind form, prev, e *fanout.Entry) uint64 {
	key := [4]int64{int64(kind), int64(e.Partition), e.Offset, -1}
	if prev != nil {
		key[3] = prev.Offset<<8 | int64(prev.Partition&0xFF)
	}
	return maphash.Comparable(slotSeed, key) % zippedSlots
}

// block compresses the block of an entry behind that of prev.
func (t *zipper) block(dst []byte, c codec, prev, e *fanout.Entry) []byte {
	var text, before output
	c.event(&text, e, e.Cursor(), true)
	if prev != nil {
		c.event(&before, prev, prev.Cursor(), true)
	}
	return t.pack(dst, text.buf, before.buf, false)
}

// pack compresses text behind dictionary, where there is the time for it or it must be.
func (t *zipper) pack(dst, text, dictionary []byte, must bool) []byte {
	if len(text) < zippedLeast && len(dictionary) == 0 {
		return stored(dst, text)
	}
	began := time.Now()
	if !t.may(began) && !must {
		t.m.stored.Inc()
		return stored(dst, text)
	}
	out := appender{dst}
	if err := flate.StatelessDeflate(&out, text, false, dictionary); err != nil { // it has no reason to
		return stored(dst, text)
	}
	t.spent(time.Since(began))
	return out.buf
}

func (t *zipper) may(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	share := zippedShare * float64(runtime.GOMAXPROCS(0))
	t.left = min(t.left+time.Duration(share*float64(now.Sub(t.at))), time.Duration(share*float64(zippedBurst)))
	t.at = now
	return t.left >= 0
}

func (t *zipper) spent(d time.Duration) {
	t.mu.Lock()
	t.left -= d
	t.mu.Unlock()
}

// stored appends text as it is. An empty block ends it: Go's own reader, for one, gives what it has only then.
func stored(dst, text []byte) []byte {
	const most = 1<<16 - 1
	for len(text) > 0 {
		n := min(len(text), most)
		dst = append(dst, 0) // not the last block, type stored, and on to the next byte
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, text[:n]...)
		text = text[n:]
	}
	return append(dst, 0, 0, 0, 0xff, 0xff)
}

// appender is an io.Writer to a slice.
type appender struct{ buf []byte }

// Write implements [io.Writer].
func (a *appender) Write(p []byte) (int, error) {
	a.buf = append(a.buf, p...)
	return len(p), nil
}
