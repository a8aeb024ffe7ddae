package session

import (
	"encoding/json"
	"strconv"
	"sync"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// output gathers what one write carries.
type output struct {
	shared []byte // what others are given, too: it goes before buf, and must not be changed
	buf    []byte
	cuts   []int // ends of messages in buf, for transports that frame messages: see cut
	open   bool  // a message of several events has begun

	pooled *[]byte // as what buf is given back; nil: it is the output's own
}

func (o *output) reset() { o.shared, o.buf, o.cuts, o.open = nil, o.buf[:0], o.cuts[:0], false }

// size is how many bytes there are to be written.
func (o *output) size() int { return len(o.shared) + len(o.buf) }

// large are buffers for what is gathered in large pieces by few, who else would make one of that size for every write.
var large = sync.Pool{New: func() any {
	b := make([]byte, 0, 2*writeBytes)
	return &b
}}

// expect makes room for n more bytes.
func (o *output) expect(n int) {
	if n < largeBytes || o.pooled != nil || cap(o.buf)-len(o.buf) >= n {
		return
	}
	o.pooled, _ = large.Get().(*[]byte)
	o.buf = append((*o.pooled)[:0], o.buf...)
}

// largeBytes is what is so large: a session whose client does not read keeps what it is written from.
const largeBytes = writeBytes / 2

// release gives the buffer up. What was written to it is gone.
func (o *output) release() {
	if o.pooled != nil && cap(o.buf) <= 2*writeBytes {
		*o.pooled = o.buf[:0]
		large.Put(o.pooled)
	}
	o.buf, o.pooled = nil, nil
}

// What a message is to who compresses it.
const (
	cutShared = iota // others are given it, too
	cutOwn           // it is the session's own
	cutPlain         // it is the session's own, and little
	cutBits   = 2    // that tell it beside the message's end
)

// kindOf is what a message is that ends with this cursor, which whole says is its last entry's own.
func kindOf(cursor []byte, whole bool) int {
	if cursor != nil && !whole {
		return cutOwn
	}
	return cutShared
}

func (o *output) cut(kind int) { o.cuts = append(o.cuts, len(o.buf)<<cutBits|kind) }

// messages calls each with the messages in buf, in order, and what they are.
func (o *output) messages(each func(text []byte, kind int)) {
	from := 0
	for _, cut := range o.cuts {
		to := cut >> cutBits
		each(o.buf[from:to], cut&(1<<cutBits-1))
		from = to
	}
}

// codec writes the blocks of one transport. cursor is the cursor after the block; whole says that it is the entry's own
// text, so that the entry's shared frame is the block. A nil cursor is none: what belongs together has one at its end.
type codec interface {
	// form tells forms apart that are encoded once for many; noForm is none of them.
	form() form
	// blank is a codec of the same form for what is to be shared.
	blank() codec
	event(o *output, e *fanout.Entry, cursor []byte, whole bool)
	// end writes the cursor after events that had none.
	end(o *output, cursor []byte)
	// cursor writes a first block or a heartbeat.
	cursor(o *output, cursor []byte)
	// control writes a control message of API.md's table. cursor may be nil.
	control(o *output, name string, payload any, cursor []byte)
	// flush ends what event began.
	flush(o *output)
}

// form is a form in which events are written.
type form int

const (
	noForm form = iota
	formSSE
	formTypedSSE
	formNDJSON
	formZippedSSE
	formZippedTypedSSE
	formZippedNDJSON
	formBatch
	formEvents
)

// compressed says that the form takes much fewer bytes than the events.
func (f form) compressed() bool { return f >= formZippedSSE && f <= formZippedNDJSON }

// messages says that the form is one of messages, not of a stream of bytes.
func (f form) messages() bool { return f >= formBatch }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("session: a control message cannot be encoded: " + err.Error())
	}
	return b
}

// sseCodec writes Server-Sent Events (WHATWG HTML, section 9.2).
type sseCodec struct{ typed bool }

func (c sseCodec) event(o *output, e *fanout.Entry, cursor []byte, whole bool) {
	if c.typed {
		o.buf = append(o.buf, "event: "...)
		o.buf = appendOneLine(o.buf, e.Event.Type())
		o.buf = append(o.buf, '\n')
	}
	if whole {
		o.buf = append(o.buf, e.SSE()...)
		return
	}
	if cursor != nil {
		o.buf = append(o.buf, "id: "...)
		o.buf = append(o.buf, cursor...)
		o.buf = append(o.buf, '\n')
	}
	o.buf = append(o.buf, e.SSEData()...)
}

func (c sseCodec) form() form {
	if c.typed {
		return formTypedSSE
	}
	return formSSE
}

func (c sseCodec) blank() codec { return c }

func (c sseCodec) end(o *output, cursor []byte) { c.cursor(o, cursor) }

// appendOneLine keeps a line break in a type from ending the field.
func appendOneLine(dst []byte, s string) []byte {
	for i := range len(s) {
		if s[i] != '\n' && s[i] != '\r' {
			dst = append(dst, s[i])
		}
	}
	return dst
}

// A block with an id and no data moves lastEventId and fires nothing.
func (sseCodec) cursor(o *output, cursor []byte) {
	o.buf = append(o.buf, "id: "...)
	o.buf = append(o.buf, cursor...)
	o.buf = append(o.buf, "\n\n"...)
}

func (sseCodec) control(o *output, name string, payload any, cursor []byte) {
	if cursor != nil {
		o.buf = append(o.buf, "id: "...)
		o.buf = append(o.buf, cursor...)
		o.buf = append(o.buf, '\n')
	}
	if d, ok := payload.(Drain); ok {
		// EventSource obeys retry without any script's help.
		o.buf = append(o.buf, "retry: "...)
		o.buf = strconv.AppendInt(o.buf, int64(d.RetryAfter*1000), 10)
		o.buf = append(o.buf, '\n')
	}
	o.buf = append(o.buf, "event: "...)
	o.buf = append(o.buf, name...)
	o.buf = append(o.buf, "\ndata: "...)
	o.buf = append(o.buf, mustJSON(payload)...)
	o.buf = append(o.buf, "\n\n"...)
}

func (sseCodec) flush(*output) {}

// ndjsonCodec writes lines {"cursor":…,"event":{…}}.
type ndjsonCodec struct{}

func (ndjsonCodec) event(o *output, e *fanout.Entry, cursor []byte, _ bool) {
	o.buf = append(o.buf, '{')
	if cursor != nil {
		o.buf = append(o.buf, `"cursor":"`...)
		o.buf = append(o.buf, cursor...)
		o.buf = append(o.buf, `",`...)
	}
	o.buf = append(o.buf, `"event":`...)
	o.buf = append(o.buf, e.Event.JSON()...)
	o.buf = append(o.buf, "}\n"...)
}

func (ndjsonCodec) form() form { return formNDJSON }

func (c ndjsonCodec) blank() codec { return c }

func (c ndjsonCodec) end(o *output, cursor []byte) { c.cursor(o, cursor) }

func (ndjsonCodec) cursor(o *output, cursor []byte) {
	o.buf = append(o.buf, `{"cursor":"`...)
	o.buf = append(o.buf, cursor...)
	o.buf = append(o.buf, "\"}\n"...)
}

func (ndjsonCodec) control(o *output, name string, payload any, cursor []byte) {
	o.buf = appendControl(o.buf, name, payload, cursor)
	o.buf = append(o.buf, '\n')
}

func (ndjsonCodec) flush(*output) {}

func appendControl(dst []byte, name string, payload any, cursor []byte) []byte {
	dst = append(dst, `{"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	dst = append(dst, mustJSON(payload)...)
	if cursor != nil {
		dst = append(dst, `,"cursor":"`...)
		dst = append(dst, cursor...)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// batchCodec is the WebSocket subprotocol eventissuer.v1: messages {"cursor":…,"events":[…]}.
type batchCodec struct {
	last []byte
	kind int // of the message, by its last event
}

func (c *batchCodec) event(o *output, e *fanout.Entry, cursor []byte, whole bool) {
	if o.open {
		o.buf = append(o.buf, ',')
	} else {
		o.open = true
		o.buf = append(o.buf, `{"events":[`...)
	}
	o.buf = append(o.buf, e.Event.JSON()...)
	c.last = append(c.last[:0], cursor...)
	c.kind = kindOf(cursor, whole)
}

func (c *batchCodec) flush(o *output) {
	if !o.open {
		return
	}
	o.open = false
	o.buf = append(o.buf, ']')
	if len(c.last) > 0 {
		o.buf = append(o.buf, `,"cursor":"`...)
		o.buf = append(o.buf, c.last...)
		o.buf = append(o.buf, '"')
	}
	o.buf = append(o.buf, '}')
	o.cut(c.kind)
}

func (c *batchCodec) form() form { return formBatch }

func (c *batchCodec) blank() codec { return &batchCodec{} }

func (c *batchCodec) end(o *output, cursor []byte) {
	if !o.open {
		c.cursor(o, cursor)
		return
	}
	c.last = append(c.last[:0], cursor...)
	c.flush(o)
}

func (c *batchCodec) cursor(o *output, cursor []byte) {
	c.flush(o)
	o.buf = append(o.buf, `{"cursor":"`...)
	o.buf = append(o.buf, cursor...)
	o.buf = append(o.buf, `"}`...)
	o.cut(cutPlain)
}

func (c *batchCodec) control(o *output, name string, payload any, cursor []byte) {
	c.flush(o)
	o.buf = appendControl(o.buf, name, payload, cursor)
	o.cut(cutPlain)
}

// eventCodec is the WebSocket subprotocol cloudevents.json: one CloudEvent a message, the cursor as the extension
// attribute eventissuercursor, control messages as CloudEvents of type no.eventissuer.<name>.
type eventCodec struct {
	source string
	id     func() string
}

func (c *eventCodec) event(o *output, e *fanout.Entry, cursor []byte, whole bool) {
	o.buf = append(o.buf, '{')
	if cursor != nil {
		o.buf = append(o.buf, `"eventissuercursor":"`...)
		o.buf = append(o.buf, cursor...)
		o.buf = append(o.buf, `",`...)
	}
	json := e.Event.JSON()
	for json[0] != '{' {
		json = json[1:]
	}
	o.buf = append(o.buf, json[1:]...)
	o.cut(kindOf(cursor, whole))
}

func (c *eventCodec) cursor(o *output, cursor []byte) {
	o.buf = c.open(o.buf, "cursor", cursor)
	o.buf = append(o.buf, '}')
	o.cut(cutPlain)
}

func (c *eventCodec) control(o *output, name string, payload any, cursor []byte) {
	o.buf = c.open(o.buf, name, cursor)
	o.buf = append(o.buf, `,"datacontenttype":"application/json","data":`...)
	o.buf = append(o.buf, mustJSON(payload)...)
	o.buf = append(o.buf, '}')
	o.cut(cutPlain)
}

func (c *eventCodec) flush(*output) {}

func (c *eventCodec) form() form { return formEvents }

func (c *eventCodec) blank() codec { return &eventCodec{source: c.source, id: controlIDs()} }

func (c *eventCodec) end(o *output, cursor []byte) { c.cursor(o, cursor) }

func (c *eventCodec) open(dst []byte, name string, cursor []byte) []byte {
	dst = append(dst, `{"specversion":"1.0","type":"no.eventissuer.`...)
	dst = append(dst, name...)
	dst = append(dst, `","source":`...)
	dst = strconv.AppendQuote(dst, c.source)
	dst = append(dst, `,"id":"`...)
	dst = append(dst, c.id()...)
	dst = append(dst, '"')
	if cursor != nil {
		dst = append(dst, `,"eventissuercursor":"`...)
		dst = append(dst, cursor...)
		dst = append(dst, '"')
	}
	return dst
}
