package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/client"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

const position = `{"specversion":"1.0","id":"0194f7a2-6c3e-7d10-9f6b-2b6e1f0c9a41","source":"https://api.banenor.example/train-positions","type":"no.banenor.train.position.v1","subject":"/train/1612","time":"2026-02-28T17:31:00.125Z","datacontenttype":"application/json","partitionkey":"1612","resource":"line/dovrebanen","data":{"lat":60.79412,"lon":11.06872,"speed":132,"heading":341.5,"delay":-12,"next":"HMR"}}`

// with is a small event with more members.
func with(members string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + members + `}`
}

func stored(t testing.TB, text string) *event.Event {
	t.Helper()
	e, err := event.ParseStored([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

// canonical is what an event and what its receiver got of it are compared by.
type canonical struct {
	Attributes map[string]string
	Data       string
}

func ofOurs(t testing.TB, e *event.Event) canonical {
	t.Helper()
	c := canonical{Attributes: map[string]string{}}
	for name, value := range e.Attributes() {
		c.Attributes[name] = value.String()
	}
	data, contentType, err := e.Payload()
	if err != nil {
		t.Fatal(err)
	}
	c.Data = string(data)
	if contentType != "" {
		c.Attributes["datacontenttype"] = contentType
	}
	return c
}

func ofSDK(e sdk.Event) canonical {
	c := canonical{Attributes: map[string]string{"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type()}, Data: string(e.Data())}
	for name, value := range map[string]string{"subject": e.Subject(), "datacontenttype": e.DataContentType(), "dataschema": e.DataSchema()} {
		if value != "" {
			c.Attributes[name] = value
		}
	}
	if !e.Time().IsZero() {
		c.Attributes["time"] = e.Time().UTC().Format(time.RFC3339Nano)
	}
	for name, value := range e.Extensions() {
		c.Attributes[name] = fmt.Sprint(value)
	}
	return c
}

// deliverable are events, and whether the binary mode can say them.
var deliverable = map[string]struct {
	text   string
	binary bool
}{
	"usual":                     {position, true},
	"attributes to be encoded":  {with(`,"subject":"/tog/Ærlig \"%41\" €😀","note":"a  b","datacontenttype":"application/json","data":1`), true},
	"null":                      {with(`,"datacontenttype":"application/json","data":null`), true},
	"the empty JSON text":       {with(`,"datacontenttype":"application/json","data":""`), true},
	"text":                      {with(`,"datacontenttype":"text/plain","data":"line\nline \u00e6"`), true},
	"bytes":                     {with(`,"datacontenttype":"application/octet-stream","data_base64":"AP/+"`), true},
	"no data":                   {with(``), false},
	"no data, but its type":     {with(`,"datacontenttype":"application/json"`), false},
	"no bytes":                  {with(`,"datacontenttype":"application/octet-stream","data_base64":""`), false},
	"no text":                   {with(`,"datacontenttype":"text/plain","data":""`), false},
	"an event as data":          {with(`,"datacontenttype":"application/cloudevents+json","data":` + with(``)), false},
	"attributes beyond headers": {with(`,"subject":"` + strings.Repeat("x", 5000) + `","data":1`), false},
}

func TestAReceiverOnTheSDKTakesEveryMode(t *testing.T) {
	r := receive(t)
	for name, test := range deliverable {
		e := stored(t, test.text)
		for _, mode := range []webhook.Mode{webhook.Structured, webhook.Binary, webhook.Batch} {
			h := http.Header{}
			body, err := webhook.Body(h, mode, []*event.Event{e})
			if err != nil {
				t.Fatalf("%s, %s: %v", name, mode, err)
			}
			want := "application/cloudevents+json; charset=UTF-8"
			switch {
			case mode == webhook.Batch:
				want = "application/cloudevents-batch+json"
			case mode == webhook.Binary && test.binary:
				want = ofOurs(t, e).Attributes["datacontenttype"]
			}
			if got := h.Get("Content-Type"); got != want {
				t.Errorf("%s, %s: the content type is %q, want %q", name, mode, got, want)
			}
			got := r.post(t, h, body)
			if len(got) != 1 {
				t.Fatalf("%s, %s: the receiver got %d events", name, mode, len(got))
			}
			theirs, ours := ofSDK(got[0]), ofOurs(t, e)
			if theirs.Attributes["datacontenttype"] == "" && ours.Attributes["datacontenttype"] == "application/json" {
				delete(ours.Attributes, "datacontenttype") // what the JSON format implies
			}
			if want := ours.Attributes["datacontenttype"]; mode == webhook.Binary && h.Get("Content-Type") == want {
				decodeHeaders(t, theirs)
			}
			if diff := cmp.Diff(ours, theirs); diff != "" {
				t.Errorf("%s, %s: the receiver got another event: %s", name, mode, diff)
			}
		}
	}
}

// decodeHeaders does what the SDK leaves to its caller: it hands out headers of the binary mode percent-encoded.
func decodeHeaders(t *testing.T, c canonical) {
	t.Helper()
	for name, coded := range c.Attributes {
		value, err := url.PathUnescape(coded)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Attributes[name] = value
	}
}

func TestABatchHoldsItsEventsInOrder(t *testing.T) {
	r := receive(t)
	var events []*event.Event
	var texts []string
	for i := range 100 {
		text := with(fmt.Sprintf(`,"n":%d,"data":[%d]`, i, i))
		texts = append(texts, text)
		events = append(events, stored(t, text))
	}
	h := http.Header{}
	body, err := webhook.Body(h, webhook.Batch, events)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[" + strings.Join(texts, ",") + "]"; string(body) != want || cap(body) != len(body) {
		t.Errorf("the body is %.200q with room for %d", body, cap(body))
	}
	got := r.post(t, h, body)
	if len(got) != len(events) {
		t.Fatalf("the receiver got %d events of %d", len(got), len(events))
	}
	for i, e := range got {
		if n := fmt.Sprint(e.Extensions()["n"]); n != fmt.Sprint(i) {
			t.Errorf("at place %d is the event %s", i, n)
		}
	}
}

// receiver is an endpoint that is built on the SDK, in the two ways that it has.
type receiver struct {
	server, single *httptest.Server

	mu  sync.Mutex
	got []sdk.Event // guarded by mu
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if sdkhttp.IsHTTPBatch(request.Header) {
			events, err := sdkhttp.NewEventsFromHTTPRequest(request)
			r.take(w, err, events...)
			return
		}
		e, err := sdkhttp.NewEventFromHTTPRequest(request)
		if err != nil {
			r.take(w, err)
			return
		}
		r.take(w, e.Validate(), *e)
	}))
	t.Cleanup(r.server.Close)

	protocol, err := sdkhttp.New()
	if err != nil {
		t.Fatal(err)
	}
	handler, err := client.NewHTTPReceiveHandler(t.Context(), protocol, func(_ context.Context, e sdk.Event) { r.keep(e) })
	if err != nil {
		t.Fatal(err)
	}
	r.single = httptest.NewServer(handler)
	t.Cleanup(r.single.Close)
	return r
}

func (r *receiver) take(w http.ResponseWriter, err error, events ...sdk.Event) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.keep(events...)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) keep(events ...sdk.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, events...)
}

// post sends a message to the endpoint, a single event to both ways of receiving, and returns what one of them got.
func (r *receiver) post(t *testing.T, h http.Header, body []byte) []sdk.Event {
	t.Helper()
	servers := []*httptest.Server{r.server, r.single}
	if sdkhttp.IsHTTPBatch(h) {
		servers = servers[:1] // the SDK's client takes single events alone
	}
	var all [][]sdk.Event
	for _, server := range servers {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = h
		answer, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			t.Errorf("the receiver answers %s to %.300q", answer.Status, body)
		}
		r.mu.Lock()
		all = append(all, r.got)
		r.got = nil
		r.mu.Unlock()
	}
	for _, events := range all {
		if len(events) != len(all[0]) || len(events) == 1 && !cmp.Equal(ofSDK(events[0]), ofSDK(all[0][0])) {
			t.Errorf("the SDK's two ways of receiving differ: %v", all)
		}
	}
	return all[0]
}

func TestAStructuredBodyIsTheEventsOwnBytes(t *testing.T) {
	e := stored(t, position)
	body, err := webhook.Body(http.Header{}, webhook.Structured, []*event.Event{e})
	if err != nil || &body[0] != &e.JSON()[0] || len(body) != len(e.JSON()) {
		t.Errorf("the body is a copy: %q, %v", body, err)
	}
}

func TestTheBinaryModeEncodesHeaders(t *testing.T) {
	e := stored(t, with(`,"subject":"/tog/Æ \"%41\"~","n":-5,"ok":true,"1a":"x","datacontenttype":"text/plain; charset=utf-8","data":"hei"`))
	h := http.Header{}
	body, err := webhook.Body(h, webhook.Binary, []*event.Event{e})
	if err != nil || string(body) != "hei" {
		t.Fatalf("the body is %q, %v", body, err)
	}
	want := http.Header{
		"Content-Type":   {"text/plain; charset=utf-8"},
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"},
		"Ce-Subject": {"/tog/%C3%86%20%22%2541%22~"}, "Ce-N": {"-5"}, "Ce-Ok": {"true"}, "Ce-1a": {"x"},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
}

// TestWhatHasReachedTheLogCanBeSent is about events that were not published here, and are held to less.
func TestWhatHasReachedTheLogCanBeSent(t *testing.T) {
	r := receive(t)
	for name, text := range map[string]string{
		"a content type over two lines":  with(`,"datacontenttype":"text/plain\r\nX-Evil: 1","data":"x"`),
		"a content type beyond ASCII":    with(`,"datacontenttype":"text/plaïn","data":"x"`),
		"Base64 that is none":            with(`,"data_base64":"!"`),
		"a value over two lines":         with(`,"note":"a\r\nX-Evil: 1","data":1`),
		"an event as data, in capitals":  with(`,"datacontenttype":"Application/CloudEvents","data":"{}"`),
		"a name that no header has":      with(`,"a b\r\n":"x","data":1`),
		"half a surrogate pair":          with(`,"note":"\ud800","data":1`),
		"an attribute that is an object": with(`,"note":{"a":1},"data":1`),
	} {
		e := stored(t, text)
		h := http.Header{}
		body, err := webhook.Body(h, webhook.Binary, []*event.Event{e})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = h
		answer, err := r.server.Client().Do(request)
		if err != nil {
			t.Errorf("%s: it cannot be sent: %v", name, err)
			continue
		}
		answer.Body.Close() // whether the receiver likes it is its own affair
	}
}

func TestAModeThatDoesNotFitIsRefused(t *testing.T) {
	e := stored(t, position)
	for _, test := range []struct {
		mode   webhook.Mode
		events int
		want   string
	}{
		{webhook.Structured, 0, "no event"},
		{webhook.Batch, 0, "no event"},
		{webhook.Structured, 2, "2 events are sent in the mode batch, not structured"},
		{webhook.Binary, 2, "not binary"},
		{"", 1, `"" is no mode`},
		{"BINARY", 1, `"BINARY" is no mode`},
	} {
		events := make([]*event.Event, test.events)
		for i := range events {
			events[i] = e
		}
		if body, err := webhook.Body(http.Header{}, test.mode, events); err == nil || body != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d events, mode %q: %v; want %q", test.events, test.mode, err, test.want)
		}
	}
}
