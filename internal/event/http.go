package event

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Item is one event of a request.
type Item struct {
	// Event is the event. Where Err is set, it holds what could be read of it, so that an answer can name it.
	Event Event
	Err   error // nil, or an *Error
}

// Limits bounds what is read. The zero value has the defaults.
type Limits struct {
	EventBytes  int // of one event as it was sent; default 1 MiB, and never below the 64 KiB that CloudEvents asks for
	BatchBytes  int // of a batch; default 8 MiB
	BatchEvents int // in a batch; default 1,000
}

func (l Limits) withDefaults() Limits {
	if l.EventBytes == 0 {
		l.EventBytes = 1 << 20
	}
	if l.BatchBytes == 0 {
		l.BatchBytes = 8 << 20
	}
	if l.BatchEvents == 0 {
		l.BatchEvents = 1000
	}
	l.EventBytes = max(l.EventBytes, 64<<10)
	l.BatchBytes = max(l.BatchBytes, l.EventBytes)
	return l
}

// ReadRequest reads the events that a request publishes, by the HTTP binding of CloudEvents in all three modes, and
// tells whether they came as a batch, which may be empty. The events alias body, which must not be changed any more.
//
// An event that is not valid has its Item.Err; the error, a [*RequestError], is for requests that hold no events
// because they are malformed as a whole, too large, or of an unknown content type.
func ReadRequest(h http.Header, body []byte, l Limits) (items []Item, batch bool, err error) {
	l = l.withDefaults()
	contentTypes := h.Values("Content-Type")
	if len(contentTypes) > 1 {
		return nil, false, malformed("the header Content-Type comes %d times: send it once", len(contentTypes))
	}
	contentType := ""
	if len(contentTypes) == 1 {
		contentType = strings.Trim(contentTypes[0], " \t")
	}
	m, json := modeOf(contentType)
	if m != binaryMode {
		if !json {
			return nil, m == batchMode, mediaType("%q is not read here: send %s or %s", abbreviate(contentType), MediaType, BatchMediaType)
		}
		if charset := charsetOf(contentType); !utf8Compatible(charset) {
			return nil, m == batchMode, mediaType("the charset %q is not read here: JSON is sent in UTF-8", abbreviate(charset))
		}
	}
	switch m {
	case structuredMode:
		items, err = readStructured(body, l)
	case batchMode:
		batch = true
		items, err = readBatch(body, l)
	default:
		items, err = readBinary(h, contentType, body, l)
	}
	if err != nil {
		return nil, batch, err
	}
	return items, batch, nil
}

func readStructured(body []byte, l Limits) ([]Item, error) {
	if len(body) > l.EventBytes {
		return nil, eventTooLarge("the event has %d bytes, and may have %d", len(body), l.EventBytes)
	}
	e, err := Parse(body)
	var problems *Error
	if errors.As(err, &problems) && problems.Malformed {
		return nil, malformed("%s", problems.Problems[0].Message)
	}
	return []Item{{Event: e, Err: err}}, nil
}

func readBatch(body []byte, l Limits) ([]Item, error) {
	if len(body) > l.BatchBytes {
		return nil, tooLarge("the batch has %d bytes, and may have %d", len(body), l.BatchBytes)
	}
	if len(body) > maxBytes {
		return nil, tooLarge("the batch has %d bytes, and no batch may have more than %d", len(body), maxBytes)
	}
	s := scanner{text: textOf(body)}
	if at := invalidUTF8(s.text); at >= 0 {
		return nil, malformed("byte %d is not UTF-8", at)
	}
	if s.next() != '[' {
		return nil, malformed("a batch is a JSON array and begins with [, at byte %d; a single event is sent as %s", s.at, MediaType)
	}
	s.at++
	var items []Item
	if s.next() == ']' {
		s.at++
		return items, endOfBatch(&s)
	}
	for {
		s.next()
		if len(items) == l.BatchEvents {
			return nil, tooLarge("the batch has more than %d events: send several", l.BatchEvents)
		}
		begin := s.at
		item, ok := readItem(&s)
		if !ok {
			return nil, malformed("at byte %d: %s", s.at, s.fault)
		}
		if n := s.at - begin; n > l.EventBytes {
			return nil, eventTooLarge("the event at place %d of the batch has %d bytes, and may have %d", len(items), n, l.EventBytes)
		}
		items = append(items, item)
		switch s.next() {
		case ',':
			s.at++
		case ']':
			s.at++
			return items, endOfBatch(&s)
		default:
			return nil, malformed("at byte %d: a comma or ] is expected", s.at)
		}
	}
}

func endOfBatch(s *scanner) error {
	if !s.end() {
		return malformed("at byte %d: something follows the batch", s.at)
	}
	return nil
}

func readItem(s *scanner) (item Item, ok bool) {
	if s.next() != '{' {
		if !s.skip(1) {
			return Item{}, false
		}
		return Item{Err: &Error{Problems: []Problem{{Message: "the item of the batch is no event", Expected: "a JSON object"}}}}, true
	}
	var buffer [usualAttributes]attribute
	attrs, problems, ok := parseObject(&item.Event, s, false, buffer[:0])
	item.Event.attrs = slices.Clone(attrs)
	if problems != nil {
		item.Err = problems
	}
	return item, ok
}

func readBinary(h http.Header, contentType string, body []byte, l Limits) ([]Item, error) {
	var names []string
	size := len(body)
	for key, values := range h {
		if len(key) > len(headerPrefix) && strings.EqualFold(key[:len(headerPrefix)], headerPrefix) {
			names = append(names, key)
			for _, v := range values {
				size += len(key) + len(v)
			}
		}
	}
	if len(names) == 0 {
		came := "no content type"
		if contentType != "" {
			came = "the content type " + abbreviate(contentType)
		}
		return nil, mediaType("%s and no ce- headers came: send an event as %s, a batch as %s, or the attributes as headers from ce-specversion on",
			came, MediaType, BatchMediaType)
	}
	if size > l.EventBytes {
		return nil, eventTooLarge("the event has %d bytes, and may have %d", size, l.EventBytes)
	}
	slices.Sort(names)
	b := parts{contentType: contentType, data: body, hasData: len(body) > 0}
	for _, key := range names {
		name := strings.ToLower(key[len(headerPrefix):])
		if !b.admit(name) {
			continue
		}
		for _, coded := range h[key] {
			value, err := decodePercent(coded)
			if err != nil {
				b.problem(name, "a value percent-encoded once, in UTF-8", "the header %s cannot be decoded: %s", abbreviate(key), err)
				continue
			}
			b.set(name, value)
		}
	}
	e, err := b.event(false)
	return []Item{{Event: e, Err: err}}, nil
}

const headerPrefix = "Ce-"

// admit refuses the headers of the binary mode that are no attributes.
func (b *parts) admit(name string) bool {
	switch {
	case name == "datacontenttype":
		b.problem(name, "the header Content-Type", "the binary mode has no header for this attribute")
	case name == "data", name == "data_base64":
		b.problem(name, "the data in the body", "the name is no attribute's")
	case !validName(name):
		b.problem(name, "lower-case letters a-z and digits 0-9", "%q cannot be the name of an attribute", abbreviate(name))
	default:
		return true
	}
	return false
}

// WriteBinary writes the event's attributes to h as the binary mode has them, and returns the body; nil is an event
// without data. Content-Type is deleted where the event says nothing about it.
func (e *Event) WriteBinary(h http.Header) ([]byte, error) {
	data, contentType, err := e.Payload()
	if err != nil {
		return nil, err
	}
	values := make([]string, 0, len(e.attrs)) // one piece of memory: it never grows
	for name, value := range e.Attributes() {
		if name != "datacontenttype" {
			n := len(values)
			values = append(values, encodePercent(value.String()))
			h[headerOf(name)] = values[n : n+1 : n+1]
		}
	}
	h.Del("Content-Type")
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return data, nil
}

// headerOf is an attribute's header as net/http spells it.
func headerOf(name string) string {
	if c := coreOf(name); c != notCore {
		return coreHeaders[c]
	}
	first := name[0]
	if 'a' <= first && first <= 'z' {
		first -= 'a' - 'A'
	}
	return headerPrefix + string(rune(first)) + name[1:]
}

var coreHeaders = [coreCount]string{
	coreSpecVersion: "Ce-Specversion", coreID: "Ce-Id", coreSource: "Ce-Source", coreType: "Ce-Type", coreSubject: "Ce-Subject",
	coreTime: "Ce-Time", coreDataSchema: "Ce-Dataschema", // datacontenttype is Content-Type
}

// WriteStructured writes the content type of the structured mode to h and returns the body, which must not be changed.
func (e *Event) WriteStructured(h http.Header) []byte {
	h.Set("Content-Type", structuredContentType)
	return e.JSON()
}
