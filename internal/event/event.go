package event

import (
	"iter"
	"strconv"
	"unsafe"
)

// Event is a CloudEvent 1.0 in its structured JSON form, with the top level scanned once. It is immutable, and its
// bytes and strings alias what it was parsed from. The zero Event is no event; its accessors return zero values.
type Event struct {
	json  string      // on one line
	side  string      // what had escapes in json, without them
	attrs []attribute // in the order of the members

	data, base64 span
	flags        flags
	core         [coreCount]uint8 // 1 + the attribute's place in attrs; 0: unset
}

// span is a piece of json or side.
type span struct{ from, to uint32 }

type flags uint8

const (
	hasData flags = 1 << iota
	hasBase64
	base64InSide
)

// attribute is a member of the event's JSON that is a context attribute, in 16 bytes: a hub keeps one for each
// attribute of every event in its ring.
type attribute struct {
	name    uint32 // where the name begins
	value   uint32 // where the value's text begins
	length  uint32 // of the value's text
	nameLen uint8
	kind    Kind
	inSide  uint8 // nameInSide, valueInSide
}

const (
	nameInSide  = 1
	valueInSide = 2
)

// core numbers the attributes that the specification itself defines.
type core uint8

const (
	coreSpecVersion core = iota
	coreID
	coreSource
	coreType
	coreSubject
	coreTime
	coreDataContentType
	coreDataSchema
	coreCount
	notCore core = 255
)

func coreOf(name string) core {
	switch name {
	case "specversion":
		return coreSpecVersion
	case "id":
		return coreID
	case "source":
		return coreSource
	case "type":
		return coreType
	case "subject":
		return coreSubject
	case "time":
		return coreTime
	case "datacontenttype":
		return coreDataContentType
	case "dataschema":
		return coreDataSchema
	}
	return notCore
}

// IsCoreAttribute reports whether the specification itself defines an attribute of the name.
func IsCoreAttribute(name string) bool { return coreOf(name) != notCore }

// Kind is the CloudEvents type of an attribute's value, as far as JSON tells: timestamps, URIs and binary values are
// strings in it.
type Kind uint8

// The kinds of values.
const (
	Unset Kind = iota
	String
	Integer // signed 32-bit
	Boolean

	invalid // an object, an array or, in strict parsing, a number that is no Integer: never handed out
)

// String names the kind as the specification does.
func (k Kind) String() string {
	switch k {
	case String:
		return "String"
	case Integer:
		return "Integer"
	case Boolean:
		return "Boolean"
	}
	return "unset"
}

// Value is an attribute's value. It aliases its event.
type Value struct {
	text string
	kind Kind
}

// Kind returns the value's type; Unset for the zero Value.
func (v Value) Kind() Kind { return v.kind }

// String returns the canonical string form that the specification gives to each type. It does not allocate.
func (v Value) String() string { return v.text }

// Int returns an Integer's value, and 0 for other kinds.
func (v Value) Int() int32 {
	if v.kind != Integer {
		return 0
	}
	n, err := strconv.ParseInt(v.text, 10, 32)
	if err != nil { // the parser has checked it
		return 0
	}
	return int32(n)
}

// Bool returns a Boolean's value, and false for other kinds.
func (v Value) Bool() bool { return v.kind == Boolean && v.text == "true" }

// JSON returns the event in the structured form, on one line: the bytes to forward. They must not be changed.
func (e *Event) JSON() []byte { return bytesOf(e.json) }

// ID returns the attribute id.
func (e *Event) ID() string { return e.coreText(coreID) }

// Source returns the attribute source.
func (e *Event) Source() string { return e.coreText(coreSource) }

// Type returns the attribute type.
func (e *Event) Type() string { return e.coreText(coreType) }

// SpecVersion returns the attribute specversion.
func (e *Event) SpecVersion() string { return e.coreText(coreSpecVersion) }

// Subject returns the attribute subject, "" if unset.
func (e *Event) Subject() string { return e.coreText(coreSubject) }

// Time returns the attribute time as it stands in the event (RFC 3339), "" if unset.
func (e *Event) Time() string { return e.coreText(coreTime) }

// DataContentType returns the attribute datacontenttype, "" if unset (which means application/json).
func (e *Event) DataContentType() string { return e.coreText(coreDataContentType) }

// DataSchema returns the attribute dataschema, "" if unset.
func (e *Event) DataSchema() string { return e.coreText(coreDataSchema) }

func (e *Event) coreText(c core) string {
	i := e.core[c]
	if i == 0 {
		return ""
	}
	return e.value(&e.attrs[i-1]).text
}

// Attribute returns a context attribute, an extension or one of the specification's own, and whether it is set. It
// does not allocate.
func (e *Event) Attribute(name string) (Value, bool) {
	if c := coreOf(name); c != notCore {
		i := e.core[c]
		if i == 0 {
			return Value{}, false
		}
		return e.value(&e.attrs[i-1]), true
	}
	for i := range e.attrs {
		a := &e.attrs[i]
		if int(a.nameLen) == len(name) && e.name(a) == name {
			if a.kind == Unset || a.kind == invalid {
				return Value{}, false
			}
			return e.value(a), true
		}
	}
	return Value{}, false
}

// Attributes yields all context attributes that are set, in the order in which they stand in the event.
func (e *Event) Attributes() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for i := range e.attrs {
			a := &e.attrs[i]
			if a.kind == Unset || a.kind == invalid {
				continue
			}
			if !yield(e.name(a), e.value(a)) {
				return
			}
		}
	}
}

// Data returns the JSON value of the member data, nil if there is none. The bytes must not be changed.
func (e *Event) Data() []byte {
	if e.flags&hasData == 0 {
		return nil
	}
	return bytesOf(e.json[e.data.from:e.data.to])
}

// DataBase64 returns the text of the member data_base64 and whether there is one.
func (e *Event) DataBase64() (string, bool) {
	switch {
	case e.flags&hasBase64 == 0:
		return "", false
	case e.flags&base64InSide != 0:
		return e.side[e.base64.from:e.base64.to], true
	}
	return e.json[e.base64.from:e.base64.to], true
}

func (e *Event) name(a *attribute) string {
	if a.inSide&nameInSide != 0 {
		return e.side[a.name : a.name+uint32(a.nameLen)]
	}
	return e.json[a.name : a.name+uint32(a.nameLen)]
}

func (e *Event) value(a *attribute) Value {
	if a.inSide&valueInSide != 0 {
		return Value{text: e.side[a.value : a.value+a.length], kind: a.kind}
	}
	return Value{text: e.json[a.value : a.value+a.length], kind: a.kind}
}

// bytesOf and textOf share memory instead of copying it: an event never changes its bytes, nor may those to whom it
// hands them out.
func bytesOf(s string) []byte {
	if s == "" {
		return nil
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

func textOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}
