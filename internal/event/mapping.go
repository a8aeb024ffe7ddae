package event

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds of a [Wrap] and a [Promotion].
const (
	maxMappings = 16 // extension attributes
	// maxMappedName is more than twice the 20 characters that the specification asks for, and is what the catalog
	// takes as the name of a key attribute.
	maxMappedName = 64
	// reservedPrefix begins the names of the extension attributes that are ours to set.
	reservedPrefix = "eventissuer"
)

// MappingError lists what is wrong with the definition of a [Wrap] or a [Promotion]. The problems' pointers are into
// that definition.
type MappingError struct{ Problems []Problem }

// Error implements error.
func (e *MappingError) Error() string {
	all := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p.String()
	}
	return "invalid mapping: " + strings.Join(all, " | ")
}

func (e *MappingError) add(pointer, expected, format string, args ...any) {
	if len(e.Problems) < maxProblems && !slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Pointer == pointer }) {
		e.Problems = append(e.Problems, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...), Expected: expected})
	}
}

func (e *MappingError) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(e.Problems, func(a, b Problem) int { return strings.Compare(a.Pointer, b.Pointer) })
	return e
}

// checkExtension checks the name of an extension attribute that is to be set, which stands at pointer.
func (e *MappingError) checkExtension(pointer, name string) {
	switch {
	case !validName(name) || len(name) > maxMappedName:
		e.add(pointer, fmt.Sprintf("1 to %d of a-z and 0-9, and not data", maxMappedName), "%q cannot be the name of an extension attribute", abbreviate(name))
	case coreOf(name) != notCore:
		e.add(pointer, "the name of an extension attribute", "%s is an attribute of the specification itself", name)
	case strings.HasPrefix(name, reservedPrefix):
		e.add(pointer, "another name", "names that begin with %s are reserved", reservedPrefix)
	}
}
