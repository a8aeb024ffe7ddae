package kafka_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/brokertest"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestMain(m *testing.M) {
	// The suite's own plain clients of sarama start this for the life of a process; package kafka's do not.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestContractOnRealKafka(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) brokertest.Harness {
		t.Helper()
		dir := t.TempDir()
		return &harness{dir: dir, node: testenv.StartKafka(t, testenv.KafkaOptions{Dir: dir})}
	})
}

// harness is one real Kafka node.
type harness struct {
	dir  string
	node *testenv.KafkaProcess

	mu         sync.Mutex
	registries []*prometheus.Registry
}

// Open implements brokertest.Harness.
func (h *harness) Open(t testing.TB) broker.Log {
	t.Helper()
	r := prometheus.NewRegistry()
	log, err := kafka.New(kafka.Config{Brokers: h.Brokers()}, kafka.Deps{Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.registries = append(h.registries, r)
	h.mu.Unlock()
	return log
}

// Brokers implements brokertest.Kafka.
func (h *harness) Brokers() []string { return []string{h.node.Addr()} }

// Fetches implements brokertest.FetchCounter.
func (h *harness) Fetches(kind string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.registries {
		families, _ := r.Gather()
		for _, f := range families {
			if f.GetName() != "eventissuer_kafka_fetches_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == kind {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

func start(t testing.TB, node *testenv.KafkaProcess) {
	t.Helper()
	if err := node.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// Restart implements brokertest.Restarter.
func (h *harness) Restart(t testing.TB) {
	t.Helper()
	if err := h.node.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, h.node)
}

// Kill implements brokertest.Killer.
func (h *harness) Kill(t testing.TB) {
	t.Helper()
	if err := h.node.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, h.node)
}

// LoseEnd implements brokertest.EndLoser: it puts back the data as it was.
func (h *harness) LoseEnd(t testing.TB, write func()) {
	t.Helper()
	data, kept := filepath.Join(h.dir, "data"), filepath.Join(t.TempDir(), "kept")
	if err := h.node.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(kept, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	start(t, h.node)
	write()
	if err := errors.Join(h.node.Kill(), os.RemoveAll(data), os.CopyFS(data, os.DirFS(kept))); err != nil {
		t.Fatal(err)
	}
	start(t, h.node)
}

// Compact implements brokertest.Compactor. Kafka compacts what is below the active segment, so one is begun.
func (h *harness) Compact(t testing.TB, topic string) {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(h.Brokers(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	set := func(v string) sarama.IncrementalAlterConfigsEntry {
		return sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &v}
	}
	err = admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"segment.ms": set("100"), "min.cleanable.dirty.ratio": set("0.001"), "delete.retention.ms": set("0"), "max.compaction.lag.ms": set("200"),
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	log := h.Open(t)
	defer log.Close()
	// A segment ends when a record comes after its time.
	first := count(t, log, topic)
	for deadline := time.Now().Add(45 * time.Second); count(t, log, topic) >= first; {
		if time.Now().After(deadline) {
			t.Fatal("Kafka does not compact")
		}
		<-time.After(300 * time.Millisecond)
		if a := log.Append(t.Context(), topic, []broker.Message{{Key: []byte("0"), Value: []byte("rolls the segment")}})[0]; a.Err != nil {
			t.Fatal(a.Err)
		}
	}
}

// count reads how many records a topic's partition 0 holds.
func count(t testing.TB, log broker.Log, topic string) int {
	t.Helper()
	n, at := 0, int64(0)
	for {
		b, err := log.Read(t.Context(), topic, 0, at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if b.Next == at {
			return n
		}
		n, at = n+len(b.Records), b.Next
	}
}

// cluster is three real nodes, of which one at a time is killed.
type cluster struct {
	nodes  []*testenv.KafkaProcess
	killed int
}

// Open implements brokertest.Harness.
func (c *cluster) Open(t testing.TB) broker.Log {
	t.Helper()
	log, err := kafka.New(kafka.Config{Brokers: c.Brokers()}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Brokers implements brokertest.Kafka.
func (c *cluster) Brokers() []string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, n.Addr())
	}
	return all
}

// Kill implements brokertest.Killer: leaders move while the node is away, and back.
func (c *cluster) Kill(t testing.TB) {
	t.Helper()
	node := c.nodes[c.killed%len(c.nodes)]
	c.killed++
	if err := node.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, node)
}

func TestKilledNodeOfThreeLosesNothing(t *testing.T) {
	brokertest.RunCase(t, &cluster{nodes: testenv.StartKafkaCluster(t, 3, testenv.KafkaOptions{HeapMB: 320})}, "KillMidReadAndMidWriteLosesNothing")
}

// What a leader has taken while no other replica could is none's to read, and must not be taken for absent: it is there again as soon
// as they are back, however long that takes.
func TestEndCountsWhatTheOtherReplicasDoNotHave(t *testing.T) {
	nodes := testenv.StartKafkaCluster(t, 3, testenv.KafkaOptions{HeapMB: 320})
	c := &cluster{nodes: nodes}
	log := open(t, kafka.Config{Brokers: c.Brokers(), AppendDeadline: 3 * time.Second})
	makeTopic(t, log, "held", 1)
	appendOne(t, log, "held", broker.Message{Value: []byte("whole")})
	leader := leaderOf(t, c.Brokers(), "held")
	for _, n := range nodes {
		if n.ID() != leader {
			if err := n.Pause(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ack := log.Append(t.Context(), "held", []broker.Message{{Value: []byte("at the leader alone")}})[0]; ack.Err == nil || errors.Is(ack.Err, broker.ErrRefused) {
		t.Fatalf("appended without the others: %v", ack.Err)
	}
	end, err := log.End(t.Context(), "held", 0)
	if err != nil || end != 2 {
		t.Errorf("the end is %d, %v; want 2, with what the leader has", end, err)
	}
	batch, err := log.Read(t.Context(), "held", 0, 0, 1<<20)
	if err != nil || batch.Next != 1 {
		t.Errorf("it can be read up to %d, %v; want 1: the test shows nothing else", batch.Next, err)
	}
	for _, n := range nodes {
		if n.ID() != leader {
			if err := n.Resume(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(patience); ; <-time.After(100 * time.Millisecond) {
		batch, err := log.Read(t.Context(), "held", 0, 0, 1<<20)
		if err == nil && batch.Next == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it can be read up to %d, %v; want 2: what was at the leader is there again", batch.Next, err)
		}
	}
}

// leaderOf is the node that leads a topic's only partition.
func leaderOf(t *testing.T, brokers []string, topic string) int32 {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(brokers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	leader, err := client.Leader(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	return leader.ID()
}
