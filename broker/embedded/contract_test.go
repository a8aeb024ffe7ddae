package embedded_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/brokertest"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(serveChild(dir))
	}
	// The suite's own plain clients of sarama start this for the life of a process; package kafka's do not.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestContract(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) brokertest.Harness { return newHarness(t) })
}

// harness is the embedded servers in this process.
type harness struct {
	config embedded.Config

	mu         sync.Mutex // guards what follows
	server     *embedded.Server
	registries []*prometheus.Registry
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	h := &harness{config: embedded.Config{Dir: t.TempDir(), KafkaPort: testenv.FreePort(t), RedisPort: testenv.FreePort(t)}}
	h.start(t)
	t.Cleanup(func() {
		if err := h.server.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *harness) start(t testing.TB) {
	t.Helper()
	s, err := embedded.Start(t.Context(), h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.server = s
}

func (h *harness) dial(ctx context.Context, network, address string) (net.Conn, error) {
	h.mu.Lock()
	s := h.server
	h.mu.Unlock()
	return s.Dial(ctx, network, address)
}

func (h *harness) stop(t testing.TB) {
	t.Helper()
	if err := h.server.Close(); err != nil {
		t.Fatal(err)
	}
}

// Open implements brokertest.Harness.
func (h *harness) Open(t testing.TB) broker.Log {
	t.Helper()
	r := prometheus.NewRegistry()
	log, err := kafka.New(kafka.Config{Brokers: h.Brokers(), Dial: h.dial}, kafka.Deps{Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.registries = append(h.registries, r)
	h.mu.Unlock()
	return log
}

// Brokers implements brokertest.Kafka.
func (h *harness) Brokers() []string { return h.server.Brokers() }

// Fetches implements brokertest.FetchCounter.
func (h *harness) Fetches(kind string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.registries {
		n += fetches(r, kind)
	}
	return n
}

func fetches(r *prometheus.Registry, kind string) int {
	families, _ := r.Gather()
	for _, f := range families {
		if f.GetName() != "eventissuer_kafka_fetches_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == kind {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// Restart implements brokertest.Restarter.
func (h *harness) Restart(t testing.TB) {
	t.Helper()
	h.stop(t)
	h.start(t)
}

// Compact implements brokertest.Compactor.
func (h *harness) Compact(testing.TB, string) { h.server.Cluster().Compact() }

// LoseEnd implements brokertest.EndLoser: it puts back the folder as it was.
func (h *harness) LoseEnd(t testing.TB, write func()) {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "kept")
	h.stop(t)
	if err := os.CopyFS(kept, os.DirFS(h.config.Dir)); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	write()
	h.stop(t)
	if err := os.RemoveAll(h.config.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.CopyFS(h.config.Dir, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	h.start(t)
}
