package loadtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/eventissuer/eventissuer/loadtest"
)

// board is a server with one subscription, whose sessions each get their share of the events once, by number.
type board struct {
	*httptest.Server
	total int

	mu       sync.Mutex
	next     int            // guarded by mu
	sessions int            // guarded by mu
	acked    map[string]int // by session; guarded by mu
	deleted  bool           // guarded by mu
	live     bool           // events go on for ever
	keeps    int            // acknowledged events that it does not count
}

func newBoard(t *testing.T, total int, live bool) *board {
	t.Helper()
	b := &board{total: total, live: live, acked: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/subscriptions", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"one"}`)
	})
	mux.HandleFunc("GET /v1/subscriptions/one", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) })
	mux.HandleFunc("DELETE /v1/subscriptions/one", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.deleted = true
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/subscriptions/one/stats", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		lag := b.total
		for _, n := range b.acked {
			lag -= n
		}
		if lag < b.total {
			lag += b.keeps
		}
		_, _ = fmt.Fprintf(w, `{"lag":%d,"redeliveries":0}`, lag)
	})
	mux.HandleFunc("POST /v1/subscriptions/one/cursors", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Cursors []string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Cursors) != 1 {
			http.Error(w, "no cursor", http.StatusBadRequest)
			return
		}
		session, text, _ := strings.Cut(body.Cursors[0], "-")
		n, _ := strconv.Atoi(text)
		b.mu.Lock()
		defer b.mu.Unlock()
		more := n - b.acked[session]
		b.acked[session] = n
		_, _ = fmt.Fprintf(w, `{"acknowledged":%d,"returned":0}`, more)
	})
	mux.HandleFunc("GET /v1/subscriptions/one/events", b.session)
	mux.HandleFunc("POST /v1/events", b.publish)
	b.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		b.CloseClientConnections()
		b.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return b
}

func (b *board) publish(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, `{"results":[]}`)
}

func (b *board) session(w http.ResponseWriter, r *http.Request) {
	sse := r.Header.Get("Accept") == "text/event-stream"
	b.mu.Lock()
	b.sessions++
	name := strconv.Itoa(b.sessions)
	b.mu.Unlock()
	write := func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, format, args...)
		_ = http.NewResponseController(w).Flush()
	}
	if sse {
		write("id: %s-0\n\nevent: assigned\ndata: {\"groups\":[\"s/0\"]}\n\n", name)
	} else {
		write("{\"cursor\":\"%s-0\"}\n{\"assigned\":{\"groups\":[\"s/0\"]},\"cursor\":\"%s-0\"}\n", name, name)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		b.mu.Lock()
		more := b.next < b.total
		b.next++
		b.mu.Unlock()
		switch {
		case !more:
			<-r.Context().Done()
			return
		case sse:
			write("id: %s-%d\ndata: {\"eventissuergroup\":\"s/0\",\"id\":\"x\"}\n\n", name, n)
		default:
			write("{\"cursor\":\"%s-%d\",\"group\":\"s/0\",\"attempt\":1,\"event\":{\"id\":\"x\"}}\n", name, n)
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func TestDrainCountsWhatIsAcknowledged(t *testing.T) {
	for _, client := range []string{loadtest.GroupSSE, loadtest.GroupNDJSON} {
		b := newBoard(t, 500, false)
		r, err := loadtest.Drain(t.Context(), loadtest.GroupConfig{Servers: []string{b.URL}, Stream: "s", Client: client, Sessions: 3, AckEvery: 40})
		if err != nil {
			t.Fatal(err)
		}
		if r.Events != 500 || r.Read != 500 || r.Posts < 3 || r.Acks == nil || r.Rate <= 0 {
			t.Errorf("%s: %+v", client, r)
		}
		var text strings.Builder
		if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "500 in") {
			t.Errorf("the report is %s (%v)", text.String(), err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.deleted || b.sessions != 3 {
			t.Errorf("deleted: %v; %d sessions, expected 3", b.deleted, b.sessions)
		}
	}
}

func TestDrainFailsWhereTheServerKeepsALag(t *testing.T) {
	b := newBoard(t, 50, false)
	b.keeps = 10
	_, err := loadtest.Drain(t.Context(), loadtest.GroupConfig{Servers: []string{b.URL}, Stream: "s", Sessions: 1})
	if err == nil || !strings.Contains(err.Error(), "lag") {
		t.Errorf("got %v, expected an error about the lag", err)
	}
}

func TestDrainFailsWhereASessionIsRefused(t *testing.T) {
	b := newBoard(t, 50, false)
	b.Config.Handler = refuse(b.Config.Handler)
	_, err := loadtest.Drain(t.Context(), loadtest.GroupConfig{Servers: []string{b.URL}, Stream: "s", Sessions: 1})
	if err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("got %v, expected the server's answer", err)
	}
}

func refuse(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			http.Error(w, "enough", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestRebalanceReportsEachRound(t *testing.T) {
	b := newBoard(t, 1_000_000, true)
	r, err := loadtest.Rebalance(t.Context(), loadtest.RebalanceConfig{
		Group:   loadtest.GroupConfig{Servers: []string{b.URL, b.URL}, Stream: "s", Spread: []int{2, 1}},
		Publish: loadtest.PublishConfig{URL: b.URL + "/v1/events", Rate: 100},
		Leave:   1, Rounds: 2, Calm: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 2 || r.Published == nil {
		t.Errorf("%+v", r)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions != 4 { // two that stay, and one that comes twice
		t.Errorf("%d sessions, expected 4", b.sessions)
	}
}

func TestRebalanceWantsASessionThatCanLeave(t *testing.T) {
	_, err := loadtest.Rebalance(t.Context(), loadtest.RebalanceConfig{
		Group: loadtest.GroupConfig{Servers: []string{"http://127.0.0.1:1", "http://127.0.0.1:1"}, Stream: "s", Spread: []int{2, 0}}, Leave: 1,
	})
	if err == nil || !strings.Contains(err.Error(), "leave") {
		t.Errorf("got %v", err)
	}
}

func TestConsumeReadsAllPartitionsToTheirEnds(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := sarama.NewConfig()
	cfg.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(cluster.ListenAddrs(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 60 {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "t", Key: sarama.StringEncoder(strconv.Itoa(n)), Value: sarama.StringEncoder("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := loadtest.Consume(t.Context(), loadtest.ConsumeConfig{Brokers: cluster.ListenAddrs(), Topic: "t", Consumers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Events != 60 || r.Read < 60 || r.Rate <= 0 {
		t.Errorf("%+v", r)
	}
}
