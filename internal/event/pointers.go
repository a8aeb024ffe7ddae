package event

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what attributes may be taken from.
const (
	maxPointerLength = 1024
	maxPointerSteps  = 32
	// maxTakenText bounds an attribute that is taken from data: it stands in the event twice then.
	maxTakenText = 4096
)

// pointers are JSON Pointers (RFC 6901) compiled into a tree, so that one pass over a text checks its grammar and finds
// what all of them point at. Of members with the same name the last counts, as to JSON.parse.
type pointers struct {
	root  step
	slots []int // for each pointer, in the order in which they were added, where its value is found
}

// step is one token of pointers.
type step struct {
	name     string // of the object's member
	index    int    // of the array's element; -1: none
	below    []*step
	ends     []int // the pointers that end here, while the tree is built
	slot     int   // where the value here is found; -1: no pointer ends here
	from, to int   // slots of the step and of all below it
}

// parsePointer returns the tokens of a JSON Pointer.
func parsePointer(text string) ([]string, error) {
	switch {
	case text == "":
		return nil, nil
	case text[0] != '/':
		return nil, fmt.Errorf(`a JSON Pointer begins with / (or is "" for the whole value); got %q`, abbreviate(text))
	case len(text) > maxPointerLength:
		return nil, fmt.Errorf("a JSON Pointer has at most %d bytes here; got %d", maxPointerLength, len(text))
	case invalidUTF8(text) >= 0:
		return nil, errors.New("a JSON Pointer is UTF-8")
	}
	for i := range len(text) {
		if text[i] == '~' && (i+1 == len(text) || text[i+1] != '0' && text[i+1] != '1') {
			return nil, fmt.Errorf("in a name inside a JSON Pointer ~ is written ~0, and / is written ~1; got %q", abbreviate(text))
		}
	}
	tokens := strings.Split(text[1:], "/")
	if len(tokens) > maxPointerSteps {
		return nil, fmt.Errorf("a JSON Pointer goes at most %d deep here; got %d", maxPointerSteps, len(tokens))
	}
	for i, t := range tokens {
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// newPointers compiles pointers, each given by its tokens.
func newPointers(all [][]string) pointers {
	p := pointers{root: step{index: -1}, slots: make([]int, len(all))}
	for i, tokens := range all {
		at := &p.root
		for _, name := range tokens {
			at = at.add(name)
		}
		at.ends = append(at.ends, i)
	}
	p.root.number(0, p.slots)
	return p
}

func (p *step) add(name string) *step {
	if i := slices.IndexFunc(p.below, func(s *step) bool { return s.name == name }); i >= 0 {
		return p.below[i]
	}
	s := &step{name: name, index: -1}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && strconv.Itoa(n) == name {
		s.index = n
	}
	p.below = append(p.below, s)
	return s
}

// number gives the slots out from next on, those below a step side by side, and returns the next.
func (p *step) number(next int, slots []int) int {
	p.slot, p.from = -1, next
	if len(p.ends) > 0 {
		p.slot = next
		next++
		for _, i := range p.ends {
			slots[i] = p.slot
		}
	}
	for _, s := range p.below {
		next = s.number(next, slots)
	}
	p.to = next
	return next
}

// found is what a pointer points at.
type found struct {
	kind     jsonKind
	integer  bool // a number without fraction and exponent
	escaped  bool // a string with escapes
	from, to int  // in the text; of a string between its quotes
}

type jsonKind uint8

const (
	absent jsonKind = iota
	jsonNull
	jsonString
	jsonNumber
	jsonBoolean
	jsonStructure
)

// read passes the value at s, which stands inside depth others, and notes in values what is pointed at.
func (p *step) read(s *scanner, depth int, values []found) (ok bool) {
	clear(values[p.from:p.to])
	v := found{}
	c := s.next()
	v.from = s.at
	switch c {
	case '{':
		v.kind, ok = jsonStructure, p.readObject(s, depth+1, values)
	case '[':
		v.kind, ok = jsonStructure, p.readArray(s, depth+1, values)
	case '"':
		v.kind = jsonString
		v.from, v.to, v.escaped, ok = s.str()
	case 't', 'f':
		v.kind, ok = jsonBoolean, s.skip(depth)
	case 'n':
		v.kind, ok = jsonNull, s.skip(depth)
	default:
		if v.kind = jsonNumber; c == '-' || '0' <= c && c <= '9' {
			v.integer, ok = s.number()
		} else {
			ok = s.skip(depth) // which says what is wrong
		}
	}
	if p.slot >= 0 && ok {
		if v.kind != jsonString {
			v.to = s.at
		}
		values[p.slot] = v
	}
	return ok
}

func (p *step) readObject(s *scanner, depth int, values []found) bool {
	if len(p.below) == 0 || depth > maxDepth {
		return s.skipObject(depth)
	}
	if s.empty('}') {
		return true
	}
	for {
		from, to, escaped, ok := s.key()
		if !ok {
			return false
		}
		if next := p.member(s.text[from:to], escaped); next != nil {
			ok = next.read(s, depth, values)
		} else {
			ok = s.skip(depth)
		}
		if !ok {
			return false
		}
		if more, ok := s.more('}'); !more {
			return ok
		}
	}
}

func (p *step) member(name string, escaped bool) *step {
	if escaped {
		plain, _ := appendUnescaped(make([]byte, 0, len(name)), name)
		name = textOf(plain)
	}
	for _, s := range p.below {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (p *step) readArray(s *scanner, depth int, values []found) bool {
	if len(p.below) == 0 || depth > maxDepth {
		return s.skipArray(depth)
	}
	if s.empty(']') {
		return true
	}
	for i := 0; ; i++ {
		var ok bool
		if n := slices.IndexFunc(p.below, func(s *step) bool { return s.index == i }); n >= 0 {
			ok = p.below[n].read(s, depth, values)
		} else {
			ok = s.skip(depth)
		}
		if !ok {
			return false
		}
		if more, ok := s.more(']'); !more {
			return ok
		}
	}
}

// attribute turns a value of text into an attribute's: strings, integers and booleans as they are, every other number as
// the text in which it is written, so that no digit is lost. fault says why a value cannot be one.
func (v found) attribute(text string) (kind Kind, value, fault string) {
	value = text[v.from:v.to]
	switch v.kind {
	case absent:
		return Unset, "", ""
	case jsonNull:
		return Unset, "", "it is null"
	case jsonStructure:
		return Unset, "", "it is an object or an array"
	case jsonBoolean:
		return Boolean, value, ""
	case jsonNumber:
		if v.integer && isInteger(value) {
			if value == "-0" {
				value = "0"
			}
			return Integer, value, ""
		}
		return String, value, ""
	case jsonString:
		if v.escaped {
			plain, whole := appendUnescaped(make([]byte, 0, len(value)), value)
			if !whole {
				return Unset, "", "it has half a surrogate pair"
			}
			value = textOf(plain)
		}
	}
	return String, value, ""
}

// isInteger tells whether an integer's text is an Integer of CloudEvents.
func isInteger(text string) bool {
	if len(text) <= 9 {
		return true
	}
	_, err := strconv.ParseInt(text, 10, 32)
	return err == nil
}

// textFault says why text cannot be the value of a String attribute that is taken from a record or from data, "" if
// it can. It never quotes: it is told to readers who need not see the rest.
func textFault(c core, text string) string {
	if len(text) > maxTakenText {
		return fmt.Sprintf("it has %d bytes, and at most %d can be taken", len(text), maxTakenText)
	}
	if invalidUTF8(text) >= 0 {
		return "it is not UTF-8"
	}
	if r, ok := excluded(text); ok {
		return fmt.Sprintf("it holds the character U+%04X, which attributes cannot have", r)
	}
	if c == notCore {
		return ""
	}
	if text == "" {
		return "it is empty"
	}
	if noun, _ := coreFault(c, text); noun != "" {
		return "it is no " + noun
	}
	return ""
}
