package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/eventissuer/eventissuer/internal/event"
)

// Mode is a way in which CloudEvents' HTTP binding carries events.
type Mode string

// The modes.
const (
	Structured Mode = "structured" // the event as JSON
	Binary     Mode = "binary"     // the data as the body, the attributes as headers, which signatures do not cover
	Batch      Mode = "batch"      // a JSON array of events
)

const (
	contentType = "Content-Type"

	// maxBinaryAttributes bounds the attributes that are sent as headers, before percent-encoding: many servers take no
	// more than 8 KiB of headers in all.
	maxBinaryAttributes = 4 << 10
)

// Body writes the headers of a message's content to h and returns its body, which must not be changed: in the
// structured mode it is the event's own bytes. The structured and the binary mode take one event, the batch mode one or
// more; an error says that there are others, or that the mode is none.
//
// The binary mode cannot say everything: an event without data would look like a request without content, and one whose
// data is itself an event in JSON like that event. Such an event, one with attributes too large for
// headers, and one that was written to the log with data or a content type that is none, is sent in the structured mode.
func Body(h http.Header, mode Mode, events []*event.Event) ([]byte, error) {
	if len(events) == 0 {
		return nil, errors.New("body of a message: it holds no event")
	}
	switch mode {
	case Batch:
		// Without a charset: receivers on CloudEvents' Go SDK know a batch by this text alone.
		h[contentType] = []string{event.BatchMediaType}
		return batch(events), nil
	case Structured, Binary:
	default:
		return nil, fmt.Errorf("body of a message: %q is no mode: %s, %s or %s is expected", abbreviate(string(mode)), Structured, Binary, Batch)
	}
	if len(events) > 1 {
		return nil, fmt.Errorf("body of a message: %d events are sent in the mode %s, not %s", len(events), Batch, mode)
	}
	e := events[0]
	if mode == Binary && fitsBinary(e) {
		// An error tells of data that does not decode, before anything is written.
		if body, err := e.WriteBinary(h); err == nil {
			return body, nil
		}
	}
	return e.WriteStructured(h), nil
}

// batch joins events to a JSON array.
func batch(events []*event.Event) []byte {
	size := len(events) + 1
	for _, e := range events {
		size += len(e.JSON())
	}
	body := make([]byte, 0, size)
	for i, e := range events {
		body = append(body, "[,"[min(i, 1)])
		body = append(body, e.JSON()...)
	}
	return append(body, ']')
}

// fitsBinary tells whether the binary mode can say all of an event.
func fitsBinary(e *event.Event) bool {
	data := e.Data()
	text, ok := e.DataBase64()
	if text == "" && (ok || len(data) == 0) {
		return false
	}
	if t := e.DataContentType(); t != "" {
		const prefix = "application/cloudevents" // of the other modes (HTTP binding, section 3)
		if headerValueFault(t) != "" || len(t) >= len(prefix) && strings.EqualFold(t[:len(prefix)], prefix) {
			return false
		}
		if string(data) == `""` && !event.IsJSON(t) { // the empty text
			return false
		}
	}
	size := 0
	for name, value := range e.Attributes() {
		size += len("ce-") + len(name) + len(value.String())
	}
	return size <= maxBinaryAttributes
}
