package testenv

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Kafka returns the address of a real Kafka that other tests may be using at the same time: the run's own where
// EVENTISSUER_TEST_KAFKA names one, else a node for this test and its subtests alone, which takes some seconds to start.
func Kafka(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv(KafkaVariable); addr != "" {
		return addr
	}
	return StartKafka(t, KafkaOptions{}).Addr()
}

// Redis returns the URL of a real Redis: the one that EVENTISSUER_TEST_REDIS names, else one for this test and its
// subtests alone.
func Redis(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(RedisVariable); url != "" {
		return url
	}
	return StartRedis(t, RedisOptions{}).URL()
}

// Chromium returns the path of a Chromium.
func Chromium(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(ChromiumVariable); path != "" {
		return path
	}
	path, err := program("run deploy/local/install chromium, or install chromium", "chromium", "chromium-browser", "google-chrome")
	Need(t, "Chromium", err)
	return path
}

// SchemaSuite returns the folder of the JSON Schema test suite, with its tests and remotes.
func SchemaSuite(t testing.TB) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".local", "schema-suite")
	if _, err = os.Stat(filepath.Join(dir, "version")); err != nil {
		err = &MissingError{What: ".local/schema-suite", How: "run deploy/local/install schema-suite"}
	}
	Need(t, "the JSON Schema test suite", err)
	return dir
}

// Name returns a name that no other test uses, for topics, groups and keys on a shared server: prefix and a random end.
func Name(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:12]) }

// StartKafka starts a node of the test's own and stops it when the test and its subtests are done.
// It blocks for the few seconds that Kafka takes.
func StartKafka(t testing.TB, o KafkaOptions) *KafkaProcess {
	t.Helper()
	return StartKafkaCluster(t, 1, o)[0]
}

// StartKafkaCluster starts n nodes of the test's own as one cluster, and stops them when the test and its subtests are
// done. Topics have as many replicas as there are nodes, 3 at most. Each node takes some 350 MB.
func StartKafkaCluster(t testing.TB, n int, o KafkaOptions) []*KafkaProcess {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	nodes, err := NewKafkaCluster(t.Context(), n, o)
	Need(t, "Kafka", err)
	for _, node := range nodes {
		t.Cleanup(func() {
			if err := node.Kill(); err != nil { // nothing is kept, so nothing need be flushed
				t.Errorf("stop Kafka: %v", err)
			}
		})
	}
	Need(t, "Kafka", StartNodes(t.Context(), nodes))
	return nodes
}

// StartRedis starts a Redis of the test's own and stops it when the test and its subtests are done.
func StartRedis(t testing.TB, o RedisOptions) *RedisProcess {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r, err := NewRedis(o)
	Need(t, "Redis", err)
	t.Cleanup(func() {
		if err := r.Kill(); err != nil {
			t.Errorf("stop Redis: %v", err)
		}
	})
	Need(t, "Redis", r.Start(t.Context()))
	return r
}
