package filter

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	sdkparser "github.com/cloudevents/sdk-go/sql/v2/parser"
	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/eventissuer/eventissuer/internal/event"
)

func BenchmarkMatch(b *testing.B) {
	e := parseEvent(b, train)
	for _, c := range []struct {
		name  string
		query Query
	}{
		{"exact", Query{Subjects: []string{"/train/1612"}}},
		{"prefix", Query{Subjects: []string{"/train/*"}}},
		{"three attributes", Query{Types: []string{"no.*"}, Sources: []string{"/trains"}, Subjects: []string{"/train/1", "/train/1612", "/train/3"}}},
		{"cesql lowered", Query{SQL: "subject = '/train/1612' AND type LIKE 'no.%'"}},
		{"cesql integer", Query{SQL: "delay < -10"}},
		{"cesql function", Query{SQL: "UPPER(LEFT(station, 3)) = 'TRO'"}},
		{"cesql missing", Query{SQL: "nothing = 5 OR delay = 4"}},
	} {
		f, err := Compile(c.query)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Match(e)
			}
		})
	}
	b.Run("the SDK alone, cesql integer", func(b *testing.B) {
		var theirs cloudevents.Event
		if err := json.Unmarshal([]byte(train), &theirs); err != nil {
			b.Fatal(err)
		}
		tree, err := sdkparser.Parse("delay < -10")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tree.Evaluate(theirs); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for _, c := range []struct {
		name  string
		query Query
	}{
		{"parameters", Query{Types: []string{"no.*"}, Subjects: []string{"a", "b"}}},
		{"dialects", Query{Filters: json.RawMessage(`[{"exact":{"type":"a"}},{"any":[{"prefix":{"subject":"/p"}},{"not":{"suffix":{"id":"1"}}}]}]`)}},
		{"cesql", Query{SQL: "subject = '/train/1612' AND (delay > 5 OR type LIKE 'no.%')"}},
		{"cesql at its longest", Query{SQL: "id = 'x'" + strings.Repeat(" OR subject = 'abcdefgh'", 320)}},
		{"cesql that is hostile", Query{SQL: strings.Repeat("(", 64) + strings.Repeat("a IN (NOT - NOT 1) OR ", 350)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Compile(c.query)
			}
		})
	}
}

// benchmarkEvents is how many events BenchmarkIndex takes in turn: with as many filters, the processor's caches hold
// neither these nor those.
const benchmarkEvents = 10_000

func BenchmarkIndex(b *testing.B) {
	dialects := func(format string, i int) Query { return Query{Filters: json.RawMessage(fmt.Sprintf(format, i))} }
	for _, c := range []struct {
		name  string
		query func(i int) Query
	}{
		{"exact", func(i int) Query {
			return dialects(`[{"exact":{"type":"no.example.message.v1","subject":"/party/%d"}}]`, i)
		}},
		{"prefix", func(i int) Query {
			return dialects(`[{"exact":{"type":"no.example.message.v1"}},{"prefix":{"subject":"/party/%d/"}}]`, i)
		}},
		{"suffix", func(i int) Query {
			return dialects(`[{"exact":{"type":"no.example.message.v1"}},{"suffix":{"resource":"/%d"}}]`, i)
		}},
		{"cesql", func(i int) Query {
			return Query{SQL: fmt.Sprintf("type = 'no.example.message.v1' AND subject LIKE '/party/%d/%%' AND priority > 2", i)}
		}},
	} {
		for _, n := range []int{100, 10_000, 100_000} {
			var x Index[int]
			for i := range n {
				f, err := Compile(c.query(i))
				if err != nil {
					b.Fatal(err)
				}
				x.Add(f, i)
			}
			events := make([]*event.Event, benchmarkEvents)
			for i := range events {
				party := i * 7919 % n
				subject := fmt.Sprintf("/party/%d", party)
				if c.name != "exact" {
					subject += "/"
				}
				events[i] = parseEvent(b, fmt.Sprintf(`{"specversion":"1.0","id":"0194f7a2-6c3e-7d10-9f6b-%012d","source":"https://api.example/messages",`+
					`"type":"no.example.message.v1","subject":"%s","resource":"urn:example:resource/%d","priority":3,"data":{"text":"hello"}}`, i, subject, party))
			}
			var got []int
			for _, order := range []string{"same event", "any event"} {
				b.Run(fmt.Sprintf("%s/filters=%d/%s", c.name, n, order), func(b *testing.B) {
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						e := events[len(events)/2]
						if order == "any event" {
							e = events[i%len(events)]
						}
						if got = x.Match(got[:0], e); len(got) != 1 {
							b.Fatalf("%s matches %d filters", e.JSON(), len(got))
						}
					}
				})
			}
		}
	}
}

// BenchmarkFilterMemory reports what a filter takes, and what an index takes for it.
func BenchmarkFilterMemory(b *testing.B) {
	const n = 100_000
	for _, c := range []struct {
		name  string
		query func(i int) Query
	}{
		{"exact", func(i int) Query {
			return Query{Types: []string{strings.Clone("no.example.message.v1")}, Filters: json.RawMessage(fmt.Sprintf(`[{"exact":{"subject":"/party/%d"}}]`, i))}
		}},
		{"cesql that other dialects can say", func(i int) Query {
			return Query{SQL: fmt.Sprintf("type = 'no.example.message.v1' AND subject = '/party/%d'", i)}
		}},
		{"cesql", func(i int) Query {
			return Query{SQL: fmt.Sprintf("type = 'no.example.message.v1' AND subject = '/party/%d' AND priority > 2", i)}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				before := heapBytes()
				filters := make([]*Filter, n)
				for i := range filters {
					var err error
					if filters[i], err = Compile(c.query(i)); err != nil {
						b.Fatal(err)
					}
				}
				compiled := heapBytes()
				var x Index[*Filter]
				for _, f := range filters {
					x.Add(f, f)
				}
				indexed := heapBytes()
				b.ReportMetric(float64(compiled-before)/n-8, "B/filter")
				b.ReportMetric(float64(indexed-compiled)/n, "B/entry")
				runtime.KeepAlive(filters)
				runtime.KeepAlive(&x)
			}
		})
	}
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
