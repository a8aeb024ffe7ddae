package chaos

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

const (
	replicaCount = 3
	nodeCount    = 3

	topicPrefix   = "chaos."
	kafkaHeapMB   = 256
	dedupeLease   = "25s" // the shortest that there is
	groupSession  = "2s"
	drainTimeout  = 10 * time.Second
	replicaStart  = 45 * time.Second
	definePeriod  = time.Minute
	callTimeout   = 10 * time.Second
	largestAnswer = 8 << 20
)

// cluster is all servers of a run, and the lines between them. Every line goes through the proxy: those of the clients
// to replica i by the route client-i, those of replica i to Redis by redis-i, and to node n by kafka-i-n.
type cluster struct {
	nodes    []*testenv.KafkaProcess
	redis    *testenv.RedisProcess
	proxy    *testenv.Toxiproxy
	replicas []*replica
	client   *http.Client // for requests that have an end, past the proxy
}

// replica is one process of the server.
type replica struct {
	*testenv.Program
	name   string
	direct string // its address
	base   string // and through the proxy
	log    string // the file that it logs to
}

func clientRoute(i int) string   { return fmt.Sprintf("client-%d", i) }
func redisRoute(i int) string    { return fmt.Sprintf("redis-%d", i) }
func kafkaRoute(i, n int) string { return fmt.Sprintf("kafka-%d-%d", i, n) }

// startCluster starts everything in folders under dir. What it started before an error is in the cluster too.
func startCluster(ctx context.Context, dir, binary string) (*cluster, error) {
	c := &cluster{client: &http.Client{Timeout: callTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
	var err error
	c.nodes, err = testenv.NewKafkaCluster(ctx, nodeCount, testenv.KafkaOptions{
		Dir: filepath.Join(dir, "kafka"), HeapMB: kafkaHeapMB, Proxied: replicaCount,
		Properties: map[string]string{
			"group.min.session.timeout.ms": "1000",
			"replica.lag.time.max.ms":      "3000", // the lease of deduplication is longer, with 20 s
			"num.network.threads":          "1",    // of each listener
			"num.io.threads":               "4",
		},
	})
	if err != nil {
		return c, err
	}
	if c.redis, err = testenv.NewRedis(testenv.RedisOptions{Dir: filepath.Join(dir, "redis"), AppendOnly: true}); err != nil {
		return c, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "proxy"), 0o755); err != nil {
		return c, err
	}
	if c.proxy, err = testenv.NewToxiproxy(filepath.Join(dir, "proxy")); err != nil {
		return c, err
	}
	for _, start := range []func() error{
		func() error { return testenv.StartNodes(ctx, c.nodes) },
		func() error { return c.redis.Start(ctx) },
		func() error { return c.proxy.Start(ctx) },
	} {
		if err := start(); err != nil {
			return c, err
		}
	}
	return c, c.startReplicas(ctx, dir, binary)
}

func (c *cluster) startReplicas(ctx context.Context, dir, binary string) error {
	keys, err := secretKeys(dir)
	if err != nil {
		return err
	}
	for i := range replicaCount {
		free, err := testenv.FreeAddresses(3)
		if err != nil {
			return err
		}
		own, client, redis := free[0], free[1], free[2]
		routes := [][3]string{{clientRoute(i), client, own}, {redisRoute(i), redis, c.redis.Addr()}}
		var brokers []string
		for n, node := range c.nodes {
			listens, advertised := node.Proxied(i)
			routes = append(routes, [3]string{kafkaRoute(i, n), advertised, listens})
			brokers = append(brokers, advertised)
		}
		for _, r := range routes {
			if err := c.proxy.Route(ctx, r[0], r[1], r[2]); err != nil {
				return err
			}
		}
		v := &replica{name: fmt.Sprintf("replica-%d", i), direct: "http://" + own, base: "http://" + client}
		folder := filepath.Join(dir, v.name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		v.log = filepath.Join(folder, v.name+".log")
		v.Program = testenv.NewProgram(testenv.ProgramOptions{
			Name: v.name, Dir: folder, Patience: replicaStart,
			Args: []string{
				binary, "serve", "--listen", own, "--kafka-brokers", strings.Join(brokers, ","), "--redis-url", "redis://" + redis,
				"--topic-prefix", topicPrefix, "--dedupe-lease", dedupeLease, "--group-session-timeout", groupSession,
				"--drain-timeout", drainTimeout.String(), "--lame-duck", "1s", "--allow-loopback-sinks", "--secret-keys", keys,
			},
			Up: func(ctx context.Context, _ []byte) error { return c.ready(ctx, v) },
		})
		c.replicas = append(c.replicas, v)
		if err := v.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) ready(ctx context.Context, v *replica) error {
	status, body, err := c.call(ctx, v.direct, http.MethodGet, "/readyz", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("not ready: %s", body)
	}
	return err
}

// stop kills everything.
func (c *cluster) stop() error {
	var errs []error
	for _, v := range c.replicas {
		errs = append(errs, v.Kill())
	}
	if c.proxy != nil {
		errs = append(errs, c.proxy.Kill())
	}
	if c.redis != nil {
		errs = append(errs, c.redis.Kill())
	}
	for _, n := range c.nodes {
		errs = append(errs, n.Kill())
	}
	return errors.Join(errs...)
}

// call makes a request that has an end, over a connection of its own.
func (c *cluster) call(ctx context.Context, base, method, path string, body any) (int, []byte, error) {
	return c.callBy(ctx, c.client, base, method, path, body)
}

// callBy is call by a client, whose connections may be kept.
func (c *cluster) callBy(ctx context.Context, by *http.Client, base, method, path string, body any) (int, []byte, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, in)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := by.Do(req)
	if err != nil {
		return 0, nil, err
	}
	out, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer))
	return resp.StatusCode, out, errors.Join(err, resp.Body.Close())
}

// must is a call that has to be answered with a status of success, and what it is answered.
func (c *cluster) must(ctx context.Context, v *replica, method, path string, body, answer any) error {
	status, out, err := c.call(ctx, v.direct, method, path, body)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("answered %d: %s", status, out)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(out, answer)
	}
	if err != nil {
		return fmt.Errorf("%s %s at %s: %w", method, path, v.name, err)
	}
	return nil
}

// define makes the streams and their event types, and waits until all replicas know what was defined.
func (c *cluster) define(ctx context.Context) error {
	first := c.replicas[0]
	last := ""
	for _, s := range streams {
		if err := c.must(ctx, first, http.MethodPost, "/v1/streams", map[string]any{
			"name": s.name, "partitions": s.partitions, "compaction": s.name == theBoard, "state": map[string]any{"window": "forever"},
		}, nil); err != nil {
			return err
		}
		for i := range 2 { // the types of a strict key and of a loose one
			key := s.keyName(i)
			if err := c.must(ctx, first, http.MethodPost, "/v1/event-types", map[string]any{
				"type": kindOf(key), "stream": s.name, "dedupe": "24h", "dedupeRequired": strict(key),
			}, nil); err != nil {
				return err
			}
			last = kindOf(key)
		}
	}
	return c.known(ctx, "/v1/event-types/"+last)
}

// known waits until all replicas have what is at a path.
func (c *cluster) known(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, definePeriod)
	defer cancel()
	for _, v := range c.replicas {
		for c.must(ctx, v, http.MethodGet, path, nil, nil) != nil {
			if !clock.Pause(ctx, 50*time.Millisecond) {
				return fmt.Errorf("%s does not know %s after %s", v.name, path, definePeriod)
			}
		}
	}
	return nil
}

// topic opens the log itself, past the proxy. Its caller closes it.
func (c *cluster) topic() (*kafka.Log, error) {
	var brokers []string
	for _, n := range c.nodes {
		brokers = append(brokers, n.Addr())
	}
	return kafka.New(kafka.Config{Brokers: brokers}, kafka.Deps{})
}

// secretKeys writes the key ring that replicas need for webhooks.
func secretKeys(dir string) (string, error) {
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "secret-keys")
	return path, os.WriteFile(path, []byte("1 "+base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600)
}

// findBinary is the server's program: the one given, the one beside this program, or one built into dir where the
// working folder is the source's.
func findBinary(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), "eventissuer")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	root, err := testenv.Root()
	if err != nil {
		return "", fmt.Errorf("expected --binary, an eventissuer beside this program, or the source as the working folder: %w", err)
	}
	path := filepath.Join(dir, "eventissuer")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/eventissuer")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return path, nil
}
