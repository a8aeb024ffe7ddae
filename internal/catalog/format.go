package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"

	"github.com/eventissuer/eventissuer/internal/event"
)

// Format says what the records of a stream are.
type Format string

// The formats.
const (
	// FormatCloudEvents: CloudEvents in the structured or the binary mode.
	FormatCloudEvents Format = "cloudevents"
	// FormatJSON: plain JSON, of which the stream's wrap makes events; a record that says that it is a CloudEvent is
	// read as one all the same, so that events can be published to the stream, too.
	FormatJSON Format = "json"
)

// RawJSON is a JSON value as it was given, without the white space between its tokens. Unlike json.RawMessage it can be
// compared. "" is none.
type RawJSON string

// MarshalJSON implements json.Marshaler.
func (r RawJSON) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return []byte(r), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *RawJSON) UnmarshalJSON(b []byte) error {
	var one bytes.Buffer
	if err := json.Compact(&one, b); err != nil {
		return err
	}
	if *r = RawJSON(one.String()); *r == "null" {
		*r = ""
	}
	return nil
}

// checkFormat checks the stream's format and what goes with it.
func (s *Stream) checkFormat(v *InvalidError) {
	switch {
	case s.Format == FormatJSON && s.Wrap == "":
		v.add("/wrap", `with the format "json", an object that says where records have each attribute, such as {"type":"no.example.moved","source":"/trains","subject":{"pointer":"/train"}}; got nothing`)
	case s.Format == FormatJSON:
		var mistakes *event.MappingError
		if _, err := event.CompileWrap([]byte(s.Wrap)); errors.As(err, &mistakes) {
			for _, p := range mistakes.Problems {
				v.add("/wrap"+p.Pointer, "%s; %s", cmp.Or(p.Expected, "another value"), p.Message)
			}
		}
	case s.Format != FormatCloudEvents:
		v.add("/format", `"cloudevents" or "json"; got %q`, s.Format)
	case s.Wrap != "":
		v.add("/wrap", `nothing, unless the format is "json"`)
	}
}
