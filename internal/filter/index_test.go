package filter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/eventissuer/eventissuer/internal/event"
)

// drawQuery draws what a reader may ask for, in any of the dialects or in all.
func drawQuery(t *rapid.T) Query {
	var q Query
	if rapid.Bool().Draw(t, "has filters") {
		var list []any
		for range rapid.IntRange(1, 3).Draw(t, "filters") {
			list = append(list, drawFilter(t, 2))
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		q.Filters = text
	}
	if rapid.IntRange(0, 2).Draw(t, "has expression") == 0 {
		q.SQL = drawSQL(t, 3)
	}
	value := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "a*", "*", "1*", "12", "b"}), 0, 2)
	q.Types, q.Subjects = value.Draw(t, "types"), value.Draw(t, "subjects")
	return q
}

func TestAnIndexFindsWhatMatchesOneByOne(t *testing.T) {
	type added struct {
		filter *Filter
		value  int
	}
	rapid.Check(t, func(t *rapid.T) {
		var index Index[int]
		var all []added
		check := func() {
			e, err := event.Parse(drawEvent(t))
			if err != nil {
				t.Fatal(err)
			}
			var want []int
			for _, a := range all {
				if a.filter.Match(&e) {
					want = append(want, a.value)
				}
			}
			got := index.Match([]int{-1}, &e)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, append([]int{-1}, want...)) {
				for _, a := range all {
					t.Logf("%d: %s", a.value, a.filter.Key())
				}
				t.Fatalf("%s is found to match %v, one by one %v", e.JSON(), got, want)
			}
			if index.Len() != len(all) {
				t.Fatalf("the index has %d values, want %d", index.Len(), len(all))
			}
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(all) > 0 && rapid.IntRange(0, 2).Draw(t, "step") == 0 {
				at := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				index.Remove(all[at].filter, all[at].value)
				all = slices.Delete(all, at, at+1)
			} else {
				f, err := Compile(drawQuery(t))
				if err != nil {
					t.Fatal(err)
				}
				index.Add(f, i)
				all = append(all, added{f, i})
			}
			check()
		}
		for len(all) > 0 {
			index.Remove(all[0].filter, all[0].value)
			all = all[1:]
		}
		check()
		if len(index.entries)+len(index.attributes)+len(index.scanned) > 0 {
			t.Fatalf("the empty index holds %v, %v and %v", index.entries, index.attributes, index.scanned)
		}
	})
}

func mustCompile(t testing.TB, q Query) *Filter {
	t.Helper()
	f, err := Compile(q)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFiltersAreFiledByWhatFewEventsHave(t *testing.T) {
	dialects := func(text string) Query { return Query{Filters: json.RawMessage(text)} }
	for _, c := range []struct {
		name  string
		query Query
		want  []string // the anchors; nil: it is scanned
	}{
		{"the subject before the type", dialects(`[{"exact":{"type":"t","subject":"a"}}]`), []string{"subject = a"}},
		{"a prefix of the subject before the type", dialects(`[{"exact":{"type":"t"}},{"prefix":{"subject":"/a"}}]`), []string{"subject begins /a"}},
		{"the type before a suffix of the source", dialects(`[{"exact":{"type":"t"}},{"suffix":{"source":"a"}}]`), []string{"type = t"}},
		{"any of several", dialects(`[{"any":[{"exact":{"subject":"a"}},{"prefix":{"subject":"b"}},{"suffix":{"id":"c"}}]}]`), []string{"id ends c", "subject = a", "subject begins b"}},
		{"any with one that has none", dialects(`[{"any":[{"exact":{"subject":"a"}},{"sql":"EXISTS resource"}]}]`), nil},
		{"a list of values", Query{SQL: "subject IN ('b', 'a', 'b')"}, []string{"subject = a", "subject = b"}},
		{"an equality inside an expression", Query{SQL: "LENGTH(subject) > 2 AND id = 'a'"}, []string{"id = a"}},
		{"an equality of either side", Query{SQL: "resource = 'a' OR (subject = 'b' AND delay > 5)"}, []string{"resource = a", "subject = b"}},
		{"a pattern that is a prefix", Query{SQL: "subject LIKE 'abc%' OR LENGTH(id) > 1 AND FALSE"}, []string{"subject begins abc"}},
		{"a pattern that begins with a literal", Query{SQL: "subject LIKE 'ab_c%'"}, []string{"subject begins ab"}},
		{"a pattern that ends in a literal", Query{SQL: "subject LIKE '%a_bc'"}, []string{"subject ends bc"}},
		{"values", Query{Types: []string{"b", "a"}}, []string{"type = a", "type = b"}},
		{"values of two attributes", Query{Types: []string{"a"}, Subjects: []string{"s", "t"}}, []string{"subject = s", "subject = t"}},
		{"a value or a prefix", Query{Types: []string{"a*", "b"}}, []string{"type = b", "type begins a"}},
		{"an extension attribute", dialects(`[{"all":[{"exact":{"line":"1"}},{"not":{"exact":{"type":"x"}}}]}]`), []string{"line = 1"}},
		{"any of one attribute", dialects(`[{"any":[{"exact":{"type":"a","id":"1"}},{"exact":{"type":"b","subject":"s"}}]}]`), []string{"id = 1", "subject = s"}},
		{"CESQL the other way round", Query{SQL: "'/train/1' = subject"}, []string{"subject = /train/1"}},
		{"OR of branches", Query{SQL: "(subject = 'a' AND type = 'x') OR (subject = 'b' AND type = 'y')"}, []string{"subject = a", "subject = b"}},
		{"XOR", Query{SQL: "subject = 'a' XOR resource = 'b'"}, []string{"resource = b", "subject = a"}},
		{"LIKE without wildcards", Query{SQL: `subject LIKE '100\%'`}, []string{"subject = 100%"}},
		{"LIKE with wildcards all over", Query{SQL: `subject LIKE '%a%'`}, nil},
		{"a text on the left is cast to an extension's type", Query{SQL: "'05' = delay"}, nil},
		{"an integer", Query{SQL: "delay = 5"}, nil},
		{"what never matches", Query{SQL: "FALSE"}, []string{}},
		{"a negation", dialects(`[{"not":{"exact":{"subject":"a"}}}]`), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x Index[int]
			f := mustCompile(t, c.query)
			x.Add(f, 1)
			if scanned := len(x.scanned) > 0; scanned != (c.want == nil) {
				t.Errorf("scanned: %v", scanned)
			}
			var got []string
			for _, e := range x.entries {
				if e.more != nil {
					for _, a := range e.more.anchors {
						got = append(got, a.name+[]string{" = ", " begins ", " ends "}[a.kind]+a.text)
					}
				} else if candidates := candidatesOf(f.root); len(candidates) > 0 {
					for _, a := range candidates[e.choice] {
						got = append(got, a.name+[]string{" = ", " begins ", " ends "}[a.kind]+a.text)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("filed by %q, want %q", got, c.want)
			}
		})
	}
}

func TestAPrefixThatAllAskForDoesNotHideWhatTellsThemApart(t *testing.T) {
	var x Index[int]
	const n = 1000
	for i := range n {
		x.Add(mustCompile(t, Query{Types: []string{fmt.Sprintf("t%d", i)}, Subjects: []string{"/party/*"}}), i)
	}
	if most := x.slot(anchor{"subject", "/party/", begins}).len(); most > n/10 {
		t.Errorf("%d of %d filters are evaluated for each subject of a party", most, n)
	}
}

func TestAFilterThatFailsIsAMatchAndTold(t *testing.T) {
	broken := new(Filter) // it was never compiled
	var told []any
	x := Index[string]{Panicked: func(value any, stack []byte) {
		if !strings.Contains(string(stack), "Match") {
			t.Errorf("the stack is %s", stack)
		}
		told = append(told, value)
	}}
	x.Add(broken, "broken")
	x.Add(nil, "everything")
	x.Add(mustCompile(t, Query{Subjects: []string{"a"}}), "a")
	got := x.Match(nil, parseEvent(t, train))
	slices.Sort(got)
	if want := []string{"broken", "everything"}; !slices.Equal(got, want) {
		t.Errorf("matched %q, want %q", got, want)
	}
	if len(told) != 1 {
		t.Errorf("told of %v", told)
	}
	x.Remove(broken, "broken")
	if got := x.Match(nil, parseEvent(t, train)); !slices.Equal(got, []string{"everything"}) {
		t.Errorf("matched %q once it is gone", got)
	}
}

func TestEqualFiltersAreOneEntry(t *testing.T) {
	var x Index[int]
	x.Remove(mustCompile(t, Query{Subjects: []string{"a"}}), 1) // of an empty index
	for i := range 10 {
		x.Add(mustCompile(t, Query{Subjects: []string{"/train/1612"}, Types: []string{"no.*"}}), i)
	}
	if len(x.entries) != 1 || x.Len() != 10 {
		t.Errorf("%d entries and %d values", len(x.entries), x.Len())
	}
	x.Remove(mustCompile(t, Query{Subjects: []string{"/train/1612"}, Types: []string{"no.*"}}), 11) // never added
	x.Remove(mustCompile(t, Query{Subjects: []string{"/train/1"}}), 1)
	if got := x.Match(nil, parseEvent(t, train)); len(got) != 10 {
		t.Errorf("matched %v", got)
	}
}

func TestAnIndexIsReadConcurrently(t *testing.T) {
	var x Index[int]
	for i := range 100 {
		x.Add(mustCompile(t, Query{SQL: fmt.Sprintf("subject LIKE '/train/%d%%' OR delay = %d AND EXISTS station", i, i)}), i)
		x.Add(mustCompile(t, Query{Filters: json.RawMessage(fmt.Sprintf(`[{"any":[{"prefix":{"subject":"/tra"}},{"suffix":{"subject":"%d"}}]}]`, i))}), -1-i)
	}
	e := parseEvent(t, train)
	want := x.Match(nil, e)
	if len(want) < 100 {
		t.Fatalf("only %d match", len(want))
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 50 {
				if got := x.Match(nil, e); !slices.Equal(got, want) {
					t.Errorf("matched %v, want %v", got, want)
				}
			}
		})
	}
	running.Wait()
}
