package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// programVariable names a server to test instead of one that is built: one with the race detector, say.
const programVariable = "EVENTISSUER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if plan := os.Getenv(burstVariable); plan != "" {
		os.Exit(burstClients(plan))
	}
	code := m.Run()
	if code == 0 {
		// sarama's metrics keep one goroutine for the whole process.
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines outlive the tests:", err)
			code = 1
		}
	}
	if path, err := program(); err == nil && os.Getenv(programVariable) == "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// program builds the server once.
var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(programVariable); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "eventissuer-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "eventissuer")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return path, nil
})

// server is one process of the program under test.
type server struct {
	*testenv.Program
	base   string // its address, without a slash at the end
	client *http.Client
}

// storage is what replicas share: arguments of the command line.
type storage []string

// embedded is a folder of the test's own.
func embedded(t *testing.T) storage { return storage{"--data-dir", t.TempDir()} }

// replicated is a real Kafka and a real Redis, under names of the test's own.
func replicated(t *testing.T) storage {
	t.Helper()
	return onServers(testenv.Kafka(t), testenv.Redis(t))
}

func onServers(kafka, redis string) storage {
	return storage{"--kafka-brokers", kafka, "--redis-url", redis, "--topic-prefix", testenv.Name("e2e") + "."}
}

// startServer starts a server on the storage and waits until it is ready.
func startServer(t *testing.T, s storage, args ...string) *server {
	t.Helper()
	return startServerAs(t, "http", plainClient(t), s, args...)
}

func startServerAs(t *testing.T, scheme string, client *http.Client, s storage, args ...string) *server {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	listen := "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))
	v := &server{base: scheme + "://" + listen, client: client}
	v.Program = testenv.StartProgram(t, testenv.ProgramOptions{
		Name: "server-" + strconv.Itoa(time.Now().Nanosecond()),
		Args: append(append([]string{path, "serve", "--listen", listen, "--lame-duck", "0s"}, s...), args...),
		Dir:  t.TempDir(),
		Up: func(ctx context.Context, _ []byte) error {
			status, body, err := v.try(ctx, http.MethodGet, "/readyz", nil)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("not ready: %s", body)
			}
			return err
		},
	})
	return v
}

// plainClient is for requests that have an end. Sessions bring connections of their own.
func plainClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// try makes one request that has an end.
func (v *server) try(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.base+path, in)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, out, errors.Join(err, resp.Body.Close())
}

// call makes a request that must be answered with the status.
func (v *server) call(t *testing.T, want int, method, path string, body any) []byte {
	t.Helper()
	status, out, err := v.try(t.Context(), method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if status != want {
		t.Fatalf("%s %s answered %d, want %d: %s", method, path, status, want, out)
	}
	return out
}

// metric is the sum of a metric's series; series that do not hold the label, such as `kind="read"`, are left out.
func (v *server) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	total := 0.0
	lines := bufio.NewScanner(bytes.NewReader(v.call(t, http.StatusOK, http.MethodGet, "/metrics", nil)))
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		rest, same := strings.CutPrefix(series, name)
		if !ok || !same || (rest != "" && rest[0] != '{') {
			continue
		}
		wanted := true
		for _, label := range labels {
			wanted = wanted && strings.Contains(rest, label)
		}
		if n, err := strconv.ParseFloat(value, 64); wanted && err == nil {
			total += n
		}
	}
	return total
}

const (
	theStream = "trips"
	theType   = "e2e.trip"
)

// define creates the stream and its event types, and waits until all replicas know them.
func define(t *testing.T, partitions int, all ...*server) {
	t.Helper()
	all[0].call(t, http.StatusCreated, http.MethodPost, "/v1/streams", map[string]any{"name": theStream, "partitions": partitions})
	all[0].call(t, http.StatusCreated, http.MethodPost, "/v1/event-types", map[string]any{"type": "e2e.*", "stream": theStream})
	for _, v := range all {
		eventually(t, "every replica knows the event types", func() bool {
			status, _, err := v.try(t.Context(), http.MethodGet, "/v1/event-types/e2e.*", nil)
			return err == nil && status == http.StatusOK
		})
	}
}

// patience is how long a test waits for what must come. Nothing is measured by it.
const patience = 60 * time.Second

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %s in vain: %s", patience, what)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// sigterm tells the server to stop and wants it to exit with 0.
func (v *server) sigterm(t *testing.T, grace time.Duration) {
	t.Helper()
	code, err := v.Stop(grace)
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 {
		log, _ := v.Log()
		_, crash, _ := bytes.Cut(log, []byte("\npanic: "))
		t.Errorf("exit code %d after SIGTERM, want 0; panic: %.2000s", code, crash)
	}
}

// again starts a stopped server.
func (v *server) again(t *testing.T) {
	t.Helper()
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (v *server) kill(t *testing.T) {
	t.Helper()
	if err := v.Kill(); err != nil {
		t.Fatal(err)
	}
}
