package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// running is a server inside the test.
type running struct {
	t      *testing.T
	url    string
	client *http.Client
	tell   func()       // tells it to stop
	stop   func() error // tells it to stop and waits
	log    *bytes.Buffer
	banner *bytes.Buffer
}

func startServer(t *testing.T, args ...string) *running {
	t.Helper()
	// sarama's metrics keep one goroutine for the whole process.
	t.Cleanup(func() {
		goleak.VerifyNone(t, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
	})
	c, err := parse(t, append([]string{"--listen=127.0.0.1:0", "--drain-timeout=5s", "--lame-duck=0s"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, addr := make(chan error, 1), make(chan net.Addr, 1)
	r := &running{t: t, client: &http.Client{Transport: &http.Transport{}}, log: &bytes.Buffer{}, banner: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() { done <- serve(ctx, c, log, r.banner, func(a net.Addr) { addr <- a }) }()
	r.tell = cancel
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		r.client.CloseIdleConnections()
		cancel()
		return <-done
	}
	select {
	case a := <-addr:
		r.url = "http://" + a.String()
	case err := <-done:
		cancel()
		t.Fatalf("the server did not start: %v\n%s", err, r.log)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *running) send(method, path, contentType, body string) (int, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, answer
}

func (r *running) must(status int, method, path, contentType, body string) []byte {
	r.t.Helper()
	got, answer := r.send(method, path, contentType, body)
	if got != status {
		r.t.Fatalf("%s %s answers %d, not %d: %s", method, path, got, status, answer)
	}
	return answer
}

func (r *running) withTrains() *running {
	r.t.Helper()
	r.must(201, "POST", "/v1/streams", "application/json", `{"name":"trains","partitions":2}`)
	r.must(201, "POST", "/v1/event-types", "application/json", `{"type":"train","stream":"trains"}`)
	return r
}

func (r *running) publish(id string) {
	r.t.Helper()
	r.must(200, "POST", "/v1/events", "application/cloudevents+json", fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/t","type":"train"}`, id))
}

func TestEventsDefinitionsAndConsumersOutliveTheServer(t *testing.T) {
	dir := t.TempDir()
	first := startServer(t, "--data-dir", dir).withTrains()
	first.publish("1")
	first.must(200, "PUT", "/v1/streams/trains/consumers/app", "application/json", `{"from":"oldest","reset":true}`)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}

	second := startServer(t, "--data-dir", dir)
	second.publish("2") // the event type is still registered
	var c struct{ Lag int }
	if err := json.Unmarshal(second.must(200, "GET", "/v1/streams/trains/consumers/app", "", ""), &c); err != nil || c.Lag != 2 {
		t.Errorf("the consumer's lag is %d, %v", c.Lag, err)
	}
	page := second.must(200, "GET", "/v1/streams/trains/events?from=oldest", "", "")
	for _, id := range []string{`"id":"1"`, `"id":"2"`} {
		if !bytes.Contains(page, []byte(id)) {
			t.Errorf("%s is not in %s", id, page)
		}
	}
}

func TestASubscriptionAndWhatItAcknowledgedOutliveTheServer(t *testing.T) {
	dir := t.TempDir()
	first := startServer(t, "--data-dir", dir).withTrains()
	var sub struct{ ID string }
	body := first.must(201, "POST", "/v1/subscriptions", "application/json", `{"name":"app","streams":["trains"],"config":{"from":"oldest"}}`)
	if err := json.Unmarshal(body, &sub); err != nil {
		t.Fatal(err)
	}
	first.publish("1")
	events := "/v1/subscriptions/" + sub.ID + "/events?wait=20s"
	page := func(r *running) (ids []string, at string) {
		t.Helper()
		var all []struct{ ID, Eventissuercursor string }
		if err := json.Unmarshal(r.must(200, "GET", events, "", ""), &all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			ids, at = append(ids, e.ID), e.Eventissuercursor
		}
		return ids, at
	}
	ids, at := page(first)
	if !slices.Equal(ids, []string{"1"}) {
		t.Fatalf("the first page is %v", ids)
	}
	first.must(200, "POST", "/v1/subscriptions/"+sub.ID+"/cursors", "application/json", `{"cursors":["`+at+`"]}`)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := startServer(t, "--data-dir", dir)
	second.publish("2")
	if ids, _ := page(second); !slices.Equal(ids, []string{"2"}) {
		t.Errorf("after a restart the page is %v", ids)
	}
	if metrics := second.must(200, "GET", "/metrics", "", ""); !bytes.Contains(metrics, []byte("eventissuer_subscription_sessions 1")) {
		t.Error("the session is not in the metrics")
	}
}

func TestStopTellsReadersToComeBackAndThenEnds(t *testing.T) {
	r := startServer(t, "--data-dir", t.TempDir()).withTrains()
	req, err := http.NewRequestWithContext(context.Background(), "GET", r.url+"/v1/streams/trains/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "id:") {
	}
	begin := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	var told []string
	for lines.Scan() {
		told = append(told, lines.Text())
	}
	if all := strings.Join(told, "\n"); !strings.Contains(all, "event: drain") || !strings.Contains(all, "retryAfter") {
		t.Errorf("the reader was told %q", all)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the stop took %s", took)
	}
	log := r.log.String()
	order := []string{"sessions' drain", "part=http", "part=sessions", "part=subscriptions", "part=hubs", "part=consumers", "part=catalog", "part=log", `part="embedded servers"`}
	last := -1
	for _, name := range order {
		at := strings.LastIndex(log, name)
		if at < last {
			t.Errorf("%s was stopped out of order", name)
		}
		last = at
	}
}

func TestStoppingServerIsNotReadyAndTakesRequestsUntilBalancersHaveNoticed(t *testing.T) {
	r := startServer(t, "--data-dir", t.TempDir(), "--lame-duck=2s").withTrains()
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+"/v1/streams/trains/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	balancer := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // each check is a new connection
	r.tell()
	status, reason := http.StatusOK, []byte(nil)
	for status == http.StatusOK {
		check, err := balancer.Get(r.url + "/readyz")
		if err != nil {
			t.Fatal("the first check after the signal is refused: ", err)
		}
		status = check.StatusCode
		reason, _ = io.ReadAll(check.Body)
		_ = check.Body.Close()
	}
	if status != http.StatusServiceUnavailable || !bytes.Contains(reason, []byte("stopping")) {
		t.Errorf("/readyz answers %d: %s", status, reason)
	}
	r.publish("1") // as before
	r.must(409, "DELETE", "/v1/admin/drain", "", "")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	log := strings.TrimSpace(r.log.String())
	if last := log[strings.LastIndex(log, "\n")+1:]; !strings.Contains(last, "msg=stopped") || !strings.Contains(last, "sessionsSentAway=1 sessionsCut=0") || !strings.Contains(last, "took=") {
		t.Errorf("the log ends with %s", last)
	}
}

func TestInterruptAtATerminalStopsAtOnce(t *testing.T) {
	ctx, stop := untilTold(t.Context())
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errInterrupted) {
		t.Errorf("the cause is %v", context.Cause(ctx))
	}
}

func TestPeopleAreGreetedInTextModeOnly(t *testing.T) {
	dir := t.TempDir()
	text := startServer(t, "--data-dir", dir)
	if got := text.banner.String(); !strings.Contains(got, text.url+"/") || !strings.Contains(got, dir) {
		t.Errorf("the greeting is %q", got)
	}
	if err := text.stop(); err != nil {
		t.Fatal(err)
	}
	machine := startServer(t, "--data-dir", t.TempDir(), "--log-format=json")
	if got := machine.banner.String(); got != "" {
		t.Errorf("a machine is greeted %q", got)
	}
}

func TestDrainedReplicaIsNotReadyUntilThatIsTakenBack(t *testing.T) {
	r := startServer(t, "--data-dir", t.TempDir()).withTrains()
	r.must(200, "GET", "/readyz", "", "")
	r.must(202, "POST", "/v1/admin/drain", "", "")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if status, answer := r.send("GET", "/readyz", "", ""); status == http.StatusServiceUnavailable {
			if !bytes.Contains(answer, []byte("drained")) {
				t.Errorf("the reason is not told: %s", answer)
			}
			r.must(200, "GET", "/healthz", "", "")
			r.must(503, "GET", "/v1/streams/trains/events", "", "")
			r.must(200, "DELETE", "/v1/admin/drain", "", "")
			r.must(200, "GET", "/readyz", "", "")
			r.must(200, "GET", "/v1/streams/trains/events", "", "")
			r.must(200, "DELETE", "/v1/admin/drain", "", "") // is so already
			r.must(202, "POST", "/v1/admin/drain", "", "")
			r.must(503, "GET", "/readyz", "", "")
			return
		}
		<-tick.C
	}
	t.Error("a drained replica stays ready")
}

func TestUnreachableKafkaAndRedisAreNamedAtOnce(t *testing.T) {
	listen := "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))
	c, err := parse(t, "--listen", listen, "--kafka-brokers=127.0.0.1:1", "--redis-url=redis://127.0.0.1:1", "--drain-timeout=1s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, log := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, c, slog.New(slog.NewTextHandler(log, nil)), io.Discard, nil)
		_ = log.Close()
	}()
	missing := map[string]bool{"Kafka": true, "Redis": true}
	lines := bufio.NewScanner(said)
	for len(missing) > 0 && lines.Scan() {
		for name := range missing {
			if line := lines.Text(); strings.Contains(line, name+" cannot be reached") && strings.Contains(line, "127.0.0.1:1") && strings.Contains(line, "refused") {
				delete(missing, name)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("the log does not tell of %v", missing)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	res, err := http.Get("http://" + listen + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Checks []struct {
			Name, Reason string
			Ready        bool
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	told := map[string]bool{}
	for _, check := range answer.Checks {
		told[check.Name] = strings.Contains(check.Reason, "refused") && check.Ready == (check.Name == "redis")
	}
	if res.StatusCode != http.StatusServiceUnavailable || !told["catalog"] || !told["consumers"] || !told["redis"] {
		t.Errorf("/readyz answers %d: %+v", res.StatusCode, answer)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSecondServerOnTheSameDataOrPortIsRefusedClearly(t *testing.T) {
	dir := t.TempDir()
	r := startServer(t, "--data-dir", dir)
	log := slog.New(slog.DiscardHandler)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen=127.0.0.1:0", "--data-dir", dir}, "is in use by"},
		{[]string{"--listen", strings.TrimPrefix(r.url, "http://"), "--data-dir", t.TempDir()}, "make run ARGS='--listen 127.0.0.1:0'"},
	} {
		c, err := parse(t, tc.args...)
		if err != nil {
			t.Fatal(err)
		}
		if err := serve(t.Context(), c, log, io.Discard, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: the error is %v", tc.args, err)
		}
	}
	r.must(200, "GET", "/readyz", "", "")
}

func TestServerToldToStopWhileStartingStops(t *testing.T) {
	c, err := parse(t, "--listen=127.0.0.1:0", "--data-dir", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(ctx, c, slog.New(slog.DiscardHandler), io.Discard, nil); err != nil {
		t.Error(err)
	}
}
