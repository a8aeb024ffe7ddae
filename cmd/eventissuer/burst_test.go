package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/cursor"
)

// burstVariable names the plan of a process of clients: one process alone may not open the files of both sides.
const burstVariable = "EVENTISSUER_TEST_BURST"

// burstPlan says what the clients do. Events are numbered from 0 in the order of their publication; a client that stands
// at k has had all before k.
type burstPlan struct {
	Address string // host:port
	Path    string
	Stands  []int    // by client
	Tokens  []string // the cursor of each stand
	Log     [][]int  // by partition, the numbers of its events
	Last    int      // the one that is published once all are caught up
}

const (
	burstSessions = 10_000
	burstBack     = 1_000 // events that a client may have missed
	burstEvents   = 1_500
	burstPad      = 200
)

func TestTenThousandSessionsReconnectAtOnceAndShareTheReads(t *testing.T) {
	for name, on := range map[string]func(*testing.T) storage{"embedded": embedded, "Kafka and Redis": replicated} {
		t.Run(name, func(t *testing.T) { reconnectAtOnce(t, on(t)) })
	}
}

func reconnectAtOnce(t *testing.T, on storage) {
	v := startServer(t, on)
	define(t, 3, v)
	plan := burstPlan{Address: strings.TrimPrefix(v.base, "http://"), Path: "/v1/streams/" + theStream + "/events", Log: make([][]int, 3), Last: burstEvents}
	places := make([]place, 0, burstEvents)
	for n := 0; n < burstEvents; n += 100 {
		var batch [][]byte
		for k := n; k < n+100; k++ {
			batch = append(batch, burstEvent(k))
		}
		at, err := v.publishBatch(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, at...)
	}
	for n, at := range places {
		if int(at.offset) != len(plan.Log[at.partition]) {
			t.Fatalf("event %d is at %v, after %d others", n, at, len(plan.Log[at.partition]))
		}
		plan.Log[at.partition] = append(plan.Log[at.partition], n)
	}
	plan.tokens(t, v)

	// A server that has just begun has nothing in memory: every client has to be caught up from the log.
	v.sigterm(t, 20*time.Second)
	v.again(t)
	clients := startBurst(t, plan)
	clients.expect(t, "caught up")
	if got := v.metric(t, "eventissuer_session_open", `transport="sse"`); got != burstSessions {
		t.Errorf("%v sessions are open, want %d", got, burstSessions)
	}
	if got := v.metric(t, "eventissuer_fanout_catching_up"); got != 0 {
		t.Errorf("%v sessions still read the log", got)
	}
	if at, err := v.publishOne(t.Context(), burstEvent(plan.Last)); err != nil || int(at.offset) != len(plan.Log[at.partition]) {
		t.Fatalf("the last event is at %v: %v", at, err)
	}
	clients.expect(t, "all live")
	clients.wait(t)

	missed := 0
	for _, k := range plan.Stands {
		missed += burstEvents - k
	}
	reads, fetches := v.metric(t, "eventissuer_fanout_block_reads_total"), v.metric(t, "eventissuer_kafka_fetches_total", `kind="read"`)
	// What was missed by all together is this many bytes of the log. A read brings up to 256 KiB, but begins at a rounded
	// offset and may be cut short; 16 KiB on average is asked of it, and two more a partition for both ends.
	const eventBytes = burstPad + 130
	bound := float64(burstBack*eventBytes/(16<<10) + 2*len(plan.Log))
	describes := v.metric(t, "eventissuer_kafka_describes_total")
	t.Logf("%d sessions, %d events caught up on; %v reads of the log, %v fetches, %v descriptions of the topic", burstSessions, missed, reads, fetches, describes)
	if reads > bound || fetches > 2*bound {
		t.Errorf("%v reads of the log and %v fetches from Kafka, want at most %v and %v: sessions do not share them", reads, fetches, bound, 2*bound)
	}
	// A description follows every read of a block; the start of the server and of the stream takes some more.
	if most := bound + startDescribes; describes > most {
		t.Errorf("%v descriptions of topics were asked for, want at most %v", describes, most)
	}
	if got := v.metric(t, "eventissuer_session_panics_total") + v.metric(t, "eventissuer_http_panics_total"); got != 0 {
		t.Errorf("%v panics", got)
	}
}

// startDescribes is how often a server may ask about topics beside reading: about its own, and twice for a hub.
const startDescribes = 12

// burstEvent has its number at a fixed place.
func burstEvent(n int) []byte {
	return fmt.Appendf(nil, `{"id":"%08d","specversion":"1.0","source":"/e2e","type":"e2e.trip","subject":"s%d","data":"%s"}`,
		n, n%97, strings.Repeat("x", burstPad))
}

const burstPrefix = `data: {"id":"`

// tokens sets where clients stand: a few of them far back, most of them near the end, as after a short outage.
func (p *burstPlan) tokens(t *testing.T, v *server) {
	t.Helper()
	var about struct{ Newest string }
	if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/streams/"+theStream, nil), &about); err != nil {
		t.Fatal(err)
	}
	newest, err := cursor.Parse(about.Newest)
	if err != nil {
		t.Fatal(err)
	}
	at := newest.Streams[0]
	for i := range burstSessions {
		x := float64(i) / (burstSessions - 1)
		stand := burstEvents - int(burstBack*x*x*x*x*x)
		at.Next = p.vector(stand)
		p.Stands = append(p.Stands, stand)
		p.Tokens = append(p.Tokens, string(cursor.AppendOne(nil, at)))
	}
}

// vector is the position of a client that has had all events before number n.
func (p *burstPlan) vector(n int) []int64 {
	vec := make([]int64, len(p.Log))
	for i, log := range p.Log {
		at, _ := slices.BinarySearch(log, n)
		vec[i] = int64(at)
	}
	return vec
}

// burst is the process of the clients, as the test sees it.
type burst struct {
	cmd   *exec.Cmd
	lines chan string
	out   bytes.Buffer // standard error
}

func startBurst(t *testing.T, plan burstPlan) *burst {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plan.json")
	text, err := json.Marshal(plan)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &burst{cmd: exec.CommandContext(t.Context(), self), lines: make(chan string, 16)}
	b.cmd.Env = append(os.Environ(), burstVariable+"="+file)
	b.cmd.Stderr = &b.out
	pipe, err := b.cmd.StdoutPipe()
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(b.lines)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			b.lines <- s.Text()
		}
	}()
	return b
}

// expect waits for the clients to say the line.
func (b *burst) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got, ok := <-b.lines:
		if !ok || got != want {
			err := b.cmd.Wait()
			t.Fatalf("the clients say %q, want %q: %v\n%s", got, want, err, b.out.String())
		}
	case <-time.After(2 * patience):
		t.Fatalf("the clients do not say %q", want)
	}
}

func (b *burst) wait(t *testing.T) {
	t.Helper()
	for line := range b.lines {
		t.Errorf("the clients say %q", line)
	}
	if err := b.cmd.Wait(); err != nil {
		t.Fatalf("the clients: %v\n%s", err, b.out.String())
	}
}

// burstClients is the whole life of the process of the clients. It returns its exit code.
func burstClients(file string) int {
	var plan burstPlan
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &plan)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var caughtUp, all sync.WaitGroup
	errs := make([]error, len(plan.Stands))
	caughtUp.Add(len(errs))
	for i := range errs {
		all.Go(func() {
			once := sync.OnceFunc(caughtUp.Done)
			defer once()
			if errs[i] = plan.client(i, once); errs[i] != nil {
				errs[i] = fmt.Errorf("client %d, which stands at %d: %w", i, plan.Stands[i], errs[i])
			}
		})
	}
	caughtUp.Wait()
	fmt.Println("caught up")
	all.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > 0 {
		fmt.Fprintf(os.Stderr, "%d clients failed: %v\n", len(errs), errors.Join(errs[:min(10, len(errs))]...))
		return 1
	}
	fmt.Println("all live")
	return 0
}

// client is one session: it wants each event that it missed, in the order of its partition and once, a cursor that says
// so, and then the last event.
func (p *burstPlan) client(i int, caughtUp func()) error {
	conn, err := net.DialTimeout("tcp", p.Address, time.Minute)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nLast-Event-ID: %s\r\n\r\n", p.Path, p.Address, p.Tokens[i]); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 8<<10)
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("in the head of the answer: %w", err)
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		if first && line != "HTTP/1.1 200 OK" || strings.HasPrefix(strings.ToLower(line), "transfer-encoding:") {
			rest, _ := io.ReadAll(in)
			return fmt.Errorf("answered %q: %s", line, rest)
		}
	}
	at := p.vector(p.Stands[i])
	token, live, left := "", false, p.Last-p.Stands[i]
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("at %v with %d to come: %w", at, left, err)
		}
		switch {
		case bytes.HasPrefix(line, []byte("id: ")):
			if left <= 1 {
				token = string(line[len("id: ") : len(line)-1])
			}
		case bytes.HasPrefix(line, []byte(burstPrefix)):
			n, err := strconv.Atoi(string(line[len(burstPrefix) : len(burstPrefix)+8]))
			if err != nil {
				return err
			}
			if live {
				if n != p.Last {
					return fmt.Errorf("event %d came after the end", n)
				}
				return nil
			}
			if !p.due(at, n) {
				return fmt.Errorf("event %d came at %v, where it is not due", n, at)
			}
			left--
		case bytes.HasPrefix(line, []byte("event: ")):
			return fmt.Errorf("control message %q", line)
		case len(line) == 1 && left == 0 && !live:
			got, err := cursor.Parse(token)
			if err != nil || !slices.Equal(got.Streams[0].Next, at) {
				return fmt.Errorf("caught up to %v, but the cursor is %v: %w", at, got, err)
			}
			live = true
			caughtUp()
		}
	}
}

// due takes event n if it is the next one of its partition at the position, which then moves.
func (p *burstPlan) due(at []int64, n int) bool {
	for i, log := range p.Log {
		if at[i] < int64(len(log)) && log[at[i]] == n {
			at[i]++
			return true
		}
	}
	return false
}
