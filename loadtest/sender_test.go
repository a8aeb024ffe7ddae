package loadtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// sender is a small Event Issuer of one stream that sends events to subscriptions' endpoints, with faults to be found.
type sender struct {
	*httptest.Server
	t *testing.T

	// fault maps the nth event of a subscription, from 0, to what is sent in its place. nil: that.
	fault func(n int, e *event.Event) []*event.Event
	// signed may change what a message says of itself.
	signed func(h http.Header)

	running sync.WaitGroup
	client  *http.Client
	stop    chan struct{}

	mu            sync.Mutex
	log           []*event.Event         // guarded by mu
	more          chan struct{}          // guarded by mu; closed when the log grows
	subscriptions map[string]*subscriber // guarded by mu
	deleted       []string               // guarded by mu
	defined       []string               // guarded by mu; bodies of streams and types
}

type subscriber struct {
	ID       string
	Name     string
	Sink     string
	Secret   string
	Settings struct{ Mode webhook.Mode } `json:"protocolsettings"`
	Filters  json.RawMessage
	Config   struct {
		From, Ordering string
		Batch          struct{ Max int }
	}
	filter *filter.Filter
	state  string // guarded by the sender's mu
	gone   chan struct{}
}

func newSender(t *testing.T, set func(s *sender)) *sender {
	t.Helper()
	s := &sender{t: t, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}, stop: make(chan struct{}), more: make(chan struct{}), subscriptions: map[string]*subscriber{}}
	if set != nil {
		set(s)
	}
	mux := http.NewServeMux()
	define := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.defined = append(s.defined, string(body))
		s.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	}
	mux.HandleFunc("POST /v1/streams", define)
	mux.HandleFunc("POST /v1/event-types", define)
	mux.HandleFunc("GET /v1/event-types/{type}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"stream":%q}`, strings.Replace(r.PathValue("type"), "loadtest.", "loadtest-", 1))
	})
	mux.HandleFunc("POST /v1/subscriptions", s.subscribe)
	mux.HandleFunc("GET /v1/subscriptions/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, _ = fmt.Fprintf(w, `{"status":{"state":%q,"reason":"as it is"}}`, s.subscriptions[r.PathValue("id")].state)
	})
	mux.HandleFunc("DELETE /v1/{path...}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		path := r.PathValue("path")
		s.deleted = append(s.deleted, strings.TrimPrefix(r.URL.RequestURI(), "/v1/"))
		if sub := s.subscriptions[strings.TrimPrefix(path, "subscriptions/")]; sub != nil {
			close(sub.gone)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /v1/events", s.publish)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		close(s.stop)
		s.client.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		s.Close()
		s.running.Wait()
	})
	return s
}

func (s *sender) subscribe(w http.ResponseWriter, r *http.Request) {
	sub := &subscriber{state: "pending", gone: make(chan struct{})}
	if err := json.NewDecoder(r.Body).Decode(sub); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var err error
	if sub.filter, err = filter.Compile(filter.Query{Filters: sub.Filters}); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	sub.ID = fmt.Sprint(len(s.subscriptions))
	s.subscriptions[sub.ID] = sub
	next := len(s.log)
	s.mu.Unlock()
	if sub.Config.From == "oldest" {
		next = 0
	}
	s.running.Go(func() { s.serve(sub, next) })
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"id":%q}`, sub.ID)
}

func (s *sender) publish(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	items := []json.RawMessage{body}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents-batch") {
		if err := json.Unmarshal(body, &items); err != nil {
			s.t.Error(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, raw := range items {
		e, err := event.Parse(raw)
		if err != nil {
			s.t.Error(err)
		}
		s.log = append(s.log, &e)
	}
	close(s.more)
	s.more = make(chan struct{})
	_, _ = io.WriteString(w, `{"results":[]}`)
}

// serve sends a subscription's events in order, each until it is taken.
func (s *sender) serve(sub *subscriber, next int) {
	if !s.consented(sub) {
		return
	}
	secret, err := webhook.ParseSecret(sub.Secret)
	if err != nil {
		s.t.Error(err)
		return
	}
	signer := webhook.Signer{Secrets: []webhook.Secret{secret}}
	for n := 0; ; {
		s.mu.Lock()
		events, more := s.log[next:], s.more
		s.mu.Unlock()
		if len(events) == 0 {
			select {
			case <-more:
				continue
			case <-sub.gone:
				return
			case <-s.stop:
				return
			}
		}
		mode := sub.Settings.Mode
		if sub.Config.Batch.Max > 1 {
			mode = webhook.Batch
			events = events[:min(len(events), sub.Config.Batch.Max)]
		} else {
			events = events[:1]
		}
		next += len(events)
		var sent []*event.Event
		for _, e := range events {
			switch {
			case !sub.filter.Match(e):
			case s.fault == nil:
				sent = append(sent, e)
			default:
				sent = append(sent, s.fault(n, e)...)
			}
			n++
		}
		if mode != webhook.Batch {
			for _, e := range sent {
				s.send(sub, &signer, mode, []*event.Event{e})
			}
		} else if len(sent) > 0 {
			s.send(sub, &signer, mode, sent)
		}
	}
}

// consented asks the endpoint as CloudEvents' webhooks do.
func (s *sender) consented(sub *subscriber) bool {
	r, err := http.NewRequest(http.MethodOptions, sub.Sink, nil)
	if err != nil {
		s.t.Error(err)
		return false
	}
	r.Header.Set("WebHook-Request-Origin", "test")
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Error(err)
		return false
	}
	_ = resp.Body.Close()
	if resp.Header.Get("WebHook-Allowed-Origin") != "*" || resp.Header.Get("WebHook-Allowed-Rate") != "*" {
		s.t.Errorf("no consent: %v", resp.Header)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.state = "active"
	return true
}

func (s *sender) send(sub *subscriber, signer *webhook.Signer, mode webhook.Mode, events []*event.Event) {
	for {
		r, err := http.NewRequest(http.MethodPost, sub.Sink, nil)
		if err != nil {
			s.t.Error(err)
			return
		}
		body, err := webhook.Body(r.Header, mode, events)
		if err != nil {
			s.t.Error(err)
			return
		}
		signer.Sign(r.Header, webhook.NewMessageID(), time.Now(), body)
		if s.signed != nil {
			s.signed(r.Header)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp, err := s.client.Do(r)
		if err != nil {
			return // the receiver has ended, or hangs up
		}
		_ = resp.Body.Close()
		if resp.StatusCode/100 == 2 {
			return
		}
	}
}
