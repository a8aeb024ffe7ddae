package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/audit"
	"github.com/eventissuer/eventissuer/internal/catalog"
)

// subscription reads the answer as a subscription.
func (a answer) subscription(t testing.TB) subscriptionAnswer {
	t.Helper()
	var s subscriptionAnswer
	a.decode(t, &s)
	return s
}

func TestSubscriptionIsCreatedOnceChangedAndDeletedUnderItsETag(t *testing.T) {
	h := newHarness(t).withTrains()
	const body = `{"name":"boards","streams":["trains"],"types":["train.*"],"filters":[{"sql":"n < 5"}],"config":{"ackTimeout":"30s"}}`
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", body), http.StatusCreated)
	s := made.subscription(t)
	want := catalog.SubscriptionConfig{From: "latest", Ordering: "key", AckTimeout: catalog.Duration(30 * time.Second), MaxUncommitted: 1000, MaxSessions: 100, MaxAttempts: 10}
	if s.Owner != "local" || s.Status.State != catalog.SubscriptionActive || string(s.Filters) != `[{"sql":"n < 5"}]` || !cmp.Equal(s.Config, want) {
		t.Errorf("made %s", made.body)
	}
	if strings.Contains(string(made.body), "ncarnation") || strings.Contains(string(made.body), "start") {
		t.Errorf("the positions are shown: %s", made.body)
	}
	address := "/v1/subscriptions/" + s.ID
	if got := made.header.Get("Location"); got != h.server.URL+address {
		t.Errorf("Location is %q", got)
	}
	again := h.must(h.sendJSON("POST", "/v1/subscriptions", strings.Replace(body, "30s", "0.5m", 1)), http.StatusOK)
	if string(again.body) != string(made.body) || again.header.Get("ETag") != made.header.Get("ETag") {
		t.Errorf("again it is %s", again.body)
	}
	if p := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"name":"boards","streams":["trains"]}`), http.StatusConflict).problem(t); p.Type != "/problems/conflict" || !strings.Contains(p.Detail, "boards") {
		t.Error(p.Type, p.Detail)
	}

	read := h.must(h.send("GET", address, ""), http.StatusOK)
	tag := read.header.Get("ETag")
	if string(read.body) != string(made.body) || tag == "" || tag != made.header.Get("ETag") {
		t.Errorf("read %s of %s", read.body, tag)
	}
	// What was read can be written, and changes nothing.
	if a := h.must(h.sendJSON("PUT", address, string(read.body), "If-Match: "+tag), http.StatusOK); a.header.Get("ETag") != tag {
		t.Errorf("written back it is %s", a.body)
	}
	const stale = `If-Match: "00000000-0000-0000-0000-000000000000"`
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		if p := h.must(h.sendJSON(method, address, body, stale), http.StatusPreconditionFailed).problem(t); p.Type != "/problems/precondition-failed" {
			t.Error(method, p.Type)
		}
	}
	patched := h.must(h.send("PATCH", address, `{"config":{"maxSessions":3},"types":null}`, "Content-Type: application/merge-patch+json", "If-Match: "+tag), http.StatusOK)
	if s := patched.subscription(t); s.Config.MaxSessions != 3 || s.Config.AckTimeout != want.AckTimeout || s.Types != nil || patched.header.Get("ETag") == tag {
		t.Errorf("patched to %s", patched.body)
	}
	put := h.must(h.sendJSON("PUT", address, `{"streams":["trains"],"description":"d"}`, "If-Match: "+patched.header.Get("ETag")), http.StatusOK)
	if s := put.subscription(t); s.Name != "boards" || s.Description != "d" || s.Config.MaxSessions != 100 || s.Filters != nil || s.Created != made.subscription(t).Created {
		t.Errorf("replaced by %s", put.body)
	}

	h.must(h.send("DELETE", address, "", "If-Match: "+put.header.Get("ETag")), http.StatusNoContent)
	for method, body := range map[string]string{"GET": "", "PUT": `{"streams":["trains"]}`, "PATCH": `{}`, "DELETE": ""} {
		if p := h.must(h.sendJSON(method, address, body), http.StatusNotFound).problem(t); p.Type != "/problems/unknown-subscription" {
			t.Error(method, p.Type)
		}
	}
}

func TestSubscriptionBeginsWhereItsStreamsAreAtTheTime(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"planes","partitions":1}`), http.StatusCreated)
	h.must(h.send("POST", "/v1/events", "["+trainEvent("1", `,"partitionkey":"a"`)+","+trainEvent("2", `,"partitionkey":"a"`)+"]", batched), http.StatusOK)
	info, err := h.deps.Log.Describe(t.Context(), "eventissuer.trains")
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{"latest": 2, "oldest": 0, "2000-01-01T00:00:00Z": 0, "2999-01-01T00:00:00+02:00": 2}
	for from, want := range sums {
		made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"streams":["trains"],"config":{"from":"`+from+`"}}`), http.StatusCreated).subscription(t)
		s, ok := h.deps.Catalog.Subscription(made.ID)
		at := s.Start["trains"]
		var sum int64
		for _, n := range at.Next {
			sum += n
		}
		if !ok || len(at.Next) != 3 || sum != want || at.Epoch != info.Epoch.Hex() {
			t.Errorf("from %s it begins at %+v", from, s.Start)
		}
	}
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"name":"n","streams":["trains"]}`), http.StatusCreated).subscription(t)
	before, _ := h.deps.Catalog.Subscription(made.ID)
	h.must(h.send("POST", "/v1/events", trainEvent("3", ""), structured), http.StatusOK)
	h.must(h.sendJSON("PATCH", "/v1/subscriptions/"+made.ID, `{"streams":["trains","planes"]}`), http.StatusOK)
	after, _ := h.deps.Catalog.Subscription(made.ID)
	if diff := cmp.Diff(before.Start["trains"], after.Start["trains"]); diff != "" || len(after.Start["planes"].Next) != 1 || after.Incarnation != before.Incarnation {
		t.Errorf("it goes on at %+v\n%s", after.Start, diff)
	}
}

func TestSubscriptionsAreListedByWordsAndPages(t *testing.T) {
	h := newHarness(t).withTrains()
	var ids []string
	for i := range 3 {
		made := h.must(h.sendJSON("POST", "/v1/subscriptions", fmt.Sprintf(`{"name":"n%d","streams":["trains"],"types":["train.%d"],"description":"For Billing"}`, i, i)), http.StatusCreated)
		ids = append(ids, made.subscription(t).ID)
	}
	slices.Sort(ids)
	listed := func(query string) (got []string, next string) {
		var page list[subscriptionAnswer]
		h.must(h.send("GET", "/v1/subscriptions"+query, ""), http.StatusOK).decode(t, &page)
		for _, s := range page.Items {
			got = append(got, s.ID)
		}
		return got, page.Next
	}
	all, _ := listed("")
	first, next := listed("?limit=2&q=billing+trains")
	rest, _ := listed("?limit=2&q=billing+trains&next=" + next)
	if diff := cmp.Diff(ids, all); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(ids, append(first, rest...)); diff != "" || len(first) != 2 {
		t.Error(diff)
	}
	for query, want := range map[string]int{"?q=n1": 1, "?q=TRAIN.2+n2": 1, "?q=train.2+n1": 0, "?q=" + ids[0]: 1} {
		if got, _ := listed(query); len(got) != want {
			t.Errorf("%s finds %v", query, got)
		}
	}
	h.must(h.send("GET", "/v1/subscriptions?limit=0", ""), http.StatusBadRequest)
}

func TestSubscriptionThatCannotBeIsRefusedWithTheReason(t *testing.T) {
	h := newHarness(t).withTrains()
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"name":"n","streams":["trains"]}`), http.StatusCreated).subscription(t)
	address := "/v1/subscriptions/" + made.ID
	for _, c := range []struct {
		method, path, body string
		status             int
		kind, pointer      string
	}{
		{"POST", "/v1/subscriptions", `{"streams":["trains"],`, 400, "malformed-json", ""},
		{"POST", "/v1/subscriptions", `[]`, 422, "invalid-object", ""},
		{"POST", "/v1/subscriptions", `{}`, 422, "invalid-object", "/streams"},
		{"POST", "/v1/subscriptions", `{"streams":["trains","none"]}`, 422, "invalid-object", "/streams/1"},
		{"POST", "/v1/subscriptions", `{"types":["plane.*"]}`, 422, "invalid-object", "/types/0"},
		{"POST", "/v1/subscriptions", `{"streams":["trains"],"filters":[{"sql":"LIKE"}]}`, 422, "invalid-object", "/filters/0/sql"},
		{"POST", "/v1/subscriptions", `{"streams":["trains"],"sink":"http://example.com"}`, 422, "invalid-object", "/sink"},
		{"POST", "/v1/subscriptions", `{"streams":["trains"],"secret":"x"}`, 422, "invalid-object", "/secret"},
		{"POST", "/v1/subscriptions", `{"streams":["trains"],"stream":"trains"}`, 422, "invalid-object", "/stream"},
		{"POST", "/v1/subscriptions", `{"streams":["trains"],"config":{"ackTimeout":"2h"}}`, 422, "invalid-object", "/config/ackTimeout"},
		{"PUT", address, `{"name":"m","streams":["trains"]}`, 422, "invalid-object", "/name"},
		{"PUT", address, `{"id":"s","streams":["trains"]}`, 422, "invalid-object", "/id"},
		{"PATCH", address, `{"name":"m"}`, 422, "invalid-object", "/name"},
		{"PATCH", address, `{"sink":"https://example.com"}`, 422, "invalid-object", "/sink"},
		{"PATCH", address, `{"status":{"state":"paused"}}`, 422, "invalid-object", "/status"},
		{"POST", address, `{}`, 405, "method-not-allowed", ""},
		{"DELETE", address + ":delete", "", 404, "not-found", ""}, // no id has a colon
		{"GET", address + "x", "", 404, "unknown-subscription", ""},
	} {
		p := h.must(h.sendJSON(c.method, c.path, c.body), c.status).problem(t)
		if p.Type != "/problems/"+c.kind || c.pointer != "" && (len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer || p.Errors[0].Message == "") {
			t.Errorf("%s %s %s: %+v", c.method, c.path, c.body, p)
		}
	}
	h.must(h.send("POST", "/v1/subscriptions", `{"streams":["trains"]}`, "Content-Type: text/plain"), http.StatusUnsupportedMediaType)
	if got := h.must(h.send("GET", "/v1/subscriptions", ""), http.StatusOK); strings.Count(string(got.body), `"id"`) != 1 {
		t.Errorf("there are %s", got.body)
	}
}

func TestStreamOfASubscriptionIsDeletedByForceOnlyAndMissedThen(t *testing.T) {
	h := newHarness(t)
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":1}`), http.StatusCreated)
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"name":"boards","streams":["trains"]}`), http.StatusCreated)
	if p := h.must(h.send("DELETE", "/v1/streams/trains", ""), http.StatusConflict).problem(t); !strings.Contains(p.Detail, "boards") || !strings.Contains(p.Detail, "force=true") {
		t.Error(p.Detail)
	}
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
	read := h.must(h.send("GET", "/v1/subscriptions/"+made.subscription(t).ID, "", "If-None-Match: "+made.header.Get("ETag")), http.StatusOK)
	if s := read.subscription(t); s.Status.State != catalog.SubscriptionFailing || s.Status.Reason != "stream trains is gone" {
		t.Errorf("%s", read.body)
	}
}

func TestChangesOfSubscriptionsAreInTheAudit(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) {
		log, err := audit.New(audit.Config{Log: d.Log})
		if err != nil {
			t.Fatal(err)
		}
		d.Audit = log
		d.Catalog.AuditTo(log)
	}).withTrains()
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"name":"boards","streams":["trains"]}`), http.StatusCreated).subscription(t)
	h.must(h.sendJSON("PATCH", "/v1/subscriptions/"+made.ID, `{"description":"d"}`), http.StatusOK)
	h.must(h.send("DELETE", "/v1/subscriptions/"+made.ID, ""), http.StatusNoContent)
	var page list[catalog.Entry]
	h.must(h.send("GET", "/v1/admin/audit?limit=3", ""), http.StatusOK).decode(t, &page)
	var got []string
	for _, e := range page.Items {
		got = append(got, string(e.Action)+" "+e.Kind+" "+strings.ReplaceAll(e.Name, made.ID, "it")+" "+e.By)
	}
	if diff := cmp.Diff([]string{"deleted subscription it local", "changed subscription it local", "created subscription it local"}, got); diff != "" {
		t.Error(diff)
	}
}
