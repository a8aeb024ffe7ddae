package event_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// position is an event of the usual size.
const position = `{"specversion":"1.0","id":"0194f7a2-6c3e-7d10-9f6b-2b6e1f0c9a41","source":"https://api.banenor.example/train-positions","type":"no.banenor.train.position.v1","subject":"/train/1612","time":"2026-02-28T17:31:00.125Z","datacontenttype":"application/json","partitionkey":"1612","resource":"line/dovrebanen","data":{"lat":60.79412,"lon":11.06872,"speed":132,"heading":341.5,"delay":-12,"next":"HMR"}}`

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{
		"400B":   position,
		"pretty": strings.ReplaceAll(position, `,"`, ",\n  \""),
		"10KB":   strings.Replace(position, `"next":"HMR"`, `"note":"`+strings.Repeat("x", 10<<10)+`"`, 1),
	} {
		raw := []byte(text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, err := event.Parse(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFromRecord(b *testing.B) {
	e, err := event.Parse([]byte(position))
	if err != nil {
		b.Fatal(err)
	}
	structured := e.Message(nil)
	binary, err := e.BinaryMessage(nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, m := range map[string]broker.Message{"structured": structured, "binary": binary} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := event.FromRecord(broker.Record{Value: m.Value, Headers: m.Headers}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadRequest(b *testing.B) {
	e, err := event.Parse([]byte(position))
	if err != nil {
		b.Fatal(err)
	}
	binary := http.Header{}
	body, err := e.WriteBinary(binary)
	if err != nil {
		b.Fatal(err)
	}
	batch := []byte("[" + strings.Repeat(position+",", 99) + position + "]")
	for _, bench := range []struct {
		name   string
		header http.Header
		body   []byte
	}{
		{"structured", http.Header{"Content-Type": {event.MediaType}}, []byte(position)},
		{"batch of 100", http.Header{"Content-Type": {event.BatchMediaType}}, batch},
		{"binary", binary, body},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				items, _, err := event.ReadRequest(bench.header, bench.body, event.Limits{})
				if err != nil || items[0].Err != nil {
					b.Fatal(err, items)
				}
			}
		})
	}
}

func BenchmarkAttribute(b *testing.B) {
	e, err := event.Parse([]byte(position))
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"type", "resource", "missing"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = e.Attribute(name)
			}
		})
	}
}
