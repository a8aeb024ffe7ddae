package event_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// trainWrap is a mapping that uses every origin.
const trainWrap = `{"type":"no.banenor.train.delay","source":"https://banenor.example/tis","subject":{"pointer":"/train/no"},
 "dataschema":{"header":"schema","default":"https://banenor.example/schemas/delay"},
 "extensions":{"line":{"pointer":"/line","default":"unknown"},"delay":{"pointer":"/delay"},"late":{"pointer":"/late"},
  "partitionkey":{"key":true},"stop":{"pointer":"/stops/1/co~1de"},"at":{"position":true},"written":{"timestamp":true}}}`

const trainRecord = `{"train":{"no":1612,"owner":"Vy"},"line":"dovrebanen","delay":-12,"late":true,"stops":[{"code":"HMR"},{"co/de":"LHM"}],"speed":131.5}`

func wrapOf(t testing.TB, definition string) *event.Wrap {
	t.Helper()
	w, err := event.CompileWrap([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func plainRecord(value string, h ...broker.Header) broker.Record {
	return broker.Record{
		Partition: 3, Offset: 1741, Timestamp: time.Date(2026, 2, 28, 17, 31, 0, 125e6, time.FixedZone("CET", 3600)),
		Key: []byte("1612"), Value: []byte(value), Headers: h,
	}
}

func TestPlainRecordsAreWrapped(t *testing.T) {
	e, err := wrapOf(t, trainWrap).FromRecord(plainRecord(trainRecord))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"3-1741","source":"https://banenor.example/tis","type":"no.banenor.train.delay","subject":"1612",` +
		`"time":"2026-02-28T16:31:00.125Z","dataschema":"https://banenor.example/schemas/delay","at":"3-1741","delay":-12,"late":true,"line":"dovrebanen",` +
		`"partitionkey":"1612","stop":"LHM","written":"2026-02-28T16:31:00.125Z","datacontenttype":"application/json","data":` + trainRecord + `}`
	if diff := cmp.Diff(want, string(e.JSON())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	sound(t, e, false)
}

func TestWrappedValuesComeFromWhereTheMappingSays(t *testing.T) {
	// valueOf wraps a record with x taken from from, and returns x.
	for _, c := range []struct {
		name, attribute, from, value string
		headers                      []broker.Header
		want                         string // "-" is unset, "!" with a text an error that says it
	}{
		{"a fixed value", "x", `"a \"b\""`, `1`, nil, `a "b"`},
		{"an integer", "x", `{"pointer":"/n"}`, `{"n":-0}`, nil, "0"},
		{"digits that no float holds", "subject", `{"pointer":"/n"}`, `{"n":12345678901234567890}`, nil, "12345678901234567890"},
		{"a fraction, as written", "subject", `{"pointer":"/n"}`, `{"n":1.50}`, nil, "1.50"},
		{"a boolean", "subject", `{"pointer":"/n"}`, `{"n":false}`, nil, "false"},
		{"the whole value", "subject", `{"pointer":""}`, ` "all" `, nil, "all"},
		{"an escaped name", "subject", `{"pointer":"/æ~0"}`, `{"\u00e6~":"x"}`, nil, "x"},
		{"an escaped text", "subject", `{"pointer":"/n"}`, `{"n":"a\/\ud83d\ude82"}`, nil, "a/🚂"},
		{"an element", "subject", `{"pointer":"/0/1"}`, `[[1,"b"],2]`, nil, "b"},
		{"no element has leading zeros", "subject", `{"pointer":"/00"}`, `["a"]`, nil, "-"},
		{"the last of equal members", "subject", `{"pointer":"/a/b"}`, `{"a":{"b":"x"},"a":{"b":"y"}}`, nil, "y"},
		{"a later member without it", "subject", `{"pointer":"/a/b"}`, `{"a":{"b":"x"},"a":{}}`, nil, "-"},
		{"inside what it is not", "subject", `{"pointer":"/a/b"}`, `{"a":"b"}`, nil, "-"},
		{"nowhere", "subject", `{"pointer":"/a"}`, `{}`, nil, "-"},
		{"nowhere, with a default", "subject", `{"pointer":"/a","default":"d"}`, `{}`, nil, "d"},
		{"null", "subject", `{"pointer":"/a"}`, `{"a":null}`, nil, "!null"},
		{"null, with a default", "subject", `{"pointer":"/a","default":"d"}`, `{"a":null}`, nil, "d"},
		{"an object", "subject", `{"pointer":"/a"}`, `{"a":{}}`, nil, "!an object or an array"},
		{"an array, with a default", "subject", `{"pointer":"/a","default":"d"}`, `{"a":[]}`, nil, "d"},
		{"an empty text", "subject", `{"pointer":"/a"}`, `{"a":""}`, nil, "!empty"},
		{"an empty text for an extension", "x", `{"pointer":"/a"}`, `{"a":""}`, nil, ""},
		{"a control character", "x", `{"pointer":"/a"}`, `{"a":"\u0007"}`, nil, "!U+0007"},
		{"half a surrogate pair", "x", `{"pointer":"/a"}`, `{"a":"\ud83d"}`, nil, "!half"},
		{"a long text", "x", `{"pointer":"/a"}`, `{"a":"` + strings.Repeat("x", 5000) + `"}`, nil, "!5000 bytes"},
		{"a time", "time", `{"pointer":"/t"}`, `{"t":"2026-01-01T00:00:00+01:00"}`, nil, "2026-01-01T00:00:00+01:00"},
		{"a time that is none", "time", `{"pointer":"/t"}`, `{"t":1772300000}`, nil, "!no timestamp"},
		{"a source that is none", "source", `{"pointer":"/s"}`, `{"s":"a b"}`, nil, "!no URI-reference"},
		{"a source that is missing", "source", `{"pointer":"/s"}`, `{}`, nil, "!required"},
		{"a schema that is relative", "dataschema", `{"pointer":"/s","default":"x:y"}`, `{"s":"z"}`, nil, "x:y"},
		{"a header, the last one", "x", `{"header":"h"}`, `1`, headers("h", "1", "H", "2", "h", "3", "i", "4"), "3"},
		{"a header that is missing", "x", `{"header":"h"}`, `1`, headers("H", "2"), "-"},
		{"a header without a value", "x", `{"header":"h","default":"d"}`, `1`, []broker.Header{{Key: "h"}}, "d"},
		{"a header that is not UTF-8", "x", `{"header":"h"}`, `1`, headers("h", "\xff"), "!UTF-8"},
		{"the key", "x", `{"key":true}`, `1`, nil, "1612"},
		{"the position", "subject", `{"position":true}`, `1`, nil, "3-1741"},
		{"the timestamp", "subject", `{"timestamp":true}`, `1`, nil, "2026-02-28T16:31:00.125Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			members := map[string]string{"type": `"t"`, "source": `"/s"`}
			if c.attribute == "x" {
				members["extensions"] = `{"x":` + c.from + `}`
			} else {
				members[c.attribute] = c.from
			}
			var definition []string
			for name, value := range members {
				definition = append(definition, strconv.Quote(name)+":"+value)
			}
			w := wrapOf(t, "{"+strings.Join(definition, ",")+"}")
			e, err := w.FromRecord(plainRecord(c.value, c.headers...))
			if fault, ok := strings.CutPrefix(c.want, "!"); ok {
				explained(t, err)
				if !strings.Contains(err.Error(), fault) || !strings.Contains(err.Error(), "/"+c.attribute) {
					t.Errorf("got %v, want that it says %q", err, fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sound(t, e, false)
			got := "-"
			if v, ok := e.Attribute(c.attribute); ok {
				got = v.String()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWrappedEventsAreOneLineOfTheSameData(t *testing.T) {
	w := wrapOf(t, `{"type":"t","source":"/s"}`)
	for value, want := range map[string]string{
		" {\"b\":1.0 , \"a\":\"\\u00e6\"} ": `{"b":1.0 , "a":"\u00e6"}`,
		"{\n  \"b\": [1,\r\n 2]\n}\n":       `{"b":[1,2]}`,
		"null":                              "null",
		"3":                                 "3",
	} {
		e, err := w.FromRecord(plainRecord(value))
		if err != nil {
			t.Fatal(err)
		}
		sound(t, e, false)
		if got := string(e.Data()); got != want {
			t.Errorf("%q: data %q", value, got)
		}
	}
	r := plainRecord(trainRecord)
	e, err := w.FromRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	clear(r.Value)
	if string(e.Data()) != trainRecord {
		t.Error("the event shares the record's bytes")
	}
}

func TestRecordsThatCannotBeWrappedAreToldApart(t *testing.T) {
	w := wrapOf(t, `{"type":"t","source":"/s"}`)
	if _, err := w.FromRecord(broker.Record{}); !errors.Is(err, event.ErrTombstone) {
		t.Errorf("a tombstone gives %v", err)
	}
	for _, value := range []string{"", " ", "{", `{"a":1}x`, `{"a":}`, "\xff", `"` + "\xff" + `"`, "hei", strings.Repeat("[", 300) + strings.Repeat("]", 300)} {
		_, err := w.FromRecord(plainRecord(value))
		explained(t, err)
		if broken := new(event.Error); !errors.As(err, &broken) || !broken.Malformed {
			t.Errorf("%.20q gives %v", value, err)
		}
	}
}

func TestMistakesOfMappingsAreAllTold(t *testing.T) {
	var many strings.Builder
	for i := range 17 {
		many.WriteString(`,"x` + strconv.Itoa(i) + `":"1"`)
	}
	for definition, want := range map[string][]string{
		``:     {""},
		`null`: {""},
		`[]`:   {""},
		`{}`:   {"/source", "/type"},
		`{"type":"","source":"a b","time":"now","dataschema":"/x","subject":1,"other":1}`:                                                        {"/dataschema", "/other", "/source", "/subject", "/time", "/type"},
		`{"type":{},"source":{"pointer":"/a","key":true},"id":{"pointer":"a"},"subject":{"default":"x"}}`:                                        {"/id/pointer", "/source", "/subject", "/type"},
		`{"type":"t","source":"/s","time":{"position":true},"dataschema":{"position":true}}`:                                                     {"/dataschema/position", "/time/position"},
		`{"type":{"pointer":"/~2"},"source":{"header":""},"id":{"key":1},"subject":{"position":false},"time":{"timestamp":"yes"}}`:               {"/id/key", "/source/header", "/subject/position", "/time/timestamp", "/type/pointer"},
		`{"type":{"pointer":1},"source":{"header":2},"time":{"pointer":"/t","default":"x"},"subject":{"key":true,"default":1,"more":1}}`:         {"/source/header", "/subject/default", "/subject/more", "/time/default", "/type/pointer"},
		`{"type":"t","source":"/s","extensions":[]}`:                                                                                             {"/extensions"},
		`{"type":"t","source":"/s","extensions":{"a-b":"1","id":"2","data":"3","eventissuercursor":"4","eventissuerx":"5","ok":null,"a/b":"6"}}`: {"/extensions/a-b", "/extensions/a~1b", "/extensions/data", "/extensions/eventissuercursor", "/extensions/eventissuerx", "/extensions/id", "/extensions/ok"},
		`{"type":"t","source":"/s","extensions":{` + many.String()[1:] + `}}`:                                                                    {"/extensions"},
		`{"type":"t","source":"/s","subject":{"pointer":"` + strings.Repeat("/a", 33) + `"}}`:                                                    {"/subject/pointer"},
		`{"type":"t","source":"/s","subject":"` + strings.Repeat("a", 70<<10) + `"}`:                                                             {""},
	} {
		_, err := event.CompileWrap([]byte(definition))
		var mistakes *event.MappingError
		if !errors.As(err, &mistakes) {
			t.Errorf("%.80s gives %v", definition, err)
			continue
		}
		var got []string
		for _, p := range mistakes.Problems {
			got = append(got, p.Pointer)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.80s: (-want +got):\n%s", definition, diff)
		}
	}
}

func TestRecordsThatSayTheyAreCloudEventsAreNotWrapped(t *testing.T) {
	w := wrapOf(t, `{"type":"wrapped","source":"/s"}`)
	one := with(``)
	for name, c := range map[string]struct {
		record broker.Record
		wrap   *event.Wrap
		want   string
	}{
		"plain":                  {plainRecord(one), w, "wrapped"},
		"plain, JSON":            {plainRecord(one, headers("content-type", "application/json")...), w, "wrapped"},
		"structured":             {plainRecord(one, headers("Content-Type", "application/cloudevents+json")...), w, "t"},
		"binary":                 {plainRecord(`{}`, binaryHeaders()...), w, "t"},
		"plain, without a wrap":  {plainRecord(one), nil, "t"},
		"binary, without a wrap": {plainRecord(`{}`, binaryHeaders()...), nil, "t"},
	} {
		e, err := event.FromRecordOf(c.record, c.wrap)
		if err != nil || e.Type() != c.want {
			t.Errorf("%s: type %q, %v", name, e.Type(), err)
		}
	}
	if _, err := event.FromRecordOf(plainRecord(`{}`, headers("content-type", event.BatchMediaType)...), w); err == nil {
		t.Error("a batch is wrapped")
	}
}

// wrapIsSound checks what holds of whatever a Wrap makes.
func wrapIsSound(t *testing.T, w *event.Wrap, r broker.Record) {
	t.Helper()
	before := bytes.Clone(r.Value)
	e, err := w.FromRecord(r)
	if !bytes.Equal(before, r.Value) {
		t.Fatal("the record is changed")
	}
	if r.Value == nil {
		if !errors.Is(err, event.ErrTombstone) {
			t.Fatalf("a tombstone gives %v", err)
		}
		return
	}
	if err != nil {
		explained(t, err)
		return
	}
	sound(t, e, false)
	sound(t, e, true)
	again, err := w.FromRecord(r)
	if err != nil || !bytes.Equal(e.JSON(), again.JSON()) {
		t.Fatalf("%q becomes %q and %q, %v", r.Value, e.JSON(), again.JSON(), err)
	}
	parsed, err := event.Parse(bytes.Clone(e.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	sameEvent(t, parsed, e)
}

// sameEvent compares all that two events say.
func sameEvent(t *testing.T, want, got event.Event) {
	t.Helper()
	type member struct{ Name, Kind, Text string }
	all := func(e event.Event) (m []member) {
		for name, v := range e.Attributes() {
			m = append(m, member{name, v.Kind().String(), v.String()})
		}
		b64, _ := e.DataBase64()
		return append(m, member{"data", "", string(e.Data())}, member{"data_base64", "", b64},
			member{"core", "", strings.Join([]string{e.SpecVersion(), e.ID(), e.Source(), e.Type(), e.Subject(), e.Time(), e.DataContentType(), e.DataSchema()}, "|")})
	}
	if diff := cmp.Diff(all(want), all(got)); diff != "" {
		t.Fatalf("%s: (-want +got):\n%s", got.JSON(), diff)
	}
}

func FuzzWrap(f *testing.F) {
	f.Add([]byte(trainWrap), []byte(trainRecord), []byte("1612"), "schema", []byte("x:y"))
	f.Add([]byte(`{"type":{"pointer":"/a/0"},"source":{"header":"h","default":"/d"},"subject":{"pointer":""}}`), []byte(`{"a":["t",{}],"a":[1.5e3]}`), []byte(nil), "h", []byte("\xff"))
	f.Add([]byte(`{"type":{"key":true},"source":{"position":true},"time":{"pointer":"/t"}}`), []byte("{\"t\":\n\"2026-02-28T17:31:00Z\"}"), []byte("æ"), "", []byte{})
	f.Fuzz(func(t *testing.T, definition, value, key []byte, header string, headerValue []byte) {
		w, err := event.CompileWrap(definition)
		if err != nil {
			var mistakes *event.MappingError
			if !errors.As(err, &mistakes) || len(mistakes.Problems) == 0 {
				t.Fatalf("%v is no list of mistakes", err)
			}
			return
		}
		r := plainRecord(string(value), broker.Header{Key: header, Value: headerValue})
		r.Key = key
		wrapIsSound(t, w, r)
	})
}

func TestWhateverIsWrappedIsAValidEvent(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "/s", "x:y", "2026-01-01T00:00:00Z", "a b", "\u0001", "æ\"\\", "\ufdd0"}), rapid.String())
	rapid.Check(t, func(rt *rapid.T) {
		quote := func(s string) string { return string(mustJSON(t, s)) }
		value := func(depth int) string { return drawJSON(rt, quote, text, depth) }
		origin := func() string {
			fallback := ""
			if rapid.Bool().Draw(rt, "default") {
				fallback = `,"default":` + quote(text.Draw(rt, "fallback"))
			}
			switch rapid.IntRange(0, 5).Draw(rt, "origin") {
			case 0:
				return quote(text.Draw(rt, "fixed"))
			case 1:
				return `{"key":true` + fallback + `}`
			case 2:
				return `{"position":true` + fallback + `}`
			case 3:
				return `{"timestamp":true` + fallback + `}`
			case 4:
				return `{"header":"h"` + fallback + `}`
			}
			return `{"pointer":` + quote(rapid.SampledFrom([]string{"", "/a", "/a/b", "/a/0", "/b", "/b/1/a"}).Draw(rt, "pointer")) + fallback + `}`
		}
		definition := `{"type":` + origin() + `,"source":` + origin()
		for _, name := range []string{"subject", "id", "time", "dataschema"} {
			if rapid.Bool().Draw(rt, name) {
				definition += `,` + quote(name) + `:` + origin()
			}
		}
		definition += `,"extensions":{"x":` + origin() + `,"y":` + origin() + `}}`
		w, err := event.CompileWrap([]byte(definition))
		if err != nil {
			return
		}
		r := plainRecord(value(3), broker.Header{Key: "h", Value: []byte(text.Draw(rt, "header"))})
		r.Key = []byte(text.Draw(rt, "key"))
		wrapIsSound(t, w, r)
	})
}

func drawJSON(rt *rapid.T, quote func(string) string, text *rapid.Generator[string], depth int) string {
	kind := rapid.IntRange(0, 5).Draw(rt, "kind")
	if depth == 0 {
		kind = min(kind, 3)
	}
	switch kind {
	case 0:
		return quote(text.Draw(rt, "text"))
	case 1:
		return rapid.SampledFrom([]string{"0", "-0", "7", "2147483648", "-1.50", "1e300", "12345678901234567890"}).Draw(rt, "number")
	case 2:
		return rapid.SampledFrom([]string{"true", "false"}).Draw(rt, "boolean")
	case 3:
		return "null"
	case 4:
		return "[" + drawJSON(rt, quote, text, depth-1) + ",\n" + drawJSON(rt, quote, text, depth-1) + "]"
	}
	return `{"a":` + drawJSON(rt, quote, text, depth-1) + `, "b":` + drawJSON(rt, quote, text, depth-1) + `,"c":1}`
}

func BenchmarkWrap(b *testing.B) {
	for name, definition := range map[string]string{"fixed": `{"type":"t","source":"/s"}`, "every origin": trainWrap} {
		w := wrapOf(b, definition)
		r := plainRecord(strings.Replace(trainRecord, `"Vy"`, `"`+strings.Repeat("x", 160)+`"`, 1)) // 300 B
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(r.Value)))
			for b.Loop() {
				if _, err := w.FromRecord(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
