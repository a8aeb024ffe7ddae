package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

// plainStream makes the stream "delays" over a topic of 2 partitions that others write plain JSON to.
const plainStream = `{"name":"delays","topic":"tis.delays","format":"json","wrap":{"type":"train.delay","source":"/tis",
	"subject":{"pointer":"/train"},"extensions":{"line":{"pointer":"/line","default":"none"}}}}`

func (h *harness) withDelays() *harness {
	h.t.Helper()
	if err := h.deps.Log.Create(h.t.Context(), "tis.delays", broker.TopicConfig{Partitions: 2}); err != nil {
		h.t.Fatal(err)
	}
	h.must(h.sendJSON("POST", "/v1/streams", plainStream), http.StatusCreated)
	return h
}

func (h *harness) write(partition int32, values ...string) {
	h.t.Helper()
	var messages []broker.Message
	for _, v := range values {
		m := broker.Message{Partition: partition, Key: []byte("key"), Value: []byte(v)}
		if v == "" {
			m.Value = nil
		}
		messages = append(messages, m)
	}
	for _, ack := range h.deps.Log.Append(h.t.Context(), "tis.delays", messages) {
		if ack.Err != nil {
			h.t.Fatal(ack.Err)
		}
	}
}

func TestPlainRecordsAreReadAsEvents(t *testing.T) {
	h := newHarness(t).withDelays()
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.delay.note","stream":"delays"}`), http.StatusCreated)
	h.write(0, `{"train":"61","delay":4}`, `{"train":[]}`, `{"train":"62","line":"R10"}`)
	h.must(h.send("POST", "/v1/events", `{"specversion":"1.0","id":"own","source":"/me","type":"train.delay.note","partitionkey":"x"}`, structured), http.StatusOK)
	a := h.must(h.send("GET", "/v1/streams/delays/events?from=oldest", ""), http.StatusOK)
	var events []struct{ ID, Type, Subject, Line string }
	a.decode(t, &events)
	slices.SortFunc(events, func(a, b struct{ ID, Type, Subject, Line string }) int { return strings.Compare(a.ID, b.ID) })
	want := []struct{ ID, Type, Subject, Line string }{
		{"0-0", "train.delay", "61", "none"}, {"0-2", "train.delay", "62", "R10"}, {"own", "train.delay.note", "", ""},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := a.header.Get("Skipped"); !strings.Contains(got, `"offset":1`) || !strings.Contains(got, "/subject") {
		t.Errorf("Skipped is %q", got)
	}
	h.must(h.send("GET", "/v1/streams/delays/events?from=oldest&filter=line%20%3D%20'R10'", ""), http.StatusOK).decode(t, &events)
	if len(events) != 1 || events[0].ID != "0-2" {
		t.Errorf("filtered: %v", events)
	}
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/delays", ""), http.StatusOK).decode(t, &s)
	if s.Format != "json" || !strings.Contains(string(s.Wrap), `"line":{"pointer":"/line","default":"none"}`) {
		t.Errorf("%+v", s)
	}
	for body, pointer := range map[string]string{`{"format":"cloudevents"}`: "/format", `{"wrap":{"type":"t","source":"/s"}}`: "/wrap"} {
		p := h.must(h.sendJSON("PATCH", "/v1/streams/delays", body), http.StatusUnprocessableEntity).problem(t)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer || !strings.Contains(p.Errors[0].Message, "make another stream") {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
}

// found follows a search for poison to its end, and returns the offsets found by partition.
func (h *harness) found(query string) (offsets [2][]int64, next string) {
	h.t.Helper()
	path := "/v1/streams/delays/poison?"
	for range 100 {
		var a poisonAnswer
		h.must(h.send("GET", path+query, ""), http.StatusOK).decode(h.t, &a)
		for _, item := range a.Items {
			offsets[item.Partition] = append(offsets[item.Partition], item.Offset)
		}
		if a.Done {
			return offsets, a.Next
		}
		limit := ""
		if _, after, ok := strings.Cut(query, "limit="); ok {
			limit = "&limit=" + after
		}
		query = "after=" + a.Next + limit
	}
	h.t.Fatal("the search does not end")
	return offsets, ""
}

func TestPoisonIsFoundInTheLogWithWhy(t *testing.T) {
	h := newHarness(t).withDelays()
	h.write(0, `{"train":"61"}`, `{"train":{"no":61}}`, "", "hei", `{"train":"62"}`)
	h.write(1, "\xff\xfe"+strings.Repeat("x", 2000), `{"train":"63"}`)

	var a poisonAnswer
	h.must(h.send("GET", "/v1/streams/delays/poison?value=true", ""), http.StatusOK).decode(t, &a)
	slices.SortFunc(a.Items, func(a, b poisonRecord) int { return int(a.Partition-b.Partition)*100 + int(a.Offset-b.Offset) })
	if len(a.Items) != 3 || !a.Done || len(a.Gaps) != 0 {
		t.Fatalf("%+v", a)
	}
	for i, want := range []poisonRecord{
		{Partition: 0, Offset: 1, KeyBytes: 3, ValueBytes: 19, Value: []byte(`{"train":{"no":61}}`), Reason: "/subject"},
		{Partition: 0, Offset: 3, KeyBytes: 3, ValueBytes: 3, Value: []byte("hei"), Reason: "no JSON"},
		{Partition: 1, Offset: 0, KeyBytes: 3, ValueBytes: 2002, Value: []byte("\xff\xfe" + strings.Repeat("x", 1022)), Reason: "UTF-8"},
	} {
		got := a.Items[i]
		if !strings.Contains(got.Reason, want.Reason) || got.Timestamp.IsZero() {
			t.Errorf("%+v", got)
		}
		got.Reason, got.Timestamp = want.Reason, want.Timestamp
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	plain := h.must(h.send("GET", "/v1/streams/delays/poison", ""), http.StatusOK)
	if strings.Contains(string(plain.body), `"value"`) {
		t.Errorf("values are shown that were not asked for: %s", plain.body)
	}

	want := [2][]int64{{1, 3}, {0}}
	for _, query := range []string{"from=oldest", "limit=1", "limit=2", "from=2001-01-01T00:00:00Z"} {
		if got, _ := h.found(query); cmp.Diff(want, got) != "" {
			t.Errorf("%s finds %v", query, got)
		}
	}
	other, err := New(Config{}, Deps{Log: h.deps.Log, Catalog: h.deps.Catalog, Consumers: h.deps.Consumers})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	other.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/streams/delays/poison", http.NoBody))
	if got := strings.TrimSpace(rec.Body.String()); got != string(plain.body) {
		t.Errorf("another replica finds %s, not %s", got, plain.body)
	}

	_, end := h.found("from=latest")
	h.write(1, "new")
	if got, _ := h.found("after=" + end); cmp.Diff([2][]int64{nil, {2}}, got) != "" {
		t.Errorf("after the end there is %v", got)
	}
	// The cursor is that of reads, both ways.
	page := h.must(h.send("GET", "/v1/streams/delays/events?after="+end, ""), http.StatusOK)
	if got := page.header.Values("Skipped"); len(got) != 1 {
		t.Errorf("a read goes on with %v", got)
	}
	if got, _ := h.found("after=" + page.header.Get("Cursor")); cmp.Diff([2][]int64{}, got) != "" {
		t.Errorf("after all of it there is %v", got)
	}
}

func TestASearchForPoisonIsBoundedAndGoesOn(t *testing.T) {
	h := newHarness(t).withDelays()
	value := `{"train":"61","x":"` + strings.Repeat("x", 900<<10) + `"}`
	for range 40 {
		h.write(0, value)
	}
	h.write(0, "bad")
	h.write(1, "bad")
	var a poisonAnswer
	h.must(h.send("GET", "/v1/streams/delays/poison", ""), http.StatusOK).decode(t, &a)
	if a.Done {
		t.Error("36 MB were read for one answer")
	}
	if got, _ := h.found("from=oldest"); cmp.Diff([2][]int64{{40}, {0}}, got) != "" {
		t.Errorf("found %v", got)
	}
}

func TestPoisonTellsWhatIsGone(t *testing.T) {
	h := newHarness(t).withDelays()
	h.write(0, "bad", "bad", "bad")
	_, end := h.found("from=oldest")
	var old poisonAnswer
	h.must(h.send("GET", "/v1/streams/delays/poison?limit=1", ""), http.StatusOK).decode(t, &old)
	if err := h.deps.Log.Truncate(t.Context(), "tis.delays", 0, 2); err != nil {
		t.Fatal(err)
	}
	var a poisonAnswer
	h.must(h.send("GET", "/v1/streams/delays/poison?after="+old.Next, ""), http.StatusOK).decode(t, &a)
	if len(a.Items) != 1 || a.Items[0].Offset != 2 || len(a.Gaps) != 1 || a.Gaps[0].From != 1 || a.Gaps[0].To != 2 || a.Gaps[0].Reason != "retention" {
		t.Errorf("%+v", a)
	}
	if err := h.deps.Log.Delete(t.Context(), "tis.delays"); err != nil {
		t.Fatal(err)
	}
	p := h.must(h.send("GET", "/v1/streams/delays/poison?after="+end, ""), http.StatusNotFound).problem(t)
	if p.Type != "/problems/unknown-stream" {
		t.Error(p)
	}
	if err := h.deps.Log.Create(t.Context(), "tis.delays", broker.TopicConfig{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	h.write(1, "bad")
	h.must(h.send("GET", "/v1/streams/delays/poison?after="+end, ""), http.StatusOK).decode(t, &a)
	if len(a.Items) != 1 || a.Items[0].Partition != 1 || len(a.Gaps) != 1 || a.Gaps[0].Reason != "recreated" {
		t.Errorf("%+v", a)
	}
}

func TestBadSearchesForPoisonAreEachTheirProblem(t *testing.T) {
	h := newHarness(t).withDelays().withTrains()
	var trains streamAnswer
	h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK).decode(t, &trains)
	for query, kind := range map[string]string{
		"after=nonsense": "invalid-cursor", "after=" + trains.Newest: "invalid-cursor", "limit=0": "invalid-parameter", "limit=1001": "invalid-parameter",
		"limit=x": "invalid-parameter", "value=1": "invalid-parameter", "from=yesterday": "invalid-parameter", "frmo=oldest": "invalid-parameter",
		"from=oldest&from=latest": "invalid-parameter",
	} {
		if p := h.must(h.send("GET", "/v1/streams/delays/poison?"+query, ""), http.StatusBadRequest).problem(t); p.Type != "/problems/"+kind {
			t.Errorf("%s: %s", query, p.Type)
		}
	}
	h.must(h.send("GET", "/v1/streams/none/poison", ""), http.StatusNotFound).problem(t)

	if !h.edge.scans.TryAcquire(poisonScans) {
		t.Fatal("a search is under way")
	}
	a := h.must(h.send("GET", "/v1/streams/delays/poison", ""), http.StatusServiceUnavailable)
	if p := a.problem(t); p.Type != "/problems/overloaded" || a.header.Get("Retry-After") == "" {
		t.Errorf("%s", a.body)
	}
	h.edge.scans.Release(poisonScans)
}

func TestMappingsOfStreamsArePointedAt(t *testing.T) {
	h := newHarness(t)
	p := h.must(h.sendJSON("POST", "/v1/streams", `{"name":"s","format":"json","wrap":{"type":{"pointer":"x"},"extensions":{"no good":"1"}}}`), http.StatusUnprocessableEntity).problem(t)
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Pointer)
	}
	if diff := cmp.Diff([]string{"/wrap/extensions/no good", "/wrap/source", "/wrap/type/pointer"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s%s", diff, fmt.Sprint(p.Errors))
	}
}
