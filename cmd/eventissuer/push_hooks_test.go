package main_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/webhook"
	"github.com/eventissuer/eventissuer/push"
)

// hook is a subscription with a sink, which is deleted and made again now and then, and the endpoint that it is sent to,
// which has another path each time, so that nothing is mistaken for what came before.
type hook struct {
	// static
	name    string
	config  map[string]any
	filters []any
	ordered bool
	wants   func(key string) bool // nil: every event
	answers func(r *rand.Rand, a *arrival) int
	book    *logbook
	door    *door

	id string // owned by the test, as what follows; made of the name, it is always the same
	// doubtful says that a change was sent twice, so that there may have been a life that nobody has seen.
	doubtful bool

	mu       sync.Mutex // taken after the book's
	rand     *rand.Rand // guarded by mu, as all that follows
	spans    []*span
	arrivals []*arrival
	lives    map[uuid.UUID]*life
	slow     time.Duration // an answer takes up to so long
	failing  bool          // it answers 503
	mistakes []string
	silences []*silence
	paused   bool // written by the test alone
}

// span is the time of one definition of a hook, from its creation to its deletion.
type span struct {
	path      string
	secret    webhook.Secret
	hesitates bool // it consents only when it is asked again

	// guarded by the hook's mu
	key       ed25519.PublicKey // nil: not known yet
	asked     int
	consented bool
}

// life is an incarnation of the subscription's positions: the live one, or a replay beside it.
type life struct {
	path   string // of the span that it is of
	replay bool
	start  []int64
	until  []int64 // of a replay
	last   bool    // it is the live one of what the catalog says now
}

// arrival is a request with events.
type arrival struct {
	path    string
	message string
	events  []string
	read    moment
	done    moment // just before it was answered
	status  int
	cut     bool // the sender had gone by then
}

// delivered reports whether the events were acknowledged.
func (a *arrival) delivered() bool { return a.status >= 200 && a.status < 300 }

// door is where an endpoint is reached. It can be shut, and is then refused.
type door struct {
	addr    string
	handler http.Handler

	mu     sync.Mutex
	server *http.Server // guarded by mu; nil: it is shut
	served sync.WaitGroup
}

func (d *door) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		return err
	}
	d.server = &http.Server{Handler: d.handler, ReadHeaderTimeout: patience}
	s := d.server
	d.served.Go(func() { _ = s.Serve(l) }) // it ends when the door is shut
	return nil
}

func (d *door) shut() error {
	d.mu.Lock()
	s := d.server
	d.server = nil
	d.mu.Unlock()
	if s == nil {
		return nil
	}
	err := s.Close()
	d.served.Wait()
	return err
}

func (h *hook) wrong(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mistakes = append(h.mistakes, fmt.Sprintf(format, args...))
}

// span finds the definition that a request belongs to.
func (h *hook) span(path string) *span {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.spans {
		if s.path == path {
			return s
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.span(r.URL.Path)
	if s == nil {
		h.wrong("%s %s: no subscription was ever told this address", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if from := r.Header.Get("WebHook-Request-Origin"); from != "eventissuer" {
		h.wrong("%s %s comes from %q: expected the server's name", r.Method, r.URL.Path, from)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender is gone
	}
	switch r.Method {
	case http.MethodOptions:
		h.consent(w, s)
	case http.MethodPost:
		h.receive(w, r, s, body)
	default:
		h.wrong("%s %s: expected OPTIONS or POST", r.Method, r.URL.Path)
	}
}

// consent answers OPTIONS.
func (h *hook) consent(w http.ResponseWriter, s *span) {
	h.mu.Lock()
	s.asked++
	gives := !s.hesitates || s.asked > 1
	s.consented = s.consented || gives
	h.mu.Unlock()
	if gives {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("WebHook-Allowed-Rate", "*")
	}
}

// webhookEvent is an event as the endpoint reads it.
type webhookEvent struct {
	ID, Type, Subject string
	Data              json.RawMessage
}

// parse reads a request's events.
func (h *hook) parse(r *http.Request, body []byte) (all []webhookEvent, err error) {
	switch media := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(media, "application/cloudevents-batch+json"):
		err = json.Unmarshal(body, &all)
	case strings.HasPrefix(media, "application/cloudevents+json"):
		all = make([]webhookEvent, 1)
		err = json.Unmarshal(body, &all[0])
	default:
		err = fmt.Errorf("a body of type %q", media)
	}
	if err == nil && len(all) == 0 {
		err = errors.New("no event at all")
	}
	return all, err
}

// receive answers POST.
func (h *hook) receive(w http.ResponseWriter, r *http.Request, s *span, body []byte) {
	now := time.Now()
	h.mu.Lock()
	key, consented := s.key, s.consented
	h.mu.Unlock()
	if err := webhook.Verify(r.Header, body, []webhook.Secret{s.secret}, nil, now, patience); err != nil {
		h.wrong("%s: by its secret: %v", s.path, err)
	}
	if key != nil {
		if err := webhook.Verify(r.Header, body, nil, []ed25519.PublicKey{key}, now, patience); err != nil {
			h.wrong("%s: by its public key: %v", s.path, err)
		}
	}
	events, err := h.parse(r, body)
	if err != nil {
		h.wrong("%s was sent %.200q: %v", s.path, body, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if events[0].Type == push.ChallengeType {
		w.WriteHeader(http.StatusBadRequest) // it consents by OPTIONS, or not at all
		return
	}
	if !consented {
		h.wrong("%s was sent %s before it consented", s.path, events[0].ID)
	}
	a := &arrival{path: s.path, message: r.Header.Get(webhook.HeaderID), read: h.book.now()}
	for _, e := range events {
		a.events = append(a.events, e.ID)
		if h.wants != nil && !h.wants(e.Subject) {
			h.wrong("%s was sent %s of %s, which its filter does not match", s.path, e.ID, e.Subject)
		}
	}
	h.mu.Lock()
	h.arrivals = append(h.arrivals, a)
	var takes time.Duration
	if h.slow > 0 {
		takes = time.Duration(h.rand.Int64N(int64(h.slow)))
	}
	status := http.StatusNoContent
	switch {
	case h.failing:
		status = http.StatusServiceUnavailable
	case h.answers != nil:
		status = h.answers(h.rand, a)
	}
	h.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes): // it is what a slow endpoint does
		case <-r.Context().Done():
		}
	}
	done, gone := h.book.now(), r.Context().Err() != nil
	h.mu.Lock()
	a.done, a.status, a.cut = done, status, gone
	h.mu.Unlock()
	w.WriteHeader(status)
}

func (h *hook) setPaused(paused bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = paused
}

func (h *hook) setFailing(failing bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = failing
}

// counted is how many deliveries were acknowledged.
func (h *hook) counted() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.arrivals {
		if a.delivered() {
			n += len(a.events)
		}
	}
	return n
}

// goes reports whether deliveries are to be expected at all.
func (h *hook) goes() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.spans[len(h.spans)-1]
	return !h.paused && !h.failing && last.consented && h.door.isOpen()
}

func (d *door) isOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.server != nil
}

// learn takes over what the catalog says of the subscription.
func (h *hook) learn(s catalog.Subscription, deleted bool) error {
	path, ok := strings.CutPrefix(s.Sink, "http://"+h.door.addr)
	if !ok {
		return fmt.Errorf("the sink of %s is %q", h.name, s.Sink)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lives {
		l.last = false
	}
	if deleted {
		return nil
	}
	id, err := uuid.Parse(s.Incarnation)
	if err != nil {
		return err
	}
	if h.lives[id] == nil {
		h.lives[id] = &life{path: path, start: s.Start[theStream].Next}
	}
	h.lives[id].last = true
	for _, r := range s.Replays {
		id, err := uuid.Parse(r.Incarnation)
		if err != nil {
			return err
		}
		if h.lives[id] == nil {
			h.lives[id] = &life{path: path, replay: true, start: r.Start[theStream].Next, until: r.Until[theStream].Next}
		}
	}
	return nil
}

// present is the live incarnation.
func (h *hook) present() (id uuid.UUID, path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, l := range h.lives {
		if l.last {
			return id, l.path
		}
	}
	return uuid.Nil, ""
}

// definition is the body that makes the subscription, sent to an address that was never used before.
func (h *hook) definition(from string, hesitates bool) map[string]any {
	s := &span{secret: webhook.NewSecret(), hesitates: hesitates}
	h.mu.Lock()
	s.path = "/" + h.name + "/" + strconv.Itoa(len(h.spans))
	h.spans = append(h.spans, s)
	h.mu.Unlock()
	config := map[string]any{"from": from, "ordering": "none"}
	if h.ordered {
		config["ordering"] = "key"
	}
	for name, value := range h.config {
		config[name] = value
	}
	body := map[string]any{
		"name": h.name, "streams": []string{theStream}, "sink": "http://" + h.door.addr + s.path, "secret": s.secret.Text(), "config": config,
	}
	if h.filters != nil {
		body["filters"] = h.filters
	}
	return body
}

// newest is the definition that was made last.
func (h *hook) newest() *span {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spans[len(h.spans)-1]
}

// journal is what has arrived and was answered up to now.
func (h *hook) journal() (all []arrival) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.arrivals {
		if a.status != 0 { // else it is still being answered
			c := *a
			c.events = slices.Clone(a.events)
			all = append(all, c)
		}
	}
	return all
}

// close shuts the endpoint.
func (h *hook) close(t *testing.T) {
	t.Helper()
	if err := h.door.shut(); err != nil {
		t.Errorf("the endpoint of %s: %v", h.name, err)
	}
}
