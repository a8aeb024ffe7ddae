package main_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// stayer is a client that opens one session and never comes back: what it got is all that it was given.
type stayer struct {
	name string

	mu    sync.Mutex
	lines []string // guarded by mu
	ended error    // guarded by mu
}

func (s *stayer) got(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *stayer) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
}

// lost says how the session ended, if it did.
func (s *stayer) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// count is how many lines hold a text.
func (s *stayer) count(text string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

var idOfEvent = regexp.MustCompile(`"id":"(s\d\d-[abc]-\d{6})"`)

// events are the ids in the order in which they came.
func (s *stayer) events() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		for _, m := range idOfEvent.FindAllStringSubmatch(line, -1) {
			ids = append(ids, m[1])
		}
	}
	return ids
}

// startStayers opens a session on every transport that stays open.
func startStayers(t *testing.T, v *server) []*stayer {
	t.Helper()
	var all []*stayer
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait)
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		conn, in := rawSession(t, v, "HTTP/1.1", accept, "heartbeat=1s")
		s := &stayer{name: accept}
		all = append(all, s)
		reading.Go(func() {
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					s.end(err)
					return
				}
				s.got(line)
			}
		})
		t.Cleanup(func() { _ = conn.Close() })
	}
	for _, sub := range []string{"cloudevents.json", "eventissuer.v1"} {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		ws, err := dial(ctx, v, url.Values{"heartbeat": {"1s"}}, "", sub)
		if err != nil {
			t.Fatal(err)
		}
		s := &stayer{name: sub}
		all = append(all, s)
		reading.Go(func() {
			defer func() { _ = ws.CloseNow() }()
			for {
				_, b, err := ws.Read(ctx)
				if err != nil {
					s.end(err)
					return
				}
				s.got(string(b))
			}
		})
	}
	for _, s := range all {
		eventually(t, s.name+" has its first cursor", func() bool { return s.count("id: ")+s.count("cursor") > 0 })
	}
	return all
}

func TestKafkaThatIsAwayIsWaitedForAtTheStartAndLater(t *testing.T) {
	t.Parallel()
	kafka := testenv.StartKafka(t, testenv.KafkaOptions{HeapMB: 256})
	if err := kafka.Kill(); err != nil {
		t.Fatal(err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	listen := "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))
	v := &server{base: "http://" + listen, client: plainClient(t)}
	v.Program = testenv.StartProgram(t, testenv.ProgramOptions{
		Name: "waiting-server", Dir: t.TempDir(),
		Args: append([]string{path, "serve", "--listen", listen, "--lame-duck", "0s", "--drain-timeout", "3s"}, onServers(kafka.Addr(), testenv.StartRedis(t, testenv.RedisOptions{}).URL())...),
		Up: func(ctx context.Context, _ []byte) error { // it lives, and is not ready
			status, body, err := v.try(ctx, http.MethodGet, "/readyz", nil)
			if err == nil && (status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("cannot be reached"))) {
				err = errors.New("not what it should say: " + string(body))
			}
			return err
		},
	})
	if status, _, err := v.try(t.Context(), http.MethodGet, "/healthz", nil); err != nil || status != http.StatusOK {
		t.Errorf("while Kafka is away /healthz answers %d, %v", status, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := kafka.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is ready once Kafka is there", func() bool {
		status, _, err := v.try(t.Context(), http.MethodGet, "/readyz", nil)
		return err == nil && status == http.StatusOK
	})
	log, err := v.Log()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(log, []byte("Kafka cannot be reached")); n == 0 || n > 3 {
		t.Errorf("the log says %d times that Kafka cannot be reached, want once for each way in which it could not", n)
	}

	define(t, 1, v)
	readers := startStayers(t, v)
	var acked []string
	publish := func(n int) {
		t.Helper()
		id := eventID(0, n)
		eventually(t, "event "+id+" is acknowledged", func() bool {
			_, err := v.publishOne(t.Context(), eventJSON(id, ""))
			return err == nil
		})
		acked = append(acked, id)
	}
	publish(0)
	for round, outage := range []struct {
		name        string
		begin, over func() error
	}{
		{"black hole", kafka.Pause, kafka.Resume},
		{"kill", kafka.Kill, func() error { return kafka.Start(ctx) }},
	} {
		if err := outage.begin(); err != nil {
			t.Fatal(err)
		}
		for _, s := range readers {
			eventually(t, s.name+" is told of the "+outage.name, func() bool { return s.count("stalled") > round })
		}
		id := eventID(0, 2*round+1)
		_, err := v.publishOne(t.Context(), eventJSON(id, ""))
		if err == nil {
			t.Errorf("%s: an event was acknowledged without Kafka", outage.name)
		}
		if err := outage.over(); err != nil {
			t.Fatal(err)
		}
		publish(2*round + 1) // the same again: it may have been written
		publish(2*round + 2)
		for _, s := range readers {
			eventually(t, s.name+" is told that the "+outage.name+" is over", func() bool { return s.count("resumed") > round })
		}
	}
	for _, s := range readers {
		eventually(t, s.name+" gets all events", func() bool { return len(s.events()) >= len(acked) })
		if got := s.events(); !slices.Equal(got, acked) {
			t.Errorf("%s got %v, want %v", s.name, got, acked)
		}
		if err := s.lost(); err != nil {
			t.Errorf("%s was ended: %v", s.name, err)
		}
	}
}
