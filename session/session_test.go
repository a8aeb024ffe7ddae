package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/internal/table"
)

func TestMain(m *testing.M) {
	// sarama keeps one goroutine for the meters of the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// site is a log and the replicas on it.
type site struct {
	t   *testing.T
	log broker.Log
	red redis.UniversalClient

	subscriptions definitions
	defined       group.Definitions // as the replicas that start see them
}

func newSite(t *testing.T, topics ...string) *site {
	t.Helper()
	ctx := context.Background()
	servers, err := embedded.Start(ctx, embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = servers.Close() })
	l, err := kafka.New(kafka.Config{Brokers: servers.Brokers(), Dial: servers.Dial}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	red := redis.NewClient(&redis.Options{Addr: servers.RedisAddr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = red.Close() })
	for _, topic := range topics {
		if err := l.Create(ctx, topic, broker.TopicConfig{Partitions: 2}); err != nil {
			t.Fatal(err)
		}
	}
	return &site{t: t, log: l, red: red}
}

func (s *site) publish(topic string, from, to int) {
	s.t.Helper()
	var msgs []broker.Message
	for i := from; i < to; i++ {
		msgs = append(msgs, broker.Message{
			Partition: int32(i % 2),
			Value:     fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":"/train/%d"}`, i, i%4),
		})
	}
	for _, a := range s.log.Append(s.t.Context(), topic, msgs) {
		if a.Err != nil {
			s.t.Fatal(a.Err)
		}
	}
}

// replica is one server of sessions, with an HTTP front as small as can be.
type replica struct {
	*Server
	url string
	web *httptest.Server
}

func (s *site) replica(c Config, secure bool) *replica {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	consumers := s.consumers(ctx, &running)
	srv, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	hubs, err := fanout.New(fanout.Config{Log: s.log, Shards: srv.Shards()})
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{Hubs: hubs, Log: s.log, Consumers: consumers}
	groupsRun, endGroups := context.WithCancel(context.Background())
	if s.subscriptions != nil {
		deps.Groups = s.groups(groupsRun, &running, hubs)
	}
	srv.Use(deps)
	running.Go(func() { _ = hubs.Run(ctx) })
	running.Go(func() { _ = srv.Run(ctx) })
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveTest(t, srv, w, r) }))
	if secure {
		web.EnableHTTP2 = true
		web.StartTLS()
	} else {
		web.Start()
	}
	t.Cleanup(func() {
		drain, done := context.WithTimeout(context.Background(), 5*time.Second)
		_ = srv.Drain(drain)
		done()
		web.CloseClientConnections()
		web.Close()
		endGroups()
		cancel()
		running.Wait()
	})
	return &replica{Server: srv, url: web.URL, web: web}
}

func (s *site) consumers(ctx context.Context, running *sync.WaitGroup) *cursor.Consumers {
	s.t.Helper()
	positions, err := table.New(table.Config{Log: s.log, Topic: "_consumers", Partitions: 2})
	if err != nil {
		s.t.Fatal(err)
	}
	consumers, err := cursor.NewConsumers(cursor.ConsumersConfig{Table: positions, Redis: s.red})
	if err != nil {
		s.t.Fatal(err)
	}
	running.Go(func() { _ = positions.Run(ctx) })
	running.Go(func() { _ = consumers.Run(ctx) })
	<-positions.Ready()
	return consumers
}

// serveTest reads the few parameters that these tests use.
func serveTest(t *testing.T, srv *Server, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	v := r.URL.Query()
	q := Request{
		Address: "test", Owner: "local", Consumer: v.Get("consumer"), Autosave: v.Has("autosave"), Flush: -1, Limit: 0,
		Subscription: v.Get("subscription"), Turned: v.Get("turned"),
	}
	q.From.Oldest, q.Gzip = v.Get("from") == "oldest", r.Header.Get("Accept-Encoding") == "gzip"
	for _, name := range v["stream"] {
		q.Streams = append(q.Streams, fanout.Stream{Name: name, Topic: name})
	}
	if v.Has("beat") {
		q.Heartbeat = 50 * time.Millisecond
	}
	var err error
	if q.Filter, err = filter.Compile(filter.Query{Subjects: v["subject"]}); err != nil {
		t.Error(err)
	}
	if after := v.Get("after"); after != "" {
		c, err := cursor.Parse(after)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		q.After = &c
	}
	switch v.Get("as") {
	case "ndjson":
		err = srv.NDJSON(w, r, q)
	case "websocket":
		err = srv.WebSocket(w, r, q, SocketOptions{Query: func(b json.RawMessage) (*filter.Filter, error) {
			var q struct{ Subjects []string }
			if err := json.Unmarshal(b, &q); err != nil {
				return nil, err
			}
			return filter.Compile(filter.Query{Subjects: q.Subjects})
		}})
	case "page":
		q.Limit = 3
		if v.Has("wait") {
			q.Wait = 20 * time.Second
		}
		err = srv.Page(r.Context(), q, func(_ context.Context, page Page) {
			w.Header().Set("Cursor", page.Cursor)
			_ = json.NewEncoder(w).Encode(struct {
				Events []string
				Gaps   []Gap
			}{texts(page.Events), page.Gaps})
		})
	default:
		err = srv.SSE(w, r, q)
	}
	var limit *LimitError
	switch {
	case err == nil:
	case errors.Is(err, cursor.ErrSuperseded):
		w.WriteHeader(http.StatusNoContent)
	case errors.As(err, &limit), errors.Is(err, ErrDraining):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func texts(bs [][]byte) (s []string) {
	for _, b := range bs {
		s = append(s, string(b))
	}
	return s
}

var (
	transports = []string{"sse", "ndjson", "websocket:" + SubprotocolEvents, "websocket:" + SubprotocolBatch, "gzip:sse", "gzip:ndjson"}
	sockets    = transports[2:4:4]
)

func TestEveryTransportBeginsWithTheCursorAndResumesOnAnotherReplicaWithoutGap(t *testing.T) {
	s := newSite(t, "a")
	one, other, secure := s.replica(Config{}, false), s.replica(Config{}, false), s.replica(Config{}, true)
	s.publish("a", 0, 10)
	for _, as := range transports {
		t.Run(as, func(t *testing.T) {
			s := &site{t: t, log: s.log}
			c := one.connect(t, as, "stream=a&from=oldest")
			first := c.must()
			if first.ID != "" || first.Control != "" || first.Cursor == "" {
				t.Fatalf("the first block is %+v", first)
			}
			all, at := c.ids(10)
			if diff := cmp.Diff(between(0, 10), all); diff != "" {
				t.Error(diff)
			}
			c.close()
			latest := other.connect(t, as, "stream=a")
			begin := latest.must().Cursor
			latest.close() // cut before its first event
			s.publish("a", 10, 30)
			for _, r := range []*replica{other, secure} {
				for i, cursor := range []string{at, begin, first.Cursor} {
					from := 10
					if i == 2 {
						from = 0
					}
					again := r.connect(t, as, "stream=a&after="+cursor)
					rest := again.until("28", "29")
					if i == 1 { // a replica's latest may be some moments behind the log's end
						for p := range rest {
							rest[p] = rest[p][max(0, len(rest[p])-10):]
						}
					}
					if diff := cmp.Diff(between(from, 30), rest); diff != "" {
						t.Errorf("after %s: %s", cursor, diff)
					}
					again.close()
				}
			}
			s.truncate("a")
		})
		s.publish("a", 0, 10)
	}
}

// truncate empties a topic of all that is in it.
func (s *site) truncate(topic string) {
	s.t.Helper()
	bounds, err := s.log.Bounds(context.Background(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	for p, b := range bounds {
		if err := s.log.Truncate(context.Background(), topic, int32(p), b.Next); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestWhatRetentionTookIsToldOnEveryTransport(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	s.publish("a", 0, 10)
	c := r.connect(t, "sse", "stream=a&from=oldest")
	begin := c.must().Cursor
	c.close()
	s.truncate("a")
	s.publish("a", 10, 12)
	r = s.replica(Config{}, false) // the first one still has them, and gives them
	for _, as := range transports {
		c := r.connect(t, as, "stream=a&after="+begin)
		gaps := 0
		for events := 0; events < 2; {
			switch g := c.must(); {
			case g.Control == "gap":
				if !strings.Contains(g.Data, `"stream":"a"`) || !strings.Contains(g.Data, `"from":0,"to":5,"reason":"retention"`) {
					t.Errorf("%s: gap %s", as, g.Data)
				}
				gaps++
			case g.ID != "":
				events++
			}
		}
		if gaps != 2 {
			t.Errorf("%s: %d gaps were told for two partitions", as, gaps)
		}
		c.close()
	}
	page := r.connect(t, "page", "stream=a&after="+begin)
	if b, _ := io.ReadAll(page.body); !strings.Contains(string(b), `"reason":"retention"`) {
		t.Errorf("page %s", b)
	}
}

func TestHeartbeatsOfAFilteredSessionMovePastWhatDoesNotMatch(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	for _, as := range transports {
		c := r.connect(t, as, "stream=a&subject=/train/none&beat")
		before, err := cursor.Parse(c.must().Cursor)
		if err != nil {
			t.Fatal(err)
		}
		s.publish("a", 0, 10)
		for {
			g := c.must()
			if g.ID != "" || g.Control != "" {
				t.Fatalf("%s: %+v", as, g)
			}
			now, err := cursor.Parse(g.Cursor)
			if err != nil {
				t.Fatal(err)
			}
			if now.Streams[0].Next[0] == before.Streams[0].Next[0]+5 && now.Streams[0].Next[1] == before.Streams[0].Next[1]+5 {
				break
			}
		}
		c.close()
	}
}

func TestSeveralStreamsShareOneCursor(t *testing.T) {
	s := newSite(t)
	one, other := s.replica(Config{}, false), s.replica(Config{}, false)
	for i, as := range transports {
		a, b := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)
		for _, topic := range []string{a, b} {
			if err := s.log.Create(t.Context(), topic, broker.TopicConfig{Partitions: 2}); err != nil {
				t.Fatal(err)
			}
		}
		both := "stream=" + a + "&stream=" + b
		c := one.connect(t, as, both)
		c.must()
		s.publish(a, 0, 4)
		s.publish(b, 4, 8)
		_, at := c.ids(8)
		c.close()
		s.publish(b, 8, 9)
		s.publish(a, 9, 10)
		again := other.connect(t, as, both+"&after="+at)
		rest, _ := again.ids(2)
		if diff := cmp.Diff(between(8, 10), rest); diff != "" {
			t.Errorf("%s: %s", as, diff)
		}
		again.close()
	}
}

func TestASecondSessionTakesTheConsumerOverAndTheFirstIsToldAndDoesNotComeBack(t *testing.T) {
	s := newSite(t, "a")
	one, other := s.replica(Config{}, false), s.replica(Config{}, false)
	for i, as := range transports {
		name := fmt.Sprintf("stream=a&consumer=tab%d", i)
		first := one.connect(t, as, name)
		old := first.must().Cursor
		second := other.connect(t, as, name)
		second.must()
		g := first.must()
		if g.Control != "problem" || !strings.Contains(g.Data, "taken-over") {
			t.Errorf("%s: the first session was told %+v", as, g)
		}
		if g, err := first.next(); err == nil {
			t.Errorf("%s: the first session goes on with %+v", as, g)
		}
		again, err := insecure.Get(one.url + "/?" + name + "&after=" + old)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Body.Close()
		// The number that the taker superseded is its parent: its first reconnect may be of an answer that was lost.
		if as == "sse" && again.StatusCode != http.StatusNoContent && again.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", as, again.StatusCode)
		}
		second.close()
	}
}

func TestAConsumerMovesOnlyOnTheClientsWord(t *testing.T) {
	s := newSite(t, "a")
	one, other, secure := s.replica(Config{}, false), s.replica(Config{}, false), s.replica(Config{}, true)
	for _, at := range []*replica{one, secure} { // a shard writes, or a goroutine
		s.acknowledges(t, at, other)
	}
}

func (s *site) acknowledges(t *testing.T, at, other *replica) {
	t.Helper()
	query := fmt.Sprintf("stream=a&consumer=of-%d", at.web.Listener.Addr().(*net.TCPAddr).Port)
	c := at.connect(t, "websocket:"+SubprotocolEvents, query)
	c.must()
	s.publish("a", 0, 10)
	var fourth string
	for i := range 10 {
		if g := c.must(); i == 3 {
			fourth = g.Cursor
		}
	}
	if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"ack":"`+fourth+`","final":true}`)); err != nil {
		t.Fatal(err)
	}
	if g := c.must(); g.Control != "acked" || !strings.Contains(g.Data, fourth) {
		t.Fatalf("told %+v", g)
	}
	c.close()
	again := other.connect(t, "ndjson", query)
	rest, _ := again.ids(6)
	if n := len(rest[0]) + len(rest[1]); n != 6 {
		t.Errorf("got %v", rest)
	}
	again.close()
}

func TestAutosaveMovesTheConsumerWithWhatIsWritten(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	c := r.connect(t, "sse", "stream=a&consumer=me&from=oldest&autosave")
	s.publish("a", 0, 10)
	c.ids(10)
	c.close()
	for r.Count() > 0 { // until it has saved
		time.Sleep(time.Millisecond)
	}
	again := r.connect(t, "sse", "stream=a&consumer=me&autosave")
	s.publish("a", 10, 12)
	rest, _ := again.ids(2)
	if diff := cmp.Diff(between(10, 12), rest); diff != "" {
		t.Error(diff)
	}
}

func TestAFilterChangesInFlightWithoutGap(t *testing.T) {
	s := newSite(t, "a")
	plain, secure := s.replica(Config{}, false), s.replica(Config{}, true)
	for i, as := range append(sockets, sockets...) {
		r := plain // a shard writes
		if i >= 2 {
			r = secure // a goroutine does
		}
		c := r.connect(t, as, "stream=a&subject=/train/1")
		c.must()
		s.publish("a", 0, 8)
		if one, _ := c.ids(2); len(one[1]) != 2 {
			t.Fatalf("got %v", one)
		}
		if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"query":{"subjects":["/train/2","/train/3"]}}`)); err != nil {
			t.Fatal(err)
		}
		queried := c.must()
		if queried.Control != "queried" {
			t.Fatalf("told %+v", queried)
		}
		s.publish("a", 8, 12)
		// It goes on from the cursor it had: what the new filter matches beyond that, and all of it.
		changed := c.until("10", "11")
		again := r.connect(t, as, "stream=a&subject=/train/2&subject=/train/3&after="+queried.Cursor)
		if diff := cmp.Diff(again.until("10", "11"), changed); diff != "" {
			t.Errorf("%s: %s", as, diff)
		}
		c.close()
		again.close()
	}
}

func TestABadClientMessageEndsTheSessionWithWhatWasExpected(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	for _, message := range []string{
		`{`, `{"hello":1}`, `{"ack":"no cursor"}`, `{"query":{"subjects":7}}`,
		`{"query":{"subjects":["a"]},"acks":1}`, `{"auth":"x","query":{"subjects":["a"]}}`, `{"auth":"x","final":true}`,
	} {
		c := r.connect(t, "websocket:"+SubprotocolBatch, "stream=a")
		c.must()
		if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if g := c.must(); g.Control != "problem" || !strings.Contains(g.Data, `"status":400`) {
			t.Errorf("%s: told %+v", message, g)
		}
		if _, err := c.next(); err == nil {
			t.Errorf("%s: the session goes on", message)
		}
	}
}

func TestADeletedStreamEndsItsSessionsAsGone(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	var clients []*client
	for _, as := range transports {
		c := r.connect(t, as, "stream=a")
		c.must()
		clients = append(clients, c)
	}
	if err := s.log.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		g := c.must()
		for g.Control == "stalled" || g.Control == "" {
			g = c.must()
		}
		if g.Control != "problem" || !strings.Contains(g.Data, `"status":404`) {
			t.Errorf("%s: told %+v", c.as, g)
		}
	}
}

func TestADrainTellsEverySessionAndAdmitsNone(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	secure := s.replica(Config{}, true)
	var clients []*client
	for _, as := range transports {
		for range 20 {
			c := r.connect(t, as, "stream=a")
			c.must()
			clients = append(clients, c)
		}
	}
	for range 5 {
		c := secure.connect(t, "sse", "stream=a")
		if c.resp.ProtoMajor != 2 {
			t.Fatalf("the protocol is %s", c.resp.Proto)
		}
		c.must()
		clients = append(clients, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, srv := range []*Server{r.Server, secure.Server} {
		if err := srv.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		if g := c.must(); g.Control != "drain" || !strings.Contains(g.Data, "retryAfter") || g.Cursor == "" {
			t.Errorf("%s: told %+v", c.as, g)
		}
		if _, err := c.next(); err == nil {
			t.Errorf("%s: the session goes on", c.as)
		}
	}
	late := r.connect(t, "sse", "stream=a")
	if late.resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d while draining", late.resp.StatusCode)
	}
	for range 2 { // a drain that is taken back can be made again
		r.Resume()
		again := r.connect(t, "sse", "stream=a")
		again.must()
		if err := r.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if g := again.must(); g.Control != "drain" {
			t.Errorf("told %+v", g)
		}
	}
}

func TestAStalledPeerIsClosedAndDelaysNobody(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{Stall: 300 * time.Millisecond}, false)
	for _, as := range []string{"sse", "ndjson"} {
		nc, err := net.Dial("tcp", r.web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.(*net.TCPConn).SetReadBuffer(4096)
		fmt.Fprintf(nc, "GET /?as=%s&stream=a HTTP/1.1\r\nHost: x\r\n\r\n", as)
	}
	c := r.connect(t, "sse", "stream=a")
	c.must()
	for r.Count() < 3 {
		time.Sleep(time.Millisecond)
	}
	pad := strings.Repeat("x", 200_000)
	var reading sync.WaitGroup
	defer reading.Wait()
	const n = 100 // far beyond what a socket's buffers hold
	reading.Go(func() {
		for left := n; left > 0; {
			g, err := c.next()
			if err != nil {
				t.Error(err)
				return
			}
			if g.ID != "" {
				left--
			}
		}
	})
	for i := range n {
		for _, a := range s.log.Append(t.Context(), "a", []broker.Message{{Partition: 0, Value: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":%q}`, 2*i, pad)}}) {
			if a.Err != nil {
				t.Fatal(a.Err)
			}
		}
	}
	reading.Wait()
	for r.Count() > 1 {
		time.Sleep(time.Millisecond)
	}
}

func TestSessionsBeyondTheLimitsAreRefused(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{MaxSessions: 10, MaxPerAddress: 3}, false)
	for i := range 4 {
		c := r.connect(t, "sse", "stream=a")
		if want := map[bool]int{true: 200, false: 503}[i < 3]; c.resp.StatusCode != want {
			t.Errorf("session %d: status %d", i, c.resp.StatusCode)
		}
	}
}

func TestPagesFollowEachOtherWithoutGapAndWait(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	s.publish("a", 0, 10)
	at := ""
	var all [2][]string
	read := func(extra string) int {
		c := r.connect(t, "page", "stream=a&from=oldest&after="+at+extra)
		var page struct{ Events []string }
		if err := json.NewDecoder(c.body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		at = c.resp.Header.Get("Cursor")
		for _, text := range page.Events {
			var e struct{ ID string }
			if err := json.Unmarshal([]byte(text), &e); err != nil {
				t.Fatal(err)
			}
			p := int(e.ID[len(e.ID)-1]-'0') % 2
			all[p] = append(all[p], e.ID)
		}
		return len(page.Events)
	}
	for _, want := range []int{3, 3, 3, 1, 0} {
		if n := read(""); n != want {
			t.Fatalf("a page of %d events, not %d", n, want)
		}
	}
	done := make(chan int)
	go func() { done <- read("&wait") }()
	for r.Count() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.publish("a", 10, 11)
	if n := <-done; n != 1 {
		t.Fatalf("the long-poll gave %d events", n)
	}
	if diff := cmp.Diff(between(0, 11), all); diff != "" {
		t.Error(diff)
	}
}
