package event_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/event"
)

// with is a minimal event with more members.
func with(members string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + members + `}`
}

func TestParseForwardsTheBytesAsTheyCame(t *testing.T) {
	for _, raw := range []string{
		position,
		with(``),
		with(` , "x" : 1,"data" :{ "b":1, "a":[1.0,1e3,"\u00e6\/"] } `),
		"{\t\"specversion\":\"1.0\",\"id\":\"\\u0031\",\"source\":\"\\/s\",\"type\":\"t\"}",
	} {
		e, err := event.Parse([]byte(raw))
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if got := string(e.JSON()); got != raw {
			t.Errorf("forwarded %s, came %s", got, raw)
		}
		around, err := event.Parse([]byte("\n\t " + raw + " \r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(around.JSON()); got != raw {
			t.Errorf("forwarded %s with what stood around it", got)
		}
	}
}

func TestParseMakesOneLine(t *testing.T) {
	raw := "{\n \"specversion\": \"1.0\",\r\n\"id\":\"1\\u00e6\", \"source\" :\"/s\",\"type\":\"t\",\n\"data\":{\"a\": [1,\n2],\"b\":\"x\\n <y>\"}\n}\n"
	e, err := event.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"1\u00e6","source":"/s","type":"t","data":{"a":[1,2],"b":"x\n <y>"}}`
	if diff := cmp.Diff(want, string(e.JSON())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if e.ID() != "1æ" || string(e.Data()) != `{"a":[1,2],"b":"x\n <y>"}` {
		t.Errorf("id %q, data %s", e.ID(), e.Data())
	}
}

func TestAttributesAreReadByName(t *testing.T) {
	e, err := event.Parse([]byte(with(`,"subject":"a\/b","time":"2026-02-28T17:31:00Z","datacontenttype":"text/plain","dataschema":"https://x/y",` +
		`"n":-2147483648,"z":-0,"yes":true,"no":false,"gone":null,"\u0065xt":"\ud83d\ude82","empty":"","data_base64":"YQ=="`)))
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Kind event.Kind
		Text string
	}
	want := map[string]seen{
		"specversion": {event.String, "1.0"}, "id": {event.String, "1"}, "source": {event.String, "/s"}, "type": {event.String, "t"},
		"subject": {event.String, "a/b"}, "time": {event.String, "2026-02-28T17:31:00Z"}, "datacontenttype": {event.String, "text/plain"},
		"dataschema": {event.String, "https://x/y"}, "n": {event.Integer, "-2147483648"}, "z": {event.Integer, "0"},
		"yes": {event.Boolean, "true"}, "no": {event.Boolean, "false"}, "ext": {event.String, "🚂"}, "empty": {event.String, ""},
	}
	got := map[string]seen{}
	for name, value := range e.Attributes() {
		got[name] = seen{value.Kind(), value.String()}
		if again, ok := e.Attribute(name); !ok || again != value {
			t.Errorf("Attribute(%q) is %v, %v", name, again, ok)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"gone", "missing", "data", "data_base64", ""} {
		if v, ok := e.Attribute(name); ok {
			t.Errorf("Attribute(%q) is %v", name, v)
		}
	}
	if n, _ := e.Attribute("n"); n.Int() != -1<<31 {
		t.Errorf("n is %d", n.Int())
	}
	if yes, _ := e.Attribute("yes"); !yes.Bool() || yes.Int() != 0 {
		t.Error("yes is not true")
	}
	if text, ok := e.DataBase64(); !ok || text != "YQ==" || e.Data() != nil {
		t.Errorf("data_base64 is %q, data %q", text, e.Data())
	}
	names := []string{e.SpecVersion(), e.ID(), e.Source(), e.Type(), e.Subject(), e.Time(), e.DataContentType(), e.DataSchema()}
	if diff := cmp.Diff([]string{"1.0", "1", "/s", "t", "a/b", "2026-02-28T17:31:00Z", "text/plain", "https://x/y"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var none event.Event
	if _, ok := none.Attribute("id"); ok || none.ID() != "" || none.JSON() != nil {
		t.Error("the zero Event has something")
	}
}

func TestAttributesDoNotAllocate(t *testing.T) {
	e, err := event.Parse([]byte(position))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		v, _ := e.Attribute("resource")
		_ = v.String() + ""
		_ = e.Type()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	raw := []byte(position)
	if n := testing.AllocsPerRun(100, func() { _, _ = event.Parse(raw) }); n > 1 {
		t.Errorf("Parse makes %v allocations", n)
	}
}

func TestParseAcceptsWhatTheSpecificationAllows(t *testing.T) {
	for name, members := range map[string]string{
		"no data":                 ``,
		"null attributes":         `,"subject":null,"time":null,"dataschema":null,"datacontenttype":null,"x":null`,
		"null data":               `,"data":null`,
		"null next to base64":     `,"data":null,"data_base64":"YQ=="`,
		"base64 null":             `,"data":1,"data_base64":null`,
		"empty base64":            `,"data_base64":""`,
		"escaped base64":          `,"data_base64":"\/+8="`,
		"data of any kind":        `,"data":"text"`,
		"numeric name":            `,"1":"x"`,
		"largest integer":         `,"x":2147483647`,
		"empty extension":         `,"x":""`,
		"time with fraction":      `,"time":"2026-02-28T17:31:00.123456789123+01:00"`,
		"time in lower case":      `,"time":"2024-02-29t17:31:00z"`,
		"leap second":             `,"time":"1990-12-31T23:59:60Z"`,
		"content type parameters": `,"datacontenttype":"Text/Plain; charset=\"utf-8\""`,
		"schema with port":        `,"dataschema":"http://[::1]:80/a?b=c#d"`,
		"urn schema":              `,"dataschema":"urn:uuid:1"`,
		"nested data":             `,"data":` + strings.Repeat("[", 255) + strings.Repeat("]", 255),
		"noncharacter in data":    `,"data":"\uffff\u0000"`,
		"astral text":             `,"x":"\ud83d\ude00😀"`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := event.Parse([]byte(with(members))); err != nil {
				t.Error(err)
			}
		})
	}
	for _, source := range []string{"/", "a", "a/b:c", "urn:x:y", "https://u:p@host:8080/p%20q?x=y", "//host/x", "?q", "#f", "mailto:a@b", "http://[v1.x:y]/", "1-555-123-4567", "//h:/"} {
		if _, err := event.Parse([]byte(`{"specversion":"1.0","id":"1","type":"t","source":"` + source + `"}`)); err != nil {
			t.Errorf("source %s: %v", source, err)
		}
	}
}

func TestParseRefusesWithThePlaceOfTheMistake(t *testing.T) {
	for _, c := range []struct{ name, raw, pointer, message string }{
		{"no specversion", `{"id":"1","source":"/s","type":"t"}`, "/specversion", "missing"},
		{"another specversion", `{"specversion":"0.3","id":"1","source":"/s","type":"t"}`, "/specversion", "0.3"},
		{"no id", `{"specversion":"1.0","source":"/s","type":"t"}`, "/id", "missing"},
		{"null id", `{"specversion":"1.0","id":null,"source":"/s","type":"t"}`, "/id", "missing"},
		{"empty id", `{"specversion":"1.0","id":"","source":"/s","type":"t"}`, "/id", "empty"},
		{"number as id", `{"specversion":"1.0","id":1,"source":"/s","type":"t"}`, "/id", "no string"},
		{"empty type", `{"specversion":"1.0","id":"1","source":"/s","type":""}`, "/type", "empty"},
		{"empty source", `{"specversion":"1.0","id":"1","source":"","type":"t"}`, "/source", "empty"},
		{"member twice", with(`,"id":"2"`), "/id", "twice"},
		{"member twice, escaped", with(`,"\u0069d":"2"`), "/id", "twice"},
		{"extension twice", with(`,"x":"1","y":1,"x":null`), "/x", "twice"},
		{"data twice", with(`,"data":1,"data":2`), "/data", "twice"},
		{"base64 twice", with(`,"data_base64":"","data_base64":""`), "/data_base64", "twice"},
		{"data and base64", with(`,"data":1,"data_base64":""`), "/data_base64", "both"},
		{"bad base64", with(`,"data_base64":"Y"`), "/data_base64", "no Base64"},
		{"base64 of another alphabet", with(`,"data_base64":"_-8="`), "/data_base64", "no Base64"},
		{"base64 without padding", with(`,"data_base64":"YQ"`), "/data_base64", "no Base64"},
		{"base64 with bits too many", with(`,"data_base64":"YR=="`), "/data_base64", "no Base64"},
		{"base64 as object", with(`,"data_base64":{}`), "/data_base64", "no string"},
		{"upper-case name", with(`,"traceParent":"x"`), "/traceParent", "cannot be the name"},
		{"name with a slash", with(`,"a/b~":"x"`), "/a~1b~0", "cannot be the name"},
		{"empty name", with(`,"":"x"`), "/", "cannot be the name"},
		{"long name", with(`,"` + strings.Repeat("x", 256) + `":"x"`), "/" + strings.Repeat("x", 64) + "…", "too long"},
		{"integer too large", with(`,"x":2147483648`), "/x", "no Integer"},
		{"integer too small", with(`,"x":-2147483649`), "/x", "no Integer"},
		{"fraction", with(`,"x":1.0`), "/x", "no Integer"},
		{"exponent", with(`,"x":1e2`), "/x", "no Integer"},
		{"object as attribute", with(`,"x":{}`), "/x", "no object"},
		{"array as attribute", with(`,"x":["a"]`), "/x", "no array"},
		{"number as subject", with(`,"subject":5`), "/subject", "no string"},
		{"empty subject", with(`,"subject":""`), "/subject", "empty"},
		{"time without zone", with(`,"time":"2026-02-28T17:31:00"`), "/time", "no timestamp"},
		{"time with a blank", with(`,"time":"2026-02-28 17:31:00Z"`), "/time", "no timestamp"},
		{"day that is not", with(`,"time":"2026-02-29T17:31:00Z"`), "/time", "no timestamp"},
		{"hour 24", with(`,"time":"2026-02-28T24:00:00Z"`), "/time", "no timestamp"},
		{"comma in time", with(`,"time":"2026-02-28T17:31:00,5Z"`), "/time", "no timestamp"},
		{"offset too large", with(`,"time":"2026-02-28T17:31:00+24:00"`), "/time", "no timestamp"},
		{"relative schema", with(`,"dataschema":"/schema"`), "/dataschema", "no absolute URI"},
		{"blank in source", `{"specversion":"1.0","id":"1","source":"a b","type":"t"}`, "/source", "no URI-reference"},
		{"letter in source", `{"specversion":"1.0","id":"1","source":"/tromsø","type":"t"}`, "/source", "no URI-reference"},
		{"percent in source", `{"specversion":"1.0","id":"1","source":"/100%","type":"t"}`, "/source", "no URI-reference"},
		{"two fragments", `{"specversion":"1.0","id":"1","source":"a#b#c","type":"t"}`, "/source", "no URI-reference"},
		{"bad scheme", `{"specversion":"1.0","id":"1","source":"1a:b","type":"t"}`, "/source", "no URI-reference"},
		{"bad port", `{"specversion":"1.0","id":"1","source":"http://h:x/","type":"t"}`, "/source", "no URI-reference"},
		{"bad IP literal", `{"specversion":"1.0","id":"1","source":"http://[1.2.3.4]/","type":"t"}`, "/source", "no URI-reference"},
		{"no media type", with(`,"datacontenttype":"json"`), "/datacontenttype", "no media type"},
		{"bad parameter", with(`,"datacontenttype":"text/plain; ="`), "/datacontenttype", "no media type"},
		{"control character", with(`,"x":"a\u0007"`), "/x", "U+0007"},
		{"delete", with(`,"x":"` + "\x7f" + `"`), "/x", "U+007F"},
		{"C1", with(`,"x":"\u0085"`), "/x", "U+0085"},
		{"noncharacter", with(`,"x":"\ufdd0"`), "/x", "U+FDD0"},
		{"half a pair", with(`,"x":"\ud83d"`), "/x", "surrogate"},
		{"a reserved name", with(`,"eventissuercursor":"x"`), "/eventissuercursor", "reserved"},
		{"the name of a delivery's partition", with(`,"eventissuergroup":"x"`), "/eventissuergroup", "reserved"},
		{"the name of a delivery's attempt", with(`,"eventissuerattempt":1`), "/eventissuerattempt", "reserved"},
		{"too many attributes", with(manyMembers(252)), "", "too many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := event.Parse([]byte(c.raw))
			var problems *event.Error
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if problems.Malformed {
				t.Errorf("it is called malformed: %v", err)
			}
			if len(problems.Problems) != 1 {
				t.Errorf("got %d problems, want one: %v", len(problems.Problems), err)
			}
			p := problems.Problems[0]
			if p.Pointer != c.pointer || !strings.Contains(p.Message, c.message) || p.Expected == "" {
				t.Errorf("got %q %q, expected %q; want %q and a message with %q", p.Pointer, p.Message, p.Expected, c.pointer, c.message)
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"x%d":1`, i)
	}
	return b.String()
}

func TestParseRefusesBrokenJSON(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":             "",
		"blanks":              "  \n",
		"an array":            "[]",
		"a string":            `"x"`,
		"a byte order mark":   "\ufeff" + with(``),
		"an open object":      `{"specversion":"1.0"`,
		"a trailing comma":    with(`,`),
		"no comma":            with(` "x":1`),
		"no colon":            with(`,"x" 1`),
		"a name unquoted":     with(`,x:1`),
		"two values":          with(``) + with(``),
		"a control character": with(`,"x":"` + "\x01" + `"`),
		"a line in a string":  with(`,"x":"` + "\n" + `"`),
		"a bad escape":        with(`,"x":"\x"`),
		"a short escape":      with(`,"x":"\u12"`),
		"a leading zero":      with(`,"x":01`),
		"a plus":              with(`,"x":+1`),
		"a bare point":        with(`,"data":1.`),
		"a bare exponent":     with(`,"data":1e+`),
		"a bare minus":        with(`,"data":-`),
		"a bad word":          with(`,"data":nul`),
		"no value":            with(`,"data":`),
		"a comma in an array": with(`,"data":[1,]`),
		"not UTF-8":           with(`,"data":"` + "\xc3\x28" + `"`),
		"an overlong form":    with(`,"data":"` + "\xc0\xaf" + `"`),
		"depth":               with(`,"data":` + strings.Repeat("[", 256) + strings.Repeat("]", 256)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, parse := range []func([]byte) (event.Event, error){event.Parse, event.ParseStored} {
				_, err := parse([]byte(raw))
				var problems *event.Error
				if !errors.As(err, &problems) || !problems.Malformed || len(problems.Problems) != 1 {
					t.Fatalf("got %v, want one problem that is malformed", err)
				}
			}
		})
	}
}

func TestErrorsListAtMostTwentyProblems(t *testing.T) {
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, `,"X%d":1`, i)
	}
	_, err := event.Parse([]byte(with(b.String())))
	var problems *event.Error
	if !errors.As(err, &problems) || len(problems.Problems) != 20 {
		t.Fatalf("got %v, want 20 problems", err)
	}
}

func TestStoredEventsNeedOnlyWhatFilteringTakes(t *testing.T) {
	for name, members := range map[string]string{
		"names":     `,"traceParent":"x","a_b":1`,
		"numbers":   `,"x":1.5,"y":99999999999`,
		"time":      `,"time":"yesterday"`,
		"URIs":      `,"dataschema":"/relative"`,
		"empty":     `,"subject":""`,
		"structure": `,"x":{"a":1}`,
		"half pair": `,"x":"\ud83d"`,
		"base64":    `,"data_base64":"Y"`,
	} {
		t.Run(name, func(t *testing.T) {
			raw := with(members)
			e, err := event.ParseStored([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			if string(e.JSON()) != raw {
				t.Errorf("forwarded %s, stored %s", e.JSON(), raw)
			}
			if _, ok := e.Attribute("subject"); ok {
				t.Error("an empty subject is set")
			}
		})
	}
	e, err := event.ParseStored([]byte(with(`,"x":1.5,"y":{},"specversion2":1`)))
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := e.Attribute("x"); !ok || x.String() != "1.5" || x.Kind() != event.String {
		t.Errorf("x is %v, %v", x, ok)
	}
	if _, ok := e.Attribute("y"); ok {
		t.Error("an object is handed out")
	}
	for name, raw := range map[string]string{
		"no id": `{"specversion":"1.0","source":"/s","type":"t"}`, "version": `{"specversion":"0.3","id":"1","source":"/s","type":"t"}`,
		"twice": with(`,"type":"u"`), "number as type": `{"specversion":"1.0","id":"1","source":"/s","type":1}`, "no event": `{}`,
		"number as subject": with(`,"subject":1`),
	} {
		if _, err := event.ParseStored([]byte(raw)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func TestReservedAttributeIsTakenOutOfStoredEvents(t *testing.T) {
	const cursor = `"eventissuercursor":"abc"`
	rest := `"specversion":"1.0","id":"1","source":"/s","type":"t"`
	for name, raw := range map[string]string{
		"first":    `{` + cursor + `,` + rest + `}`,
		"last":     `{` + rest + `,` + cursor + `}`,
		"blanks":   `{ ` + cursor + ` , ` + rest + ` }`,
		"escaped":  `{"\u0065ventissuercursor":{"a":[1]},` + rest + `}`,
		"twice":    `{` + cursor + `,` + rest + `,` + cursor + `}`,
		"in lines": "{\n" + cursor + ",\n" + rest + "\n}",
	} {
		e, err := event.ParseStored([]byte(raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.ReplaceAll(string(e.JSON()), " ", ""); got != `{`+rest+`}` {
			t.Errorf("%s: %s", name, got)
		}
		if e.ID() != "1" || e.Type() != "t" {
			t.Errorf("%s: id %q, type %q", name, e.ID(), e.Type())
		}
	}
	if _, err := event.ParseStored([]byte(`{` + cursor + `}`)); err == nil {
		t.Error("an event of nothing else is read")
	}
}
