package session

import (
	"strconv"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/group"
)

// deliveryCodec is a codec of a subscription's deliveries, whose cursors, control messages and heartbeats are those of
// streams.
type deliveryCodec interface {
	codec
	// deliver writes a delivery; cursor acknowledges all up to it.
	deliver(o *output, d *group.Delivery, cursor []byte)
}

// sseDeliveries writes an event as SSE does, with the attributes of its delivery in front of its own.
type sseDeliveries struct{ sseCodec }

func (c sseDeliveries) deliver(o *output, d *group.Delivery, cursor []byte) {
	if c.typed {
		o.buf = append(o.buf, "event: "...)
		o.buf = appendOneLine(o.buf, d.Type)
		o.buf = append(o.buf, '\n')
	}
	o.buf = append(o.buf, "id: "...)
	o.buf = append(o.buf, cursor...)
	o.buf = append(o.buf, "\ndata: "...)
	o.buf = appendDelivery(o.buf, d, nil)
	o.buf = append(o.buf, "\n\n"...)
}

// ndjsonDeliveries writes lines {"cursor":…,"group":…,"attempt":…,"event":{…}}.
type ndjsonDeliveries struct{ ndjsonCodec }

func (ndjsonDeliveries) deliver(o *output, d *group.Delivery, cursor []byte) {
	o.buf = append(appendGiven(o.buf, d, cursor), `,"event":`...)
	o.buf = append(o.buf, d.JSON...)
	o.buf = append(o.buf, "}\n"...)
}

// batchDeliveries is the subprotocol eventissuer.v1: messages {"cursor":…,"deliveries":[…],"events":[…]}, the first of one
// belonging to the first of the other.
type batchDeliveries struct {
	batchCodec
	given  []byte   // the deliveries, without brackets
	events [][]byte // as many
}

func (c *batchDeliveries) deliver(_ *output, d *group.Delivery, cursor []byte) {
	if len(c.events) > 0 {
		c.given = append(c.given, ',')
	}
	c.given = append(appendGiven(c.given, d, cursor), '}')
	c.events = append(c.events, d.JSON)
	c.last = append(c.last[:0], cursor...)
}

func (c *batchDeliveries) flush(o *output) {
	if len(c.events) == 0 {
		return
	}
	o.buf = append(o.buf, `{"cursor":"`...)
	o.buf = append(o.buf, c.last...)
	o.buf = append(o.buf, `","deliveries":[`...)
	o.buf = append(o.buf, c.given...)
	o.buf = append(o.buf, `],"events":[`...)
	for i, e := range c.events {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = append(o.buf, e...)
	}
	o.buf = append(o.buf, "]}"...)
	o.cut(cutPlain)
	clear(c.events) // the ring's bounds are not to be stretched by what was written
	c.given, c.events = c.given[:0], c.events[:0]
}

// eventDeliveries is the subprotocol cloudevents.json: the event with the attributes of its delivery.
type eventDeliveries struct{ *eventCodec }

func (eventDeliveries) deliver(o *output, d *group.Delivery, cursor []byte) {
	o.buf = appendDelivery(o.buf, d, cursor)
	o.cut(cutPlain)
}

// appendGiven appends the members that tell of a delivery, the object left open.
func appendGiven(dst []byte, d *group.Delivery, cursor []byte) []byte {
	dst = append(dst, `{"cursor":"`...)
	dst = append(dst, cursor...)
	dst = append(dst, `","group":"`...)
	dst = append(dst, d.Group...) // of a stream's name and a number: there is nothing to escape
	dst = append(dst, `","attempt":`...)
	return strconv.AppendInt(dst, int64(d.Attempt), 10)
}

// appendDelivery appends the event with the attributes of its delivery, without a cursor where that is nil.
func appendDelivery(dst []byte, d *group.Delivery, cursor []byte) []byte {
	dst = append(dst, '{')
	if cursor != nil {
		dst = append(dst, `"`+event.CursorAttribute+`":"`...)
		dst = append(dst, cursor...)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"`+event.GroupAttribute+`":"`...)
	dst = append(dst, d.Group...)
	dst = append(dst, `","`+event.AttemptAttribute+`":`...)
	dst = strconv.AppendInt(dst, int64(d.Attempt), 10)
	dst = append(dst, ',')
	json := d.JSON
	for json[0] != '{' {
		json = json[1:]
	}
	return append(dst, json[1:]...)
}
