package event

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxBytes bounds an event of whatever origin: well above what topics hold, and far below what offsets of 32 bits
	// can count.
	maxBytes = 64 << 20
	// maxAttributes bounds the members of an event: they are counted in a byte, and compared with each other.
	maxAttributes = 255
	maxNameLength = 255
)

// CursorAttribute is the extension attribute in which a reader is given its cursor. It is reserved: an event that has
// it cannot be published, and one that was stored with it is read without it.
const CursorAttribute = "eventissuercursor"

// GroupAttribute and AttemptAttribute are the extension attributes in which a subscription's reader is told the partition
// that an event is of, and how often it was given out. An event that has one of them cannot be published.
const (
	GroupAttribute   = "eventissuergroup"
	AttemptAttribute = "eventissuerattempt"
)

// reserved says that an attribute is for readers to be told something in.
func reserved(name string) bool {
	return name == CursorAttribute || name == GroupAttribute || name == AttemptAttribute
}

// Parse reads a structured event that is being published and holds it to the specification and to the reserved names
// [CursorAttribute], [GroupAttribute] and [AttemptAttribute]. The event aliases raw, which must not be changed any more. The error is an [*Error]; the event
// then holds what could be read.
func Parse(raw []byte) (Event, error) { return parse(raw, false) }

// ParseStored reads a structured event that stands in a log already, perhaps written by others. It asks only for what
// filtering and forwarding take: JSON that can be read in one way, and the required attributes. It is else as [Parse].
func ParseStored(raw []byte) (Event, error) { return parse(raw, true) }

func parse(raw []byte, stored bool) (Event, error) {
	var e Event
	var buffer [usualAttributes]attribute
	attrs, err := parseInto(&e, textOf(raw), stored, buffer[:0])
	e.attrs = slices.Clone(attrs)
	return e, err
}

// parseInto reads an event but for its attributes, which it returns, in attrs, which is empty, as far as there is room.
func parseInto(e *Event, text string, stored bool, attrs []attribute) ([]attribute, error) {
	if len(text) > maxBytes {
		return nil, syntaxError("the event has %d bytes, and no event may have more than %d", len(text), maxBytes)
	}
	if at := invalidUTF8(text); at >= 0 {
		return nil, syntaxError("byte %d is not UTF-8", at)
	}
	s := scanner{text: text}
	if fault := expectObject(&s); fault != "" {
		return nil, syntaxError("%s", fault)
	}
	attrs, problems, ok := parseObject(e, &s, stored, attrs)
	if ok {
		ok = s.end()
	}
	if !ok {
		*e = Event{}
		return nil, syntaxError("at byte %d: %s", s.at, s.fault)
	}
	if problems != nil {
		return attrs, problems
	}
	return attrs, nil
}

// expectObject leaves s at the { that an event begins with, or says what stands there.
func expectObject(s *scanner) string {
	switch c := s.next(); {
	case c == '{':
		return ""
	case c == '[':
		return "an array came where one event, a JSON object, is expected; a batch is sent as application/cloudevents-batch+json"
	case s.at >= len(s.text):
		return "nothing came where an event, a JSON object, is expected"
	case strings.HasPrefix(s.text[s.at:], "\ufeff"):
		return "the text begins with a byte order mark, which JSON does not have"
	}
	return "an event is a JSON object and begins with {, at byte " + strconv.Itoa(s.at)
}

func syntaxError(format string, args ...any) *Error {
	e := &Error{Malformed: true}
	e.add("", "a CloudEvent in JSON", format, args...)
	return e
}

// invalidUTF8 is the position of the first byte that is no UTF-8, -1 if all is.
func invalidUTF8(text string) int {
	if utf8.ValidString(text) {
		return -1
	}
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd") {
			return i
		}
	}
	return -1
}

// parser reads the members of one event.
type parser struct {
	scanner
	stored  bool
	base    int // where the event begins in text
	side    []byte
	data    span
	base64  span
	flags   flags
	core    [coreCount]uint8
	err     *Error
	cut     span // the member CursorAttribute of a stored event, with one comma
	comma   int  // where the last comma between members stands; 0: none yet
	cutNext bool // cut ends where the next member begins
	crowded bool // told that there are too many attributes
}

// problem notes a mistake in what the event says. Stored events that others wrote are told only those that must not be
// passed over.
func (p *parser) problem(member, expected, format string, args ...any) {
	if p.err == nil {
		p.err = &Error{}
	}
	p.err.add(pointer(member), expected, format, args...)
}

// parseObject reads the event that begins at s, but for its attributes, and leaves s after it. It returns the attributes,
// in attrs, which is empty, as far as there is room. ok is false where the JSON is broken; problems are what is wrong with
// the event otherwise.
func parseObject(e *Event, s *scanner, stored bool, attrs []attribute) (_ []attribute, problems *Error, ok bool) {
	p := parser{scanner: scanner{text: s.text, at: s.at}, stored: stored, base: s.at}
	found, ok := p.members(attrs)
	s.at, s.fault = p.at, p.fault
	if !ok {
		return nil, nil, false
	}
	text := s.text[p.base:s.at]
	if p.cut != (span{}) {
		inner := scanner{text: text[:p.cut.from] + text[p.cut.to:]}
		return parseObject(e, &inner, stored, attrs)
	}
	if p.lines {
		var one bytes.Buffer
		one.Grow(len(text))
		if err := json.Compact(&one, bytesOf(text)); err != nil { // cannot be: the grammar has been checked
			return nil, syntaxError("%v", err), true
		}
		inner := scanner{text: textOf(one.Bytes())}
		return parseObject(e, &inner, stored, attrs)
	}
	e.json, e.side = text, textOf(p.side)
	e.data, e.base64, e.flags, e.core = p.data, p.base64, p.flags, p.core
	p.check(e, found)
	return found, p.err, true
}

func (p *parser) members(attrs []attribute) (_ []attribute, ok bool) {
	p.at++ // {
	if p.next() == '}' {
		p.at++
		return attrs, true
	}
	for {
		if p.next() != '"' {
			return nil, p.fail(p.at, "a member's name in quotes is expected")
		}
		begin := p.at
		if p.cutNext {
			p.cut.to, p.cutNext = p.offset(begin), false
		}
		from, to, escaped, ok := p.str()
		if !ok || !p.colon() {
			return nil, false
		}
		p.next()
		// It is read where it is going to be, since copies of what was just written in parts take long.
		attrs = slices.Grow(attrs, 1)
		a := &attrs[:len(attrs)+1][len(attrs)]
		*a = attribute{}
		name := p.text[from:to]
		if escaped {
			a.inSide = nameInSide
			a.name = uint32(len(p.side))
			p.side, _ = appendUnescaped(p.side, name)
			name = string(p.side[a.name:])
		} else {
			a.name = p.offset(from)
		}
		switch c := coreOf(name); {
		case c == notCore && name == "data":
			ok = p.readData()
		case c == notCore && name == "data_base64":
			ok = p.readBase64()
		default:
			if a.kind, ok = p.readValue(a, name); ok {
				attrs = p.keep(attrs, a, c, name, begin)
			}
		}
		if !ok {
			return nil, false
		}
		switch p.next() {
		case ',':
			p.comma = p.at
			p.at++
		case '}':
			if p.cutNext { // it is the only member
				p.cut.to, p.cutNext = p.offset(p.at), false
			}
			p.at++
			return attrs, true
		default:
			return nil, p.fail(p.at, "a comma or } is expected")
		}
	}
}

// offset turns a position in the text into one in the event.
func (p *parser) offset(at int) uint32 { return uint32(at - p.base) }

// readData passes the value of the member data. A null next to data_base64 stands for nothing, as some writers have it.
func (p *parser) readData() bool {
	from := p.at
	if !p.skip(1) {
		return false
	}
	if p.flags&hasData != 0 {
		p.problem("data", "one member of the name", "the member comes twice")
	}
	p.flags |= hasData
	p.data = span{p.offset(from), p.offset(p.at)}
	return true
}

func (p *parser) readBase64() bool {
	if p.flags&hasBase64 != 0 {
		p.problem("data_base64", "one member of the name", "the member comes twice")
	}
	switch p.next() {
	case 'n':
		return p.word("null")
	case '"':
	default:
		p.problem("data_base64", "a string in Base64 (RFC 4648)", "the value is no string")
		return p.skip(1)
	}
	from, to, escaped, ok := p.str()
	if !ok {
		return false
	}
	p.flags |= hasBase64
	p.base64 = span{p.offset(from), p.offset(to)}
	if escaped {
		p.flags |= base64InSide
		p.base64.from = uint32(len(p.side))
		p.side, _ = appendUnescaped(p.side, p.text[from:to])
		p.base64.to = uint32(len(p.side))
	}
	return true
}

// readValue reads an attribute's value and returns its kind.
func (p *parser) readValue(a *attribute, name string) (Kind, bool) {
	from := p.at
	kind, ok := invalid, false
	switch c := p.next(); c {
	case '"':
		var to int
		var escaped bool
		if from, to, escaped, ok = p.str(); !ok {
			return invalid, false
		}
		a.value, a.length = p.offset(from), uint32(to-from)
		if escaped {
			var whole bool
			a.inSide |= valueInSide
			a.value = uint32(len(p.side))
			p.side, whole = appendUnescaped(p.side, p.text[from:to])
			a.length = uint32(len(p.side)) - a.value
			if !whole && !p.stored {
				p.problem(name, "surrogates in pairs", `\u escapes half a surrogate pair`)
			}
		}
		return String, true
	case 't':
		kind, ok = Boolean, p.word("true")
	case 'f':
		kind, ok = Boolean, p.word("false")
	case 'n':
		kind, ok = Unset, p.word("null")
	case '{', '[':
		if ok = p.skip(1); ok && !p.stored {
			p.problem(name, "a string, an integer, true, false or null; structured values belong into data",
				"an attribute is no object and no array")
		}
	default:
		if c != '-' && (c < '0' || c > '9') {
			return invalid, p.fail(p.at, "a value is expected")
		}
		var integer bool
		if integer, ok = p.number(); !ok {
			return invalid, false
		}
		kind = p.integer(name, p.text[from:p.at], integer)
		if kind == Integer && p.text[from:p.at] == "-0" {
			from++ // the canonical form has no sign
		}
	}
	a.value, a.length = p.offset(from), uint32(p.at-from)
	return kind, ok
}

// integer tells whether a number is an Integer of CloudEvents. Numbers that are none are texts to stored events, so
// that they can be filtered on.
func (p *parser) integer(name, text string, integer bool) Kind {
	if integer && isInteger(text) {
		return Integer
	}
	if p.stored {
		return String
	}
	p.problem(name, "an integer from -2147483648 to 2147483647 without fraction and exponent, or a string",
		"the number %s is no Integer of CloudEvents", abbreviate(text))
	return invalid
}

// keep adds the attribute a, which stands behind attrs, unless it may not be there.
func (p *parser) keep(attrs []attribute, a *attribute, c core, name string, begin int) []attribute {
	if c != notCore {
		if p.core[c] != 0 {
			p.problem(name, "one member of the name", "the member comes twice")
			return attrs
		}
	} else {
		if p.duplicate(attrs, name) {
			p.problem(name, "one member of the name", "the member comes twice")
			return attrs
		}
		if p.stored && name == CursorAttribute {
			p.cutMember(begin)
			a.kind = invalid
		} else if !p.stored && reserved(name) {
			p.problem(name, "another name", "the attribute is reserved: readers are told of their reading in it")
			a.kind = invalid
		} else if !validName(name) {
			if !p.stored {
				p.problem(name, "lower-case letters a-z and digits 0-9", "%q cannot be the name of an attribute", abbreviate(name))
			}
			a.kind = invalid
		}
	}
	if len(name) > maxNameLength {
		if !p.stored {
			p.problem(name, "at most 255 characters", "the name of the attribute is too long")
		}
		return attrs
	}
	if len(attrs) == maxAttributes {
		if p.err == nil {
			p.err = &Error{}
		}
		if !p.crowded {
			p.crowded = true
			p.err.add("", "at most 255", "the event has too many attributes")
		}
		return attrs
	}
	a.nameLen = uint8(len(name))
	attrs = attrs[:len(attrs)+1]
	if c != notCore {
		p.core[c] = uint8(len(attrs))
	}
	return attrs
}

func (p *parser) duplicate(attrs []attribute, name string) bool {
	for i := range attrs {
		a := &attrs[i]
		if int(a.nameLen) != len(name) {
			continue
		}
		from := int(a.name)
		if a.inSide&nameInSide != 0 {
			if string(p.side[from:from+len(name)]) == name {
				return true
			}
		} else if from += p.base; p.text[from:from+len(name)] == name {
			return true
		}
	}
	return false
}

// cutMember marks the member that begins at begin, and was just read, for removal with the comma before it or, where
// it is the first, with what follows up to the next.
func (p *parser) cutMember(begin int) {
	if p.comma != 0 {
		p.cut = span{p.offset(p.comma), p.offset(p.at)}
		return
	}
	p.cut.from = p.offset(begin)
	p.cutNext = true
}
