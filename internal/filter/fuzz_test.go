package filter

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/event"
)

// FuzzFilter compiles any text as each kind of filter: nothing panics or takes long, mistakes lie inside the text, and
// what matches is found by the index.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`[{"exact":{"type":"a"}},{"any":[{"prefix":{"subject":"/p"}},{"not":{"suffix":{"id":"1"}}}]}]`,
		`[{"all":[{"sql":"EXISTS resource"}]}]`,
		"subject = '/train/1' AND (delay > 5 OR NOT type LIKE 'no.%_x%')",
		"SUBSTRING(id, -1, -1) IN ('a', CONCAT_WS(',', id, 'b')) XOR 1 / 0 = -7 % 3",
		"LEFT('æøå', 2) = \"æ\\\"ø\" OR TRUE", "type*", "((((", "'", "NOT NOT - - 1", "[[[[", "id = 'a' $",
		"ABS(-2147483648) < LENGTH(UPPER(subject))", "a LIKE '\\_%'", `[{"exact":{"type":"a"},"not":1}]`,
	} {
		f.Add(seed)
	}
	e, err := event.Parse([]byte(train))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, q := range []Query{{SQL: text}, {Filters: json.RawMessage(text)}, {Subjects: []string{text}, Types: []string{"no.*"}}} {
			begin := time.Now()
			filter, err := Compile(q)
			if err != nil {
				var mistake *Error
				if !errors.As(err, &mistake) {
					t.Fatalf("%q: %v is no *Error", text, err)
				}
				if mistake.Position < 0 || mistake.Position > len(mistake.Expression) || mistake.Message == "" {
					t.Fatalf("%q: position %d of %q: %s", text, mistake.Position, mistake.Expression, mistake.Message)
				}
				continue
			}
			matched := filter.Match(&e)
			if d := time.Since(begin); d > 5*time.Second {
				t.Fatalf("%q takes %v", text, d)
			}
			if filter == nil {
				continue
			}
			if filter.Key() == "" {
				t.Fatalf("%q has no key", text)
			}
			var x Index[int]
			if x.Add(filter, 1); matched != (len(x.Match(nil, &e)) == 1) {
				t.Fatalf("%q is found in an index: %v, want %v", text, !matched, matched)
			}
			if x.Remove(filter, 1); len(x.Match(nil, &e)) > 0 {
				t.Fatalf("%q stays in an index", text)
			}
			again, err := Compile(q)
			if err != nil || again.Key() != filter.Key() || again.Match(&e) != matched {
				t.Fatalf("%q compiles to something else the second time", text)
			}
		}
	})
}
