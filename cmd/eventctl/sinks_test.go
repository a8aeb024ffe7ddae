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
