package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/definitions"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/session"
)

func TestMain(m *testing.M) {
	// sarama's metrics keep one goroutine for the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// harness is an edge over a real log: the embedded Kafka and Redis.
type harness struct {
	t        testing.TB
	edge     *Gateway
	server   *httptest.Server
	registry *prometheus.Registry
	kafka    *kfake.Cluster
	deps     Deps
}

// newHarness starts an edge; change may alter what it is made of.
func newHarness(t testing.TB, change ...func(*Config, *Deps)) *harness {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel() // nearly all of a test's time is waiting
	}
	servers, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, servers.Close)
	records, err := kafka.New(kafka.Config{Brokers: servers.Brokers(), Dial: servers.Dial}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, records.Close)
	client := redis.NewClient(&redis.Options{Addr: servers.RedisAddr()})
	closing(t, client.Close)

	catalogTable, err := table.New(table.Config{Log: records, Topic: "_eventissuer.catalog"})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Parse([]byte("k1 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
	if err != nil {
		t.Fatal(err)
	}
	definitionsOf, err := catalog.New(catalog.Config{Table: catalogTable, Topics: records, TopicPrefix: "eventissuer.", Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	positions, err := table.New(table.Config{Log: records, Topic: "_eventissuer.consumers", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	consumers, err := cursor.NewConsumers(cursor.ConsumersConfig{Table: positions, Redis: client})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.New(session.Config{MaxSessions: 3, MaxPerAddress: 2})
	if err != nil {
		t.Fatal(err)
	}
	hubs, err := fanout.New(fanout.Config{Log: records, Shards: sessions.Shards()})
	if err != nil {
		t.Fatal(err)
	}
	once := redis.NewClient(&redis.Options{Addr: servers.RedisAddr(), MaxRetries: -1})
	closing(t, once.Close)
	subscriptions := definitions.New(definitionsOf, nil)
	groups, err := group.New(group.Config{MaxGroups: 3}, group.Deps{Log: records, Hubs: hubs, Definitions: subscriptions, Redis: once})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(subscriptions.Watch(groups.Changed))
	sessions.Use(session.Deps{Hubs: hubs, Log: records, Consumers: consumers, Groups: groups})
	for _, run := range []func(context.Context) error{
		catalogTable.Run, definitionsOf.Run, positions.Run, consumers.Run, hubs.Run, groups.Run, sessions.Run,
	} {
		running(t, run)
	}
	<-catalogTable.Ready()
	<-positions.Ready()

	h := &harness{t: t, registry: prometheus.NewRegistry(), kafka: servers.Cluster()}
	config := Config{Version: "test"}
	letters, err := deadletters.New(deadletters.Config{Log: records})
	if err != nil {
		t.Fatal(err)
	}
	h.deps = Deps{Letters: letters, Log: records, Catalog: definitionsOf, Consumers: consumers, Sessions: sessions, Groups: groups, Registerer: h.registry, Gatherer: h.registry}
	for _, c := range change {
		c(&config, &h.deps)
	}
	if h.edge, err = New(config, h.deps); err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewUnstartedServer(nil)
	h.server.Config = h.edge.Server(nil)
	h.server.Start()
	t.Cleanup(h.server.Close)
	return h
}

// running runs something until the test is over.
func running(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func closing(t testing.TB, closeIt func() error) {
	t.Cleanup(func() {
		if err := closeIt(); err != nil {
			t.Error(err)
		}
	})
}

// answer is what came back, its body read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem reads the body as a problem, and checks what all problems have.
func (a answer) problem(t testing.TB) problemDocument {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("status %d of type %q is no problem: %s", a.status, ct, a.body)
	}
	var p problemDocument
	a.decode(t, &p)
	if p.Status != a.status || p.Title == "" || p.Detail == "" || p.RequestID == "" || p.RequestID != a.header.Get(requestIDHeader) {
		t.Errorf("the problem lacks something: %s", a.body)
	}
	return p
}

func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// send makes a request. Headers are given as "Name: value".
func (h *harness) send(method, path, body string, headers ...string) answer {
	h.t.Helper()
	var src io.Reader
	if body != "" {
		src = strings.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second) // an answer without end is a failure, not a hang
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, h.server.URL+path, src)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	return h.do(r)
}

func (h *harness) do(r *http.Request) answer {
	h.t.Helper()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	a := answer{res.StatusCode, res.Header, bytes.TrimSpace(body)}
	h.check(r, a)
	return a
}

// sendJSON is send with a JSON body.
func (h *harness) sendJSON(method, path, body string, headers ...string) answer {
	h.t.Helper()
	return h.send(method, path, body, append(headers, "Content-Type: application/json")...)
}

// must fails the test unless the status is as it should be.
func (h *harness) must(a answer, status int) answer {
	h.t.Helper()
	if a.status != status {
		h.t.Fatalf("status %d instead of %d: %s", a.status, status, a.body)
	}
	return a
}

// withTrains makes the stream "trains" of 3 partitions and the event type "train.position" of it.
func (h *harness) withTrains() *harness {
	h.t.Helper()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":3}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"train.position","stream":"trains"}`), http.StatusCreated)
	return h
}
