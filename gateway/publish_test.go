package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	structured = "Content-Type: application/cloudevents+json"
	batched    = "Content-Type: application/cloudevents-batch+json"
)

// trainEvent is an event of the registered type.
func trainEvent(id, more string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/trains","type":"train.position"%s}`, id, more)
}

// published is what POST /v1/events answers.
type published struct {
	Results []publishResult `json:"results"`
}

// records reads all records of a stream's topic, by partition and offset.
func (h *harness) records(topic string) []broker.Record {
	h.t.Helper()
	bounds, err := h.deps.Log.Bounds(h.t.Context(), topic)
	if err != nil {
		h.t.Fatal(err)
	}
	var all []broker.Record
	for p, b := range bounds {
		for at := b.First; at < b.Next; {
			batch, err := h.deps.Log.Read(h.t.Context(), topic, int32(p), at, 1<<20)
			if err != nil {
				h.t.Fatal(err)
			}
			all = append(all, batch.Records...)
			at = batch.Next
		}
	}
	return all
}

func headerOf(r broker.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func TestEventsOfAllThreeModesReachTheLogAsTheyCame(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, tc := range []struct {
		name    string
		body    string
		headers []string
		want    []string // the values on the log
		keys    []string
	}{
		{
			name:    "structured",
			body:    trainEvent("s1", `,"subject":"61","data":{"speed": 80}`),
			headers: []string{structured + "; charset=utf-8"},
			want:    []string{trainEvent("s1", `,"subject":"61","data":{"speed": 80}`)},
			keys:    []string{"61"},
		},
		{
			name: "binary",
			body: `{"speed":81}`,
			headers: []string{
				"Content-Type: application/json", "ce-specversion: 1.0", "ce-id: b1", "ce-source: /trains",
				"ce-type: train.position", "ce-subject: K%C3%B8benhavn",
			},
			keys: []string{"København"},
		},
		{
			name:    "batch",
			body:    "[" + trainEvent("x1", `,"partitionkey":"a"`) + "," + trainEvent("x2", "") + "]",
			headers: []string{batched},
			want:    []string{trainEvent("x1", `,"partitionkey":"a"`), trainEvent("x2", "")},
			keys:    []string{"a", ""},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := *h
			h.t = t
			before := len(h.records("eventissuer.trains"))
			a := h.must(h.send("POST", "/v1/events", tc.body, append(tc.headers, "X-Request-Id: request-"+tc.name)...), http.StatusOK)
			var got published
			a.decode(t, &got)
			if len(got.Results) != len(tc.keys) {
				t.Fatalf("%d results: %s", len(got.Results), a.body)
			}
			all := h.records("eventissuer.trains")
			if len(all)-before != len(tc.keys) {
				t.Errorf("%d records were added", len(all)-before)
			}
			for i, res := range got.Results {
				if res.Status != statusPersisted || res.Stream != "trains" || res.Position == nil || res.Source != "/trains" {
					t.Fatalf("result %d: %+v", i, res)
				}
				at := slices.IndexFunc(all, func(r broker.Record) bool {
					return r.Partition == res.Position.Partition && r.Offset == res.Position.Offset
				})
				if at < 0 {
					t.Fatalf("there is nothing at %+v", *res.Position)
				}
				r := all[at]
				if string(r.Key) != tc.keys[i] || headerOf(r, headerRequestID) != "request-"+tc.name || !strings.HasPrefix(headerOf(r, "content-type"), "application/cloudevents+json") {
					t.Errorf("record %d has key %q and headers %v", i, r.Key, r.Headers)
				}
				if tc.want != nil && string(r.Value) != tc.want[i] {
					t.Errorf("the record is %s, not %s", r.Value, tc.want[i])
				}
				var e map[string]any
				if err := json.Unmarshal(r.Value, &e); err != nil || e["id"] != res.ID {
					t.Errorf("the record %s is not event %s: %v", r.Value, res.ID, err)
				}
			}
		})
	}
}

func TestResultsTellItemByItemWhatBecameOfABatch(t *testing.T) {
	h := newHarness(t).withTrains()
	const persisted, invalid = statusPersisted, statusInvalid
	unregistered := `{"specversion":"1.0","id":"u","source":"/trains","type":"unknown.type"}`
	broken := `{"specversion":"1.0","id":"n","type":"train.position"}`
	reserved := trainEvent("r", `,"eventissuercursor":"x"`)
	for _, tc := range []struct {
		name  string
		batch []string
		code  int
		want  []string
	}{
		{"empty", nil, 200, nil},
		{"all valid", []string{trainEvent("1", ""), trainEvent("2", "")}, 200, []string{persisted, persisted}},
		{"some unregistered", []string{unregistered, trainEvent("3", "")}, 207, []string{invalid, persisted}},
		{"some without source", []string{trainEvent("4", ""), broken, trainEvent("5", "")}, 207, []string{persisted, invalid, persisted}},
		{"none valid", []string{broken, unregistered, reserved}, 422, []string{invalid, invalid, invalid}},
		{"not an event", []string{"17", trainEvent("6", "")}, 207, []string{invalid, persisted}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := *h
			h.t = t
			a := h.must(h.send("POST", "/v1/events", "["+strings.Join(tc.batch, ",")+"]", batched), tc.code)
			var got published
			a.decode(t, &got)
			var statuses []string
			for _, r := range got.Results {
				statuses = append(statuses, r.Status)
				if (r.Status == invalid) != (len(r.Errors) > 0) {
					t.Errorf("result %+v", r)
				}
			}
			if diff := cmp.Diff(tc.want, statuses, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s\n%s", diff, a.body)
			}
		})
	}
	var got published
	h.send("POST", "/v1/events", unregistered, structured).decode(t, &got)
	if e := got.Results[0].Errors; len(e) != 1 || e[0].Pointer != "/type" || !strings.Contains(e[0].Expected, "POST /v1/event-types") {
		t.Errorf("an unregistered type is answered %+v", got.Results[0])
	}
	if n := testutil.ToFloat64(h.edge.metrics.events.WithLabelValues(persisted)); n != 6 {
		t.Errorf("%v persisted events are counted, not 6", n)
	}
}

func TestBadInputToPublishIsEachItsOwnProblem(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) {
		c.MaxEventBytes = 64 << 10
		c.MaxBatchBytes = 128 << 10
		c.MaxBatchEvents = 3
	}).withTrains()
	filler := strings.Repeat("x", 64<<10)
	for _, tc := range []struct {
		name    string
		body    string
		headers []string
		status  int
		kind    string
	}{
		{"malformed JSON", `{"specversion":`, []string{structured}, 400, "malformed-json"},
		{"nothing at all", ``, []string{structured}, 400, "malformed-json"},
		{"a batch that is no array", `{}`, []string{batched}, 400, "invalid-event"},
		{"a malformed batch", `[{]`, []string{batched}, 400, "malformed-json"},
		{"an event too large", trainEvent("1", `,"data":"`+filler+`"`), []string{structured}, 413, "event-too-large"},
		{"a batch too large", "[" + trainEvent("1", `,"data":"`+filler[:50<<10]+`"`) + "," + trainEvent("2", `,"data":"`+filler[:50<<10]+`"`) + "," + trainEvent("3", `,"data":"`+filler[:50<<10]+`"`) + "]", []string{batched}, 413, "batch-too-large"},
		{"an event too large in a batch", "[" + trainEvent("1", "") + "," + trainEvent("2", `,"data":"`+filler+`"`) + "]", []string{batched}, 413, "event-too-large"},
		{"an event too large with its headers", filler[:63<<10], []string{"Content-Type: text/plain", "ce-specversion: 1.0", "ce-id: 1", "ce-source: /x", "ce-type: train.position", "ce-a: " + filler[:2<<10]}, 413, "event-too-large"},
		{"a batch of too many", "[" + strings.Repeat(trainEvent("1", "")+",", 3) + trainEvent("1", "") + "]", []string{batched}, 413, "batch-too-large"},
		{"no content type and no ce- headers", `{}`, nil, 415, "unsupported-media-type"},
		{"plain JSON", `{}`, []string{"Content-Type: application/json"}, 415, "unsupported-media-type"},
		{"an event format that is not read", `<x/>`, []string{"Content-Type: application/cloudevents+xml"}, 415, "unsupported-media-type"},
		{"a batch format that is not read", `<x/>`, []string{"Content-Type: application/cloudevents-batch+xml"}, 415, "unsupported-media-type"},
		{"an unknown content coding", `{}`, []string{structured, "Content-Encoding: br"}, 415, "unsupported-content-coding"},
		{"gzip that is none", `{}`, []string{structured, "Content-Encoding: gzip"}, 400, "invalid-body"},
		{"gzip that inflates beyond the limit", zipped(t, trainEvent("1", `,"data":"`+strings.Repeat(filler, 50)+`"`)), []string{structured, "Content-Encoding: gzip"}, 413, "event-too-large"},
		{"zstd that is none", `{}`, []string{structured, "Content-Encoding: zstd"}, 400, "invalid-body"},
		{"zstd of nothing", ``, []string{structured, "Content-Encoding: zstd"}, 400, "invalid-body"},
		{"zstd that is cut", zstandard(t, trainEvent("1", ""))[:40], []string{structured, "Content-Encoding: zstd"}, 400, "invalid-body"},
		{"zstd with a window that is too large", streamed(t, trainEvent("1", ""), zstd.WithWindowSize(16<<20)), []string{structured, "Content-Encoding: zstd"}, 400, "invalid-body"},
		{"zstd that inflates beyond the limit", zstandard(t, trainEvent("1", `,"data":"`+strings.Repeat(filler, 50)+`"`)), []string{structured, "Content-Encoding: zstd"}, 413, "event-too-large"},
		{"zstd in gzip", `{}`, []string{structured, "Content-Encoding: zstd, gzip"}, 415, "unsupported-content-coding"},
		{"zstd and gzip", `{}`, []string{structured, "Content-Encoding: zstd", "Content-Encoding: gzip"}, 415, "unsupported-content-coding"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := *h
			h.t = t
			a := h.must(h.send("POST", "/v1/events", tc.body, tc.headers...), tc.status)
			if p := a.problem(t); p.Type != "/problems/"+tc.kind {
				t.Errorf("the problem is %s: %s", p.Type, p.Detail)
			}
		})
	}
	h.must(h.send("POST", "/v1/events", trainEvent("after", ""), structured), http.StatusOK)
	if n := len(h.records("eventissuer.trains")); n != 1 {
		t.Errorf("%d records are on the log instead of 1", n)
	}
}

func TestCompressedBodiesAreRead(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.send("POST", "/v1/events", zipped(t, trainEvent("1", "")), structured, "Content-Encoding: gzip"), http.StatusOK)
	if got := string(h.records("eventissuer.trains")[0].Value); got != trainEvent("1", "") {
		t.Error(got)
	}
	for i, body := range []string{
		zstandard(t, trainEvent("1", "")),                                                                     // says its size
		streamed(t, trainEvent("1", "")),                                                                      // does not
		streamed(t, trainEvent("1", `,"data":"`+strings.Repeat("x", 500<<10)+`"`)),                            // inflates to more than is guessed
		zstandard(t, trainEvent("1", "")[:30]) + zstandard(t, trainEvent("1", "")[30:]),                       // in two frames
		"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstandard(t, trainEvent("1", ""), zstd.WithEncoderCRC(false)), // after one to be skipped
	} {
		a := h.send("POST", "/v1/events", body, structured, "Content-Encoding: zstd")
		if a.status != http.StatusOK {
			t.Errorf("body %d is answered %d %s", i, a.status, a.body)
		}
	}
}

func TestEventLargerThanTheTopicTakesIsRefusedAsSuch(t *testing.T) {
	h := newHarness(t)
	// An adopted topic has limits of its own.
	if err := h.deps.Log.Create(t.Context(), "elsewhere", broker.TopicConfig{Partitions: 1, MaxMessageBytes: 2000}); err != nil {
		t.Fatal(err)
	}
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"small","topic":"elsewhere"}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.position","stream":"small"}`), http.StatusCreated)
	large := trainEvent("large", `,"data":"`+strings.Repeat("x", 4000)+`"`)
	p := h.must(h.send("POST", "/v1/events", large, structured), http.StatusRequestEntityTooLarge).problem(t)
	if p.Type != "/problems/event-too-large" {
		t.Error(p.Type)
	}
	a := h.must(h.send("POST", "/v1/events", "["+large+","+trainEvent("small", "")+"]", batched), http.StatusMultiStatus)
	var got published
	a.decode(t, &got)
	if got.Results[0].Status != statusInvalid || got.Results[1].Status != statusPersisted {
		t.Errorf("%s", a.body)
	}
}

func TestEventsThatTheLogDoesNotAcknowledgeAreFailedAndRetryable(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.AppendTimeout = 200 * time.Millisecond }).withTrains()
	h.must(h.send("POST", "/v1/events", trainEvent("1", ""), structured), http.StatusOK)
	if err := h.deps.Log.Delete(t.Context(), "eventissuer.trains"); err != nil {
		t.Fatal(err)
	}
	a := h.must(h.send("POST", "/v1/events", trainEvent("2", ""), structured), http.StatusServiceUnavailable)
	var got published
	a.decode(t, &got)
	if r := got.Results[0]; r.Status != statusFailed || !r.Retryable || a.header.Get("Retry-After") == "" {
		t.Errorf("Retry-After %q: %s", a.header.Get("Retry-After"), a.body)
	}
}

func TestOneRequestMayGoToSeveralStreams(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"planes","partitions":1}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"plane.*","stream":"planes","keyAttribute":"source"}`), http.StatusCreated)
	plane := `{"specversion":"1.0","id":"p%d","source":"/planes","type":"plane.landed"}`
	batch := "[" + strings.Join([]string{fmt.Sprintf(plane, 1), trainEvent("1", ""), fmt.Sprintf(plane, 2), trainEvent("2", "")}, ",") + "]"
	var got published
	h.must(h.send("POST", "/v1/events", batch, batched), http.StatusOK).decode(t, &got)
	var ids []string
	for _, r := range got.Results {
		ids = append(ids, r.Stream+" "+r.ID)
	}
	if diff := cmp.Diff([]string{"planes p1", "trains 1", "planes p2", "trains 2"}, ids); diff != "" {
		t.Error(diff)
	}
	planes := h.records("eventissuer.planes")
	if len(planes) != 2 || string(planes[0].Key) != "/planes" || got.Results[0].Position.Offset >= got.Results[2].Position.Offset {
		t.Errorf("%d planes, results %+v", len(planes), got.Results)
	}
}

func TestTombstonesAreWrittenToCompactedStreamsOnly(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"state","partitions":1,"compaction":true}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"state.changed","stream":"state"}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/events:tombstone", `{"type":"state.changed","key":"61"}`), http.StatusOK)
	r := h.records("eventissuer.state")[0]
	if string(r.Key) != "61" || r.Value != nil || headerOf(r, headerRequestID) == "" {
		t.Errorf("the record is %+v", r)
	}
	for _, tc := range []struct {
		body   string
		status int
		kind   string
	}{
		{`{"type":"train.position","key":"61"}`, 409, "not-compacted"},
		{`{"type":"none","key":"61"}`, 404, "unknown-event-type"},
		{`{"type":"state.changed"}`, 400, "invalid-body"},
		{`{"type":"state.changed","key":""}`, 400, "invalid-body"},
		{`{"type":"state.changed","key":61}`, 400, "invalid-body"},
		{`{"type":"state.changed","key":"61","more":1}`, 400, "invalid-body"},
		{`{"type"`, 400, "malformed-json"},
		{`{"type":"state.changed","key":"61"} {}`, 400, "malformed-json"},
		{``, 400, "malformed-json"},
	} {
		a := h.must(h.sendJSON("POST", "/v1/events:tombstone", tc.body), tc.status)
		if p := a.problem(t); p.Type != "/problems/"+tc.kind {
			t.Errorf("%s: %s", tc.body, p.Type)
		}
	}
}
