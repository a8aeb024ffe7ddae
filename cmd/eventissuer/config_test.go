package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parse gives the configuration that the arguments, the environment and the file make.
func parse(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	var c cli
	var out bytes.Buffer
	parser, err := newParser(&c, &out, &out)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(joinNegative(append([]string{"serve"}, args...)))
	return c.Serve.Config, err
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "eventissuer.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreThoseOfTheDocumentation(t *testing.T) {
	got, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen: "127.0.0.1:8080", DataDir: "./data", TopicPrefix: "eventissuer.", ReplicationFactor: -1,
		MaxSessions: 50000, MaxSessionsPerAddress: 20000, MaxSubscriptionGroups: 1000, RingBytes: 32 << 20, MemoryBytes: 512 << 20,
		Role: "all", CatchUpReads: 128, DedupeBytes: 128 << 20, DedupeLease: time.Minute, GroupSessionTimeout: 10 * time.Second, MaxEventBytes: 1 << 20, MaxBatchBytes: 8 << 20, MaxBatchEvents: 1000,
		DrainTimeout: 30 * time.Second, LameDuck: 3 * time.Second, LogFormat: "text", LogLevel: "info",
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestFlagWinsOverVariableAndVariableOverFile(t *testing.T) {
	file := writeFile(t, "listen: 127.0.0.1:1\nmax-sessions: 1\nring-bytes: 1MiB\ncors-origin: [https://a.example, https://b.example]\ndemo: true\ndemo-time: 08:00\n")
	t.Setenv("EVENTISSUER_LISTEN", "127.0.0.1:2")
	t.Setenv("EVENTISSUER_MAX_SESSIONS", "2")
	t.Setenv("EVENTISSUER_CONFIG", file)
	got, err := parse(t, "--listen=127.0.0.1:3")
	if err != nil {
		t.Fatal(err)
	}
	if got.Listen != "127.0.0.1:3" || got.MaxSessions != 2 || got.RingBytes != 1<<20 || got.DemoTime != "08:00" {
		t.Errorf("flag, variable and file gave listen %s, max-sessions %d, ring-bytes %s, demo-time %s", got.Listen, got.MaxSessions, got.RingBytes, got.DemoTime)
	}
	if diff := cmp.Diff([]string{"https://a.example", "https://b.example"}, got.CorsOrigin); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesInTheConfigurationAreErrorsThatSayWhatToDo(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"key that does not exist", []string{"--config", writeFile(t, "lisen: x\n")}, `there is no setting "lisen"`},
		{"mapping for a value", []string{"--config", writeFile(t, "listen: {host: x}\n")}, "not a mapping"},
		{"list for a value", []string{"--config", writeFile(t, "listen: [x]\n")}, "not a list"},
		{"file that is no YAML", []string{"--config", writeFile(t, "listen: [\n")}, "read the configuration"},
		{"file that is not there", []string{"--config", missing}, "no such file"},
		{"number that is none, in the file", []string{"--config", writeFile(t, "# x\nmax-sessions: abc\n")}, "eventissuer.yaml: line 2: max-sessions: "},
		{"key without a value", []string{"--config", writeFile(t, "listen: 127.0.0.1:1\nmax-sessions:\n")}, "eventissuer.yaml: line 2: max-sessions: there is no value"},
		{"size that is none, in the file", []string{"--config", writeFile(t, "ring-bytes: many\n")}, "eventissuer.yaml: line 1: ring-bytes: "},
		{"unknown level, in the file", []string{"--config", writeFile(t, "log-level: loud\n")}, `eventissuer.yaml: line 1: log-level: "loud" is none of debug`},
		{"port that is none", []string{"--listen", "127.0.0.1:99999"}, "65535"},
		{"certificate that is not there", []string{"--tls-cert", missing, "--tls-key", missing}, "no such file"},
		{"clock without the demo", []string{"--demo-time", "08:00"}, "without --demo"},
		{"all interfaces", []string{"--listen", "0.0.0.0:8080"}, "--insecure-no-auth"},
		{"all interfaces, unnamed", []string{"--listen", ":8080"}, "no access control"},
		{"another host", []string{"--listen", "example.org:8080"}, "no access control"},
		{"no port", []string{"--listen", "127.0.0.1"}, "HOST:PORT"},
		{"Kafka without Redis", []string{"--kafka-brokers", "k:9092"}, "without --redis-url"},
		{"Redis without Kafka", []string{"--redis-url", "redis://r:6379"}, "without --kafka-brokers"},
		{"Redis of an unknown kind", []string{"--kafka-brokers", "k:9092", "--redis-url", "http://r:6379"}, "redis+cluster"},
		{"sentinel without a master", []string{"--kafka-brokers", "k:9092", "--redis-url", "redis+sentinel://r:6379"}, "name the master"},
		{"certificate without key", []string{"--tls-cert", "c.pem"}, "--tls-key"},
		{"user without mechanism", []string{"--kafka-brokers", "k:9092", "--redis-url", "redis://r", "--kafka-username", "u"}, "--kafka-sasl-mechanism"},
		{"origin with a path", []string{"--cors-origin", "https://a.example/x"}, "scheme and a host"},
		{"proxy that is no address", []string{"--trusted-proxies", "proxy"}, "10.0.0.0/8"},
		{"public address without scheme", []string{"--public-url", "example.org"}, "absolute address"},
		{"size without sense", []string{"--ring-bytes", "many"}, "64KiB"},
		{"ring above the whole", []string{"--ring-bytes", "1GiB"}, "--memory-bytes"},
		{"events below what CloudEvents asks", []string{"--max-event-bytes", "1KiB"}, "is 1KiB: it must be at least 64KiB"},
		{"time of day without sense", []string{"--demo", "--demo-time", "25:00"}, "08:00"},
		{"events larger than a batch", []string{"--max-batch-bytes", "64KiB"}, "--max-batch-bytes is 64KiB: it must be at least 1MiB, as --max-event-bytes"},
		{"events larger than topics take", []string{"--max-event-bytes", "4MiB"}, "is 4MiB: it must be at most 1280KiB"},
		{"negative time", []string{"--drain-timeout=-1s"}, "--drain-timeout is -1s"},
		{"lease shorter than a write may take", []string{"--dedupe-lease=20s"}, "--dedupe-lease is 20s: it must be at least 25s"},
		{"group session that is none", []string{"--group-session-timeout=500ms"}, "--group-session-timeout is 500ms: it must be from 1s to 5m0s"},
		{"group session without end", []string{"--group-session-timeout=1h"}, "--group-session-timeout is 1h0m0s: it must be from 1s to 5m0s"},
		{"prefix that no topic can have", []string{"--topic-prefix", "a b"}, "letters, digits"},
		{"no replicas", []string{"--replication-factor", "0"}, "-1"},
		{"unknown level", []string{"--log-level", "loud"}, "debug"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse(t, tc.args...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v; it should hold %q", err, tc.want)
			}
		})
	}
}

func TestOtherAddressesThanLoopbackNeedConsent(t *testing.T) {
	for _, args := range [][]string{
		{"--listen", "localhost:1"},
		{"--listen", "[::1]:1"},
		{"--listen", "127.8.9.1:1"},
		{"--listen", "0.0.0.0:1", "--insecure-no-auth"},
	} {
		if _, err := parse(t, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestEffectiveConfigurationHoldsNoSecretAndReadsBack(t *testing.T) {
	t.Setenv("EVENTISSUER_REDIS_URL", "redis+sentinel://user:hunter2@a:1,b:2/main/3")
	t.Setenv("EVENTISSUER_KAFKA_BROKERS", "k1:9092,k2:9092")
	var out, errs bytes.Buffer
	if code := run([]string{"config", "--ring-bytes=1MiB", "--drain-timeout=90s"}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Error("the password is printed")
	}
	want, err := parse(t, "--ring-bytes=1MiB", "--drain-timeout=90s", "--redis-url=redis+sentinel://user:xxxxx@a:1,b:2/main/3")
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, out.String())
	for _, name := range []string{"EVENTISSUER_REDIS_URL", "EVENTISSUER_KAFKA_BROKERS"} {
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := parse(t, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	got.Config = ""
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestExitCodesTellUsageFromFailure(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, exitOK},
		{[]string{"--version"}, exitOK},
		{[]string{"--help"}, exitOK},
		{[]string{"serve", "--help"}, exitOK},
		{nil, exitOK},
		{[]string{"serve", "--listen=0.0.0.0:0"}, exitUsage},
		{[]string{"serve", "--listen=127.0.0.1:99999"}, exitUsage},
		{[]string{"serve", "--tls-cert", "/x", "--tls-key", "/y"}, exitUsage},
		{[]string{"config", "--replication-factor", "-1"}, exitOK},
		{[]string{"config", "--replication-factor", "-2"}, exitUsage},
		{[]string{"serv"}, exitUsage},
	} {
		var out, errs bytes.Buffer
		if got := run(tc.args, &out, &errs); got != tc.want {
			t.Errorf("%v exits with %d, not %d: %s", tc.args, got, tc.want, errs.String())
		}
	}
}

func TestVariableThatIsNoSettingIsTold(t *testing.T) {
	t.Setenv("EVENTISSUER_NOPE", "1")
	t.Setenv("EVENTISSUER_SERVICE_HOST", "10.0.0.1") // as Kubernetes sets them for a service of the name
	t.Setenv("EVENTISSUER_PORT_8080_TCP_ADDR", "10.0.0.1")
	t.Setenv("EVENTISSUER_RING_BYTES", "1MiB")
	var out, errs bytes.Buffer
	if code := run([]string{"config"}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	if got, want := errs.String(), "eventissuer: the variable EVENTISSUER_NOPE is no setting and changes nothing\n"; got != want {
		t.Errorf("told %q, not %q", got, want)
	}
}

func TestByteSizesReadAsTheyPrint(t *testing.T) {
	for text, want := range map[string]struct {
		bytes ByteSize
		text  string
	}{
		"0": {0, "0"}, "4096": {4096, "4KiB"}, "1000": {1000, "1000"}, "256MiB": {256 << 20, "256MiB"}, "256 mib": {256 << 20, "256MiB"},
		"1.5GiB": {3 << 29, "1536MiB"}, "10MB": {10_000_000, "10000000"}, "2G": {2 << 30, "2GiB"}, "7B": {7, "7"},
	} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want.bytes || got.String() != want.text {
			t.Errorf("%q is %d (%s), %v; not %d (%s)", text, got, got, err, want.bytes, want.text)
		}
	}
	for _, text := range []string{"", "many", "-1", "1PiB", "NaN", "1e30GiB", "MiB"} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func TestRedisAddressesOfEveryKind(t *testing.T) {
	for _, text := range []string{
		"redis://localhost:6379", "rediss://user:secret@r:6379/2",
		"redis+cluster://u:p@a:1,b:2,c:3", "rediss+cluster://a:1,b:2/?read_timeout=1s",
		"redis+sentinel://a:1,b:2/main", "rediss+sentinel://u:p@a:1,b:2/main/4",
	} {
		client, err := newRedis(text, "", 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := newRedis("redis://user:hunter2@r:notaport/x", "", 0)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error %v is missing or shows the password", err)
	}
}

func TestLogInJSONHasTimesWithTheirUnits(t *testing.T) {
	var out bytes.Buffer
	newLogger(Config{LogFormat: "json", LogLevel: "info"}, &out).Info("x", "took", 1500*time.Millisecond)
	if !strings.Contains(out.String(), `"took":"1.5s"`) {
		t.Error(out.String())
	}
}
