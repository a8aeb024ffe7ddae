package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// pair is two replicas on a real Kafka and a Redis of their own, which tests may empty.
func pair(t *testing.T) (a, b *server, hints *redis.Client) {
	t.Helper()
	own := testenv.StartRedis(t, testenv.RedisOptions{})
	shared := onServers(testenv.Kafka(t), own.URL())
	a, b = startServer(t, shared), startServer(t, shared)
	define(t, 3, a, b)
	options, err := redis.ParseURL(own.URL())
	if err != nil {
		t.Fatal(err)
	}
	hints = redis.NewClient(options)
	t.Cleanup(func() { _ = hints.Close() })
	return a, b, hints
}

// socket is a WebSocket of the subprotocol eventissuer.v1.
type socket struct {
	ws    *websocket.Conn
	start []int64 // where the session began
	at    []int64 // the newest cursor
	token string  // its text
}

func openSocket(ctx context.Context, v *server, consumer, after string) (*socket, error) {
	ws, err := dial(ctx, v, url.Values{"consumer": {consumer}, "from": {"oldest"}}, after, "eventissuer.v1")
	if err != nil {
		return nil, err
	}
	s := &socket{ws: ws}
	m, err := s.next(ctx)
	if err != nil {
		return nil, errors.Join(err, ws.CloseNow())
	}
	if len(m.ids) > 0 || m.control != "" || m.cursor == "" {
		return nil, errors.Join(fmt.Errorf("%w: a session begins with %+v", errUnexpected, m), ws.CloseNow())
	}
	s.start = s.at
	return s, nil
}

func (s *socket) next(ctx context.Context) (message, error) {
	_, b, err := s.ws.Read(ctx)
	if err != nil {
		return message{}, err
	}
	m, err := batchMessage(b)
	if err == nil && m.cursor != "" {
		s.token, s.at = m.cursor, positionIn(m.cursor)
	}
	return m, err
}

// ack acknowledges; a final one is answered once it is durable.
func (s *socket) ack(ctx context.Context, token string, final bool) error {
	text, err := json.Marshal(map[string]any{"ack": token, "final": final})
	if err != nil {
		return err
	}
	return s.ws.Write(ctx, websocket.MessageText, text)
}

// ackedOf reads the answer to an acknowledgement: the position that is durable.
func ackedOf(m message) []int64 {
	var acked struct{ Cursor string }
	if err := json.Unmarshal(m.payload, &acked); err != nil {
		return nil
	}
	return positionIn(acked.Cursor)
}

// until reads events up to the position and returns the token of it, and how many events came.
func (s *socket) until(t *testing.T, end []int64) (events int) {
	t.Helper()
	for !reached(s.at, end) {
		m, err := s.next(t.Context())
		if err != nil || m.control != "" {
			t.Fatalf("at %v on the way to %v: %+v, %v", s.at, end, m, err)
		}
		events += len(m.ids)
	}
	return events
}

// finalAck acknowledges where the session stands and waits until that is durable.
func (s *socket) finalAck(t *testing.T) {
	t.Helper()
	want := s.at
	if err := s.ack(t.Context(), s.token, true); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := s.next(t.Context())
		if err != nil {
			t.Fatalf("waiting for the answer to an acknowledgement: %v", err)
		}
		if m.control == "acked" && slices.Equal(ackedOf(m), want) {
			return
		}
	}
}

func mustOpen(t *testing.T, v *server, consumer, after string) *socket {
	t.Helper()
	s, err := openSocket(t.Context(), v, consumer, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.ws.CloseNow() })
	return s
}

// some publishes n events and returns the end of the stream behind them.
func some(t *testing.T, v *server, from, n int) []int64 {
	t.Helper()
	var batch [][]byte
	for i := from; i < from+n; i++ {
		batch = append(batch, eventJSON(eventID(i%12, i), ""))
	}
	if _, err := v.publishBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	return readJournal(t, v).ends
}

// consumer is what the resource of a consumer tells.
type consumer struct {
	Cursor string
	Lag    int64
}

func (v *server) consumer(t *testing.T, name string) consumer {
	t.Helper()
	var c consumer
	if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/streams/"+theStream+"/consumers/"+name, nil), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func total(at []int64) (n int64) {
	for _, o := range at {
		n += o
	}
	return n
}

func TestNamedConsumers(t *testing.T) {
	a, b, hints := pair(t)

	t.Run("second tab takes over and the first stays away", func(t *testing.T) {
		first := tab(t, a, "")
		first.expect(t, "")
		second := tab(t, b, "")
		second.expect(t, "")
		problem := first.expect(t, "problem")
		var p struct {
			Type   string
			Status int
		}
		if err := json.Unmarshal(problem.payload, &p); err != nil || p.Status != http.StatusConflict {
			t.Errorf("the first tab is told %s", problem.payload)
		}
		if err := first.end(t); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("the first tab's session ended with %v, want the server to close it", err)
		}
		for _, v := range []*server{a, b} { // both know, whoever it asks
			again := tab(t, v, first.last)
			var status *statusError
			if err := again.end(t); !errors.As(err, &status) || status.status != http.StatusNoContent {
				t.Errorf("the first tab's reconnect ended with %v, want 204", err)
			}
		}
		some(t, a, 0, 1)
		for m := second.expect(t, ""); len(m.ids) == 0; { // it goes on undisturbed
			m = second.expect(t, "")
		}
	})

	t.Run("what was acknowledged does not come again after a kill", func(t *testing.T) {
		end := some(t, a, 100, 60)
		s := mustOpen(t, a, "worker", "")
		s.until(t, end)
		s.finalAck(t)
		saved := s.at
		s.until(t, some(t, a, 200, 40))
		if err := s.ack(t.Context(), s.token, false); err != nil {
			t.Fatal(err)
		}
		hinted := s.at
		known(t, b, hints, "worker", hinted)
		a.kill(t)
		resumed := mustOpen(t, b, "worker", "")
		if !slices.Equal(resumed.start, hinted) {
			t.Errorf("resumed at %v, want %v, which was known (%v was surely saved)", resumed.start, hinted, saved)
		}
		// What was not acknowledged comes again.
		end = some(t, b, 300, 20)
		if got := resumed.until(t, end); got != 20 {
			t.Errorf("%d events came, want 20", got)
		}
		a.again(t)
		third := mustOpen(t, a, "worker", "")
		if !slices.Equal(third.start, hinted) {
			t.Errorf("took over at %v, want %v: nothing was acknowledged since", third.start, hinted)
		}
		if got := third.until(t, end); got != 20 {
			t.Errorf("%d events came, want the 20 that nobody acknowledged", got)
		}
	})

	t.Run("a lost Redis sends nobody back behind what was saved", func(t *testing.T) {
		end := some(t, a, 400, 30)
		s := mustOpen(t, a, "forgetful", "")
		s.until(t, end)
		s.finalAck(t)
		saved := s.at
		s.until(t, some(t, a, 500, 30))
		if err := s.ack(t.Context(), s.token, false); err != nil {
			t.Fatal(err)
		}
		known(t, b, hints, "forgetful", s.at)
		a.kill(t)
		if err := hints.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		durable := positionOf(t, b.consumer(t, "forgetful").Cursor)
		resumed := mustOpen(t, b, "forgetful", "")
		if !reached(durable, saved) || !slices.Equal(resumed.start, durable) {
			t.Errorf("resumed at %v, want %v, which is saved (%v was answered as saved)", resumed.start, durable, saved)
		}
		a.again(t)
	})

	t.Run("positions are saved, never lowered, and reset", func(t *testing.T) {
		end := some(t, a, 600, 20)
		s := mustOpen(t, a, "bookmark", "")
		begin := s.token
		s.until(t, end)
		path := "/v1/streams/" + theStream + "/consumers/bookmark"
		b.call(t, http.StatusOK, http.MethodPut, path, map[string]any{"cursor": s.token}) // at the replica without the session
		eventually(t, "the other replica knows what was saved", func() bool {
			got := a.consumer(t, "bookmark")
			return slices.Equal(positionOf(t, got.Cursor), s.at) && got.Lag == 0
		})
		b.call(t, http.StatusOK, http.MethodPut, path, map[string]any{"cursor": begin})
		if got := b.consumer(t, "bookmark"); !slices.Equal(positionOf(t, got.Cursor), s.at) {
			t.Errorf("an older cursor moved the position from %v to %v", s.at, positionOf(t, got.Cursor))
		}
		b.call(t, http.StatusOK, http.MethodPut, path, map[string]any{"from": "oldest", "reset": true})
		for {
			m, err := s.next(t.Context())
			if err != nil {
				t.Fatalf("the session of a reset consumer ended with %v before it was told why", err)
			}
			if m.control == "problem" {
				break
			}
		}
		var status *statusError
		if _, err := openSocket(t.Context(), a, "bookmark", s.token); !errors.As(err, &status) || status.status != http.StatusNoContent {
			t.Errorf("a session with a cursor from before the reset was answered %v, want 204", err)
		}
		again := mustOpen(t, a, "bookmark", "")
		if total(again.start) != 0 {
			t.Errorf("began at %v after a reset to the oldest", again.start)
		}
		again.until(t, end)
	})

	t.Run("autosave moves with what is written", func(t *testing.T) {
		end := some(t, a, 700, 25)
		// A poll's position is saved by the timer, since its client comes again: that takes ten seconds, and is not waited for.
		for _, over := range []string{"sse", "ndjson", "cloudevents.json", "eventissuer.v1"} {
			name := "auto-" + over
			ctx, stop := context.WithCancel(t.Context())
			q := url.Values{"consumer": {name}, "autosave": {"true"}, "from": {"oldest"}}
			err := transports[over](ctx, a, q, "", func(m message) error {
				if m.cursor != "" && reached(positionOf(t, m.cursor), end) {
					return errLeft
				}
				return nil
			})
			stop()
			if !errors.Is(err, errLeft) {
				t.Errorf("%s: %v", over, err)
				continue
			}
			eventually(t, "autosave of "+over+" is durable", func() bool { return b.consumer(t, name).Lag == 0 })
		}
	})
}

// known waits until what was acknowledged outlives the replica: Redis knows it, or it is saved already.
func known(t *testing.T, v *server, hints *redis.Client, name string, at []int64) {
	t.Helper()
	eventually(t, "the acknowledged position is known outside its replica", func() bool {
		return hintOf(t, hints, name) == total(at) || slices.Equal(positionOf(t, v.consumer(t, name).Cursor), at)
	})
}

// hintOf is the sum of a hint's offsets, -1 where there is none.
func hintOf(t *testing.T, hints *redis.Client, consumer string) int64 {
	t.Helper()
	keys, err := hints.Keys(t.Context(), "*"+consumer).Result()
	if err != nil || len(keys) != 1 {
		return -1
	}
	text, err := hints.HGet(t.Context(), keys[0], "n").Result()
	if err != nil {
		return -1
	}
	var at []int64
	if json.Unmarshal([]byte("["+text+"]"), &at) != nil {
		return -1
	}
	return total(at)
}

// tabSession is a browser's tab with an EventSource.
type tabSession struct {
	messages chan message
	ended    chan error
	last     string
}

func tab(t *testing.T, v *server, lastEventID string) *tabSession {
	ctx, stop := context.WithCancel(t.Context())
	s := &tabSession{messages: make(chan message, 100), ended: make(chan error, 1)}
	var done sync.WaitGroup
	done.Go(func() {
		s.ended <- readSSE(ctx, v, url.Values{"consumer": {"tab"}}, lastEventID, func(m message) error {
			s.messages <- m
			return nil
		})
		close(s.messages)
	})
	t.Cleanup(func() { stop(); done.Wait() })
	return s
}

// end waits for the session's end and returns why it ended.
func (s *tabSession) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the session goes on, though it should have ended")
		return nil
	}
}

// expect returns the next message, which must be of the control message's name.
func (s *tabSession) expect(t *testing.T, control string) message {
	t.Helper()
	select {
	case m, ok := <-s.messages:
		if !ok {
			t.Fatalf("the session ended, want %q", control)
		}
		if m.control != control {
			t.Fatalf("got %+v, want control message %q", m, control)
		}
		if m.cursor != "" {
			s.last = m.cursor
		}
		return m
	case <-time.After(patience):
		t.Fatalf("waited in vain for %q", control)
		return message{}
	}
}

// worker is a named consumer that remembers nothing itself: it acknowledges what it has done, and a new session begins
// where the server says.
type worker struct {
	name  string
	saved []int64 // answered as durable
	acked []int64 // sent, answered or not
	walk  []visit
	err   error
}

// visit is what one session brought.
type visit struct {
	start        []int64
	saved, acked []int64 // what held when it began
	messages     []received
}

func (w *worker) run(ctx context.Context, end func() []int64, servers ...*server) {
	for at := 0; ctx.Err() == nil; at++ {
		done, err := w.session(ctx, servers[at%len(servers)], end)
		var status *statusError
		if errors.As(err, &status) && status.status != http.StatusServiceUnavailable || errors.Is(err, errUnexpected) {
			w.err = err
		}
		if done || w.err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// session goes on until the connection ends, or all up to the end is done and saved.
func (w *worker) session(ctx context.Context, v *server, end func() []int64) (done bool, err error) {
	before := visit{saved: w.saved, acked: w.acked}
	s, err := openSocket(ctx, v, w.name, "")
	if err != nil {
		return false, err
	}
	defer func() { _ = s.ws.CloseNow() }()
	before.start = s.start
	w.walk = append(w.walk, before)
	this := &w.walk[len(w.walk)-1]
	for n := 0; ; n++ {
		stop := end()
		if stop != nil && reached(s.at, stop) {
			if reached(w.saved, stop) {
				return true, nil
			}
			n = 0 // acknowledge, finally
		}
		if n%7 == 0 {
			if w.acked == nil || reached(s.at, w.acked) {
				w.acked = s.at
			}
			if err := s.ack(ctx, s.token, n%21 == 0); err != nil {
				return false, err
			}
		}
		m, err := s.next(ctx)
		if err != nil {
			return false, err
		}
		switch m.control {
		case "":
			this.messages = append(this.messages, received{m.ids, positionIn(m.cursor)})
		case "acked":
			w.saved = ackedOf(m)
		case "drain", "stalled", "resumed":
		default:
			return false, fmt.Errorf("%w control message %s: %s", errUnexpected, m.control, m.payload)
		}
	}
}

// check wants every session to begin between what was answered as durable and what was acknowledged, and to go on
// without a gap.
func (w *worker) check(j *journal) error {
	if w.err != nil {
		return w.err
	}
	for i, v := range w.walk {
		if i > 0 && !reached(v.start, v.saved) {
			return fmt.Errorf("session %d begins at %v though %v was answered as durable", i, v.start, v.saved)
		}
		if i > 0 && !reached(v.acked, v.start) {
			return fmt.Errorf("session %d begins at %v though only %v was acknowledged", i, v.start, v.acked)
		}
		at := j.walk(selection{}, v.start)
		for _, m := range v.messages {
			for _, id := range m.ids {
				if err := at.event(id); err != nil {
					return fmt.Errorf("session %d: %w", i, err)
				}
			}
			if err := at.cursor(m.at); err != nil {
				return fmt.Errorf("session %d: %w", i, err)
			}
		}
	}
	if !reached(w.saved, j.ends) {
		return fmt.Errorf("%v is saved, of %v", w.saved, j.ends)
	}
	return nil
}

func TestConsumersThatRememberNothingLoseNothing(t *testing.T) {
	a, b, hints := pair(t)
	p := publish(t, 4, 12, 5*time.Millisecond, "", a, b)
	p.more(t, 20)
	var mu sync.Mutex
	var stop []int64
	end := func() []int64 {
		mu.Lock()
		defer mu.Unlock()
		return stop
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	workers := make([]*worker, 24)
	var done sync.WaitGroup
	for i := range workers {
		workers[i] = &worker{name: fmt.Sprintf("worker-%d", i)}
		done.Go(func() { workers[i].run(ctx, end, a, b) })
	}
	for range 2 {
		p.more(t, 150)
		a.kill(t)
		p.more(t, 150)
		if err := hints.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		a.again(t)
		p.more(t, 50)
		b.sigterm(t, 25*time.Second)
		p.more(t, 50)
		b.again(t)
	}
	p.finish()
	j := readJournal(t, a)
	j.holds(t, p.acks)
	mu.Lock()
	stop = j.ends
	mu.Unlock()
	done.Wait()
	for _, w := range workers {
		if err := w.check(j); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if len(w.walk) < 4 {
			t.Errorf("%s had %d sessions, too few to show anything", w.name, len(w.walk))
		}
	}
}
