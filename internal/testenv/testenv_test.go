package testenv_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestMain(m *testing.M) {
	// The sarama of these tests keeps a ticker of its metrics for the process's life.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func producer(t *testing.T, addr string, change func(*sarama.Config)) sarama.SyncProducer {
	t.Helper()
	conf := sarama.NewConfig()
	conf.Version = sarama.V4_1_0_0
	conf.Producer.RequiredAcks = sarama.WaitForAll
	conf.Producer.Return.Successes = true
	conf.Metadata.Retry.Max = 20
	conf.Producer.Retry.Max = 40
	conf.Producer.Retry.Backoff = 500 * time.Millisecond // a new leader is found some seconds after the old one died
	if change != nil {
		change(conf)
	}
	p, err := sarama.NewSyncProducer([]string{addr}, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func createTopic(t *testing.T, addr, topic string, replicas int16) {
	t.Helper()
	conf := sarama.NewConfig()
	conf.Version = sarama.V4_1_0_0
	admin, err := sarama.NewClusterAdmin([]string{addr}, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: replicas}, false); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, p sarama.SyncProducer, topic, value string) int64 {
	t.Helper()
	_, offset, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

func TestKafkaIsSharedOrOwn(t *testing.T) {
	addr := testenv.Kafka(t)
	topic := testenv.Name("shared")
	createTopic(t, addr, topic, 1)
	if got := send(t, producer(t, addr, nil), topic, "x"); got != 0 {
		t.Errorf("first record at offset %d, want 0", got)
	}
}

func TestKilledKafkaComesBackOnItsPortWithItsRecords(t *testing.T) {
	k := testenv.StartKafka(t, testenv.KafkaOptions{})
	topic := testenv.Name("killed")
	createTopic(t, k.Addr(), topic, 1)
	send(t, producer(t, k.Addr(), nil), topic, "before")
	addr, pid := k.Addr(), k.Pid()

	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		t.Errorf("a killed node accepts connections: %v", conn.Close())
	}
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.Addr() != addr || k.Pid() == pid {
		t.Errorf("came back at %s as %d, was at %s as %d", k.Addr(), k.Pid(), addr, pid)
	}
	if got := send(t, producer(t, k.Addr(), nil), topic, "after"); got != 1 {
		t.Errorf("first record after the kill at offset %d, want 1", got)
	}
}

func TestAProxiedKafkaIsReachedThroughItsProxiesAlone(t *testing.T) {
	k := testenv.StartKafka(t, testenv.KafkaOptions{Proxied: 2})
	x := testenv.StartToxiproxy(t)
	var through []string
	for i, name := range []string{"first", "second"} {
		listens, advertised := k.Proxied(i)
		if err := x.Route(t.Context(), name, advertised, listens); err != nil {
			t.Fatal(err)
		}
		through = append(through, advertised)
	}
	topic := testenv.Name("proxied")
	createTopic(t, k.Addr(), topic, 1)
	impatient := func(c *sarama.Config) {
		c.Net.ReadTimeout, c.Producer.Timeout = time.Second, time.Second
		c.Producer.Retry.Max, c.Metadata.Retry.Max = 0, 0
	}
	first, second := producer(t, through[0], impatient), producer(t, through[1], impatient)
	send(t, first, topic, "first")
	send(t, second, topic, "second")

	x.Disable(t, "first")
	if _, _, err := first.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("cut")}); err == nil {
		t.Error("who began at the first proxy got around it once it was cut")
	}
	if got := send(t, second, topic, "second again"); got != 2 {
		t.Errorf("the third record is at offset %d, want 2", got)
	}
	if err := x.Afflict(t.Context(), "second", "downstream", "timeout", map[string]any{"timeout": 0}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("lost")}); err == nil {
		t.Error("an answer came though nothing comes back through the second proxy")
	}
	if err := errors.Join(x.Relieve(t.Context(), "second", "downstream", "timeout"), x.Enable(t.Context(), "first", true)); err != nil {
		t.Fatal(err)
	}
	send(t, producer(t, through[0], nil), topic, "first once more")
	send(t, producer(t, through[1], nil), topic, "second once more")
}

func TestSecureKafkaTakesItsUserOverTLSAndNobodyElse(t *testing.T) {
	k := testenv.StartKafka(t, testenv.KafkaOptions{Secure: true})
	topic := testenv.Name("secure")
	createTopic(t, k.Addr(), topic, 1)
	pem, err := os.ReadFile(k.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the CA file")
	}
	withTLS := func(c *sarama.Config) {
		c.Net.TLS.Enable, c.Net.TLS.Config = true, &tls.Config{RootCAs: roots}
	}
	send(t, producer(t, k.TLSAddr(), withTLS), topic, "tls")
	withPassword := func(password string) func(*sarama.Config) {
		return func(c *sarama.Config) {
			withTLS(c)
			c.Metadata.Retry.Max = 0
			c.Net.SASL.Enable, c.Net.SASL.User, c.Net.SASL.Password = true, testenv.KafkaUser, password
		}
	}
	send(t, producer(t, k.SASLAddr(), withPassword(testenv.KafkaPassword)), topic, "sasl")

	conf := sarama.NewConfig()
	withPassword("guess")(conf)
	if c, err := sarama.NewClient([]string{k.SASLAddr()}, conf); err == nil {
		t.Errorf("a wrong password was taken: %v", c.Close())
	}
}

func TestClusterOutlivesOneNode(t *testing.T) {
	if testing.Short() {
		t.Skip("three JVMs")
	}
	nodes := testenv.StartKafkaCluster(t, 3, testenv.KafkaOptions{HeapMB: 256, Racks: []string{"a", "b", "c"}})
	topic := testenv.Name("replicated")
	createTopic(t, nodes[0].Addr(), topic, 3)
	send(t, producer(t, nodes[0].Addr(), nil), topic, "before")
	if err := nodes[2].Kill(); err != nil {
		t.Fatal(err)
	}
	if got := send(t, producer(t, nodes[1].Addr(), nil), topic, "after"); got != 1 {
		t.Errorf("first record after the kill at offset %d, want 1", got)
	}
	if err := nodes[2].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// command sends one inline command to Redis and returns its answer.
func command(t *testing.T, addr, line string, timeout time.Duration) (string, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
		return "", err
	}
	b := make([]byte, 256)
	n, err := conn.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

func TestKilledRedisKeepsWhatItWasToldTo(t *testing.T) {
	for _, tt := range []struct {
		name       string
		appendOnly bool
		want       string
	}{{"nothing", false, "$-1"}, {"every write", true, "$1\r\nv"}} {
		t.Run(tt.name, func(t *testing.T) {
			r := testenv.StartRedis(t, testenv.RedisOptions{AppendOnly: tt.appendOnly})
			if got, err := command(t, r.Addr(), "SET k v", time.Second); got != "+OK" {
				t.Fatalf("SET answered %q, %v", got, err)
			}
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := r.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := command(t, r.Addr(), "GET k", time.Second); got != tt.want {
				t.Errorf("GET after the restart answered %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestRedisForgetsWhatItIsToldTo(t *testing.T) {
	r := testenv.StartRedis(t, testenv.RedisOptions{AppendOnly: true})
	for _, tt := range []struct {
		name   string
		forget func() error
	}{
		{"flushed", func() error { return r.Flush(t.Context()) }},
		{"started with nothing", func() error { return errors.Join(r.Kill(), r.Empty(), r.Start(t.Context())) }},
	} {
		if got, err := command(t, r.Addr(), "SET k v", time.Second); got != "+OK" {
			t.Fatalf("SET answered %q, %v", got, err)
		}
		if err := tt.forget(); err != nil {
			t.Fatal(err)
		}
		if got, err := command(t, r.Addr(), "GET k", time.Second); got != "$-1" {
			t.Errorf("%s: GET answered %q, %v; want nothing", tt.name, got, err)
		}
	}
}

func TestPausedRedisAnswersAfterItResumes(t *testing.T) {
	r := testenv.StartRedis(t, testenv.RedisOptions{})
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	if got, err := command(t, r.Addr(), "PING", 200*time.Millisecond); err == nil {
		t.Errorf("a paused server answered %q", got)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if got, err := command(t, r.Addr(), "PING", 5*time.Second); got != "+PONG" {
		t.Errorf("PING answered %q, %v", got, err)
	}
}

func TestMissingServerIsNamedWithItsRemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := testenv.NewRedis(testenv.RedisOptions{Dir: t.TempDir()})
	var missing *testenv.MissingError
	if !errors.As(err, &missing) || !strings.Contains(missing.How, "deploy/local/install redis") {
		t.Errorf("Redis: got %v", err)
	}
	_, err = testenv.NewKafka(context.Background(), testenv.KafkaOptions{Dir: t.TempDir()})
	if !errors.As(err, &missing) || !strings.Contains(missing.How, "deploy/local/install kafka") {
		t.Errorf("Kafka: got %v", err)
	}
}

func TestServerThatDoesNotStartSaysWhy(t *testing.T) {
	testenv.Redis(t) // skips where there is none
	r, err := testenv.NewRedis(testenv.RedisOptions{Dir: t.TempDir(), Args: []string{"--no-such-option", "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("got %v, want the end of the server's log", err)
	}
}

func TestFetchedKafkaIsTheVersionLookedFor(t *testing.T) {
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	pom, err := os.ReadFile(filepath.Join(root, "deploy", "local", "kafka", "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Appendf(nil, "<artifactId>kafka_2.13</artifactId>\n      <version>%s</version>", testenv.KafkaVersion)
	if !bytes.Contains(pom, want) {
		t.Errorf("deploy/local/kafka/pom.xml does not fetch Kafka %s", testenv.KafkaVersion)
	}
}
