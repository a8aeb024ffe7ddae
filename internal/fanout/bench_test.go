package fanout

import (
	"fmt"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// blockOf makes the records of a fetch: structured events of 300 B, as this program writes them.
func blockOf(n int) []broker.Record {
	when := time.UnixMilli(1_772_300_000_000)
	records := make([]broker.Record, n)
	header := []broker.Header{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}}
	for i := range records {
		text := fmt.Sprintf(`{"specversion":"1.0","id":"0194f7a2-6c3e-7d10-9f6b-%012d","source":"https://api.example/positions",`+
			`"type":"train.position.v1","subject":"/train/%04d","time":"2026-02-28T17:31:00.125Z","partitionkey":"%04d",`+
			`"data":{"lat":60.79412,"lon":11.06872,"speed":132,"delay":-12,"next":"HMR"}}`, i, i%2000, i%2000)
		records[i] = broker.Record{
			Partition: 3, Offset: int64(i), Timestamp: when.Add(time.Duration(i) * time.Millisecond),
			Key: fmt.Appendf(nil, "%04d", i%2000), Value: []byte(text), Headers: header,
		}
	}
	return records
}

func BenchmarkNewEntries(b *testing.B) {
	records := blockOf(3000)
	if e := newEntry(&records[0], nil, nil); e.Skipped != "" {
		b.Fatal(e.Skipped)
	}
	cursorText := make([]byte, 60)
	for name, read := range map[string]func() []*Entry{
		"block": func() []*Entry {
			made, _ := newEntries(records, nil)
			return made
		},
		"tail": func() []*Entry {
			made := make([]*Entry, 0, len(records))
			for i := range records {
				made = append(made, newEntry(&records[i], cursorText, nil))
			}
			return made
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n := len(read()); n != len(records) {
					b.Fatal(n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/event")
		})
	}
}
