package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/cloudevents/sdk-go/v2/event"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// sound checks what holds of every event that was accepted.
func sound(t *testing.T, e event.Event, stored bool) {
	t.Helper()
	text := e.JSON()
	if !json.Valid(text) || bytes.ContainsAny(text, "\r\n") {
		t.Fatalf("%q is not one line of JSON", text)
	}
	parse := event.Parse
	if stored {
		parse = event.ParseStored
	}
	again, err := parse(bytes.Clone(text))
	if err != nil {
		t.Fatalf("%q is not read again: %v", text, err)
	}
	if !bytes.Equal(again.JSON(), text) {
		t.Fatalf("%q becomes %q", text, again.JSON())
	}
	if e.ID() == "" || e.Source() == "" || e.Type() == "" || !strings.HasPrefix(e.SpecVersion(), "1.") {
		t.Fatalf("%q lacks a required attribute", text)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range e.Attributes() {
		if again, ok := e.Attribute(name); !ok || again != value {
			t.Fatalf("%q: attribute %q is %v and %v", text, name, value, again)
		}
		var want any
		if err := json.Unmarshal(members[name], &want); err != nil {
			t.Fatalf("%q: attribute %q: %v", text, name, err)
		}
		if s, ok := want.(string); ok && (value.Kind() != event.String || value.String() != s) {
			t.Fatalf("%q: attribute %q is %q, not %q", text, name, value, s)
		}
	}
	if data := e.Data(); data != nil && !json.Valid(data) {
		t.Fatalf("%q: data %q", text, data)
	}
	if stored {
		return
	}
	sdkAgrees(t, e)
	h := http.Header{}
	body, err := e.WriteBinary(h)
	if err != nil {
		t.Fatalf("%q cannot be written in the binary mode: %v", text, err)
	}
	for name, values := range h {
		for _, v := range values {
			if strings.HasPrefix(name, "Ce-") && strings.Trim(v, printable) != "" {
				t.Fatalf("%q: header %s: %q", text, name, v)
			}
		}
	}
	items, _, err := event.ReadRequest(h, body, event.Limits{EventBytes: 64 << 20})
	if err != nil || items[0].Err != nil {
		// JSON that is said to be some, but is in Base64 and is none, is the one thing that the binary mode cannot hold.
		if text, ok := e.DataBase64(); ok && text != "" {
			return
		}
		t.Fatalf("%q is not read back from the binary mode: %v %v", text, err, items)
	}
	back := items[0].Event
	for name, value := range e.Attributes() {
		if got, ok := back.Attribute(name); !ok || got.String() != value.String() {
			t.Fatalf("%q: attribute %q is %q after the binary mode", text, name, got)
		}
	}
	before, _, err1 := e.Payload()
	after, _, err2 := back.Payload()
	if err1 != nil || err2 != nil || !bytes.Equal(bytes.Trim(before, " \t\r\n"), bytes.Trim(after, " \t\r\n")) && e.Data() == nil {
		t.Fatalf("%q: data %q, after the binary mode %q", text, before, after)
	}
}

// printable are the characters that header values are written in.
var printable = func() string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		b.WriteByte(c)
	}
	return b.String()
}()

// sdkAgrees compares an accepted event with what the SDK reads, where it does: it refuses leap seconds, lower-case
// times and some URIs, and takes data of types that end in +json for text.
func sdkAgrees(t *testing.T, e event.Event) {
	t.Helper()
	var theirs sdk.Event
	if err := json.Unmarshal(e.JSON(), &theirs); err != nil {
		return
	}
	for name, got := range map[string]string{
		"id": theirs.ID(), "type": theirs.Type(), "subject": theirs.Subject(), "datacontenttype": theirs.DataContentType(),
	} {
		if want, ok := e.Attribute(name); ok && got != want.String() {
			t.Fatalf("%q: %s is %q, to the SDK %q", e.JSON(), name, want, got)
		}
	}
	for name := range theirs.Extensions() {
		if _, ok := e.Attribute(name); !ok {
			t.Fatalf("%q: the SDK sees the attribute %q", e.JSON(), name)
		}
	}
}

func seedEvents(add func(text string)) {
	for _, raw := range peerEvents() {
		add(raw)
	}
	for _, members := range []string{
		`,"eventissuercursor":"x"`, `,"x":1.5`, `,"X":{}`, ` , "a" : null , "\u0061b":"\ud83d\ude00\ud83d"`, ",\n\"data\":\r[1,\t2]",
		`,"data":null,"data_base64":"YQ=="`, `,"time":"1990-12-31T23:59:60z"`, `,"dataschema":"http://[::1]:8/%41"`, `,"id":"2"`,
	} {
		add(with(members))
	}
	add(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":` + strings.Repeat("[", 300))
}

func FuzzParse(f *testing.F) {
	seedEvents(func(text string) { f.Add([]byte(text)) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		e, err := event.Parse(raw)
		stored, storedErr := event.ParseStored(raw)
		if !bytes.Equal(raw, before) {
			t.Fatal("the bytes that came are changed")
		}
		if err == nil {
			sound(t, e, false)
			if storedErr != nil {
				t.Fatalf("%q may be published, but cannot be read: %v", raw, storedErr)
			}
			if !bytes.ContainsAny(raw, "\r\n") && !bytes.Equal(e.JSON(), bytes.Trim(raw, " \t")) {
				t.Fatalf("%q is forwarded as %q", raw, e.JSON())
			}
		} else {
			explained(t, err)
		}
		if storedErr == nil {
			sound(t, stored, true)
		} else {
			explained(t, storedErr)
		}
		if malformed := new(event.Error); errors.As(err, &malformed) && malformed.Malformed && json.Valid(raw) &&
			bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) && bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) < 250 && bytes.Equal(bytes.ToValidUTF8(raw, nil), raw) {
			t.Fatalf("%q is JSON, and refused as none: %v", raw, err)
		}
	})
}

func explained(t *testing.T, err error) {
	t.Helper()
	var problems *event.Error
	if !errors.As(err, &problems) || len(problems.Problems) == 0 || len(problems.Problems) > 20 {
		t.Fatalf("%v is no list of problems", err)
	}
	for _, p := range problems.Problems {
		if p.Message == "" || p.Pointer != "" && p.Pointer[0] != '/' {
			t.Fatalf("the problem %+v says nothing", p)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	seedEvents(func(text string) {
		f.Add("application/cloudevents+json", "", "", []byte(text))
		f.Add("application/cloudevents-batch+json; charset=utf-8", "", "", []byte("["+text+",\n"+text+"]"))
	})
	f.Add("application/json", "Ce-X", "Euro%20%E2%82%AC", []byte(`{"a":1}`))
	f.Add("text/plain; charset=iso-8859-1", "ce-x", `"a \" %41"`, []byte("\xe6"))
	f.Add("", "Ce-Data", "%C0%A0", []byte(`<a/>`))
	f.Add("application/xml", "Ce-A-B", "%", []byte("\x01\n"))
	f.Fuzz(func(t *testing.T, contentType, name, value string, body []byte) {
		for _, required := range []bool{true, false} {
			h := http.Header{}
			if required {
				h = binary()
			}
			if contentType != "" {
				h["Content-Type"] = []string{contentType}
			}
			if name != "" {
				h[http.CanonicalHeaderKey(name)] = append(h[http.CanonicalHeaderKey(name)], value)
			}
			items, batch, err := event.ReadRequest(h, body, event.Limits{EventBytes: 64 << 10})
			if err != nil {
				var refused *event.RequestError
				if !errors.As(err, &refused) || refused.Detail == "" || items != nil {
					t.Fatalf("%v with %d items", err, len(items))
				}
				continue
			}
			if !batch && len(items) != 1 {
				t.Fatalf("%d events came as one", len(items))
			}
			for _, item := range items {
				if item.Err != nil {
					explained(t, item.Err)
				} else {
					sound(t, item.Event, false)
				}
			}
		}
	})
}

func FuzzFromRecord(f *testing.F) {
	seedEvents(func(text string) {
		f.Add("content-type", "application/cloudevents+json", []byte(text), true)
		f.Add("content-type", "application/json", []byte(text), false)
	})
	f.Add("ce_x", "æ", []byte("1"), false)
	f.Add("Content-Type", "text/plain", []byte("\xff"), false)
	f.Add("ce_data_base64", "x", []byte(nil), false)
	f.Fuzz(func(t *testing.T, name, value string, body []byte, structured bool) {
		r := broker.Record{Value: body, Headers: headers(name, value)}
		if !structured {
			r.Headers = append(r.Headers, binaryHeaders()...)
		}
		e, err := event.FromRecord(r)
		switch {
		case errors.Is(err, event.ErrTombstone):
		case err != nil:
			explained(t, err)
		default:
			sound(t, e, true)
			m := e.Message(nil)
			back, err := event.FromRecord(broker.Record{Value: m.Value, Headers: m.Headers})
			if err != nil || !bytes.Equal(back.JSON(), e.JSON()) {
				t.Fatalf("%q is not read again: %v", e.JSON(), err)
			}
		}
	})
}
