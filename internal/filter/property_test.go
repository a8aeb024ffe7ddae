package filter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	sdkparser "github.com/cloudevents/sdk-go/sql/v2/parser"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"pgregory.net/rapid"

	"github.com/eventissuer/eventissuer/internal/event"
)

// The properties draw from few names and values, so that filters often match.
var (
	names  = []string{"id", "type", "subject", "resource", "delay", "late", "source"}
	values = []string{"a", "ab", "abc", "b", "12", "-7", "true", "false"}
)

// drawEvent draws an event's JSON, in which everything but what is required may be missing.
func drawEvent(t *rapid.T) []byte {
	value := rapid.SampledFrom(values)
	attributes := map[string]any{
		"specversion": "1.0", "id": value.Draw(t, "id"), "type": value.Draw(t, "type"), "source": value.Draw(t, "source"),
	}
	for _, name := range []string{"subject", "resource"} {
		if rapid.Bool().Draw(t, "has "+name) {
			attributes[name] = value.Draw(t, name)
		}
	}
	if rapid.Bool().Draw(t, "has delay") {
		attributes["delay"] = rapid.SampledFrom([]int{12, -7, 0, 5}).Draw(t, "delay")
	}
	if rapid.Bool().Draw(t, "has late") {
		attributes["late"] = rapid.Bool().Draw(t, "late")
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// naive evaluates a filter of the Subscriptions API as its specification reads, without compiling it.
func naive(filter map[string]any, attributes map[string]string, sql func(string) bool) bool {
	for dialect, body := range filter {
		switch dialect {
		case "exact", "prefix", "suffix":
			for name, value := range body.(map[string]any) {
				have, ok := attributes[name]
				want := value.(string)
				if !ok || dialect == "exact" && have != want || dialect == "prefix" && !strings.HasPrefix(have, want) ||
					dialect == "suffix" && !strings.HasSuffix(have, want) {
					return false
				}
			}
			return true
		case "all":
			return !slices.ContainsFunc(body.([]any), func(f any) bool { return !naive(f.(map[string]any), attributes, sql) })
		case "any":
			return slices.ContainsFunc(body.([]any), func(f any) bool { return naive(f.(map[string]any), attributes, sql) })
		case "not":
			return !naive(body.(map[string]any), attributes, sql)
		case "sql":
			return sql(body.(string))
		}
	}
	return false
}

func drawFilter(t *rapid.T, depth int) map[string]any {
	dialects := []string{"exact", "prefix", "suffix", "sql"}
	if depth > 0 {
		dialects = append(dialects, "all", "any", "not", "all", "any")
	}
	switch dialect := rapid.SampledFrom(dialects).Draw(t, "dialect"); dialect {
	case "all", "any":
		var list []any
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			list = append(list, drawFilter(t, depth-1))
		}
		return map[string]any{dialect: list}
	case "not":
		return map[string]any{dialect: drawFilter(t, depth-1)}
	case "sql":
		return map[string]any{dialect: drawSQL(t, 2)}
	default:
		attributes := map[string]any{}
		for range rapid.IntRange(1, 2).Draw(t, "attributes") {
			attributes[rapid.SampledFrom(names).Draw(t, "name")] = rapid.SampledFrom(values).Draw(t, "value")
		}
		return map[string]any{dialect: attributes}
	}
}

// drawSQL draws an expression of CESQL, whose types need not fit.
func drawSQL(t *rapid.T, depth int) string {
	literal := func() string {
		return rapid.SampledFrom([]string{"'a'", "'ab'", "'12'", "\"b\"", "12", "-7", "0", "TRUE", "false", "'true'", "''"}).Draw(t, "literal")
	}
	atom := func() string {
		if rapid.IntRange(0, 2).Draw(t, "kind of atom") > 0 {
			return rapid.SampledFrom(names).Draw(t, "name")
		}
		return literal()
	}
	if depth == 0 {
		return atom()
	}
	sub := func() string {
		inner := drawSQL(t, depth-1)
		if rapid.Bool().Draw(t, "brackets") {
			return "(" + inner + ")"
		}
		return inner
	}
	switch rapid.IntRange(0, 11).Draw(t, "form") {
	case 0, 1:
		return sub() + rapid.SampledFrom([]string{" AND ", " OR ", " XOR ", " and "}).Draw(t, "logic") + sub()
	case 2, 3:
		return atom() + rapid.SampledFrom([]string{" = ", " != ", " <> ", "="}).Draw(t, "comparison") + atom()
	case 4:
		return sub() + rapid.SampledFrom([]string{" = ", " < ", " <= ", " > ", " >= ", " != "}).Draw(t, "comparison") + sub()
	case 5:
		return sub() + rapid.SampledFrom([]string{" + ", " - ", " * ", " / ", " % "}).Draw(t, "arithmetic") + sub()
	case 6:
		return atom() + rapid.SampledFrom([]string{" LIKE ", " NOT LIKE "}).Draw(t, "like") +
			rapid.SampledFrom([]string{"'a'", "'a%'", "'%b'", "'%b%'", "'a_%'", "'%_b_%'", "'%'", "'1_'", "'a\\%'", "''"}).Draw(t, "pattern")
	case 7:
		return atom() + rapid.SampledFrom([]string{" IN ", " NOT IN "}).Draw(t, "in") + "(" + atom() + ", " + literal() + ")"
	case 8:
		return "EXISTS " + rapid.SampledFrom(names).Draw(t, "name")
	case 9:
		return "NOT " + sub()
	case 10:
		form := rapid.SampledFrom([]string{
			"ABS(%[1]s)", "LENGTH(%[1]s)", "LOWER(%[1]s)", "UPPER(%[1]s)", "INT(%[1]s)", "BOOL(%[1]s)", "STRING(%[1]s)",
			"IS_INT(%[1]s)", "CONCAT(%[1]s, 'b')", "LEFT(%[1]s, 1)", "RIGHT(%[1]s, 2)", "SUBSTRING(%[1]s, 2)",
			"SUBSTRING(%[1]s, -2, 1)", "CONCAT_WS('-', %[1]s, %[1]s)",
		}).Draw(t, "call")
		return fmt.Sprintf(form, drawSQL(t, depth-1))
	}
	return "- " + sub()
}

// bySDK evaluates an expression by the SDK alone, on an event of its own.
func bySDK(t *rapid.T, raw []byte) func(text string) bool {
	var e cloudevents.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	return func(text string) (matched bool) {
		tree, err := sdkparser.Parse(text)
		if err != nil {
			t.Fatalf("the SDK does not read %s: %v", text, err)
		}
		defer func() {
			if recover() != nil {
				matched = false
			}
		}()
		value, err := tree.Evaluate(e)
		if err != nil {
			return false
		}
		value, err = utils.Cast(value, cesql.BooleanType)
		return err == nil && value == true
	}
}

func attributesOf(e *event.Event) map[string]string {
	attributes := map[string]string{}
	for name, value := range e.Attributes() {
		attributes[name] = value.String()
	}
	return attributes
}

// holds fails unless each set of anchors that the filter may be filed by has one that holds in an event that it matches.
func holds(t *rapid.T, f *Filter, e *event.Event) {
	if f == nil || !f.Match(e) {
		return
	}
	for _, set := range candidatesOf(f.root) {
		if !slices.ContainsFunc(set, func(a anchor) bool { return a.holds(e) }) {
			t.Fatalf("%s matches %s, but none of %v holds", f.Key(), e.JSON(), set)
		}
	}
}

func TestCompiledFiltersMatchAsTheyRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := drawEvent(t)
		e, err := event.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var list []any
		for range rapid.IntRange(1, 3).Draw(t, "filters") {
			list = append(list, drawFilter(t, 3))
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Compile(Query{Filters: text})
		if err != nil {
			t.Fatalf("%s does not compile: %v", text, err)
		}
		want := naive(map[string]any{"all": list}, attributesOf(&e), bySDK(t, raw))
		if got := f.Match(&e); got != want {
			t.Fatalf("%s matches %s: %v, want %v; key %s", text, raw, got, want, f.Key())
		}
		holds(t, f, &e)

		slices.Reverse(list)
		reversed, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Compile(Query{Filters: reversed})
		if err != nil {
			t.Fatal(err)
		}
		if f.Key() != g.Key() {
			t.Fatalf("the order of filters changes the key:\n%s\n%s", f.Key(), g.Key())
		}
	})
}

func TestCESQLMatchesAsInTheSDK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := drawEvent(t)
		e, err := event.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		text := drawSQL(t, 4)
		f, err := Compile(Query{SQL: text})
		if err != nil {
			t.Fatalf("%s does not compile: %v", text, err)
		}
		if got, want := f.Match(&e), bySDK(t, raw)(text); got != want {
			t.Fatalf("%s matches %s: %v, by the SDK %v; key %s", text, raw, got, want, f.Key())
		}
		holds(t, f, &e)
	})
}

func TestParametersMatchAsTheyRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := event.Parse(drawEvent(t))
		if err != nil {
			t.Fatal(err)
		}
		value := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "a*", "*", "1*", "12", "b"}), 0, 3)
		q := Query{Types: value.Draw(t, "types"), Sources: value.Draw(t, "sources"), Subjects: value.Draw(t, "subjects"), Resources: value.Draw(t, "resources")}
		f, err := Compile(q)
		if err != nil {
			t.Fatal(err)
		}
		want := true
		attributes := attributesOf(&e)
		for name, list := range map[string][]string{"type": q.Types, "source": q.Sources, "subject": q.Subjects, "resource": q.Resources} {
			have, ok := attributes[name]
			want = want && (len(list) == 0 || slices.ContainsFunc(list, func(v string) bool {
				p, isPrefix := strings.CutSuffix(v, "*")
				return ok && (have == v && !isPrefix || isPrefix && strings.HasPrefix(have, p))
			}))
		}
		if got := f.Match(&e); got != want {
			t.Fatalf("%+v matches %s: %v, want %v", q, e.JSON(), got, want)
		}
		holds(t, f, &e)
	})
}

// readBySDK tells whether the SDK reads an expression; it panics at some that it does not.
func readBySDK(text string) (tree cesql.Expression) {
	defer func() {
		if recover() != nil {
			tree = nil
		}
	}()
	tree, err := sdkparser.Parse(text)
	if err != nil {
		return nil
	}
	return tree
}

func TestCESQLIsReadAsByTheSDK(t *testing.T) {
	words := []string{
		"id", "subject", "missing", "b1", "1b", "5", "-7", "'a'", "\"b\"", "'it\\'s'", "'a''b'", "TRUE", "false", "(", ")", "(", ")", ",",
		"AND", "or", "XOR", "NOT", "not", "LIKE", "IN", "EXISTS", "exists", "=", "!=", "<>", "<", "<=", ">", ">=", "*", "/", "%", "-", "+",
		"ABS", "LENGTH", "CONCAT", "IS_INT", "NO_SUCH", "2147483648",
	}
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(`{"specversion":"1.0","id":"5","source":"a","type":"b","subject":"true","b1":true,"1b":7}`)
		e, err := event.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var tokens []string
		if rapid.Bool().Draw(t, "mutated") {
			tokens = strings.Fields(drawSQL(t, 3))
			tokens[rapid.IntRange(0, len(tokens)-1).Draw(t, "place")] = rapid.SampledFrom(words).Draw(t, "word")
		} else {
			tokens = rapid.SliceOfN(rapid.SampledFrom(words), 1, 8).Draw(t, "tokens")
		}
		text := strings.Join(tokens, " ")
		theirs := readBySDK(text)
		x, err := (&compiler{nodes: maxNodes}).parseCESQL(text)
		if err == nil && theirs == nil {
			// "1 -7" is a subtraction here, and two numbers in a row to the SDK.
			if !strings.Contains(text, " -7") && !strings.Contains(text, " -2") && !strings.Contains(text, " -1") {
				t.Fatalf("%s is read as %s, by the SDK not at all", text, x.appendKey(nil))
			}
			return
		}
		if err != nil {
			if theirs != nil {
				t.Fatalf("%s is not read (%v), but by the SDK", text, err)
			}
			return
		}
		accepted++
		var event cloudevents.Event
		if err := json.Unmarshal(raw, &event); err != nil {
			t.Fatal(err)
		}
		want, wantErr := evaluated(theirs, event)
		got, gotErr := evaluated(build(x), cloudevents.Event{Context: &view{event: &e}})
		if (wantErr == nil) != (gotErr == nil) || wantErr == nil && want != got {
			t.Fatalf("%s gives %v, %v; by the SDK %v, %v", text, got, gotErr, want, wantErr)
		}
	})
	if accepted == 0 {
		t.Fatal("no expression was read by both")
	}
}

func evaluated(tree cesql.Expression, e cloudevents.Event) (value any, err error) {
	defer func() {
		if failure := recover(); failure != nil {
			err = fmt.Errorf("panic: %v", failure)
		}
	}()
	return tree.Evaluate(e)
}
