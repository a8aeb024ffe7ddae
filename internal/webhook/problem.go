package webhook

import "fmt"

// Problem is one thing that is wrong with what a subscription says.
type Problem struct {
	Pointer string // JSON Pointer (RFC 6901) into what was checked
	Message string // what was expected, and what came; never a secret
}

type problems []Problem

func (p *problems) add(pointer, format string, args ...any) {
	*p = append(*p, Problem{pointer, fmt.Sprintf(format, args...)})
}
