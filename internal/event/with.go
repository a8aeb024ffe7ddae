package event

import (
	"fmt"
	"slices"
	"strings"
)

// builder lays an event out in the structured form and notes where each attribute stands, so that it need not be
// scanned again.
type builder struct {
	json  []byte
	side  []byte
	attrs []attribute
	core  [coreCount]uint8
}

// add appends an attribute. Its value is canonical text of the kind and, where it is a String, UTF-8.
func (b *builder) add(name string, kind Kind, text string) {
	if b.json[len(b.json)-1] != '{' {
		b.json = append(b.json, ',')
	}
	b.json = append(b.json, '"')
	a := attribute{kind: kind, name: uint32(len(b.json)), nameLen: uint8(len(name)), length: uint32(len(text))}
	b.json = append(b.json, name...)
	b.json = append(b.json, '"', ':')
	a.value = uint32(len(b.json))
	b.value(&a, text)
	b.attrs = append(b.attrs, a)
	if c := coreOf(name); c != notCore {
		b.core[c] = uint8(len(b.attrs))
	}
}

// value appends the value of an attribute whose kind and length are given, at the end of the JSON, where a.value is.
func (b *builder) value(a *attribute, text string) {
	if a.kind != String {
		b.json = append(b.json, text...)
		return
	}
	a.value++
	b.json = appendString(b.json, text)
	if len(b.json)-int(a.value)-1 != len(text) { // there are escapes in it
		a.inSide |= valueInSide
		a.value = uint32(len(b.side))
		b.side = append(b.side, text...)
	}
}

// setting is an attribute to be set.
type setting struct {
	name string
	kind Kind
	text string
}

// With returns the event with a context attribute set to a String, in the JSON too: a member that is there is replaced,
// else one is added at the end, and all else stays byte for byte. The event itself does not change. The error is an
// [*Error]: the name or the value is not valid, or the event would become too large.
func (e *Event) With(name, value string) (Event, error) {
	p := parser{}
	c := coreOf(name)
	switch {
	case !validName(name) || len(name) > maxNameLength:
		p.problem(name, "lower-case letters a-z and digits 0-9, at most 255", "%q cannot be the name of an attribute", abbreviate(name))
	case reserved(name):
		p.problem(name, "another name", "the attribute is reserved: readers are told of their reading in it")
	case invalidUTF8(value) >= 0:
		p.problem(name, "UTF-8", "the value is not UTF-8")
	case value == "" && c != notCore:
		p.problem(name, "a non-empty string", "the attribute is empty")
	case c == coreSpecVersion && value != "1.0":
		p.problem(name, `"1.0"`, "version %q of CloudEvents is not known here", abbreviate(value))
	default:
		p.checkCore(c, name, value)
		p.checkString(name, value)
	}
	if p.err != nil {
		return Event{}, p.err
	}
	return e.with([]setting{{name, String, value}})
}

// with sets attributes whose names and values have been checked.
func (e *Event) with(settings []setting) (Event, error) {
	if e.ID() == "" { // what was no event does not become one
		return Event{}, syntaxError("there is no event to set an attribute of")
	}
	size, added := 0, 0
	for i := range settings {
		s := &settings[i]
		if at := e.find(s.name); at >= 0 {
			replaced, err := e.replaced(at, s)
			if err != nil {
				return Event{}, err
			}
			e = &replaced
			continue
		}
		size += len(s.name) + len(s.text) + len(`,"":""`)
		added++
	}
	if added == 0 {
		return *e, nil
	}
	if len(e.attrs)+added > maxAttributes {
		return Event{}, tooMuch("the event has too many attributes", fmt.Sprintf("at most %d", maxAttributes))
	}
	b := builder{
		json:  make([]byte, 0, len(e.json)+size),
		side:  bytesOf(e.side)[:len(e.side):len(e.side)],
		attrs: append(make([]attribute, 0, len(e.attrs)+added), e.attrs...),
		core:  e.core,
	}
	b.json = append(b.json, e.json[:len(e.json)-1]...) // without the last }
	for _, s := range settings {
		if e.find(s.name) < 0 {
			b.add(s.name, s.kind, s.text)
		}
	}
	b.json = append(b.json, '}')
	if len(b.json) > maxBytes {
		return Event{}, tooMuch(fmt.Sprintf("the event has %d bytes", len(b.json)), fmt.Sprintf("at most %d", maxBytes))
	}
	made := *e
	made.json, made.side, made.attrs, made.core = textOf(b.json), textOf(b.side), b.attrs, b.core
	return made, nil
}

func tooMuch(message, expected string) *Error {
	e := &Error{}
	e.add("", expected, "%s", message)
	return e
}

// find returns the place of the attribute of a name, be it null, and -1 where there is none.
func (e *Event) find(name string) int {
	for i := range e.attrs {
		if a := &e.attrs[i]; int(a.nameLen) == len(name) && e.name(a) == name {
			return i
		}
	}
	return -1
}

// replaced returns the event with another value of the attribute at a place.
func (e *Event) replaced(at int, s *setting) (Event, error) {
	a := e.attrs[at]
	if a.kind == s.kind && e.value(&a).text == s.text {
		return *e, nil
	}
	from, to := int(a.value)-1, int(a.value+a.length)+1
	if a.kind != String || a.inSide&valueInSide != 0 || e.json[from] != '"' {
		from, to = valueOf(e.json, s.name)
	}
	b := builder{
		json: make([]byte, 0, len(e.json)-(to-from)+len(s.text)+2),
		side: bytesOf(e.side)[:len(e.side):len(e.side)],
	}
	b.json = append(b.json, e.json[:from]...)
	a.inSide &^= valueInSide
	a.kind, a.value, a.length = s.kind, uint32(len(b.json)), uint32(len(s.text))
	b.value(&a, s.text)
	grown := uint32(len(b.json) - to) // in modular arithmetic, where it shrank
	b.json = append(b.json, e.json[to:]...)
	if len(b.json) > maxBytes {
		return Event{}, tooMuch(fmt.Sprintf("the event has %d bytes", len(b.json)), fmt.Sprintf("at most %d", maxBytes))
	}
	made := *e
	made.json, made.side, made.attrs = textOf(b.json), textOf(b.side), slices.Clone(e.attrs)
	end := uint32(to)
	move := func(at *uint32, inSide bool) {
		if *at >= end && !inSide {
			*at += grown
		}
	}
	for i := range made.attrs {
		o := &made.attrs[i]
		move(&o.name, o.inSide&nameInSide != 0)
		move(&o.value, o.inSide&valueInSide != 0)
	}
	move(&made.data.from, false)
	move(&made.data.to, false)
	move(&made.base64.from, e.flags&base64InSide != 0)
	move(&made.base64.to, e.flags&base64InSide != 0)
	made.attrs[at] = a
	if c := coreOf(s.name); c != notCore {
		made.core[c] = uint8(at + 1)
	}
	return made, nil
}

// valueOf finds the value of a member of an event that is there.
func valueOf(text, name string) (from, to int) {
	p := newPointers([][]string{{name}})
	var values [1]found
	s := scanner{text: text}
	p.root.read(&s, 0, values[:])
	v := values[0]
	if v.kind == jsonString {
		return v.from - 1, v.to + 1
	}
	return v.from, v.to
}

// MoveTo puts the event, which nobody else has yet, on other bytes of the same JSON, which take the place of those that it
// has held, so that one copy is kept. It panics where the lengths differ.
func (e *Event) MoveTo(json []byte) {
	if len(json) != len(e.json) {
		panic(fmt.Sprintf("event: %d bytes cannot stand for %d", len(json), len(e.json)))
	}
	e.json = textOf(json)
}

// Unshare gives the event memory of its own for all but its JSON, which MoveTo moves: events that were read together share
// theirs.
func (e *Event) Unshare() {
	e.attrs = slices.Clone(e.attrs)
	e.side = strings.Clone(e.side)
}
