package schema

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// trainSchema is an event type's schema of the usual kind: closed, with references, formats, bounds and an enum.
const trainSchema = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"properties": {
		"train": {"type": "string", "pattern": "^[0-9]{1,5}$"},
		"line": {"enum": ["RE10", "RE11", "R12", "R13", "L1", "L2", "F4"]},
		"position": {"$ref": "#/$defs/position"},
		"speed": {"type": ["number", "null"], "minimum": 0, "maximum": 300},
		"observed": {"type": "string", "format": "date-time"},
		"next": {"type": "object", "properties": {"station": {"type": "string", "minLength": 2, "maxLength": 5}, "delay": {"type": "integer", "minimum": -600, "maximum": 86400}},
			"required": ["station"], "additionalProperties": false},
		"stops": {"type": "array", "maxItems": 100, "items": {"$ref": "#/$defs/stop"}},
		"cancelled": {"type": "boolean"}
	},
	"required": ["train", "position", "observed"],
	"additionalProperties": false,
	"$defs": {
		"position": {"type": "object", "properties": {"lat": {"type": "number", "minimum": -90, "maximum": 90}, "lon": {"type": "number", "minimum": -180, "maximum": 180}},
			"required": ["lat", "lon"], "additionalProperties": false},
		"stop": {"type": "object", "properties": {"station": {"type": "string"}, "name": {"type": "string"}, "track": {"type": ["string", "null"]}, "arrival": {"type": "string", "format": "date-time"}, "delay": {"type": "integer"}},
			"required": ["station", "arrival"]}
	}
}`

// trainEvent is an event's data of about so many bytes.
func trainEvent(size int) []byte {
	var stops []string
	event := func() string {
		return fmt.Sprintf(`{"train":"61","line":"RE10","position":{"lat":59.910833,"lon":10.752778},"speed":118.5,"observed":"2026-03-01T12:00:00.123Z","next":{"station":"LHM","delay":120},"stops":[%s],"cancelled":false}`, strings.Join(stops, ","))
	}
	for len(event()) < size-50 {
		stops = append(stops, `{"station":"HMR","name":"Hamar stasjon","track":"2","arrival":"2026-03-01T12:34:00Z","delay":-30}`)
	}
	return []byte(event())
}

func BenchmarkValidate(b *testing.B) {
	s, err := Compile([]byte(trainSchema), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{300, 1000, 4000} {
		data := trainEvent(size)
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if v := s.Validate(data, Verbatim); v != nil {
					b.Fatal(v)
				}
			}
		})
	}
	wrong := bytes.Replace(trainEvent(300), []byte(`"lat":59.910833`), []byte(`"lat":91.2`), 1)
	b.Run("300B-invalid", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v := s.Validate(wrong, Verbatim); v == nil {
				b.Fatal("valid")
			}
		}
	})
}

// BenchmarkLibrary is what validation by the library alone takes, decoding included, to compare with.
func BenchmarkLibrary(b *testing.B) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(trainSchema))
	if err != nil {
		b.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema:///x", doc); err != nil {
		b.Fatal(err)
	}
	s, err := c.Compile("schema:///x")
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{300, 1000, 4000} {
		data := trainEvent(size)
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
				if err == nil {
					err = s.Validate(v)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompare(b *testing.B) {
	older, err := Compile([]byte(trainSchema), Options{})
	if err != nil {
		b.Fatal(err)
	}
	newer, err := Compile([]byte(strings.Replace(trainSchema, `"cancelled": {`, `"operator": {"type": "string"}, "cancelled": {`, 1)), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if v := Compare(older, newer, Full, CompareOptions{}); v.Outcome != Incompatible {
			b.Fatal(v)
		}
	}
}
