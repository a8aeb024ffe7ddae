package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/audit"
	"github.com/eventissuer/eventissuer/internal/catalog"
)

const (
	positionSchema = `{"type":"object","properties":{"lat":{"type":"number","minimum":-90,"maximum":90},"line":{"type":"string"}},"required":["lat"],"additionalProperties":false}`
	// With one more property that may be left out.
	positionSchema2 = `{"type":"object","properties":{"lat":{"type":"number","minimum":-90,"maximum":90},"line":{"type":"string"},"speed":{"type":"number"}},"required":["lat"],"additionalProperties":false}`
	// With one more that may not.
	positionBroken = `{"type":"object","properties":{"lat":{"type":"number","minimum":-90,"maximum":90},"line":{"type":"string"},"speed":{"type":"number"}},"required":["lat","speed"],"additionalProperties":false}`
)

// withSchema makes the stream "trains" and the event type "train.position" with a schema; members are more of it.
func (h *harness) withSchema(members string) *harness {
	h.t.Helper()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":3}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.position","stream":"trains","schema":`+positionSchema+members+`}`), http.StatusCreated)
	return h
}

func withAddress(c *Config, _ *Deps) {
	c.PublicURL = &url.URL{Scheme: "https", Host: "events.example", Path: "/api"}
}

const schemaBase = "https://events.example/api/v1/event-types/train.position/schemas/"

// results reads a publisher's answer.
func (a answer) results(t testing.TB) []publishResult {
	t.Helper()
	var body struct{ Results []publishResult }
	a.decode(t, &body)
	return body.Results
}

// mistakes are what is wrong with an event, as "pointer keyword".
func mistakes(r publishResult) []string {
	var all []string
	for _, e := range r.Errors {
		all = append(all, strings.TrimSpace(e.Pointer+" "+e.Keyword))
	}
	return all
}

func withData(id, data string, more ...string) string {
	return trainEvent(id, `,"data":`+data+strings.Join(more, ""))
}

func TestSchemaIsServedAsItCameAndNeverChanges(t *testing.T) {
	h := newHarness(t, withAddress).withSchema("")
	first := h.must(h.send("GET", "/v1/event-types/train.position/schemas/1", ""), http.StatusOK)
	if string(first.body) != positionSchema || first.header.Get("Content-Type") != "application/schema+json" ||
		first.header.Get("Cache-Control") != "public, max-age=31536000, immutable" || first.header.Get("Schema-Version") != "1" {
		t.Errorf("%v %s", first.header, first.body)
	}
	tag := first.header.Get("ETag")
	h.must(h.send("GET", "/v1/event-types/train.position/schemas/1", "", "If-None-Match: "+tag), http.StatusNotModified)

	made := h.must(h.send("POST", "/v1/event-types/train.position/schemas", positionSchema2, "Content-Type: application/schema+json"), http.StatusCreated)
	if got := made.header.Get("Location"); got != schemaBase+"2" {
		t.Errorf("Location is %q", got)
	}
	again := h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas", " "+positionSchema2), http.StatusOK)
	if string(again.body) != string(made.body) {
		t.Errorf("registered again: %s\nat first: %s", again.body, made.body)
	}
	latest := h.must(h.send("GET", "/v1/event-types/train.position/schemas/latest", ""), http.StatusOK)
	if string(latest.body) != positionSchema2 || latest.header.Get("Cache-Control") != "no-cache" || latest.header.Get("Schema-Version") != "2" {
		t.Errorf("%v %s", latest.header, latest.body)
	}
	if still := h.must(h.send("GET", "/v1/event-types/train.position/schemas/1", ""), http.StatusOK); string(still.body) != positionSchema || still.header.Get("ETag") != tag {
		t.Errorf("version 1 became %s", still.body)
	}
	var listed list[schemaAnswer]
	h.must(h.send("GET", "/v1/event-types/train.position/schemas", ""), http.StatusOK).decode(t, &listed)
	if len(listed.Items) != 2 || listed.Items[0].URL != schemaBase+"1" || listed.Items[1].Version != 2 || listed.Items[1].Created.By != "local" {
		t.Errorf("%+v", listed)
	}
	var typ typeAnswer
	h.must(h.send("GET", "/v1/event-types/train.position", ""), http.StatusOK).decode(t, &typ)
	if typ.LatestVersion != 2 || typ.SchemaURL != schemaBase+"2" || string(typ.Schema) != positionSchema2 {
		t.Errorf("%+v", typ)
	}
	for path, kind := range map[string]string{
		"/v1/event-types/train.position/schemas/3":  "unknown-schema",
		"/v1/event-types/train.position/schemas/v1": "invalid-parameter",
		"/v1/event-types/none/schemas/1":            "unknown-schema",
		"/v1/event-types/none/schemas":              "unknown-event-type",
	} {
		if p := h.send("GET", path, "").problem(t); p.Type != problemPath+kind {
			t.Errorf("%s: %s", path, p.Type)
		}
	}
}

func TestIncompatibleSchemaIsRefusedWithItsBreaks(t *testing.T) {
	h := newHarness(t).withSchema("")
	var verdict Comparison
	h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas:check", positionBroken), http.StatusOK).decode(t, &verdict)
	if verdict.Compatible || verdict.Verdict != "incompatible" || len(verdict.Breaks) == 0 || verdict.Mode != "backward" || !slices.Equal(verdict.ComparedWith, []int{1}) {
		t.Errorf("%+v", verdict)
	}
	p := h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas?force=true", positionBroken), http.StatusConflict)
	if got := p.problem(t); got.Type != "/problems/incompatible-schema" || len(got.Breaks) != len(verdict.Breaks) {
		t.Errorf("%s", p.body)
	}
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","schema":`+positionBroken+`}`), http.StatusConflict)
	h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas:check", positionSchema2), http.StatusOK).decode(t, &verdict)
	if !verdict.Compatible {
		t.Errorf("%+v", verdict)
	}
	var listed list[schemaAnswer]
	h.must(h.send("GET", "/v1/event-types/train.position/schemas", ""), http.StatusOK).decode(t, &listed)
	if len(listed.Items) != 1 {
		t.Errorf("something was written: %+v", listed)
	}
	for body, want := range map[string]int{`{"type":"thing"}`: 422, `{"type":`: 400, `"x"`: 422, ``: 400} {
		for _, path := range []string{"/v1/event-types/train.position/schemas", "/v1/event-types/train.position/schemas:check"} {
			if a := h.sendJSON("POST", path, body); a.status != want {
				t.Errorf("%s %q: %d %s", path, body, a.status, a.body)
			}
		}
	}
	if p := h.sendJSON("POST", "/v1/event-types/none/schemas", `{}`).problem(t); p.Type != "/problems/unknown-event-type" {
		t.Error(p.Type)
	}
	if p := h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"b","stream":"trains","schema":{"type":"thing"}}`), 422).problem(t); !strings.HasPrefix(p.Errors[0].Pointer, "/schema") {
		t.Errorf("%+v", p)
	}
}

func TestEventIsHeldToTheSchemaAndCarriesItsAddress(t *testing.T) {
	h := newHarness(t, withAddress).withSchema("")
	h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas", positionSchema2), http.StatusCreated)
	batch := []string{
		withData("1", `{"lat":60.5}`),
		withData("2", `{"lat":91,"x":1}`),
		withData("3", `{"lat":1,"speed":2}`, `,"dataschema":"`+schemaBase+`1"`),
		withData("4", `{"lat":1}`, `,"dataschema":"`+schemaBase+`1"`),
		withData("5", `{"lat":1}`, `,"dataschema":"`+schemaBase+`latest"`),
		withData("6", `{"lat":1}`, `,"dataschema":"https://elsewhere.example/schema"`),
		withData("7", `{"lat":1}`, `,"dataschema":"`+schemaBase+`9"`),
		withData("8", `"text"`, `,"datacontenttype":"text/plain"`),
		trainEvent("9", ""),
		trainEvent("10", `,"datacontenttype":"application/json","data_base64":"eyJsYXQiOjF9"`),
		trainEvent("11", `,"datacontenttype":"application/json","data_base64":"eyJsYXQi"`),
	}
	got := h.must(h.send("POST", "/v1/events", "["+strings.Join(batch, ",")+"]", batched), http.StatusMultiStatus).results(t)
	want := [][]string{
		nil,
		{"/data/lat maximum", "/data/x additionalProperties"},
		{"/data/speed additionalProperties"},
		nil, nil,
		{"/dataschema dataschema"},
		{"/dataschema dataschema"},
		{"/datacontenttype datacontenttype"},
		{"/data required"},
		nil,
		{"/data"},
	}
	for i, r := range got {
		m := mistakes(r)
		slices.Sort(m)
		if diff := cmp.Diff(want[i], m); diff != "" && !(i == 10 && len(m) == 1 && strings.HasPrefix(m[0], "/data")) {
			t.Errorf("event %d: %s (-want +got)\n%s", i+1, r.Status, diff)
		}
	}
	versions := map[string]string{}
	for _, e := range h.stored("trains", 4) {
		versions[e["id"].(string)] = strings.TrimPrefix(e["dataschema"].(string), schemaBase)
	}
	if diff := cmp.Diff(map[string]string{"1": "2", "4": "1", "5": "2", "10": "2"}, versions); diff != "" {
		t.Errorf("stored (-want +got)\n%s", diff)
	}
}

// stored reads all events of a stream, which are n: a page may be some milliseconds behind the log.
func (h *harness) stored(stream string, n int) []map[string]any {
	h.t.Helper()
	all := []map[string]any{}
	at := "from=oldest"
	for range 5 {
		var events []map[string]any
		page := h.must(h.send("GET", "/v1/streams/"+stream+"/events?limit=1000&wait=1s&"+at, ""), http.StatusOK)
		page.decode(h.t, &events)
		if all = append(all, events...); len(all) >= n {
			break
		}
		at = "after=" + page.header.Get("Cursor")
	}
	if len(all) != n {
		h.t.Errorf("%d events are stored instead of %d: %v", len(all), n, all)
	}
	return all
}

func TestBinaryEventIsHeldToTheSchemaToo(t *testing.T) {
	h := newHarness(t).withSchema("")
	headers := []string{"ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: train.position", "Content-Type: application/json"}
	h.must(h.send("POST", "/v1/events", `{"lat":60}`, headers...), http.StatusOK)
	got := h.must(h.send("POST", "/v1/events", `{"lat":"north"}`, headers...), http.StatusUnprocessableEntity).results(t)
	if diff := cmp.Diff([]string{"/data/lat type"}, mistakes(got[0])); diff != "" {
		t.Error(diff)
	}
}

func TestSourcesAttributesAndPromotionsAreEnforced(t *testing.T) {
	h := newHarness(t).withSchema(`,"sources":["/trains/"],"promote":{"line":"/line"},"attributes":{"type":"object","required":["line"],"properties":{"line":{"maxLength":3}}}`)
	from := func(source, event string) string {
		return strings.Replace(event, `"source":"/trains"`, `"source":"`+source+`"`, 1)
	}
	if !strings.Contains(trainEvent("1", ""), `"source":"/trains"`) {
		t.Fatalf("%s", trainEvent("1", ""))
	}
	batch := []string{
		from("/trains/1", withData("1", `{"lat":1,"line":"L1"}`)),
		from("/buses/1", withData("2", `{"lat":1,"line":"L1"}`)),
		from("/trains/1", withData("3", `{"lat":1}`)),
		from("/trains/1", withData("4", `{"lat":1,"line":"L1234"}`)),
		from("/trains/1", withData("5", `{"lat":1,"line":"L1"}`, `,"line":"L2"`)),
	}
	got := h.must(h.send("POST", "/v1/events", "["+strings.Join(batch, ",")+"]", batched), http.StatusMultiStatus).results(t)
	for i, want := range [][]string{nil, {"/source sources"}, {"/line required"}, {"/line maxLength"}, {"/line promote"}} {
		m := mistakes(got[i])
		if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("event %d (-want +got)\n%s%+v", i+1, diff, got[i])
		}
	}
	if e := h.stored("trains", 1); len(e) != 1 || e[0]["line"] != "L1" {
		t.Errorf("stored %v", e)
	}
	// What was promoted can be filtered on.
	var events []map[string]any
	h.must(h.send("GET", "/v1/streams/trains/events?from=oldest&filter="+url.QueryEscape("line = 'L1'"), ""), http.StatusOK).decode(t, &events)
	if len(events) != 1 {
		t.Errorf("%v", events)
	}
}

func TestNothingIsWrittenUnlessAllAreValidWhereAskedSo(t *testing.T) {
	h := newHarness(t).withSchema("")
	batch := "[" + withData("1", `{"lat":1}`) + "," + withData("2", `{"lat":"x"}`) + "," + withData("3", `{"lat":3}`) + "]"
	got := h.must(h.send("POST", "/v1/events?all=true", batch, batched), http.StatusUnprocessableEntity).results(t)
	if got[0].Status != "withheld" || got[1].Status != "invalid" || got[2].Status != "withheld" {
		t.Errorf("%+v", got)
	}
	h.stored("trains", 0)
	h.must(h.send("POST", "/v1/events", batch, batched), http.StatusMultiStatus)
	h.stored("trains", 2)
	h.must(h.send("POST", "/v1/events?all=yes", batch, batched), http.StatusBadRequest)
}

func TestMistakesInPersonalEventsQuoteNothing(t *testing.T) {
	h := newHarness(t).withSchema(`,"personal":true`)
	a := h.must(h.send("POST", "/v1/events", withData("1", `{"lat":"canary-1","canary-2":{"canary-3":1}}`), "Content-Type: application/cloudevents+json"), http.StatusUnprocessableEntity)
	if strings.Contains(string(a.body), "canary") || len(a.results(t)[0].Errors) == 0 {
		t.Errorf("%s", a.body)
	}
}

func TestReservedTypesCanNeitherBeRegisteredNorPublished(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"no.eventissuer.gap","stream":"trains"}`), http.StatusUnprocessableEntity)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"*","stream":"trains"}`), http.StatusCreated)
	event := strings.Replace(trainEvent("1", ""), "train.position", "no.eventissuer.gap", 1)
	got := h.must(h.send("POST", "/v1/events", event, "Content-Type: application/cloudevents+json"), http.StatusUnprocessableEntity).results(t)
	if diff := cmp.Diff([]string{"/type"}, mistakes(got[0])); diff != "" {
		t.Error(diff)
	}
}

func TestTypeWithEventsIsDeletedByForceOnly(t *testing.T) {
	h := newHarness(t).withSchema("")
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.other","stream":"trains"}`), http.StatusCreated)
	h.must(h.send("POST", "/v1/events", withData("1", `{"lat":1}`), "Content-Type: application/cloudevents+json"), http.StatusOK)
	if p := h.must(h.send("DELETE", "/v1/event-types/train.position", ""), http.StatusConflict).problem(t); !strings.Contains(p.Detail, "force=true") {
		t.Error(p.Detail)
	}
	h.must(h.send("DELETE", "/v1/event-types/train.other", ""), http.StatusNoContent)
	h.must(h.send("DELETE", "/v1/event-types/train.position?force=true", ""), http.StatusNoContent)
	h.must(h.send("GET", "/v1/event-types/train.position", ""), http.StatusNotFound)
	h.must(h.send("GET", "/v1/event-types/train.position/schemas/1", ""), http.StatusOK)
}

func TestTypesAreFoundByWordsOwnerStreamAndAudience(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"other","partitions":1}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"bus.left","stream":"other","owner":"ruter","audience":"public","documentation":"# Avganger\nNår en buss går."}`), http.StatusCreated)
	for query, want := range map[string]int{"": 2, "q=avganger+BUSS": 1, "q=buss+train": 0, "owner=ruter": 1, "stream=other": 1, "stream=none": 0, "audience=public": 1, "audience=internal&q=train": 1} {
		var page list[typeAnswer]
		h.must(h.send("GET", "/v1/event-types?"+query, ""), http.StatusOK).decode(t, &page)
		if len(page.Items) != want {
			t.Errorf("%s: %d", query, len(page.Items))
		}
	}
}

func TestEveryChangeIsAudited(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) {
		log, err := audit.New(audit.Config{Log: d.Log})
		if err != nil {
			t.Fatal(err)
		}
		d.Audit = log
		d.Catalog.AuditTo(log)
	}).withSchema("")
	h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas", positionSchema2, "X-Request-Id: request-of-mine"), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas", positionBroken), http.StatusConflict) // no change
	h.must(h.sendJSON("PATCH", "/v1/streams/trains", `{"description":"d"}`), http.StatusOK)
	h.must(h.sendJSON("PATCH", "/v1/streams/trains", `{"description":"d"}`), http.StatusOK) // no change
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
	var got []string
	next := ""
	for {
		var page list[catalog.Entry]
		h.must(h.send("GET", "/v1/admin/audit?limit=2"+next, ""), http.StatusOK).decode(t, &page)
		for _, e := range page.Items {
			if e.By == "" || e.At.IsZero() {
				t.Errorf("%+v", e)
			}
			got = append(got, fmt.Sprintf("%s %s %s %d", e.Action, e.Kind, e.Name, e.Version))
			if e.Action == catalog.ActionChanged && e.Detail != `description: nothing -> "d"` {
				t.Errorf("%+v", e)
			}
			if e.Version == 2 && e.RequestID != "request-of-mine" {
				t.Errorf("%+v", e)
			}
		}
		if page.Next == "" {
			break
		}
		next = "&next=" + page.Next
	}
	want := []string{
		"deleted event-type train.position 0", "deleted stream trains 0", "changed stream trains 0",
		"registered schema train.position 2", "registered schema train.position 1", "created event-type train.position 0", "created stream trains 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.must(h.send("GET", "/v1/admin/audit?next=x", ""), http.StatusBadRequest)
}

func TestAsyncAPIHasTheSchemasWithTheirReferencesMoved(t *testing.T) {
	h := newHarness(t, withAddress)
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":1}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"a","stream":"trains","schema":{"$defs":{"p":{"type":"object","properties":{"enum":{"$ref":"#/$defs/p"},"next":{"$ref":"#/$defs/p"}}}},"$ref":"#/$defs/p"},"examples":[{"next":{}}],"deprecation":{"date":"2027-01-31","successor":"b"}}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"c","stream":"trains","schema":{"$id":"https://x.example/c","type":"object"}}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"d","stream":"trains","schema":{"properties":{"$ref":{"type":"string"}}}}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"e","stream":"trains","schema":true}`), http.StatusCreated)
	var doc struct {
		Components struct {
			Messages map[string]struct {
				Description string
				Examples    []any
				Payload     json.RawMessage
			}
			Schemas map[string]json.RawMessage
		}
	}
	h.must(h.send("GET", "/asyncapi.json", ""), http.StatusOK).decode(t, &doc)
	a := string(doc.Components.Schemas["a.data"])
	if strings.Count(a, `"$ref":"#/components/schemas/a.data/$defs/p"`) != 3 {
		t.Error(a)
	}
	if m := doc.Components.Messages["a"]; !strings.Contains(m.Description, "2027-01-31") || len(m.Examples) != 1 || !strings.Contains(string(m.Payload), "#/components/schemas/a.data") {
		t.Errorf("%+v", m)
	}
	if d, e := string(doc.Components.Schemas["d.data"]), string(doc.Components.Schemas["e.data"]); strings.Contains(d, "$ref") || e != "{}" {
		t.Errorf("%s %s", d, e)
	}
	if c := string(doc.Components.Schemas["c.data"]); !strings.Contains(c, "https://events.example/api/v1/event-types/c/schemas/1") || strings.Contains(c, "$id") {
		t.Error(c)
	}
}
