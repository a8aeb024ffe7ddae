package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
)

func TestDefinitionThatIsNoObjectIsSaidToBeNone(t *testing.T) {
	h := newHarness(t)
	p := h.must(h.sendJSON("POST", "/v1/streams", "[1]"), http.StatusUnprocessableEntity).problem(t)
	if !strings.HasPrefix(p.Detail, "a JSON object; got") {
		t.Error(p.Detail)
	}
}

func TestStreamIsCreatedChangedAndDeletedUnderItsETag(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.PublicURL = &url.URL{Scheme: "https", Host: "events.example"} })
	made := h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":3,"retention":"168h","description":"d"}`), http.StatusCreated)
	if got := made.header.Get("Location"); got != "https://events.example/v1/streams/trains" {
		t.Errorf("Location is %q", got)
	}
	var s streamAnswer
	made.decode(t, &s)
	if s.Topic != "eventissuer.trains" || s.Partitions != 3 || s.Owner != "local" || s.Retention.String() != "168h" {
		t.Errorf("made %s", made.body)
	}
	if p := h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains"}`), http.StatusConflict).problem(t); p.Type != "/problems/conflict" {
		t.Error(p.Type)
	}

	read := h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK)
	if read.header.Get("ETag") != made.header.Get("ETag") {
		t.Errorf("the ETag is %q after %q", read.header.Get("ETag"), made.header.Get("ETag"))
	}
	stale := `If-Match: "00000000-0000-0000-0000-000000000000"`
	if p := h.must(h.sendJSON("PATCH", "/v1/streams/trains", `{"retention":"24h"}`, stale), http.StatusPreconditionFailed).problem(t); p.Type != "/problems/precondition-failed" {
		t.Error(p.Type)
	}
	changed := h.must(h.send("PATCH", "/v1/streams/trains", `{"retention":"24h"}`, "Content-Type: application/merge-patch+json", "If-Match: "+read.header.Get("ETag")), http.StatusOK)
	changed.decode(t, &s)
	if s.Retention.String() != "24h" || s.Description != "d" || changed.header.Get("ETag") == read.header.Get("ETag") {
		t.Errorf("changed to %s", changed.body)
	}
	h.must(h.send("DELETE", "/v1/streams/trains", "", "If-Match: "+read.header.Get("ETag")), http.StatusPreconditionFailed)
	h.must(h.send("DELETE", "/v1/streams/trains", "", "If-Match: "+changed.header.Get("ETag")), http.StatusNoContent)
	h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusNotFound)
	if _, err := h.deps.Log.Describe(t.Context(), "eventissuer.trains"); err == nil {
		t.Error("the topic is still there")
	}
}

func TestStateOfAStreamIsSetChangedAndTakenAway(t *testing.T) {
	h := newHarness(t)
	state := func(a answer) string {
		t.Helper()
		var s struct{ State json.RawMessage }
		a.decode(t, &s)
		return string(s.State)
	}
	const defaults = `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`
	if got := state(h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","state":{}}`), http.StatusCreated)); got != defaults {
		t.Errorf("made with %s", got)
	}
	if got := state(h.must(h.sendJSON("POST", "/v1/streams", `{"name":"platforms","compaction":true,"state":{"maxBytes":1048576}}`), http.StatusCreated)); got != `{"window":"forever","maxKeys":100000,"maxBytes":"1MiB"}` {
		t.Errorf("made with %s", got)
	}
	if got := state(h.must(h.sendJSON("POST", "/v1/streams", `{"name":"plain"}`), http.StatusCreated)); got != "" {
		t.Errorf("made with %s", got)
	}
	for _, step := range []struct{ patch, want string }{
		{`{"state":{"window":"2h","maxKeys":5}}`, `{"window":"2h","maxKeys":5,"maxBytes":"256MiB"}`},
		{`{"state":{"window":null,"maxBytes":"1GiB"}}`, `{"window":"1h","maxKeys":5,"maxBytes":"1GiB"}`},
		{`{"description":"d"}`, `{"window":"1h","maxKeys":5,"maxBytes":"1GiB"}`},
		{`{"state":null}`, ""},
		{`{"state":{}}`, defaults},
	} {
		changed := h.must(h.send("PATCH", "/v1/streams/trains", step.patch, "Content-Type: application/merge-patch+json"), http.StatusOK)
		read := h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK)
		if state(changed) != step.want || state(read) != step.want || read.header.Get("ETag") != changed.header.Get("ETag") {
			t.Errorf("%s makes it %s, want the state %s", step.patch, changed.body, step.want)
		}
	}
	var page list[catalog.Stream]
	h.must(h.send("GET", "/v1/streams", ""), http.StatusOK).decode(t, &page)
	if len(page.Items) != 3 || page.Items[0].State != nil || page.Items[2].State == nil || page.Items[2].State.MaxBytes != 256<<20 {
		t.Errorf("the list has %+v", page.Items)
	}
}

func TestStreamShowsItsEndsAndItsEventTypes(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.send("POST", "/v1/events", "["+trainEvent("1", `,"partitionkey":"a"`)+","+trainEvent("2", `,"partitionkey":"a"`)+"]", batched), http.StatusOK)
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK).decode(t, &s)
	if diff := cmp.Diff([]string{"train.position"}, s.EventTypes); diff != "" {
		t.Error(diff)
	}
	info, err := h.deps.Log.Describe(t.Context(), s.Topic)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(token string) (total int64) {
		c, err := cursor.Parse(token)
		if err != nil {
			t.Fatal(err)
		}
		at, ok := c.For("trains")
		if !ok || at.Epoch != cursor.EpochOf(info.Epoch) || len(at.Next) != 3 {
			t.Errorf("the cursor is %+v", c)
		}
		for _, n := range at.Next {
			total += n
		}
		return total
	}
	if oldest, newest := sum(s.Oldest), sum(s.Newest); oldest != 0 || newest != 2 {
		t.Errorf("the ends are %d and %d, not 0 and 2", oldest, newest)
	}
}

func TestGrowingAKeyedStreamNeedsForce(t *testing.T) {
	h := newHarness(t).withTrains()
	if p := h.must(h.sendJSON("PATCH", "/v1/streams/trains", `{"partitions":6}`), http.StatusConflict).problem(t); !strings.Contains(p.Detail, "force=true") {
		t.Error(p.Detail)
	}
	h.must(h.sendJSON("PATCH", "/v1/streams/trains?force=true", `{"partitions":6}`), http.StatusOK)
	info, err := h.deps.Log.Describe(t.Context(), "eventissuer.trains")
	if err != nil || info.Partitions != 6 {
		t.Errorf("%d partitions, %v", info.Partitions, err)
	}
	h.must(h.sendJSON("PATCH", "/v1/streams/trains?force=perhaps", `{"partitions":6}`), http.StatusBadRequest)
}

func TestStreamWithEventTypesIsDeletedByForceOnly(t *testing.T) {
	h := newHarness(t).withTrains()
	if p := h.must(h.send("DELETE", "/v1/streams/trains", ""), http.StatusConflict).problem(t); !strings.Contains(p.Detail, "train.position") {
		t.Error(p.Detail)
	}
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
	h.must(h.send("GET", "/v1/event-types/train.position", ""), http.StatusNotFound)
}

func TestEventTypeIsRegisteredReplacedAndDeletedUnderItsETag(t *testing.T) {
	h := newHarness(t).withTrains()
	if p := h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.position","stream":"trains"}`), http.StatusConflict).problem(t); p.Type != "/problems/conflict" {
		t.Error(p.Type)
	}
	read := h.must(h.send("GET", "/v1/event-types/train.position", ""), http.StatusOK)
	tag := read.header.Get("ETag")
	h.must(h.send("GET", "/v1/event-types/train.position", "", "If-None-Match: "+tag), http.StatusNotModified)

	put := h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"type":"train.position","stream":"trains","description":"new"}`, "If-Match: "+tag), http.StatusOK)
	var et catalog.EventType
	put.decode(t, &et)
	if et.Description != "new" || et.KeyAttribute != "subject" || et.Audience != catalog.Internal {
		t.Errorf("replaced by %s", put.body)
	}
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains"}`, "If-Match: "+tag), http.StatusPreconditionFailed)
	h.must(h.sendJSON("PUT", "/v1/event-types/train.other", `{"stream":"trains"}`, "If-Match: "+tag), http.StatusPreconditionFailed)
	created := h.must(h.sendJSON("PUT", "/v1/event-types/train.other", `{"stream":"trains"}`), http.StatusCreated)
	if !strings.HasSuffix(created.header.Get("Location"), "/v1/event-types/train.other") {
		t.Error(created.header.Get("Location"))
	}
	h.must(h.sendJSON("PUT", "/v1/event-types/train.other", `{"type":"train.third","stream":"trains"}`), http.StatusUnprocessableEntity)

	h.must(h.send("DELETE", "/v1/event-types/train.position", "", "If-Match: "+tag), http.StatusPreconditionFailed)
	h.must(h.send("DELETE", "/v1/event-types/train.position", ""), http.StatusNoContent)
	if p := h.must(h.send("DELETE", "/v1/event-types/train.position", ""), http.StatusNotFound).problem(t); p.Type != "/problems/unknown-event-type" {
		t.Error(p.Type)
	}
}

func TestPatternsAreRegistrationsOfTheirOwn(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"app.*","stream":"trains"}`), http.StatusCreated)
	h.must(h.send("GET", "/v1/event-types/app.*", ""), http.StatusOK)
	h.must(h.send("GET", "/v1/event-types/app.%2A", ""), http.StatusOK)
	h.must(h.send("GET", "/v1/event-types/app.started", ""), http.StatusNotFound)
	h.must(h.send("POST", "/v1/events", `{"specversion":"1.0","id":"1","source":"/a","type":"app.started"}`, structured), http.StatusOK)
}

func TestMistakesInDefinitionsArePointedAt(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, tc := range []struct {
		method, path, body string
		status             int
		kind, pointer      string
	}{
		{"POST", "/v1/streams", `{"name":"no spaces"}`, 422, "invalid-object", "/name"},
		{"POST", "/v1/streams", `{"name":"x","partitions":0.5}`, 422, "invalid-object", "/partitions"},
		{"POST", "/v1/streams", `{"name":"x","retention":"a week"}`, 422, "invalid-object", "/retention"},
		{"POST", "/v1/streams", `{"name":"x","color":"red"}`, 422, "invalid-object", "/color"},
		{"POST", "/v1/streams", `[]`, 422, "invalid-object", ""},
		{"POST", "/v1/streams", `{"name":`, 400, "malformed-json", ""},
		{"POST", "/v1/streams", `{"name":"x","state":true}`, 422, "invalid-object", "/state"},
		{"POST", "/v1/streams", `{"name":"x","state":{"keys":5}}`, 422, "invalid-object", "/state/keys"},
		{"POST", "/v1/streams", `{"name":"x","state":{"maxKeys":0}}`, 422, "invalid-object", "/state/maxKeys"},
		{"POST", "/v1/streams", `{"name":"x","state":{"maxBytes":"1TB"}}`, 422, "invalid-object", "/state/maxBytes"},
		{"PATCH", "/v1/streams/trains", `{"state":{"window":"0s"}}`, 422, "invalid-object", "/state/window"},
		{"PATCH", "/v1/streams/trains", `{"state":{"maxBytes":1}}`, 422, "invalid-object", "/state/maxBytes"},
		{"PATCH", "/v1/streams/trains", `{"state":[]}`, 422, "invalid-object", "/state"},
		{"PATCH", "/v1/streams/trains", `{"topic":"x"}`, 422, "invalid-object", "/topic"},
		{"PATCH", "/v1/streams/trains", `{"partitions":1}`, 422, "invalid-object", "/partitions"},
		{"PATCH", "/v1/streams/none", `{"description":"x"}`, 404, "unknown-stream", ""},
		{"DELETE", "/v1/streams/none", ``, 404, "unknown-stream", ""},
		{"GET", "/v1/streams/none", ``, 404, "unknown-stream", ""},
		{"POST", "/v1/event-types", `{"type":"x.y","stream":"none"}`, 422, "invalid-object", "/stream"},
		{"POST", "/v1/event-types", `{"type":"x.y","stream":"trains","audience":"all"}`, 422, "invalid-object", "/audience"},
		{"GET", "/v1/event-types/none", ``, 404, "unknown-event-type", ""},
		{"GET", "/v1/streams?limit=0", ``, 400, "invalid-parameter", ""},
		{"GET", "/v1/streams?limit=many", ``, 400, "invalid-parameter", ""},
		{"GET", "/v1/streams?next=%21", ``, 400, "invalid-parameter", ""},
	} {
		a := h.must(h.sendJSON(tc.method, tc.path, tc.body), tc.status)
		p := a.problem(t)
		if p.Type != "/problems/"+tc.kind || tc.pointer != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != tc.pointer) {
			t.Errorf("%s %s %s: %s", tc.method, tc.path, tc.body, a.body)
		}
	}
	if p := h.must(h.send("POST", "/v1/streams", `{"name":"x"}`, "Content-Type: text/plain"), http.StatusUnsupportedMediaType).problem(t); p.Type != "/problems/unsupported-media-type" {
		t.Error(p.Type)
	}
	large := fmt.Sprintf(`{"name":"x","description":%q}`, strings.Repeat("x", documentBytes))
	if p := h.must(h.sendJSON("POST", "/v1/streams", large), http.StatusRequestEntityTooLarge).problem(t); p.Type != "/problems/body-too-large" {
		t.Error(p.Type)
	}
}

func TestListsAreWalkedPageByPage(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, name := range []string{"d", "b", "c", "a"} {
		h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"`+name+`","stream":"trains"}`), http.StatusCreated)
	}
	var got []string
	path := "/v1/event-types?limit=2"
	for pages := 0; ; pages++ {
		var page list[catalog.EventType]
		h.must(h.send("GET", path, ""), http.StatusOK).decode(t, &page)
		for _, et := range page.Items {
			got = append(got, et.Type)
		}
		if page.Next == "" || pages > 5 {
			break
		}
		// What is deleted behind the reader shifts nothing.
		h.must(h.send("DELETE", "/v1/event-types/"+got[len(got)-1], ""), http.StatusNoContent)
		path = "/v1/event-types?limit=2&next=" + page.Next
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "train.position"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestConsumerIsSavedResetAndForgotten(t *testing.T) {
	h := newHarness(t).withTrains()
	const path = "/v1/streams/trains/consumers/app"
	if p := h.must(h.send("GET", path, ""), http.StatusNotFound).problem(t); p.Type != "/problems/unknown-consumer" {
		t.Error(p.Type)
	}
	h.must(h.send("POST", "/v1/events", "["+trainEvent("1", `,"partitionkey":"a"`)+","+trainEvent("2", `,"partitionkey":"a"`)+"]", batched), http.StatusOK)

	var c consumerAnswer
	h.must(h.sendJSON("PUT", path, `{"from":"oldest","reset":true}`), http.StatusOK).decode(t, &c)
	if c.Name != "app" || c.Stream != "trains" || c.Lag != 2 || len(c.Partitions) != 3 {
		t.Errorf("made %+v", c)
	}
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK).decode(t, &s)
	h.must(h.sendJSON("PUT", path, `{"cursor":"`+s.Newest+`"}`), http.StatusOK).decode(t, &c)
	if c.Lag != 0 {
		t.Errorf("after saving the end the lag is %d", c.Lag)
	}
	h.must(h.sendJSON("PUT", path, `{"cursor":"`+s.Oldest+`"}`), http.StatusOK).decode(t, &c)
	if c.Lag != 0 {
		t.Errorf("saving an older cursor moved the consumer back, to a lag of %d", c.Lag)
	}
	h.must(h.sendJSON("PUT", path, `{"cursor":"`+s.Oldest+`","reset":true}`), http.StatusOK)
	h.must(h.send("GET", path, ""), http.StatusOK).decode(t, &c)
	if c.Lag != 2 {
		t.Errorf("after a reset the lag is %d", c.Lag)
	}
	h.must(h.sendJSON("PUT", path, `{"from":"2000-01-01T00:00:00Z","reset":true}`), http.StatusOK).decode(t, &c)
	if c.Lag != 2 {
		t.Errorf("after a reset to long ago the lag is %d", c.Lag)
	}
	h.must(h.send("DELETE", path, ""), http.StatusNoContent)
	h.must(h.send("GET", path, ""), http.StatusNotFound)
	h.must(h.send("DELETE", path, ""), http.StatusNotFound)
}

func TestBadInputToConsumersIsEachItsOwnProblem(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"planes","partitions":1}`), http.StatusCreated)
	var planes streamAnswer
	h.must(h.send("GET", "/v1/streams/planes", ""), http.StatusOK).decode(t, &planes)
	const path = "/v1/streams/trains/consumers/app"
	for _, tc := range []struct {
		path, body string
		status     int
		kind       string
	}{
		{path, `{}`, 400, "invalid-body"},
		{path, `{"cursor":"x","from":"oldest"}`, 400, "invalid-body"},
		{path, `{"from":"oldest"}`, 400, "invalid-body"},
		{path, `{"cursor":"garbage"}`, 400, "invalid-cursor"},
		{path, `{"cursor":"` + planes.Newest + `"}`, 400, "invalid-cursor"},
		{path, `{"from":"yesterday","reset":true}`, 400, "invalid-parameter"},
		{"/v1/streams/none/consumers/app", `{"from":"oldest","reset":true}`, 404, "unknown-stream"},
		{"/v1/streams/trains/consumers/-", `{"from":"oldest","reset":true}`, 400, "invalid-parameter"},
	} {
		a := h.must(h.sendJSON("PUT", tc.path, tc.body), tc.status)
		if p := a.problem(t); p.Type != "/problems/"+tc.kind {
			t.Errorf("%s: %s", tc.body, a.body)
		}
	}
}

func TestDefinitionsCanBeReadWhileTheLogIsAway(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) { d.Log = away{d.Log} }).withTrains()
	h.must(h.send("GET", "/v1/streams", ""), http.StatusOK)
	h.must(h.send("GET", "/v1/event-types/train.position", ""), http.StatusOK)
	a := h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusServiceUnavailable)
	if p := a.problem(t); p.Type != "/problems/log-unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("%s", a.body)
	}
}

func TestAsyncAPIDescribesStreamsAndTypes(t *testing.T) {
	h := newHarness(t).withTrains().withState("places")
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.*","stream":"trains","description":"anything else"}`), http.StatusCreated)
	var doc struct {
		AsyncAPI string
		Channels map[string]struct {
			Address  string
			Messages map[string]map[string]string
			Bindings struct {
				WS struct {
					Query struct {
						Properties map[string]struct{ Description string }
					}
				}
			}
		}
		Components struct{ Messages map[string]json.RawMessage }
	}
	h.must(h.send("GET", "/asyncapi.json", ""), http.StatusOK).decode(t, &doc)
	trains := doc.Channels["trains"]
	if doc.AsyncAPI != "3.0.0" || trains.Address != "/v1/streams/trains/events" || len(trains.Messages) != 2 {
		t.Errorf("the document is %+v", doc)
	}
	for key, ref := range trains.Messages {
		name, _ := url.PathUnescape(strings.TrimPrefix(ref["$ref"], "#/components/messages/"))
		if doc.Components.Messages[name] == nil {
			t.Errorf("message %s points at %s, which is not there", key, ref["$ref"])
		}
	}
	for stream, keeps := range map[string]bool{"trains": false, "places": true} {
		parameters := doc.Channels[stream].Bindings.WS.Query.Properties
		for name := range parameters {
			if err := new(readQuery).fromURL(url.Values{name: {"1"}}); err != nil {
				t.Errorf("%s: %v", stream, err)
			}
		}
		if _, overflow := parameters["overflow"]; overflow != keeps || strings.Contains(parameters["from"].Description, "snapshot") != keeps {
			t.Errorf("%s keeps a state: %v, and is described with %+v", stream, keeps, parameters)
		}
	}
}

// away is a log of which nothing can be asked.
type away struct{ broker.Log }

func (away) Describe(context.Context, string) (broker.TopicInfo, error) {
	return broker.TopicInfo{}, fmt.Errorf("describe: %w", broker.ErrUnavailable)
}
