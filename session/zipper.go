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

// zipper compresses for all sessions, and keeps what they share for the moment in which they all ask for it.
type zipper struct {
	m        *metrics
	slots    [zippedSlots]atomic.Pointer[zippedBlock]
	messages [zippedSlots]atomic.Pointer[zippedMessage] // see framer

	mu    sync.Mutex
	share float64       // how many processors may compress, on average; guarded by mu
	left  time.Duration // processor time that may be spent now; guarded by mu
	at    time.Time     // when that was so; guarded by mu
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
	text    []byte // as it is
	bytes   []byte // compressed
}

func (b *zippedBlock) is(f form, prev, e *fanout.Entry) bool {
	return b != nil && b.form == f && b.prev == prev && b.e == e
}

func newZipper(m *metrics) *zipper {
	return &zipper{m: m, share: zippedShare * float64(runtime.GOMAXPROCS(0)), at: time.Now()}
}

// append appends the block of an entry, as c writes it whole, behind that of prev. It also returns the block's text.
func (t *zipper) append(dst []byte, c codec, prev, e *fanout.Entry) (out, text []byte) {
	if prev != nil && prev.Bytes() > zippedMost {
		prev = nil // the end of it would be a poor dictionary
	}
	if e.Bytes() > zippedMost {
		return t.block(dst, c, prev, e)
	}
	kind := c.form()
	b := take(&t.slots[slotOf(kind, prev, e)], func(b *zippedBlock) bool { return b.is(kind, prev, e) }, func() *zippedBlock {
		return &zippedBlock{form: kind, prev: prev, e: e}
	})
	b.once.Do(func() { b.bytes, b.text = t.block(nil, c, prev, e) })
	return append(dst, b.bytes...), b.text
}

// take gives what a slot has if it is what is asked for, and else puts what fresh makes there; or, where another is put there at that
// moment, gives it for who asks alone.
func take[T any](slot *atomic.Pointer[T], is func(*T) bool, fresh func() *T) *T {
	has := slot.Load()
	if is(has) {
		return has
	}
	made := fresh()
	if slot.CompareAndSwap(has, made) {
		return made
	}
	if has = slot.Load(); is(has) {
		return has
	}
	return made
}

var slotSeed = maphash.MakeSeed()

func slotOf(kind form, prev, e *fanout.Entry) uint64 {
	key := [4]int64{int64(kind), int64(e.Partition), e.Offset, -1}
	if prev != nil {
		key[3] = prev.Offset<<8 | int64(prev.Partition&0xFF)
	}
	return maphash.Comparable(slotSeed, key) % zippedSlots
}

// block compresses the block of an entry behind that of prev, and returns its text, too.
func (t *zipper) block(dst []byte, c codec, prev, e *fanout.Entry) (out, text []byte) {
	var block, before output
	c.event(&block, e, e.Cursor(), true)
	if prev != nil {
		c.event(&before, prev, prev.Cursor(), true)
	}
	return t.pack(dst, block.buf, before.buf, false), block.buf
}

// pack compresses text behind dictionary, where there is the time for it or it must be.
func (t *zipper) pack(dst, text, dictionary []byte, must bool) []byte {
	if len(text) < zippedLeast && len(dictionary) == 0 {
		return stored(dst, text)
	}
	out, ok := t.deflate(dst, text, dictionary, must)
	if !ok {
		return stored(dst, text)
	}
	return out
}

// deflate compresses text behind dictionary, with a flush at its end, where there is the time for it or it must be.
func (t *zipper) deflate(dst, text, dictionary []byte, must bool) (out []byte, ok bool) {
	began := time.Now()
	if !t.may(began) && !must {
		t.m.stored.Inc()
		return dst, false
	}
	to := appender{dst}
	if err := flate.StatelessDeflate(&to, text, false, dictionary); err != nil { // it has no reason to
		return dst, false
	}
	t.spent(time.Since(began))
	return to.buf, true
}

func (t *zipper) may(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = min(t.left+time.Duration(t.share*float64(now.Sub(t.at))), time.Duration(t.share*float64(zippedBurst)))
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
