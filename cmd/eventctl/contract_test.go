package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pullServer serves subscriptions by the HTTP contract of pull subscriptions, with the events of one stream of one
// partition. Whatever a reader says against the contract fails the test.
type pullServer struct {
	*httptest.Server
	t *testing.T

	// What a test may set before it begins; called without mu.

	// acknowledging may answer an acknowledgement, the nth from 0, in the server's place: true.
	acknowledging func(n int, w http.ResponseWriter) bool
	// delivered is told each event that a session, from 1, was given as its nth, from 1, and says how the connection goes on.
	delivered func(session, n int) whatNext
	// acknowledged is told each event that is done for the first time.
	acknowledged func(number int)
	// opening may answer the opening of a session, from 1, in the server's place: true.
	opening func(session int, w http.ResponseWriter) bool

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew at every change
	objects  []map[string]any
	events   []*pullEvent
	sessions []*pullSession
	said     []acknowledgement
	open     int // acknowledgements on their way
	maxOpen  int
	deleted  []string
	resets   []string // query and body
}

// pullEvent is one event of the stream; its number, from 1, is its id.
type pullEvent struct {
	done     bool
	holder   int // session, from 1; 0: nobody
	attempts int
	from     time.Time // when it may be given out
}

// pullSession is what a session was given, in order.
type pullSession struct {
	given    []int // numbers of events
	returned map[int]bool
}

// whatNext is how a connection goes on after a delivery.
type whatNext string

const (
	goOn    whatNext = ""
	closeIt whatNext = "close"
	cutIt   whatNext = "cut"
	drainIt whatNext = "drain"
	tornOff whatNext = "half a line"
)

const pullID = "sub-1"

// newPullServer serves the subscription sub-1, named billing, with so many events.
func newPullServer(t *testing.T, events int) *pullServer {
	t.Helper()
	s := &pullServer{t: t, changed: make(chan struct{})}
	s.objects = []map[string]any{subscriptionOf(pullID, "billing")}
	for range events {
		s.events = append(s.events, &pullEvent{})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/subscriptions", s.list)
	mux.HandleFunc("POST /v1/subscriptions", s.create)
	mux.HandleFunc("GET /v1/subscriptions/{id}", s.of(func(w http.ResponseWriter, _ *http.Request, object map[string]any) {
		writeAs(w, "application/json", 200, object)
	}))
	mux.HandleFunc("DELETE /v1/subscriptions/{id}", s.of(s.delete))
	mux.HandleFunc("POST /v1/subscriptions/{id}", s.of(s.reset)) // {id}:reset
	mux.HandleFunc("GET /v1/subscriptions/{id}/stats", s.of(s.stats))
	mux.HandleFunc("GET /v1/subscriptions/{id}/dead-letters", s.of(s.deadLetters))
	mux.HandleFunc("GET /v1/subscriptions/{id}/events", s.of(s.read))
	mux.HandleFunc("POST /v1/subscriptions/{id}/cursors", s.of(s.acknowledge))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		s.Close()
	})
	return s
}

func subscriptionOf(id, name string) map[string]any {
	return map[string]any{
		"id": id, "name": name, "streams": []any{"orders"}, "config": map[string]any{"ordering": "key"}, "status": map[string]any{"state": "active"},
	}
}

func pullProblem(w http.ResponseWriter, kind, title string, status int, more map[string]any) {
	document := map[string]any{"type": "/problems/" + kind, "title": title, "status": status}
	for name, value := range more {
		document[name] = value
	}
	writeAs(w, "application/problem+json", status, document)
}

// of finds the subscription of a path.
func (s *pullServer) of(fn func(http.ResponseWriter, *http.Request, map[string]any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimSuffix(r.PathValue("id"), ":reset")
		s.mu.Lock()
		i := slices.IndexFunc(s.objects, func(o map[string]any) bool { return o["id"] == id })
		var object map[string]any
		if i >= 0 {
			object = s.objects[i]
		}
		s.mu.Unlock()
		if object == nil {
			pullProblem(w, "unknown-subscription", "There is no such subscription", 404, nil)
			return
		}
		fn(w, r, object)
	}
}

// list serves pages of two.
func (s *pullServer) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := 0
	if next := r.URL.Query().Get("next"); next != "" {
		_, _ = fmt.Sscan(next, &from)
	}
	page := map[string]any{"items": s.objects[from:min(from+2, len(s.objects))]}
	if from+2 < len(s.objects) {
		page["next"] = fmt.Sprint(from + 2)
	}
	writeAs(w, "application/json", 200, page)
}

func (s *pullServer) create(w http.ResponseWriter, r *http.Request) {
	var asked map[string]any
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		s.t.Errorf("a subscription that is no JSON: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o["name"] != asked["name"] || asked["name"] == nil {
			continue
		}
		if reflect.DeepEqual(o["asked"], asked) {
			writeAs(w, "application/json", 200, o)
		} else {
			pullProblem(w, "conflict", "There is another subscription of this name", 409, nil)
		}
		return
	}
	made := map[string]any{"id": fmt.Sprintf("sub-%d", len(s.objects)+1), "name": asked["name"], "asked": asked}
	s.objects = append(s.objects, made)
	writeAs(w, "application/json", 201, made)
}

func (s *pullServer) delete(w http.ResponseWriter, _ *http.Request, object map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = append(s.deleted, fmt.Sprint(object["id"]))
	w.WriteHeader(http.StatusNoContent)
}

func (s *pullServer) reset(w http.ResponseWriter, r *http.Request, object map[string]any) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	sessions := len(s.sessions)
	if sessions == 0 || r.URL.Query().Get("force") == "true" {
		s.resets = append(s.resets, strings.TrimSpace(r.URL.RawQuery+" "+string(body)))
		sessions = 0
	}
	s.mu.Unlock()
	if sessions > 0 {
		pullProblem(w, "conflict", "The subscription has sessions", 409, nil)
		return
	}
	s.stats(w, r, object)
}

func (s *pullServer) stats(w http.ResponseWriter, _ *http.Request, object map[string]any) {
	writeAs(w, "application/json", 200, json.RawMessage(fmt.Sprintf(`{"id":%q,"name":%q,"state":"active",
		"sessions":[{"id":"s1","replica":"r1","transport":"ndjson","address":"10.0.0.1:5","since":"2026-01-02T03:04:05Z","uncommitted":3,"groups":["orders/0"]},
		            {"id":"s2","replica":"r2","transport":"sse","address":"10.0.0.2:5","since":"2026-01-02T03:04:06Z","uncommitted":0,"groups":[],"waiting":"partitions"}],
		"lag":123,"lagSeconds":4.2,"uncommitted":3,"redeliveries":1,"deadLetters":2,
		"partitions":[{"stream":"orders","partition":0,"session":"s1","replica":"r1","position":100,"end":123,"lag":23,"lagSeconds":4.2,"uncommitted":3,"acknowledgedAbove":2,"redeliveries":1},
		              {"stream":"orders","partition":1,"position":900,"end":1000,"lag":100,"lagSeconds":0,"uncommitted":0,"acknowledgedAbove":0,"redeliveries":0}],
		"cursor":"c0"}`, object["id"], object["name"])))
}

func (s *pullServer) deadLetters(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
	writeAs(w, "application/json", 200, json.RawMessage(`{"items":[{"id":"17","stream":"orders","partition":2,"offset":7000001,"attempts":10,"reason":"nack",
		"at":"2026-01-02T03:04:05Z","event":{"specversion":"1.0","id":"e1","source":"/s","type":"acme.order.paid"}}]}`))
}

// change wakes whoever waits. The caller holds mu.
func (s *pullServer) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// pick gives a session the next event; 0: there is none now, and there may be after the time returned or a change.
func (s *pullServer) pick(session int) (number int, line string, wait time.Duration, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	for i, e := range s.events {
		switch {
		case e.done || e.holder != 0:
		case time.Until(e.from) > 0:
			wait = min(wait, time.Until(e.from))
		default:
			e.holder = session
			e.attempts++
			mine := s.sessions[session-1]
			mine.given = append(mine.given, i+1)
			return i + 1, fmt.Sprintf(`{"cursor":"%d-%d","group":"orders/0","attempt":%d,"event":%s}`+"\n", session, len(mine.given), e.attempts, eventNumber(i+1)), 0, nil
		}
	}
	return 0, "", wait, s.changed
}

// eventNumber is an event as it is delivered.
func eventNumber(n int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/shop","type":"acme.order.paid","subject":"/order/%d","data":{"n":%d}}`, n, n, n)
}

func (s *pullServer) read(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	if got := r.Header.Get("Accept"); got != "application/x-ndjson" {
		s.t.Errorf("a session is opened with Accept %q", got)
	}
	s.mu.Lock()
	s.sessions = append(s.sessions, &pullSession{returned: map[int]bool{}})
	session := len(s.sessions)
	s.mu.Unlock()
	defer func() { // what it was given and has not acknowledged is free again
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.events {
			if e.holder == session {
				e.holder = 0
			}
		}
		s.change()
	}()
	if s.opening != nil && s.opening(session, w) {
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	say := func(text string) {
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
	say(fmt.Sprintf(`{"cursor":"%d-0"}`+"\n", session) + `{"assigned":{"groups":["orders/0"]}}` + "\n")
	for n := 1; ; {
		number, line, wait, changed := s.pick(session)
		if number == 0 {
			timer := time.NewTimer(wait)
			select {
			case <-r.Context().Done():
				timer.Stop()
				return
			case <-timer.C:
			case <-changed:
				timer.Stop()
			}
			continue
		}
		next := goOn
		if s.delivered != nil {
			next = s.delivered(session, n)
		}
		if next == tornOff {
			say(line[:len(line)-5])
			panic(http.ErrAbortHandler)
		}
		say(line)
		n++
		switch next {
		case closeIt:
			return
		case cutIt:
			panic(http.ErrAbortHandler)
		case drainIt:
			say(`{"drain":{"retryAfter":0.02},"cursor":"` + fmt.Sprintf("%d-%d", session, n-1) + `"}` + "\n")
			return
		}
	}
}

// acknowledge takes cursors, ranges and nacks.
func (s *pullServer) acknowledge(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	var said acknowledgement
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&said); err != nil {
		s.t.Errorf("an acknowledgement that cannot be read: %v", err)
	}
	s.mu.Lock()
	n := len(s.said)
	s.said = append(s.said, said)
	s.open++
	s.maxOpen = max(s.maxOpen, s.open)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	if s.acknowledging != nil && s.acknowledging(n, w) {
		return
	}
	s.mu.Lock()
	var done []int
	returned, refused := 0, 0
	for _, c := range said.Cursors {
		session, last := s.place(c)
		for i := range last {
			if s.sessions[session-1].returned[i+1] {
				s.t.Errorf("the cursor %s acknowledges delivery %d-%d too, which was given back", c, session, i+1)
			}
			s.settle(session, i+1, &done, &refused)
		}
	}
	for _, b := range said.Ranges {
		session, first := s.place(b.From)
		_, last := s.place(b.To)
		for i := first; i <= last; i++ {
			s.settle(session, i, &done, &refused)
		}
	}
	for _, b := range said.Nacks {
		session, first := s.place(b.From)
		_, last := s.place(b.To)
		delay, err := time.ParseDuration(b.Delay)
		if err != nil {
			s.t.Errorf("a nack's delay: %v", err)
		}
		for i := first; i <= last; i++ {
			e := s.events[s.sessions[session-1].given[i-1]-1]
			if e.holder != session || e.done {
				refused++
				continue
			}
			e.holder, e.from = 0, time.Now().Add(delay)
			s.sessions[session-1].returned[i] = true
			returned++
		}
	}
	s.mu.Unlock()
	for _, number := range done {
		if s.acknowledged != nil {
			s.acknowledged(number)
		}
	}
	s.mu.Lock()
	for _, number := range done {
		s.events[number-1].done = true
	}
	s.change()
	s.mu.Unlock()
	if refused > 0 {
		pullProblem(w, "reconnect", "Open the session again", 409, map[string]any{"acknowledged": len(done), "refused": refused})
		return
	}
	writeAs(w, "application/json", 200, map[string]int{"acknowledged": len(done), "returned": returned})
}

// place reads a cursor. The caller holds mu.
func (s *pullServer) place(cursor string) (session, n int) {
	if _, err := fmt.Sscanf(cursor, "%d-%d", &session, &n); err != nil || session < 1 || session > len(s.sessions) || n > len(s.sessions[session-1].given) {
		s.t.Errorf("%q is no cursor of a delivery", cursor)
		return 1, 0
	}
	return session, n
}

// settle acknowledges one delivery. The caller holds mu.
func (s *pullServer) settle(session, n int, done *[]int, refused *int) {
	number := s.sessions[session-1].given[n-1]
	switch e := s.events[number-1]; {
	case e.done || slices.Contains(*done, number):
	case e.holder == session, e.holder == 0: // a late word is taken while nobody else has the event
		*done = append(*done, number)
	default:
		*refused++
	}
}

// await returns once something is so, which it is asked with mu held.
func (s *pullServer) await(so func() bool) {
	for {
		s.mu.Lock()
		is, changed := so(), s.changed
		s.mu.Unlock()
		if is {
			return
		}
		<-changed
	}
}

// undone is which events are not acknowledged.
func (s *pullServer) undone() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var numbers []int
	for i, e := range s.events {
		if !e.done {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// words is what was said in acknowledgements so far.
func (s *pullServer) words() []acknowledgement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said)
}

// opened is how many sessions there have been.
func (s *pullServer) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}
