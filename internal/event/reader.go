package event

import "github.com/eventissuer/eventissuer/broker"

const (
	// roomAttributes is for how many attributes a [Reader] takes memory at most: 4 KB.
	roomAttributes = 256
	// leastAttributes is what it has room for before it reads an event, and usualAttributes what few have more than.
	leastAttributes = 16
	usualAttributes = 32
)

// Reader reads the events of many records. Their attributes share pieces of memory of up to 4 KB, which an event that is
// kept keeps. A nil Reader gives each event memory of its own. A Reader is not to be used concurrently.
type Reader struct {
	left int         // events that are expected
	room []attribute // what is free of the present piece, as capacity
}

// NewReader returns a Reader for about so many events.
func NewReader(events int) *Reader { return &Reader{left: events} }

// Read reads the event of a record into e, which must be the zero Event, as [FromRecordOf] does. After an error e is the
// zero Event again.
func (rd *Reader) Read(e *Event, r *broker.Record, w *Wrap) error {
	err := rd.read(e, r, w)
	if err != nil {
		*e = Event{}
	}
	return err
}

func (rd *Reader) read(e *Event, r *broker.Record, w *Wrap) (err error) {
	if rd == nil || w != nil && !saysCloudEvent(r.Headers) {
		*e, err = FromRecordOf(*r, w)
		return err
	}
	m, contentType, err := bindingOf(r)
	switch {
	case err != nil:
		return err
	case m == binaryMode:
		*e, err = fromBinaryRecord(r, contentType)
		return err
	}
	if cap(rd.room) < leastAttributes {
		rd.room = make([]attribute, 0, min(max(rd.left*leastAttributes/2, leastAttributes), roomAttributes))
	}
	rd.left--
	attrs, err := parseInto(e, textOf(r.Value), true, rd.room)
	if err != nil {
		return err
	}
	e.attrs = attrs[:len(attrs):len(attrs)]
	if len(attrs) <= cap(rd.room) { // else they have got memory of their own
		rd.room = rd.room[len(attrs):len(attrs):cap(rd.room)]
	}
	return nil
}
