package event

import (
	"errors"
	"fmt"
	"strings"
)

// maxProblems bounds what one [Error] lists: a list that nobody reads to its end helps nobody.
const maxProblems = 20

// Error tells why what was read is no valid CloudEvent. It lists up to 20 problems.
type Error struct {
	// Malformed tells that the JSON itself is broken, rather than what it says.
	Malformed bool
	Problems  []Problem
}

// Problem is one mistake in an event.
type Problem struct {
	Pointer  string `json:"pointer"`            // JSON Pointer (RFC 6901) into the event; "" is the event as a whole
	Message  string `json:"message"`            // what is wrong
	Expected string `json:"expected,omitempty"` // what would be right
}

// String is the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.Pointer != "" {
		b.WriteString(p.Pointer)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Expected != "" {
		b.WriteString("; expected ")
		b.WriteString(p.Expected)
	}
	return b.String()
}

// Error implements error.
func (e *Error) Error() string {
	if len(e.Problems) == 0 {
		return "invalid event"
	}
	all := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p.String()
	}
	return "invalid event: " + strings.Join(all, " | ")
}

// add appends a problem unless the list is full or has one at the same place already, which then is its cause.
func (e *Error) add(pointer, expected, format string, args ...any) {
	if len(e.Problems) >= maxProblems {
		return
	}
	for _, p := range e.Problems {
		if p.Pointer == pointer && pointer != "" {
			return
		}
	}
	e.Problems = append(e.Problems, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...), Expected: expected})
}

// pointer is the JSON Pointer of a member of the event.
func pointer(member string) string {
	if strings.ContainsAny(member, "~/") {
		member = strings.ReplaceAll(strings.ReplaceAll(member, "~", "~0"), "/", "~1")
	}
	const longest = 64
	if len(member) > longest {
		member = strings.ToValidUTF8(member[:longest], "") + "…"
	}
	return "/" + member
}

// Why a request holds no events at all; see [RequestError].
var (
	ErrMalformed = errors.New("malformed request")         // 400
	ErrTooLarge  = errors.New("too large")                 // 413
	ErrEventSize = fmt.Errorf("event %w", ErrTooLarge)     // 413, for one event, alone or in a batch
	ErrMediaType = errors.New("content type not accepted") // 415
)

// RequestError tells that a request as a whole cannot be read: errors.Is says whether it is malformed
// ([ErrMalformed]), too large ([ErrTooLarge], and [ErrEventSize] where one event is) or of an unknown content type ([ErrMediaType]).
type RequestError struct {
	Kind   error  // ErrMalformed, ErrTooLarge, ErrEventSize or ErrMediaType
	Detail string // what came, and what was expected
}

// Error implements error.
func (e *RequestError) Error() string { return e.Kind.Error() + ": " + e.Detail }

// Unwrap returns the kind.
func (e *RequestError) Unwrap() error { return e.Kind }

func malformed(format string, args ...any) *RequestError {
	return &RequestError{Kind: ErrMalformed, Detail: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) *RequestError {
	return &RequestError{Kind: ErrTooLarge, Detail: fmt.Sprintf(format, args...)}
}

func eventTooLarge(format string, args ...any) *RequestError {
	return &RequestError{Kind: ErrEventSize, Detail: fmt.Sprintf(format, args...)}
}

func mediaType(format string, args ...any) *RequestError {
	return &RequestError{Kind: ErrMediaType, Detail: fmt.Sprintf(format, args...)}
}
