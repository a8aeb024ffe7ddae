package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/dedupe"
	"github.com/eventissuer/eventissuer/internal/quota"
)

// withDedupe has events let in once, as known in the Redis; nil: in the process.
func withDedupe(t testing.TB, client redis.UniversalClient) func(*Config, *Deps) {
	return func(_ *Config, d *Deps) {
		once, err := dedupe.New(dedupe.Config{}, dedupe.Deps{Log: d.Log.(*kafka.Log), Redis: client})
		if err != nil {
			t.Fatal(err)
		}
		d.Dedupe = once
		closing(t, once.Close)
	}
}

func TestSameEventAgainIsADuplicateAtTheFirstsPosition(t *testing.T) {
	h := newHarness(t, withDedupe(t, nil)).withTrains()
	first := h.must(h.send("POST", "/v1/events", trainEvent("1", ""), structured), http.StatusOK).results(t)[0]
	again := h.must(h.send("POST", "/v1/events", "["+trainEvent("1", "")+","+trainEvent("2", "")+","+trainEvent("2", "")+"]", batched), http.StatusOK)
	if again.header.Get(headerDeduplicated) != "" {
		t.Errorf("%v", again.header)
	}
	got := again.results(t)
	if first.Status != statusPersisted || got[0].Status != statusDuplicate || *got[0].Position != *first.Position || got[0].Stream != "trains" {
		t.Errorf("first %+v, again %+v", first, got[0])
	}
	if got[1].Status != statusPersisted || got[2].Status != statusDuplicate || *got[2].Position != *got[1].Position {
		t.Errorf("twice in one batch: %+v", got[1:])
	}
	h.stored("trains", 2)
	// The window is the type's.
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","dedupe":"0s"}`), http.StatusOK)
	if got := h.must(h.send("POST", "/v1/events", trainEvent("1", ""), structured), http.StatusOK).results(t)[0]; got.Status != statusPersisted {
		t.Errorf("%+v", got)
	}
}

func TestWithoutRedisEventsAreWrittenAndTheAnswerSaysSo(t *testing.T) {
	away := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, ContextTimeoutEnabled: true})
	closing(t, away.Close)
	h := newHarness(t, withDedupe(t, away)).withTrains()
	a := h.must(h.send("POST", "/v1/events", trainEvent("1", ""), structured), http.StatusOK)
	if a.results(t)[0].Status != statusPersisted || a.header.Get(headerDeduplicated) != "false" {
		t.Errorf("%v %s", a.header, a.body)
	}
	h.must(h.sendJSON("PUT", "/v1/event-types/train.position", `{"stream":"trains","dedupeRequired":true}`), http.StatusOK)
	a = h.must(h.send("POST", "/v1/events", trainEvent("2", ""), structured), http.StatusServiceUnavailable)
	if r := a.results(t)[0]; r.Status != statusFailed || !r.Retryable || a.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.header, a.body)
	}
	h.stored("trains", 1)
}

// Who hangs up while the log takes the event and comes back with it is told where it is, and need not wait until the
// reservation of an append of unknown fate runs out.
func TestEventOfAPublisherThatHungUpIsADuplicateAtOnce(t *testing.T) {
	h := newHarness(t, withDedupe(t, nil)).withTrains()
	h.must(h.send("POST", "/v1/events", trainEvent("0", ""), structured), http.StatusOK)
	gone := make(chan struct{})
	server := httptest.NewUnstartedServer(nil)
	server.Config = h.edge.Server(nil)
	edge := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() {
			<-r.Context().Done()
			close(gone)
		}()
		edge.ServeHTTP(w, r)
	})
	server.Start()
	defer server.Close()
	arrived, release := make(chan struct{}), make(chan struct{})
	h.kafka.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(arrived)
		h.kafka.SleepControl(func() { <-release })
		return nil, nil, false
	})

	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		<-arrived
		hangUp()
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/events", strings.NewReader(trainEvent("1", "")))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/cloudevents+json")
	if res, err := http.DefaultClient.Do(r); err == nil {
		_ = res.Body.Close()
		t.Fatalf("answered %s before the log took the event", res.Status)
	}
	<-gone // the server has noticed
	close(release)

	again := h.send("POST", "/v1/events", trainEvent("1", ""), structured)
	for late := time.Now().Add(10 * time.Second); again.status == http.StatusServiceUnavailable && time.Now().Before(late); {
		again = h.send("POST", "/v1/events", trainEvent("1", ""), structured) // it is being written at this moment
	}
	if got := h.must(again, http.StatusOK).results(t)[0]; got.Status != statusDuplicate {
		t.Errorf("%+v", got)
	}
	h.stored("trains", 2)
}

func TestQuotaIsToldAndKeptTo(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) { d.Quotas = quota.New(quota.Config{}, quota.Deps{}) }).withTrains()
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.limited","stream":"trains","quota":{"eventsPerSecond":3}}`), http.StatusCreated)
	limited := func(id string) string {
		return strings.Replace(trainEvent(id, ""), "train.position", "train.limited", 1)
	}
	batch := func(from, n int, more ...string) string {
		for i := range n {
			more = append(more, limited(fmt.Sprint(from+i)))
		}
		return "[" + strings.Join(more, ",") + "]"
	}
	a := h.must(h.send("POST", "/v1/events", batch(0, 3), batched), http.StatusOK)
	if a.header.Get("RateLimit-Policy") != `"events";q=3;w=1` || !strings.HasPrefix(a.header.Get("RateLimit"), `"events";r=0;t=`) {
		t.Errorf("%v", a.header)
	}
	a = h.must(h.send("POST", "/v1/events", batch(3, 3), batched), http.StatusTooManyRequests)
	if p := a.problem(t); p.Type != "/problems/over-quota" || a.header.Get("Retry-After") == "" || a.header.Get("RateLimit") == "" {
		t.Errorf("%v %s", a.header, a.body)
	}
	// Others are not concerned.
	got := h.must(h.send("POST", "/v1/events", batch(6, 2, trainEvent("free", "")), batched), http.StatusMultiStatus).results(t)
	if got[0].Status != statusPersisted || got[1].Status != statusFailed || !got[1].Retryable || got[2].Status != statusFailed {
		t.Errorf("%+v", got)
	}
	a = h.must(h.send("POST", "/v1/events?all=true", batch(9, 2, trainEvent("free2", "")), batched), http.StatusTooManyRequests)
	if p := a.problem(t); p.Type != "/problems/over-quota" {
		t.Errorf("%s", a.body)
	}
	// What can never fit is not to be sent again as it is.
	a = h.must(h.send("POST", "/v1/events", batch(20, 50), batched), http.StatusTooManyRequests)
	if a.header.Get("Retry-After") != "" {
		t.Errorf("%v", a.header)
	}
	h.stored("trains", 4)
}
