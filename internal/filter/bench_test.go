package filter

import (
	"encoding/json"
	"strings"
	"testing"

	sdkparser "github.com/cloudevents/sdk-go/sql/v2/parser"
	cloudevents "github.com/cloudevents/sdk-go/v2"
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
