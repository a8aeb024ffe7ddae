package schema

import (
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	errorkind "github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// metaProblems words what the metaschema finds wrong, one problem for each place.
func metaProblems(p *problems, prefix string, err *jsonschema.ValidationError) {
	if len(err.Causes) > 0 {
		for _, c := range err.Causes {
			metaProblems(p, prefix, c)
		}
		return
	}
	var b strings.Builder
	b.WriteString(prefix)
	for _, token := range err.InstanceLocation {
		b.WriteString("/" + escapePointer(token))
	}
	pointer := b.String()
	if slices.ContainsFunc(*p, func(q Problem) bool { return q.Pointer == pointer }) {
		return
	}
	if e, ok := err.ErrorKind.(*errorkind.Enum); ok && strings.HasSuffix(pointer, "/type") {
		p.add(pointer, "type %q is unknown: expected array, boolean, integer, null, number, object or string, or a list of them", e.Got)
		return
	}
	p.add(pointer, "%s", err.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
}
