package session

import (
	"encoding/binary"

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
	sum  checksum      // of all that the client was given
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
	var text []byte
	o.buf, text = z.shared.append(o.buf, z.codec, z.prev, e)
	z.sum.add(text)
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

// seal ends the stream.
func (z *zipped) seal(o *output) {
	o.buf = append(o.buf, 1, 0, 0, 0xff, 0xff) // the last block, of nothing
	o.buf = binary.LittleEndian.AppendUint32(o.buf, z.sum.crc)
	o.buf = binary.LittleEndian.AppendUint32(o.buf, z.sum.size)
}

// made is what a blank codec tells beside what it wrote, in place of cuts: the checksum of a text, and how long that is.
func (z *zipped) made() []int { return []int{int(z.sum.crc), int(z.sum.size)} }

// passed tells that the client is given what a blank codec made, and told beside.
func (z *zipped) passed(made []int) {
	z.prev = nil
	z.sum.crc = combined(z.sum.crc, uint32(made[0]), made[1])
	z.sum.size += uint32(made[1])
}

// expect has room for events of the session's own, which mostly are many.
func (z *zipped) expect() {
	if z.own.buf == nil {
		z.own.expect(largeBytes)
	}
}

// spill compresses what is the session's own, and gives up the buffer.
func (z *zipped) spill(o *output) {
	if len(z.own.buf) > 0 {
		z.sum.add(z.own.buf)
		o.buf = z.shared.pack(o.buf, z.own.buf, nil, z.bulk)
	}
	if z.own.buf != nil {
		z.own.release()
	}
}
