package filter

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/event"
)

func parseEvent(t testing.TB, text string) *event.Event {
	t.Helper()
	e, err := event.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

const train = `{"specversion":"1.0","id":"1","source":"/trains","type":"no.banenor.train.position.v1","subject":"/train/1612",` +
	`"resource":"line/dovrebanen","delay":-12,"cancelled":false,"time":"2026-02-28T17:31:00Z","station":"Tromsø","data":{}}`

func TestFiltersMatchWhatTheySay(t *testing.T) {
	e := parseEvent(t, train)
	for _, c := range []struct {
		name  string
		query Query
		want  bool
	}{
		{"no filter", Query{}, true},
		{"a value", Query{Types: []string{"no.banenor.train.position.v1"}}, true},
		{"another value", Query{Types: []string{"no.banenor.train.position"}}, false},
		{"one of two values", Query{Subjects: []string{"/train/1", "/train/1612"}}, true},
		{"a prefix", Query{Resources: []string{"line/*"}}, true},
		{"another prefix", Query{Resources: []string{"station/*"}}, false},
		{"any value", Query{Subjects: []string{"*"}}, true},
		{"a star that is not at the end is itself", Query{Types: []string{"no.*.v1"}}, false},
		{"different attributes both match", Query{Types: []string{"no.*"}, Sources: []string{"/trains"}}, true},
		{"of different attributes one does not match", Query{Types: []string{"no.*"}, Sources: []string{"/buses"}}, false},
		{"parameter and filter and CESQL", Query{Types: []string{"no.*"}, Filters: json.RawMessage(`[{"exact":{"subject":"/train/1612"}}]`), SQL: "delay < 0"}, true},
		{"parameter and filter but not CESQL", Query{Types: []string{"no.*"}, Filters: json.RawMessage(`[{"exact":{"subject":"/train/1612"}}]`), SQL: "delay > 0"}, false},

		{"an empty array", Query{Filters: json.RawMessage(`[]`)}, true},
		{"null", Query{Filters: json.RawMessage(`null`)}, true},
		{"exact on an integer", Query{Filters: json.RawMessage(`[{"exact":{"delay":"-12"}}]`)}, true},
		{"exact on a boolean", Query{Filters: json.RawMessage(`[{"exact":{"cancelled":"false"}}]`)}, true},
		{"exact on an attribute that is missing", Query{Filters: json.RawMessage(`[{"exact":{"missing":"x"}}]`)}, false},
		{"exact on two attributes", Query{Filters: json.RawMessage(`[{"exact":{"source":"/trains","id":"2"}}]`)}, false},
		{"prefix", Query{Filters: json.RawMessage(`[{"prefix":{"subject":"/train/"}}]`)}, true},
		{"suffix", Query{Filters: json.RawMessage(`[{"suffix":{"type":".v1"}}]`)}, true},
		{"another suffix", Query{Filters: json.RawMessage(`[{"suffix":{"type":".v2"}}]`)}, false},
		{"all", Query{Filters: json.RawMessage(`[{"all":[{"prefix":{"subject":"/train/"}},{"suffix":{"type":".v2"}}]}]`)}, false},
		{"any", Query{Filters: json.RawMessage(`[{"any":[{"prefix":{"subject":"/train/"}},{"suffix":{"type":".v2"}}]}]`)}, true},
		{"not", Query{Filters: json.RawMessage(`[{"not":{"suffix":{"type":".v2"}}}]`)}, true},
		{"not of an attribute that is missing", Query{Filters: json.RawMessage(`[{"not":{"exact":{"missing":"x"}}}]`)}, true},
		{"several filters", Query{Filters: json.RawMessage(`[{"exact":{"id":"1"}},{"not":{"exact":{"id":"1"}}}]`)}, false},
		{"sql", Query{Filters: json.RawMessage(`[{"sql":"EXISTS resource AND NOT cancelled"}]`)}, true},

		{"CESQL that is false", Query{SQL: "subject = '/train/1'"}, false},
		{"CESQL whose attribute is missing", Query{SQL: "missing != 'x'"}, false},
		{"CESQL whose left side fails", Query{SQL: "missing = 'x' OR id = '1'"}, false},
		{"CESQL whose right side is not needed", Query{SQL: "id = '1' OR missing = 'x'"}, true},
		{"CESQL that gives a text that is true", Query{SQL: "'TRUE'"}, true},
		{"CESQL that gives a text that is no Boolean", Query{SQL: "subject"}, false},
		{"CESQL that gives an integer", Query{SQL: "delay"}, true},
		{"CESQL divides by zero", Query{SQL: "1 / 0 = 1"}, false},
		{"characters are counted, not bytes", Query{SQL: "LENGTH(station) = 6 AND RIGHT(station, 2) = 'sø' AND LEFT(station, 6) = station AND SUBSTRING(station, -1) = 'ø'"}, true},
		{"an underscore is a character, not a byte", Query{SQL: "station LIKE 'Troms_' AND station LIKE '%o_s_' AND station NOT LIKE 'Troms__'"}, true},
		{"SUBSTRING with a negative length", Query{SQL: "SUBSTRING('abc', 2, -1) = ''"}, false},
		{"an integer is cast to a text", Query{SQL: "delay LIKE '-1_' AND delay = '-12' AND delay IN (-12, 4)"}, true},
		{"the set is cast to the attribute's type", Query{SQL: "delay IN ('-012')"}, true},
		{"keywords in either case, names too", Query{SQL: "not Cancelled and STATION like 'T%'"}, true},
		{"brackets", Query{SQL: "((id = '1') AND (NOT (id = '2')))"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Compile(c.query)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(e); got != c.want {
				t.Errorf("matches: %v, want %v; key %s", got, c.want, f.Key())
			}
		})
	}
}

func TestEmptyQueryIsNil(t *testing.T) {
	f, err := Compile(Query{})
	if f != nil || err != nil {
		t.Fatalf("got %v, %v", f, err)
	}
	if !f.Match(&event.Event{}) || f.Key() != "" {
		t.Fatal("nil is no filter that matches everything")
	}
}

func TestMistakesAreShownAtTheirPlace(t *testing.T) {
	for _, c := range []struct {
		name    string
		query   Query
		at      string // what stands at the position
		pointer string
		message string
	}{
		{"empty parameter", Query{Types: []string{""}}, "", "", "type is empty"},
		{"no JSON", Query{Filters: json.RawMessage(`[{"exact":{"type":x}}]`)}, `x}}]`, "", "no JSON"},
		{"JSON that ends", Query{Filters: json.RawMessage(`[{"exact":`)}, ``, "", "too early"},
		{"no array", Query{Filters: json.RawMessage(`{"exact":{"type":"x"}}`)}, `{"exact"`, "", "an array of filters"},
		{"more than an array", Query{Filters: json.RawMessage(`[] 1`)}, `1`, "", "no JSON"},
		{"no object", Query{Filters: json.RawMessage(`[1]`)}, `1]`, "", "a filter"},
		{"an empty object", Query{Filters: json.RawMessage(`[{}]`)}, `}]`, "", "empty"},
		{"an unknown dialect", Query{Filters: json.RawMessage(`[{"exakt":{"type":"x"}}]`)}, `"exakt"`, "", "not known"},
		{"two dialects", Query{Filters: json.RawMessage(`[{"exact":{"type":"x"}, "not":{}}]`)}, `"not"`, "", "one dialect"},
		{"no attributes", Query{Filters: json.RawMessage(`[{"exact":{}}]`)}, `{}}]`, "", "at least one attribute"},
		{"a bad attribute", Query{Filters: json.RawMessage(`[{"exact":{"id":"1","Type":"x"}}]`)}, `"Type"`, "", "not the name"},
		{"data is no attribute", Query{Filters: json.RawMessage(`[{"exact":{"data":"x"}}]`)}, `"data"`, "", "not the name"},
		{"an attribute twice", Query{Filters: json.RawMessage(`[{"exact":{"id":"1","id":"x"}}]`)}, `"id":"x"`, "", "twice"},
		{"no string", Query{Filters: json.RawMessage(`[{"prefix":{"id":1}}]`)}, `1}}]`, "", "string"},
		{"an empty string", Query{Filters: json.RawMessage(`[{"suffix":{"id":""}}]`)}, `""}}]`, "", "empty"},
		{"an empty all", Query{Filters: json.RawMessage(`[{"all":[]}]`)}, `[]}]`, "", "empty"},
		{"an array in not", Query{Filters: json.RawMessage(`[{"not":[]}]`)}, `[]}]`, "", "a filter"},
		{"sql that is no string", Query{Filters: json.RawMessage(`[{"sql":1}]`)}, `1}]`, "", "a string"},
		{"a mistake in sql", Query{Filters: json.RawMessage(`[{"id":1}]`)}, `"id"`, "", "not known"},
		{"a mistake in sql deep down", Query{Filters: json.RawMessage(`[{"exact":{"id":"1"}},{"any":[{"sql":"id = = 1"}]}]`)}, `= 1`, "/1/any/0/sql", "not expected"},
		{"filters in filters", Query{Filters: json.RawMessage(strings.Repeat(`[{"all":`, 33) + `[{"exact":{"id":"1"}}]` + strings.Repeat("}]", 33))}, `{"all"`, "", "nest deeper"},

		{"an operator too many", Query{SQL: "type = = 'x'"}, "= 'x'", "", "not expected"},
		{"an end too early", Query{SQL: "type ="}, "", "", "too early"},
		{"a bracket open", Query{SQL: "(type = 'x'"}, "", "", "too early"},
		{"a bracket too many", Query{SQL: "type = 'x')"}, ")", "", "not expected"},
		{"quotes open", Query{SQL: "type = 'x"}, "'x", "", "quotes"},
		{"a strange character", Query{SQL: "type = 'æøå' && id = '1'"}, "&& id", "", "begins nothing"},
		{"a strange character on the second line", Query{SQL: "type = 'æøå'\n AND $id"}, "$id", "", "begins nothing"},
		{"a pattern that is no string", Query{SQL: "type LIKE 5"}, "5", "", "not expected"},
		{"an empty set", Query{SQL: "type IN ()"}, ")", "", "not expected"},
		{"an integer too large", Query{SQL: "delay < 3000000000"}, "3000000000", "", "no Integer"},
		{"an unknown function", Query{SQL: "id = '1' AND NOW() = 1"}, "NOW()", "", "no function NOW"},
		{"a function of too many arguments", Query{SQL: "ABS(1, 2) = 1"}, "ABS", "", "of 2 arguments"},
		{"a name that is none", Query{SQL: "EXISTS data"}, "data", "", "not the name"},
		{"blanks", Query{SQL: "  "}, "", "", "too early"},
		{"no UTF-8", Query{SQL: "id = 'a\xff'"}, "\xff'", "", "UTF-8"},
		{"too long", Query{SQL: "id = '" + strings.Repeat("x", 9000) + "'"}, strings.Repeat("x", 9000-8192+6) + "'", "", "8 KiB"},
		{"too many brackets", Query{SQL: strings.Repeat("(", 100) + "TRUE" + strings.Repeat(")", 100)}, strings.Repeat("(", 36) + "TRUE", "", "deeper"},
		{"too many parts", Query{SQL: "1 IN (" + strings.Repeat("1,", 1100) + "1)"}, "1,1", "", "1,000 parts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Compile(c.query)
			var mistake *Error
			if !errors.As(err, &mistake) {
				t.Fatalf("got filter %s and error %v, want an *Error", f.Key(), err)
			}
			if mistake.Position < 0 || mistake.Position > len(mistake.Expression) {
				t.Fatalf("position %d is outside %q", mistake.Position, mistake.Expression)
			}
			if rest := mistake.Expression[mistake.Position:]; !strings.HasPrefix(rest, c.at) || c.at == "" && rest != "" {
				t.Errorf("at the position stands %q, want %q (%s)", rest, c.at, mistake)
			}
			if mistake.Pointer != c.pointer {
				t.Errorf("pointer %q, want %q", mistake.Pointer, c.pointer)
			}
			if !strings.Contains(mistake.Message, c.message) {
				t.Errorf("message %q, want one with %q", mistake.Message, c.message)
			}
		})
	}
}

func TestEqualKeysForWhatIsTheSame(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Query
		same bool
	}{
		{"order of values", Query{Types: []string{"a", "b"}}, Query{Types: []string{"b", "a", "b"}}, true},
		{"order of attributes", Query{Filters: json.RawMessage(`[{"exact":{"id":"1","type":"x"}}]`)}, Query{Filters: json.RawMessage(`[{"exact":{"type":"x"}},{"exact":{"id":"1"}}]`)}, true},
		{"parameter and dialect", Query{Subjects: []string{"/a*"}}, Query{Filters: json.RawMessage(`[{"prefix":{"subject":"/a"}}]`)}, true},
		{"dialect and CESQL", Query{Filters: json.RawMessage(`[{"any":[{"exact":{"type":"a"}},{"exact":{"type":"b"}}]}]`)}, Query{SQL: "type IN ('b', 'a')"}, true},
		{"white space and case of CESQL", Query{SQL: "delay<5 and Exists id"}, Query{SQL: "(EXISTS ID) AND delay < 5"}, true},
		{"all in all", Query{Filters: json.RawMessage(`[{"all":[{"exact":{"id":"1"}},{"all":[{"exact":{"type":"x"}}]}]}]`)}, Query{Types: []string{"x"}, SQL: "id = '1'"}, true},
		{"another value", Query{Types: []string{"a"}}, Query{Types: []string{"b"}}, false},
		{"another attribute", Query{Types: []string{"a"}}, Query{Sources: []string{"a"}}, false},
		{"prefix and value", Query{Types: []string{"a*"}}, Query{Types: []string{"a"}}, false},
		{"all and any", Query{Filters: json.RawMessage(`[{"all":[{"exact":{"id":"1"}},{"exact":{"type":"x"}}]}]`)}, Query{Filters: json.RawMessage(`[{"any":[{"exact":{"id":"1"}},{"exact":{"type":"x"}}]}]`)}, false},
		{"quotes in values", Query{Types: []string{`a" "b`}}, Query{Types: []string{`a`, `b`}}, false},
		{"CESQL's integer and text", Query{SQL: "delay = 5"}, Query{SQL: "delay = '5'"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Compile(c.a)
			if err != nil {
				t.Fatal(err)
			}
			b, err := Compile(c.b)
			if err != nil {
				t.Fatal(err)
			}
			if (a.Key() == b.Key()) != c.same {
				t.Errorf("keys %s and %s, want them equal: %v", a.Key(), b.Key(), c.same)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"%", "", true},
		{"%%", "abc", true},
		{"_", "", false},
		{"_", "æ", true},
		{"__", "æ", false},
		{"a%b", "ab", true},
		{"a%b", "aXbXb", true},
		{"ab%bc", "abc", false},
		{"%_b_%", "aXbX", true},
		{"%_b_%", "b", false},
		{"%a_c", "aacabc", true},
		{"%a_c", "abcx", false},
		{`\%`, "%", true},
		{`\%`, `\`, false},
		{`a\`, `a\`, true},
		{`a\b`, `a\b`, true},
		{`%\_%`, "a_b", true},
		{`%\_%`, "ab", false},
		{"%a%_c%", strings.Repeat("a", 3000), false},
	} {
		if got, err := newPattern(c.pattern).match(c.text); got != c.want || err != nil {
			t.Errorf("%q LIKE %q: %v, %v, want %v", c.text, c.pattern, got, err, c.want)
		}
	}
	if _, err := newPattern("%a_c%").match(strings.Repeat("a", maxLikeText+1)); err == nil {
		t.Error("a slow pattern is tried on a text of any length")
	}
}
