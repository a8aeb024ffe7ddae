package gateway

import (
	"errors"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
)

// eventErrors gives the places of an event's mistakes.
func eventErrors(err *event.Error) []fieldError {
	errs := make([]fieldError, len(err.Problems))
	for i, p := range err.Problems {
		errs[i] = fieldError{Pointer: p.Pointer, Message: p.Message, Expected: p.Expected}
	}
	return errs
}

// itemErrors gives the mistakes of one event of a batch.
func itemErrors(err error) []fieldError {
	var e *event.Error
	if errors.As(err, &e) {
		return eventErrors(e)
	}
	return []fieldError{{Message: err.Error()}}
}

// objectErrors gives the places of a definition's mistakes.
func objectErrors(err *catalog.InvalidError) []fieldError {
	errs := make([]fieldError, len(err.Problems))
	for i, p := range err.Problems {
		errs[i] = fieldError{Pointer: p.Pointer, Message: p.Message}
	}
	return errs
}
