package event

// Parse reads a structured event that is being published and holds it to the specification.
func Parse(raw []byte) (Event, error) { return Event{}, &Error{} }
