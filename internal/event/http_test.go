package event_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/event"
)

// header makes a header of names and values in turn.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// binary is the header of a minimal event in the binary mode, with more.
func binary(pairs ...string) http.Header {
	h := header("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t")
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestBinaryModeBecomesStructured(t *testing.T) {
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		want   string // after the required attributes
	}{
		{"no data", binary(), "", ``},
		{"no data, but a type", binary("Content-Type", "application/json"), "", `,"datacontenttype":"application/json"`},
		{"JSON", binary("Content-Type", "application/json"), `{"a":1.0}`, `,"datacontenttype":"application/json","data":{"a":1.0}`},
		{"JSON by suffix, in capitals, with parameters", binary("Content-Type", "Application/Vnd.X+JSON; Charset=UTF-8"), ` [1] `, `,"datacontenttype":"Application/Vnd.X+JSON; Charset=UTF-8","data":[1]`},
		{"text/json", binary("Content-Type", "text/json"), `"x"`, `,"datacontenttype":"text/json","data":"x"`},
		{"JSON in lines", binary("Content-Type", "application/json"), "{\r\n\"a\":\n1}", `,"datacontenttype":"application/json","data":{"a":1}`},
		{"JSON's null", binary("Content-Type", "application/json"), "null", `,"datacontenttype":"application/json","data":null`},
		{"nothing said, JSON", binary(), `{"a":1}`, `,"data":{"a":1}`},
		{"nothing said, no JSON", binary(), `<a/>`, `,"data_base64":"PGEvPg=="`},
		{"text", binary("Content-Type", "text/plain"), "a\"\\\n\tæ\x01", `,"datacontenttype":"text/plain","data":"a\"\\\n\tæ\u0001"`},
		{"XML", binary("Content-Type", "application/soap+xml"), "<a/>", `,"datacontenttype":"application/soap+xml","data":"<a/>"`},
		{"text in another charset", binary("Content-Type", "text/plain; charset=iso-8859-1"), "\xe6", `,"datacontenttype":"text/plain; charset=iso-8859-1","data_base64":"5g=="`},
		{"text that is not UTF-8", binary("Content-Type", "text/plain"), "\xe6", `,"datacontenttype":"text/plain","data_base64":"5g=="`},
		{"bytes", binary("Content-Type", "application/octet-stream"), "{}", `,"datacontenttype":"application/octet-stream","data_base64":"e30="`},
		{"extensions are strings", binary("ce-x", "5", "CE-Yes", "true"), "", `,"x":"5","yes":"true"`},
		{"percent", binary("ce-x", "Euro%20%e2%82%AC%20%F0%9F%98%80%2520%22"), "", `,"x":"Euro € 😀%20\""`},
		{"quoted", binary("ce-x", `"a \"b\" \\ %22 %5C"`), "", `,"x":"a \"b\" \\ \" \\"`},
		{"raw UTF-8", binary("ce-x", "æ"), "", `,"x":"æ"`},
		{"an empty extension", binary("ce-x", ""), "", `,"x":""`},
		{"text of control characters alone", binary("Content-Type", "text/plain"), strings.Repeat("\x01", 300), `,"datacontenttype":"text/plain","data_base64":"` + strings.Repeat("AQEB", 100) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			items, batch, err := event.ReadRequest(c.header, []byte(c.body), event.Limits{})
			if err != nil || batch || len(items) != 1 || items[0].Err != nil {
				t.Fatalf("got %+v, %v, %v", items, batch, err)
			}
			attributes := ""
			if i := strings.Index(c.want, `,"data`); i > 0 {
				attributes, c.want = c.want[:i], c.want[i:]
			} else if i < 0 {
				attributes, c.want = c.want, ""
			}
			want := `{"id":"1","source":"/s","specversion":"1.0","type":"t"` + attributes + c.want + `}`
			if diff := cmp.Diff(want, string(items[0].Event.JSON())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What a topic must take follows from the largest payload: no text may become longer than bytes would.
func TestNoPayloadGrowsByMoreThanAThird(t *testing.T) {
	const size = 3000
	for _, text := range []string{`"`, `\`, "\n", "\x01", `"a`, "\t\t.", "<p>", "æ", "🚂", "\u2028", "a"} {
		body := []byte(strings.Repeat(text, size/len(text)))
		for _, contentType := range []string{"text/plain", "text/plain; charset=utf-8", "application/xml", "application/octet-stream"} {
			items, _, err := event.ReadRequest(binary("Content-Type", contentType), body, event.Limits{})
			if err != nil || len(items) != 1 || items[0].Err != nil {
				t.Fatalf("%s of %q: %+v, %v", contentType, text, items, err)
			}
			e := items[0].Event
			if n, most := len(e.JSON()), len(body)*4/3+200; n > most {
				t.Errorf("%s: %d bytes of %q became an event of %d, want at most %d", contentType, len(body), text, n, most)
			}
			data, _, err := e.Payload()
			if err != nil || string(data) != string(body) {
				t.Errorf("%s: %q came back as something else (%v)", contentType, text, err)
			}
			if text == "a" && strings.HasPrefix(contentType, "text/") && e.Data() == nil {
				t.Errorf("%s: plain text is no longer sent as text", contentType)
			}
		}
	}
}

func TestBinaryModeRefusesWithThePlaceOfTheMistake(t *testing.T) {
	for _, c := range []struct {
		name             string
		header           http.Header
		body             string
		pointer, message string
	}{
		{"no id", header("ce-specversion", "1.0", "ce-source", "/s", "ce-type", "t"), "", "/id", "missing"},
		{"no specversion", header("ce-id", "1", "ce-source", "/s", "ce-type", "t"), "", "/specversion", "missing"},
		{"an attribute twice", binary("ce-id", "2"), "", "/id", "twice"},
		{"datacontenttype", binary("ce-datacontenttype", "text/plain"), "", "/datacontenttype", "no header"},
		{"data", binary("ce-data", "x"), "", "/data", "no attribute"},
		{"data_base64", binary("ce-data_base64", "x"), "", "/data_base64", "no attribute"},
		{"a name with a dash", binary("ce-trace-parent", "x"), "", "/trace-parent", "cannot be the name"},
		{"the reserved name", binary("ce-eventissuercursor", "x"), "", "/eventissuercursor", "reserved"},
		{"half a percent escape", binary("ce-x", "100%"), "", "/x", "two hex digits"},
		{"no hex", binary("ce-x", "%zz"), "", "/x", "two hex digits"},
		{"an overlong form", binary("ce-x", "%C0%A0"), "", "/x", "not UTF-8"},
		{"half a sequence", binary("ce-x", "%E2%82"), "", "/x", "not UTF-8"},
		{"a surrogate", binary("ce-x", "%ED%A0%80"), "", "/x", "not UTF-8"},
		{"raw bytes", binary("ce-x", "\xe6"), "", "/x", "not UTF-8"},
		{"an open quote", binary("ce-x", `"a`), "", "/x", "not closed"},
		{"a quote inside", binary("ce-x", `"a"b"`), "", "/x", "not closed"},
		{"a control character", binary("ce-x", "%07"), "", "/x", "U+0007"},
		{"a bad value that is required", header("ce-specversion", "1.0", "ce-id", "%", "ce-source", "/s", "ce-type", "t"), "", "/id", "hex"},
		{"data that is no JSON", binary("Content-Type", "application/json"), `{"a":}`, "/data", "no JSON, at byte 5"},
		{"JSON that is not UTF-8", binary("Content-Type", "application/json; charset=iso-8859-1"), "\"\xe6\"", "/data", "not UTF-8"},
		{"two JSON values", binary("Content-Type", "application/json"), `1 2`, "/data", "follows"},
		{"a content type that is none", binary("Content-Type", "json"), "", "/datacontenttype", "no media type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			items, _, err := event.ReadRequest(c.header, []byte(c.body), event.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			var problems *event.Error
			if !errors.As(items[0].Err, &problems) || len(problems.Problems) != 1 {
				t.Fatalf("got %v, want one problem", items[0].Err)
			}
			if p := problems.Problems[0]; p.Pointer != c.pointer || !strings.Contains(p.Message, c.message) {
				t.Errorf("got %q: %q, want %q with %q", p.Pointer, p.Message, c.pointer, c.message)
			}
		})
	}
}

func TestContentTypeDecidesTheMode(t *testing.T) {
	one := with(``)
	for _, c := range []struct {
		name, contentType, body string
		batch                   bool
		events                  int
		kind                    error
	}{
		{"structured", "application/cloudevents+json", one, false, 1, nil},
		{"structured in capitals with parameters", "Application/CloudEvents+JSON ; charset=\"UTF-8\"", one, false, 1, nil},
		{"batch", "application/cloudevents-batch+json; charset=utf-8", "[" + one + "," + one + "]", true, 2, nil},
		{"an empty batch", "application/cloudevents-batch+json", " [ ] ", true, 0, nil},
		{"structured in another format", "application/cloudevents+avro", one, false, 0, event.ErrMediaType},
		{"structured in no format", "application/cloudevents", one, false, 0, event.ErrMediaType},
		{"a batch in another format", "application/cloudevents-batch+xml", one, true, 0, event.ErrMediaType},
		{"structured in another charset", "application/cloudevents+json; charset=utf-16", one, false, 0, event.ErrMediaType},
		{"plain JSON", "application/json", one, false, 0, event.ErrMediaType},
		{"nothing", "", one, false, 0, event.ErrMediaType},
		{"a batch as one", "application/cloudevents+json", "[" + one + "]", false, 0, event.ErrMalformed},
		{"one as a batch", "application/cloudevents-batch+json", one, true, 0, event.ErrMalformed},
		{"broken JSON", "application/cloudevents+json", one[1:], false, 0, event.ErrMalformed},
		{"a broken batch", "application/cloudevents-batch+json", "[" + one, true, 0, event.ErrMalformed},
		{"a batch with a comma too many", "application/cloudevents-batch+json", "[" + one + ",]", true, 0, event.ErrMalformed},
		{"a batch and more", "application/cloudevents-batch+json", "[" + one + "] 1", true, 0, event.ErrMalformed},
		{"a batch that is not UTF-8", "application/cloudevents-batch+json", "[\"\xff\"]", true, 0, event.ErrMalformed},
		{"an empty body", "application/cloudevents+json", "", false, 0, event.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.contentType != "" {
				h.Set("Content-Type", c.contentType)
			}
			items, batch, err := event.ReadRequest(h, []byte(c.body), event.Limits{})
			var refused *event.RequestError
			if !errors.Is(err, c.kind) || err != nil && (!errors.As(err, &refused) || refused.Detail == "") {
				t.Fatalf("got %v, want %v", err, c.kind)
			}
			if batch != c.batch || len(items) != c.events {
				t.Fatalf("batch %v of %d events, want %v of %d", batch, len(items), c.batch, c.events)
			}
			for _, item := range items {
				if item.Err != nil || string(item.Event.JSON()) != one {
					t.Errorf("%s: %v", item.Event.JSON(), item.Err)
				}
			}
		})
	}
	h := header("Content-Type", event.MediaType, "Content-Type", "text/plain")
	if _, _, err := event.ReadRequest(h, []byte(one), event.Limits{}); !errors.Is(err, event.ErrMalformed) {
		t.Errorf("two content types: %v", err)
	}
	h = header("Content-Type", event.MediaType, "ce-id", "other")
	items, _, err := event.ReadRequest(h, []byte(one), event.Limits{})
	if err != nil || items[0].Event.ID() != "1" {
		t.Errorf("headers count in the structured mode: %v, %v", items, err)
	}
}

func TestInvalidItemsOfABatchAreNamed(t *testing.T) {
	body := "[" + with(``) + ",\n{\"id\":\"2\",\"source\":\"/s\",\"specversion\":\"1.0\"},\n5," + with(",\n\"x\":1") + "]"
	items, batch, err := event.ReadRequest(header("Content-Type", event.BatchMediaType), []byte(body), event.Limits{})
	if err != nil || !batch || len(items) != 4 {
		t.Fatalf("got %v, %v, %v", items, batch, err)
	}
	for i, want := range []string{"", "/type", "", ""} {
		var problems *event.Error
		switch errors.As(items[i].Err, &problems) {
		case true:
			if problems.Problems[0].Pointer != want || i != 1 && i != 2 {
				t.Errorf("item %d: %v", i, problems)
			}
		default:
			if i == 1 || i == 2 {
				t.Errorf("item %d is valid", i)
			}
		}
	}
	if items[1].Event.ID() != "2" || items[1].Event.Source() != "/s" {
		t.Error("an invalid item has no name")
	}
	if bytes.ContainsAny(items[3].Event.JSON(), "\r\n") || items[3].Event.ID() != "1" {
		t.Errorf("the last item is %s", items[3].Event.JSON())
	}
}

func TestLimitsHold(t *testing.T) {
	limits := event.Limits{EventBytes: 1, BatchBytes: 1, BatchEvents: 3}
	large := with(`,"data":"` + strings.Repeat("x", 64<<10) + `"`)
	small := with(`,"data":"` + strings.Repeat("x", 60<<10) + `"`)
	for _, c := range []struct {
		name string
		h    http.Header
		body string
		kind error
	}{
		{"64 KiB are always taken", header("Content-Type", event.MediaType), small, nil},
		{"an event", header("Content-Type", event.MediaType), large, event.ErrEventSize},
		{"an event in binary", binary("Content-Type", "text/plain"), strings.Repeat("x", 64<<10), event.ErrEventSize},
		{"headers count", binary("ce-x", strings.Repeat("x", 64<<10)), "", event.ErrEventSize},
		{"a batch", header("Content-Type", event.BatchMediaType), "[" + small + "," + small + "]", event.ErrTooLarge},
		{"events of a batch", header("Content-Type", event.BatchMediaType), "[" + strings.Repeat(with(``)+",", 3) + with(``) + "]", event.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			items, _, err := event.ReadRequest(c.h, []byte(c.body), limits)
			if !errors.Is(err, c.kind) || c.kind == nil && (err != nil || items[0].Err != nil) {
				t.Errorf("got %v, %v, want %v", items, err, c.kind)
			}
		})
	}
	limits = event.Limits{EventBytes: 64 << 10, BatchBytes: 8 << 20}
	if _, _, err := event.ReadRequest(header("Content-Type", event.BatchMediaType), []byte("["+with(``)+","+large+"]"), limits); !errors.Is(err, event.ErrEventSize) || !errors.Is(err, event.ErrTooLarge) {
		t.Errorf("an event too large in a batch: %v", err)
	}
}

func TestBinaryModeIsWritten(t *testing.T) {
	for _, c := range []struct {
		name, members string
		contentType   string
		body          string
		noData        bool
	}{
		{"no data", ``, "", "", true},
		{"JSON", `,"datacontenttype":"application/json","data":{"a": 1.0}`, "application/json", `{"a": 1.0}`, false},
		{"JSON implied", `,"data":"x"`, "application/json", `"x"`, false},
		{"text", `,"datacontenttype":"text/xml","data":"<a b=\"\u00e6\"\/>\n"`, "text/xml", "<a b=\"æ\"/>\n", false},
		{"no text where text is said", `,"datacontenttype":"text/xml","data":{"a":1}`, "text/xml", `{"a":1}`, false},
		{"base64", `,"datacontenttype":"application/octet-stream","data_base64":"5g\/\/"`, "application/octet-stream", "\xe6\x0f\xff", false},
		{"base64 without type", `,"data_base64":""`, "", "", false},
		{"JSON in base64", `,"datacontenttype":"application/json","data_base64":"e30="`, "application/json", "{}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := event.Parse([]byte(with(`,"n":-5,"yes":true,"x":"Euro € 😀 \"100%\"\\~"` + c.members)))
			if err != nil {
				t.Fatal(err)
			}
			h := header("Content-Type", "text/html", "X-Other", "stays")
			body, err := e.WriteBinary(h)
			if err != nil {
				t.Fatal(err)
			}
			want := binary("ce-n", "-5", "ce-yes", "true", "ce-x", `Euro%20%E2%82%AC%20%F0%9F%98%80%20%22100%25%22\~`, "X-Other", "stays")
			if c.contentType != "" {
				want.Set("Content-Type", c.contentType)
			}
			if diff := cmp.Diff(want, h); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if string(body) != c.body || (body == nil) != c.noData {
				t.Errorf("body %q (nil: %v), want %q", body, body == nil, c.body)
			}
			back, _, err := event.ReadRequest(h, body, event.Limits{})
			if err != nil || back[0].Err != nil {
				t.Fatalf("it cannot be read back: %v, %v", err, back)
			}
			if x, _ := back[0].Event.Attribute("x"); x.String() != "Euro € 😀 \"100%\"\\~" {
				t.Errorf("x came back as %q", x)
			}
		})
	}
}

func TestStructuredModeIsWritten(t *testing.T) {
	e, err := event.Parse([]byte(position))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	if body := e.WriteStructured(h); string(body) != position || h.Get("Content-Type") != "application/cloudevents+json; charset=UTF-8" {
		t.Errorf("%s, %v", body, h)
	}
}
