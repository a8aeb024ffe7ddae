package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// maxWrapBytes bounds the definition of a [Wrap].
const maxWrapBytes = 64 << 10

// Wrap makes events of plain JSON records, which say nothing of CloudEvents: what the attributes are is told once, for
// all of them. It may be used concurrently.
//
// The same record gives the same event, byte for byte, on every replica and at every time.
type Wrap struct {
	attributes []wrapped // in the order in which they stand in the event
	pointers   pointers
	texts      int // about the length of what the attributes add
}

// wrapped is one attribute of the events that a Wrap makes.
type wrapped struct {
	name string
	core core
	wrapValue
}

// wrapValue says where a value comes from.
type wrapValue struct {
	origin      origin
	text        string   // the fixed value, or the name of the header
	place       []string // tokens of the pointer
	pointer     int      // among the pointers
	fallback    string   // where the record does not have the value
	hasFallback bool
}

type origin uint8

const (
	fixed origin = iota
	fromPointer
	fromHeader
	fromKey
	fromPosition
	fromTimestamp
)

// CompileWrap compiles the definition of a Wrap, a JSON object:
//
//	{"type":…, "source":…, "subject":…, "id":…, "time":…, "dataschema":…, "extensions":{"name":…, …}}
//
// Each value is a string, which is the attribute's value in every event, or an object that says where a record has it,
// with exactly one of
//
//	{"pointer":"/a/b"}   a JSON Pointer (RFC 6901) into the record's value
//	{"header":"name"}    the record's header of that name; the last, where there are several
//	{"key":true}         the record's key
//	{"position":true}    "<partition>-<offset>"
//	{"timestamp":true}   the record's timestamp, as RFC 3339 has it
//
// and perhaps a "default" for records that do not have it, or have there what the attribute cannot be. type and source
// are required; id is the position where nothing is said, and time the timestamp. There may be 16 extensions; their
// names cannot begin with "eventissuer". The error is a [*MappingError] and lists all mistakes.
func CompileWrap(raw []byte) (*Wrap, error) {
	mistakes := &MappingError{}
	const members = "type, source, subject, id, time, dataschema, extensions"
	if len(raw) > maxWrapBytes {
		mistakes.add("", fmt.Sprintf("at most %d bytes", maxWrapBytes), "the mapping has %d bytes", len(raw))
		return nil, mistakes
	}
	object, ok := objectOf(raw)
	if !ok {
		mistakes.add("", "a JSON object with "+members, "the mapping is no object")
		return nil, mistakes
	}
	w := &Wrap{}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch name {
		case "type", "source", "subject", "id", "time", "dataschema", "extensions":
		default:
			mistakes.add(pointer(name), "one of "+members, "there is no such member")
		}
	}
	for _, name := range []string{"id", "source", "type", "subject", "time", "dataschema"} {
		a := wrapped{name: name, core: coreOf(name)}
		switch value, given := object[name]; {
		case given:
			a.wrapValue = readWrapValue(value, a.core, "/"+name, mistakes)
		case a.core == coreID:
			a.origin = fromPosition
		case a.core == coreTime:
			a.origin = fromTimestamp
		case a.core == coreType, a.core == coreSource:
			mistakes.add("/"+name, `a string, or where a record has it, such as {"pointer":"/`+name+`"}`, "%s is missing", name)
			continue
		default:
			continue
		}
		w.attributes = append(w.attributes, a)
	}
	if value, given := object["extensions"]; given {
		w.readExtensions(value, mistakes)
	}
	if err := mistakes.orNil(); err != nil {
		return nil, err
	}
	var places [][]string
	for i := range w.attributes {
		a := &w.attributes[i]
		w.texts += len(a.name) + len(a.text) + 40
		if a.origin == fromPointer {
			a.pointer = len(places)
			places = append(places, a.place)
		}
	}
	w.pointers = newPointers(places)
	return w, nil
}

func (w *Wrap) readExtensions(raw json.RawMessage, mistakes *MappingError) {
	extensions, ok := objectOf(raw)
	if !ok {
		mistakes.add("/extensions", "an object of extension attributes", "the value is no object")
		return
	}
	if len(extensions) > maxMappings {
		mistakes.add("/extensions", fmt.Sprintf("at most %d", maxMappings), "there are %d extension attributes", len(extensions))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		at := "/extensions" + pointer(name)
		mistakes.checkExtension(at, name)
		w.attributes = append(w.attributes, wrapped{name, notCore, readWrapValue(extensions[name], notCore, at, mistakes)})
	}
}

// objectOf reads the members of an object.
func objectOf(raw []byte) (map[string]json.RawMessage, bool) {
	var object map[string]json.RawMessage
	err := json.Unmarshal(raw, &object)
	return object, err == nil && object != nil
}

// readWrapValue reads one value of the definition, which stands at at.
func readWrapValue(raw json.RawMessage, c core, at string, mistakes *MappingError) (v wrapValue) {
	const expected = `a string, or an object with one of pointer, header, key, position, timestamp, and perhaps a default`
	checkText := func(at, text string) {
		if fault := textFault(c, text); fault != "" {
			_, expected := coreFault(c, text)
			mistakes.add(at, expected, "the value cannot be the attribute's: %s", fault)
		}
	}
	if json.Unmarshal(raw, &v.text) == nil && bytes.TrimSpace(raw)[0] == '"' {
		checkText(at, v.text)
		return v
	}
	object, ok := objectOf(raw)
	if !ok {
		mistakes.add(at, expected, "the value is neither a string nor an object")
		return v
	}
	var origins []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		value, at := object[name], at+pointer(name)
		var text string
		isText := json.Unmarshal(value, &text) == nil && bytes.TrimSpace(value)[0] == '"'
		isTrue := string(bytes.TrimSpace(value)) == "true"
		switch name {
		case "pointer":
			v.origin = fromPointer
			var err error
			if !isText {
				mistakes.add(at, `a JSON Pointer, such as "/train/id"`, "the value is no string")
			} else if v.place, err = parsePointer(text); err != nil {
				mistakes.add(at, `a JSON Pointer, such as "/train/id"`, "%v", err)
			}
		case "header":
			if v.origin, v.text = fromHeader, text; text == "" || len(text) > maxNameLength {
				mistakes.add(at, fmt.Sprintf("the name of a record header, a string of 1 to %d bytes", maxNameLength), "the value is none")
			}
		case "key":
			v.origin = fromKey
		case "position":
			v.origin = fromPosition
			if textFault(c, "0-0") != "" {
				_, expected := coreFault(c, "")
				mistakes.add(at, expected, "a position cannot be the attribute's value")
			}
		case "timestamp":
			v.origin = fromTimestamp
		case "default":
			if v.fallback, v.hasFallback = text, true; !isText {
				mistakes.add(at, "a string", "the default is no string")
			} else {
				checkText(at, text)
			}
			continue
		default:
			mistakes.add(at, "one of pointer, header, key, position, timestamp, default", "there is no such member")
			continue
		}
		if v.origin >= fromKey && !isTrue {
			mistakes.add(at, "true", "the value is not true")
		}
		origins = append(origins, name)
	}
	if len(origins) != 1 {
		mistakes.add(at, expected, "there are %d of pointer, header, key, position, timestamp, where one is needed", len(origins))
	}
	return v
}

// FromRecord makes the event of a record: in the structured form, on one line, with the record's value as its data, byte
// for byte but for the white space of JSON that stands in several lines. What is a string, a number or a boolean in the
// record can be any attribute; extensions keep the kind of integers of 32 bits and booleans. An attribute for which the
// record has nothing, and the Wrap no default, is left out, unless the specification requires it.
//
// The error is [ErrTombstone], or an [*Error] where the value is no JSON or an attribute cannot be what the record has
// for it. It quotes nothing of the record. The event aliases nothing of the record.
func (w *Wrap) FromRecord(r broker.Record) (Event, error) {
	if r.Value == nil {
		return Event{}, ErrTombstone
	}
	text := textOf(r.Value)
	if len(text) > maxBytes-maxBytes/4 {
		return Event{}, noJSON("it has %d bytes, and no event may have more than %d", len(text), maxBytes)
	}
	if at := invalidUTF8(text); at >= 0 {
		return Event{}, noJSON("byte %d is not UTF-8", at)
	}
	var buffer [maxMappings + int(coreCount)]found
	s := scanner{text: text}
	if !w.pointers.root.read(&s, 1, buffer[:]) || !s.end() {
		return Event{}, noJSON("at byte %d: %s", s.at, s.fault)
	}
	b := builder{
		json:  make([]byte, 0, len(text)+w.texts+len(`{"specversion":"1.0","datacontenttype":"application/json","data":}`)),
		attrs: make([]attribute, 0, len(w.attributes)+2),
	}
	b.json = append(b.json, '{')
	b.add("specversion", String, "1.0")
	scratch := make([]byte, 0, 64)
	var problems *Error
	for i := range w.attributes {
		a := &w.attributes[i]
		kind, value, fault := a.value(&r, text, buffer[:], w.pointers.slots, scratch)
		if kind == Unset && a.hasFallback {
			kind, value, fault = String, a.fallback, ""
		}
		if kind == Unset && fault == "" {
			if a.core > coreType {
				continue
			}
			fault = "the record does not have it, and it is required"
		}
		if fault != "" {
			if problems == nil {
				problems = &Error{}
			}
			problems.add(pointer(a.name), a.expected(), "the attribute cannot be taken from the record: %s", fault)
			continue
		}
		b.add(a.name, kind, value)
	}
	if problems != nil {
		return Event{}, problems
	}
	b.add("datacontenttype", String, "application/json")
	b.json = append(b.json, `,"data":`...)
	data := span{from: uint32(len(b.json))}
	b.json = appendOneLine(b.json, r.Value)
	data.to = uint32(len(b.json))
	b.json = append(b.json, '}')
	return Event{json: textOf(b.json), side: textOf(b.side), attrs: b.attrs, data: data, flags: hasData, core: b.core}, nil
}

func noJSON(format string, args ...any) *Error {
	e := &Error{Malformed: true}
	e.add("", "one JSON value", "the record's value is no JSON that can be an event's data: "+format, args...)
	return e
}

// value finds the attribute's value for a record; it may lie in scratch. Unset without a fault means that the record does
// not have it.
func (a *wrapped) value(r *broker.Record, text string, values []found, slots []int, scratch []byte) (kind Kind, value, fault string) {
	switch a.origin {
	case fixed:
		return String, a.text, "" // it has been checked
	case fromPosition:
		scratch = append(strconv.AppendInt(scratch, int64(r.Partition), 10), '-')
		return String, textOf(strconv.AppendInt(scratch, r.Offset, 10)), ""
	case fromPointer:
		if kind, value, fault = values[slots[a.pointer]].attribute(text); fault != "" || kind == Unset {
			return Unset, "", fault
		}
		if a.core != notCore {
			kind = String
		}
	case fromHeader:
		for i := len(r.Headers) - 1; i >= 0 && kind == Unset; i-- {
			if h := &r.Headers[i]; h.Key == a.text && h.Value != nil {
				kind, value = String, textOf(h.Value)
			}
		}
	case fromKey:
		if r.Key != nil {
			kind, value = String, textOf(r.Key)
		}
	case fromTimestamp:
		if t := r.Timestamp.UTC(); !t.IsZero() && t.Year() >= 0 && t.Year() <= 9999 {
			kind, value = String, textOf(t.AppendFormat(scratch, time.RFC3339Nano))
		}
	}
	if kind == String {
		if fault = textFault(a.core, value); fault != "" {
			return Unset, "", fault
		}
	}
	return kind, value, ""
}

func (a *wrapped) expected() string {
	_, expected := coreFault(a.core, "")
	if expected == "" {
		expected = "a string, a number, true or false"
	}
	return expected
}

// FromRecordOf reads the event of a record on a topic that plain records are written to, too: one that says that it is a
// CloudEvent, with a content type of the structured mode or headers of the binary mode, is read as by [FromRecord],
// every other is wrapped. Without a wrap all records are read as by [FromRecord].
func FromRecordOf(r broker.Record, w *Wrap) (Event, error) {
	if w == nil || saysCloudEvent(r.Headers) {
		return FromRecord(r)
	}
	return w.FromRecord(r)
}

func saysCloudEvent(headers []broker.Header) bool {
	for i := range headers {
		switch key := headers[i].Key; {
		case isContentType(key):
			if contentType := textOf(headers[i].Value); contentType == structuredContentType {
				return true
			} else if m, _ := modeOf(contentType); m != binaryMode {
				return true
			}
		case hasKafkaPrefix(key):
			return true
		}
	}
	return false
}
