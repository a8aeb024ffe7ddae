package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/quota"
)

func TestEventWithoutKeyIsRefusedWhereTheStreamKeepsKeys(t *testing.T) {
	h := newHarness(t)
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":1,"compaction":true}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.position","stream":"trains"}`), http.StatusCreated)
	batch := "[" + trainEvent("1", `,"subject":"a"`) + "," + trainEvent("2", "") + "," + trainEvent("3", `,"partitionkey":"c"`) + "]"
	got := h.must(h.send("POST", "/v1/events", batch, batched), http.StatusMultiStatus).results(t)
	if got[0].Status != statusPersisted || got[2].Status != statusPersisted {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{"/subject key"}, mistakes(got[1])); diff != "" {
		t.Error(diff)
	}
}

func TestReferencesBetweenSchemasMeanTheSameUnderEveryAddress(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"base","stream":"trains","schema":{"$defs":{"n":{"type":"integer"}}}}`), http.StatusCreated)
	absolute := `{"type":"train.position","stream":"trains","schema":{"properties":{"n":{"$ref":"http://events.example/v1/event-types/base/schemas/1#/$defs/n"}}}}`
	// The server's address is the one that who asks uses.
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", absolute, "Host: other.example"), http.StatusUnprocessableEntity)
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", absolute, "Host: events.example"), http.StatusOK)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"relative","stream":"trains","schema":{"properties":{"n":{"$ref":"../../base/schemas/1#/$defs/n"}}}}`), http.StatusCreated)
	for _, typ := range []string{"train.position", "relative"} {
		event := func(id, data string) string {
			return strings.Replace(withData(id, data), "train.position", typ, 1)
		}
		h.must(h.send("POST", "/v1/events", event("1"+typ, `{"n":1}`), structured), http.StatusOK)
		got := h.must(h.send("POST", "/v1/events", event("2"+typ, `{"n":"x"}`), structured), http.StatusUnprocessableEntity).results(t)
		if diff := cmp.Diff([]string{"/data/n type"}, mistakes(got[0])); diff != "" {
			t.Errorf("%s: %s", typ, diff)
		}
	}
	for ref, why := range map[string]string{"../../base/schemas/latest": "numbered", "../../base/schemas/7": "has no schema 7", "https://elsewhere.example/x": ""} {
		p := h.must(h.sendJSON("POST", "/v1/event-types/relative/schemas", `{"$ref":"`+ref+`"}`), http.StatusUnprocessableEntity).problem(t)
		if !strings.Contains(p.Detail, why) || strings.Contains(p.Detail, "registry.invalid") {
			t.Errorf("%s: %s", ref, p.Detail)
		}
	}
}

func TestTypeIsNotDeletedWhileAnyStreamThatItHadHoldsItsEvents(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.send("POST", "/v1/events", trainEvent("1", ""), structured), http.StatusOK)
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"other","partitions":1}`), http.StatusCreated)
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"other"}`), http.StatusOK)
	h.must(h.send("DELETE", "/v1/event-types/train.position", ""), http.StatusConflict)
	var typ typeAnswer
	h.must(h.send("GET", "/v1/event-types/train.position", ""), http.StatusOK).decode(t, &typ)
	if diff := cmp.Diff([]string{"trains"}, typ.FormerStreams); diff != "" {
		t.Error(diff)
	}

	// Events of plain records are events too.
	if err := h.deps.Log.Create(t.Context(), "plain", broker.TopicConfig{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	if ack := h.deps.Log.Append(t.Context(), "plain", []broker.Message{{Value: []byte(`{"n":1}`)}})[0]; ack.Err != nil {
		t.Fatal(ack.Err)
	}
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"plain","topic":"plain","format":"json","wrap":{"type":"plain.type","source":"/plain"}}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"plain.type","stream":"plain"}`), http.StatusCreated)
	h.must(h.send("DELETE", "/v1/event-types/plain.type", ""), http.StatusConflict)
}

func TestEventsAreNotHeldToSchemasOfAnEarlierLifeOfTheirType(t *testing.T) {
	h := newHarness(t, withAddress).withSchema("")
	h.must(h.send("DELETE", "/v1/event-types/train.position", ""), http.StatusNoContent)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.position","stream":"trains","schema":{"required":["mustHave"]}}`), http.StatusCreated)
	got := h.must(h.send("POST", "/v1/events", withData("1", `{"lat":1}`, `,"dataschema":"`+schemaBase+`1"`), structured), http.StatusUnprocessableEntity).results(t)
	if diff := cmp.Diff([]string{"/dataschema dataschema"}, mistakes(got[0])); diff != "" {
		t.Error(diff)
	}
}

func TestGoingBackToAnOlderSchemaIsNotDoneWithoutAWord(t *testing.T) {
	h := newHarness(t).withSchema("")
	h.must(h.sendJSON("POST", "/v1/event-types/train.position/schemas", positionSchema2), http.StatusCreated)
	for _, a := range []answer{
		h.sendJSON("POST", "/v1/event-types/train.position/schemas", positionSchema),
		h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","schema":`+positionSchema+`}`),
	} {
		if p := h.must(a, http.StatusConflict).problem(t); !strings.Contains(p.Detail, "version 1") || !strings.Contains(p.Detail, "2 stays in force") {
			t.Error(p.Detail)
		}
	}
}

func TestJSONInBase64IsPromotedFromToo(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","promote":{"line":"/line"}}`), http.StatusOK)
	h.must(h.send("POST", "/v1/events", trainEvent("1", `,"datacontenttype":"application/json","data_base64":"eyJsaW5lIjoiTDEifQ=="`), structured), http.StatusOK)
	if e := h.stored("trains", 1); e[0]["line"] != "L1" {
		t.Errorf("%v", e)
	}
}

func TestAttributesOfTheBinaryModeAreWhatTheirSchemaSaysTheyAre(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","attributes":{"required":["seq"],"properties":{"seq":{"type":"integer","minimum":3},"last":{"type":"boolean"}}}}`), http.StatusOK)
	binary := func(more ...string) answer {
		return h.send("POST", "/v1/events", "x", append([]string{"ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: train.position", "Content-Type: text/plain"}, more...)...)
	}
	h.must(binary("ce-seq: 5", "ce-last: true"), http.StatusOK)
	for want, a := range map[string]answer{"/seq minimum": binary("ce-seq: 2"), "/seq type": binary("ce-seq: five"), "/seq required": binary(), "/last type": binary("ce-seq: 5", "ce-last: yes")} {
		if diff := cmp.Diff([]string{want}, mistakes(h.must(a, http.StatusUnprocessableEntity).results(t)[0])); diff != "" {
			t.Error(diff)
		}
	}
}

func TestMistakesInTheAttributesOfPersonalEventsQuoteNothing(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","personal":true}`), http.StatusOK)
	for _, more := range []string{`,"time":"canary@secret.no"`, `,"dataschema":"canary secret"`, `,"canary_x":1`, `,"subject":"canary` + "\\u0001" + `"`} {
		a := h.must(h.send("POST", "/v1/events", trainEvent("1", more), structured), http.StatusUnprocessableEntity)
		if strings.Contains(string(a.body), "canary") || len(a.results(t)[0].Errors) == 0 {
			t.Errorf("%s", a.body)
		}
	}
}

func TestWhatIsNotWrittenSpendsNoQuota(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) { d.Quotas = quota.New(quota.Config{}, quota.Deps{}) }).withSchema(`,"quota":{"eventsPerSecond":2}`)
	batch := "[" + withData("1", `{"lat":1}`) + "," + withData("2", `{"lat":2}`) + "," + withData("3", `{"lat":"x"}`) + "]"
	h.must(h.send("POST", "/v1/events?all=true", batch, batched), http.StatusUnprocessableEntity)
	h.must(h.send("POST", "/v1/events", batch, batched), http.StatusMultiStatus)
	h.stored("trains", 2)
}

func TestMistakesWithinAnEventTypesMembersArePointedAt(t *testing.T) {
	h := newHarness(t).withTrains()
	for body, pointer := range map[string]string{
		`{"stream":"trains","quota":{"eventPerSecond":5}}`:        "/quota",
		`{"stream":"trains","deprecation":{"dat":"2027-01-01"}}`:  "/deprecation",
		`{"stream":"trains","stream":"other"}`:                    "/stream",
		`{"stream":"trains","promote":{"source":"/a"}}`:           "/promote/source",
		`{"stream":"trains","examples":{"a":1}}`:                  "/examples",
		`{"stream":"trains","attributes":{"type":"x"},"owner":1}`: "/owner",
	} {
		p := h.must(h.sendJSON("PUT", "/v1/event-types/train.position", body), http.StatusUnprocessableEntity).problem(t)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
	// White space is no change.
	first := h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","examples":[{"a":1}],"attributes":{"type":"object"}}`), http.StatusOK)
	again := h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","examples":[ { "a": 1 } ],"attributes":{ "type":"object" }}`), http.StatusOK)
	if first.header.Get("ETag") != again.header.Get("ETag") {
		t.Error("the type was changed")
	}
}
