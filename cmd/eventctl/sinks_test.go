package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// sinkServer serves the subscription "sub-1", named hook, and remembers the last thing that it was asked to do.
type sinkServer struct {
	*httptest.Server
	path, body string
}

func newSinkServer(t *testing.T) *sinkServer {
	t.Helper()
	s := &sinkServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"id":"sub-1","name":"hook"}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.path, s.body = r.URL.Path, string(body)
		if r.URL.Path == "/v1/subscriptions" {
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = io.WriteString(w, `{"id":"sub-1","name":"hook","secret":"whsec_new","publicKey":"whpk_new"}`)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestSubscriptionWithASinkIsSteered(t *testing.T) {
	s := newSinkServer(t)
	for _, c := range []struct{ args, path, body string }{
		{"pause sub-1", ":pause", ""},
		{"resume sub-1", ":resume", ""},
		{"rotate-secret sub-1", ":rotate-secret", "{}"},
		{"rotate-secret sub-1 --keep 1h", ":rotate-secret", `{"keep":"1h"}`},
		{"replay sub-1 --since oldest", ":replay", `{"from":"oldest"}`},
		{"replay sub-1 --since 2026-01-02T03:04:05Z", ":replay", `{"since":"2026-01-02T03:04:05Z"}`},
	} {
		o := eventctl(t.Context(), "", append([]string{"--server", s.URL, "subscriptions"}, strings.Fields(c.args)...)...)
		if o.code != exitDone || s.path != "/v1/subscriptions/sub-1"+c.path || strings.TrimSpace(s.body) != c.body || !strings.Contains(o.out, "whsec_new") {
			t.Errorf("%s: exit code %d, asked %s %s, told %s%s", c.args, o.code, s.path, s.body, o.out, o.err)
		}
	}
	o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "replay", "sub-1", "--since", "2h")
	var asked struct{ Since time.Time }
	if err := json.Unmarshal([]byte(s.body), &asked); err != nil || o.code != exitDone || !asked.Since.Before(time.Now().Add(-time.Hour)) {
		t.Errorf("%v: exit code %d, asked %s", err, o.code, s.body)
	}
	if o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "replay", "sub-1"); o.code != exitUsage {
		t.Errorf("without a time: exit code %d", o.code)
	}
}

func TestSecretOfANewSubscriptionIsToldHoweverItIsPrinted(t *testing.T) {
	s := newSinkServer(t)
	o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "create", "hook", "--stream", "s", "--sink", "https://example.com/", "--output", "id")
	if o.code != exitDone || o.out != "sub-1\n" || !strings.Contains(o.err, "whsec_new") || strings.TrimSpace(s.body) != `{"name":"hook","sink":"https://example.com/","streams":["s"]}` {
		t.Errorf("exit code %d, asked %s, told %s%s", o.code, s.body, o.out, o.err)
	}
	o = eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "create", "hook", "--stream", "s", "--sink", "https://example.com/")
	if o.code != exitDone || !strings.Contains(o.out, "whsec_new") || strings.Contains(o.err, "whsec_new") {
		t.Errorf("exit code %d, told %s%s", o.code, o.out, o.err)
	}
}

// answering serves the subscription "sub-1", named hook, and what it is asked in turn with the answers, which it holds
// against what was asked: "METHOD path body".
func answering(t *testing.T, turns ...[2]string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet && r.URL.Path == "/v1/subscriptions/sub-1" {
			_, _ = io.WriteString(w, `{"id":"sub-1","name":"hook"}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked := strings.TrimSpace(r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/v1/subscriptions/sub-1") + " " + string(body))
		if len(turns) == 0 || asked != turns[0][0] {
			t.Errorf("it is asked %s; expected %v", asked, turns)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, turns[0][1])
		turns = turns[1:]
	}))
	t.Cleanup(server.Close)
	return server
}

func TestWhatBecameOfDeliveriesIsPrintedAndToldByTheExitCode(t *testing.T) {
	const went, failed = `{"time":"2026-01-02T03:04:05Z","state":"delivered","status":204,"took":"3ms","event":"e1","id":"A","partition":0}`, `{"time":"2026-01-02T03:04:06Z","state":"failed","took":"15s","event":"e2","reason":"no answer in time","id":"B","partition":0}`
	of := func(item, id string) string { return `{"of":"` + id + `",` + item[1:] }
	for _, c := range []struct {
		args  string
		turns [][2]string
		code  int
		told  []string // in the output
		noted string
	}{
		{"attempts sub-1", [][2]string{{"GET /attempts?limit=50", `{"items":[` + failed + `,` + went + `]}`}}, exitDone, []string{"e2", "no answer in time", "e1", "204"}, ""},
		{"attempts sub-1 --state failed --state gone --event e2 --since 2026-01-02T03:04:05Z --json -n 1", [][2]string{{"GET /attempts?event=e2&limit=1&since=2026-01-02T03%3A04%3A05Z&state=failed&state=gone", `{"items":[` + failed + `],"next":"B"}`}}, exitDone, []string{failed + "\n"}, ""},
		{"test sub-1", [][2]string{{"POST :test", went}}, exitDone, []string{`"delivered"`}, ""},
		{"test sub-1", [][2]string{{"POST :test", failed}}, exitFailed, []string{`"failed"`}, "no answer in time"},
		{"verify sub-1", [][2]string{{"POST :verify", `{"id":"sub-1","status":{"state":"active","proof":{"state":"proven","by":"consent"}}}`}}, exitDone, []string{"consent"}, ""},
		{"verify sub-1", [][2]string{{"POST :verify", `{"id":"sub-1","status":{"state":"pending","proof":{"state":"pending","reason":"it answered 404"}}}`}}, exitFailed, []string{"404"}, "it answered 404"},
		{"resend sub-1 A B", [][2]string{{`POST :replay {"attempts":["A","B"]}`, `{"items":[` + of(went, "A") + `,` + of(failed, "B") + `]}`}}, exitFailed, []string{"e1", "204", "no answer in time"}, ""},
		{"resend sub-1 A --json", [][2]string{{`POST :replay {"attempts":["A"]}`, `{"items":[` + of(went, "A") + `]}`}}, exitDone, []string{of(went, "A") + "\n"}, ""},
		{"redeliver sub-1 7 8", [][2]string{{`POST /dead-letters:redeliver {"ids":["7","8"]}`, `{"redelivered":2,"failed":[]}`}}, exitDone, nil, "delivered 2 dead letters, 0 were not"},
		{"redeliver sub-1 --all", [][2]string{{`POST /dead-letters:redeliver {"all":true}`, `{"redelivered":100,"failed":[],"next":"9"}`}, {`POST /dead-letters:redeliver {"all":true,"next":"9"}`, `{"redelivered":1,"failed":[{"id":"11","reason":"it answered 422"}]}`}}, exitFailed, []string{"11\tit answered 422\n"}, "delivered 101 dead letters, 1 were not"},
		{"redeliver sub-1", nil, exitUsage, nil, "--all"},
		{"redeliver sub-1 7 --all", nil, exitUsage, nil, "--all"},
		{"stats sub-1", [][2]string{{"GET /stats", `{"id":"sub-1","name":"hook","state":"failing","reason":"it answered 503","failingSince":"2026-01-02T03:04:05Z","lag":5,"undone":2,"inFlight":0,"partial":true,"partitions":[{"stream":"s","partition":0,"position":4,"end":7,"lag":5,"undone":2,"inFlight":0},{"stream":"s","partition":1,"position":4,"end":4,"lag":0,"undone":0,"inFlight":0,"elsewhere":true}]}`}}, exitDone, []string{"failing, lag 5, 2 undone", "it answered 503", "since 2026-01-02T03:04:05Z", "s/1*"}, ""},
	} {
		s := answering(t, c.turns...)
		o := eventctl(t.Context(), "", append([]string{"--server", s.URL, "subscriptions"}, strings.Fields(c.args)...)...)
		if o.code != c.code || !strings.Contains(o.err, c.noted) {
			t.Errorf("%s: exit code %d, %s%s", c.args, o.code, o.out, o.err)
		}
		for _, text := range c.told {
			if !strings.Contains(o.out, text) {
				t.Errorf("%s does not tell %q: %s", c.args, text, o.out)
			}
		}
	}
}
