package event

import "net/http"

// Item is one event of a request.
type Item struct {
	// Event is the event. Where Err is set, it holds what could be read of it, so that the answer can name it.
	Event Event
	Err   error // nil, or an *Error
}

// Limits bounds what is read.
type Limits struct {
	EventBytes  int // of one event; default 1 MiB, at least 64 KiB
	BatchBytes  int // of a batch; default 8 MiB
	BatchEvents int // in a batch; default 1,000
}

// ReadRequest reads the events of a request.
func ReadRequest(h http.Header, body []byte, l Limits) (items []Item, batch bool, err error) {
	return nil, false, &RequestError{Kind: ErrMediaType}
}

// WriteBinary writes the event in the binary mode.
func (e *Event) WriteBinary(h http.Header) []byte { return nil }
