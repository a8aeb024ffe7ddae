package event

import (
	"fmt"
	"maps"
	"slices"
)

// Promotion copies values of an event's data to extension attributes, so that whoever sees attributes alone, such as a
// filter, can use them. It may be used concurrently.
type Promotion struct {
	names    []string // ascending
	places   []string // the pointers, as they were given
	pointers pointers
}

// CompilePromote compiles a promotion: for each name of an extension attribute a JSON Pointer (RFC 6901) into data. There
// may be 16 of them. The specification's own attributes and names that begin with "eventissuer" cannot be set; other
// extensions can, partitionkey among them, which then decides about the record's key. The error is a [*MappingError]
// whose pointers are into the map.
func CompilePromote(promote map[string]string) (*Promotion, error) {
	mistakes := &MappingError{}
	if len(promote) > maxMappings {
		mistakes.add("", fmt.Sprintf("at most %d", maxMappings), "%d attributes are promoted", len(promote))
	}
	p := &Promotion{names: slices.Sorted(maps.Keys(promote))}
	var tokens [][]string
	for _, name := range p.names {
		mistakes.checkExtension(pointer(name), name)
		t, err := parsePointer(promote[name])
		if err != nil {
			mistakes.add(pointer(name), `a JSON Pointer into data, such as "/train/line"`, "%v", err)
		}
		tokens = append(tokens, t)
		p.places = append(p.places, promote[name])
	}
	if err := mistakes.orNil(); err != nil {
		return nil, err
	}
	p.pointers = newPointers(tokens)
	return p, nil
}

// Apply returns the event with the attributes set in its JSON, all else byte for byte. Strings, integers of 32 bits and
// booleans keep their kind; any other number is a String of the text in which it is written. What is null or not there
// is not set, nor is anything of an event without JSON data.
//
// Problems are told for what cannot be an attribute (objects, arrays, texts of more than 4,096 bytes or with characters
// that attributes cannot have) and where the event has the attribute already with another value; the event then
// comes back as it was. A value is the same if its canonical text is: in the binary mode all values are texts.
func (p *Promotion) Apply(e Event) (Event, []Problem) { return p.ApplyFrom(e, e.Data()) }

// ApplyFrom is Apply for data that was found otherwise, such as JSON in data_base64; nil: none.
func (p *Promotion) ApplyFrom(e Event, data []byte) (Event, []Problem) {
	if len(p.names) == 0 || data == nil {
		return e, nil
	}
	var buffer [maxMappings]found
	values := buffer[:p.pointers.root.to]
	text := textOf(data)
	s := scanner{text: text}
	if !p.pointers.root.read(&s, 1, values) { // of data in the event it was read before
		return e, []Problem{{Pointer: "/data", Message: s.fault, Expected: "JSON"}}
	}
	var room [maxMappings]setting
	settings := room[:0]
	var problems []Problem
	for i, name := range p.names {
		v := values[p.pointers.slots[i]]
		if v.kind == absent || v.kind == jsonNull {
			continue
		}
		kind, value, fault := v.attribute(text)
		if fault == "" {
			fault = textFault(notCore, value)
		}
		if fault != "" {
			problems = append(problems, Problem{
				Pointer: "/data" + p.places[i], Message: "the value cannot be the attribute " + name + ": " + fault,
				Expected: "a string, a number, true, false or null",
			})
			continue
		}
		if given, ok := e.Attribute(name); ok {
			if given.String() != value {
				problems = append(problems, Problem{
					Pointer: pointer(name), Message: "the attribute is taken from data" + p.places[i] + ", which has another value",
					Expected: "the same value, or leave the attribute out",
				})
			}
			continue
		}
		settings = append(settings, setting{name, kind, value})
	}
	if problems != nil || len(settings) == 0 {
		return e, problems
	}
	made, err := e.with(settings)
	if err != nil {
		return e, []Problem{{Message: "the attributes cannot be set: " + err.Error()}}
	}
	return made, nil
}
