package gateway

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/webhook"
	"github.com/eventissuer/eventissuer/push"
)

// patience is how long a test waits for what goroutines and servers bring about.
const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// message is what an endpoint was sent.
type message struct {
	header http.Header
	body   []byte
}

func (m message) id() string { return m.header.Get(webhook.HeaderID) }

// about tells whether the message is of an event.
func (m message) about(event string) bool {
	return strings.Contains(string(m.body), `"id":"`+event+`"`)
}

// endpoint is a sink over TLS on this machine.
type endpoint struct {
	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex
	consents bool                // guarded by mu: to OPTIONS
	callback string              // guarded by mu: that came with OPTIONS
	answers  func(m message) int // guarded by mu; nil: 204
	got      []message           // guarded by mu: the POSTs
}

func newEndpoint(t testing.TB) *endpoint {
	t.Helper()
	e := &endpoint{t: t, consents: true}
	e.server = httptest.NewTLSServer(e)
	t.Cleanup(e.server.Close)
	return e
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		e.t.Error(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Method == http.MethodOptions {
		if e.callback = r.Header.Get("WebHook-Request-Callback"); e.consents {
			w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin"))
			w.Header().Set("WebHook-Allowed-Rate", "6000")
		}
		return
	}
	m := message{r.Header.Clone(), body}
	e.got = append(e.got, m)
	status := http.StatusNoContent
	if e.answers != nil {
		status = e.answers(m)
	}
	w.WriteHeader(status)
}

// answer has the endpoint answer in another way from now on.
func (e *endpoint) answer(with func(m message) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers = with
}

// messages gives what there is of an event.
func (e *endpoint) messages(event string) (some []message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.got {
		if m.about(event) {
			some = append(some, m)
		}
	}
	return some
}

// awaitMessages waits until an event has come so many times.
func (e *endpoint) awaitMessages(event string, times int) []message {
	e.t.Helper()
	eventually(e.t, "event "+event+" comes to the endpoint", func() bool { return len(e.messages(event)) >= times })
	return e.messages(event)
}

// boxed writes the dead letters of the deliveries.
type boxed struct{ box *deadletters.Box }

// Write implements push.Letters.
func (b boxed) Write(ctx context.Context, letters []push.Letter) []error {
	errs := make([]error, len(letters))
	for i, l := range letters {
		errs[i] = b.box.Write(ctx, []deadletters.Letter{{
			Subscription: l.Subscription, Incarnation: l.Incarnation.String(), Stream: l.Stream, Partition: l.Partition,
			Offset: l.Offset, Attempts: l.Attempts, Reason: l.Reason, At: l.At, Event: l.Event,
		}})[0].Err
	}
	return errs
}

// delivering has the edge deliver to an endpoint, and keep what becomes of it. change may alter what the deliveries are
// made of.
func delivering(t testing.TB, e *endpoint, change ...func(*push.Config, *push.Deps)) func(*Config, *Deps) {
	return func(_ *Config, d *Deps) {
		t.Helper()
		fail := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
		closing(t, client.Close)
		var err error
		d.Letters, err = deadletters.New(deadletters.Config{Log: d.Log.(deadletters.Log), Redis: client})
		fail(err)
		d.Attempts, err = attempts.New(attempts.Config{FlushEvery: 50 * time.Millisecond}, attempts.Deps{Log: d.Log, Redis: client})
		fail(err)
		hubs, err := fanout.New(fanout.Config{Log: d.Log})
		fail(err)
		roots := x509.NewCertPool()
		roots.AddCert(e.server.Certificate())
		out, err := guard.New(guard.Config{AllowLoopback: true, RootCAs: roots})
		fail(err)
		t.Cleanup(out.Close)
		codes, err := keyring.Parse([]byte("k1 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
		fail(err)
		config, deps := push.Config{Origin: "events.example.org"}, push.Deps{
			Log: d.Log, Hubs: hubs, Definitions: push.FromCatalog(d.Catalog, nil), Codes: codes, Letters: boxed{d.Letters}, Record: d.Attempts.Record,
			Sender: func(owner string, c webhook.Credential) (push.Sender, error) { return out.Client(owner, c) },
			Callback: func(id, code string) string {
				return "https://events.example.org/v1/subscriptions/" + id + ":consent?code=" + url.QueryEscape(code)
			},
		}
		for _, c := range change {
			c(&config, &deps)
		}
		engine, err := push.New(config, deps)
		fail(err)
		d.Push = engine
		for _, run := range []func(context.Context) error{d.Attempts.Run, hubs.Run, engine.Run} {
			running(t, run)
		}
	}
}

// hooked makes a subscription of the trains whose sink the endpoint is, and gives it and its address.
func (h *harness) hooked(e *endpoint, more string) (subscriptionAnswer, string) {
	h.t.Helper()
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"name":"hook","streams":["trains"],"sink":"`+e.server.URL+`/events"`+more+`}`), http.StatusCreated).subscription(h.t)
	return made, "/v1/subscriptions/" + made.ID
}

// awaitState waits until a subscription has a state.
func (h *harness) awaitState(address string, state catalog.SubscriptionState) (s subscriptionAnswer) {
	h.t.Helper()
	eventually(h.t, "the subscription is "+string(state), func() bool {
		s = h.must(h.send("GET", address, ""), http.StatusOK).subscription(h.t)
		return s.Status.State == state
	})
	return s
}
