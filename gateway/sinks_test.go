package gateway

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/audit"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// sunk makes a subscription of "trains" with a sink, and returns it and its address.
func (h *harness) sunk(more string) (subscriptionAnswer, string) {
	h.t.Helper()
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"streams":["trains"],"sink":"https://example.com/events"`+more+`}`), http.StatusCreated).subscription(h.t)
	return made, "/v1/subscriptions/" + made.ID
}

func TestSecretOfASubscriptionIsAnsweredOnce(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) {
		log, err := audit.New(audit.Config{Log: d.Log})
		if err != nil {
			t.Fatal(err)
		}
		d.Audit = log
		d.Catalog.AuditTo(log)
	}).withTrains()
	const body = `{"name":"hook","streams":["trains"],"sink":"https://example.com/events","protocolsettings":{"headers":{"X-Key":"top-secret"}},"sinkcredential":{"credentialtype":"ACCESSTOKEN","secret":"top-secret"}}`
	made := h.must(h.sendJSON("POST", "/v1/subscriptions", body), http.StatusCreated)
	s := made.subscription(t)
	secret, err := webhook.ParseSecret(s.Secret)
	if err != nil || len(secret) != 32 || made.header.Get("Cache-Control") != "no-store" || s.PublicKey == "" {
		t.Errorf("%v: made %s", err, made.body)
	}
	if s.Status.State != catalog.SubscriptionPending || s.Status.Reason == "" || s.Config.Ordering != catalog.OrderingNone {
		t.Errorf("made %s", made.body)
	}
	address := "/v1/subscriptions/" + s.ID
	told := made.body
	check := func(a answer) answer {
		t.Helper()
		if never := regexp.MustCompile(`whsec_[A-Za-z0-9+/]{8}|top-secret|"secret":`).Find(a.body); never != nil {
			t.Errorf("it tells %s: %s", never, a.body)
		}
		return a
	}
	again := check(h.must(h.sendJSON("POST", "/v1/subscriptions", body), http.StatusOK))
	read := check(h.must(h.send("GET", address, ""), http.StatusOK))
	if diff := cmp.Diff(string(read.body), string(again.body)); diff != "" || again.header.Get("ETag") != made.header.Get("ETag") {
		t.Error(diff)
	}
	if without := strings.Replace(string(told), `"secret":"`+s.Secret+`",`, "", 1); without != string(read.body) {
		t.Errorf("made %s\nread %s", told, read.body)
	}
	check(h.must(h.send("GET", "/v1/subscriptions?q=example.com+hook", ""), http.StatusOK))
	// What was answered can be written, with the secret and without it, and changes nothing.
	for _, body := range []string{string(told), string(read.body)} {
		if a := check(h.must(h.sendJSON("PUT", address, body), http.StatusOK)); a.header.Get("ETag") != made.header.Get("ETag") {
			t.Errorf("written back it is %s", a.body)
		}
	}
	check(h.must(h.sendJSON("PATCH", address, `{"sinkcredential":{"secret":"top-secret-2"}}`, "If-Match: "+made.header.Get("ETag")), http.StatusOK))
	check(h.must(h.sendJSON("POST", "/v1/subscriptions", strings.Replace(body, "ACCESSTOKEN", "PLAIN", 1)), http.StatusUnprocessableEntity))
	check(h.must(h.sendJSON("POST", "/v1/subscriptions", strings.Replace(body, "/events", "/other", 1)), http.StatusConflict))

	rotated := h.must(h.sendJSON("POST", address+":rotate-secret", `{"keep":"1h"}`), http.StatusOK)
	var signs signing
	rotated.decode(t, &signs)
	if signs.Secret == s.Secret || !strings.HasPrefix(signs.Secret, "whsec_") || !strings.HasPrefix(signs.PublicKey, "whpk_") || rotated.header.Get("Cache-Control") != "no-store" {
		t.Errorf("rotated to %s", rotated.body)
	}
	if a := check(h.must(h.send("GET", address, ""), http.StatusOK)); a.subscription(t).PublicKey != signs.PublicKey || a.header.Get("ETag") != rotated.header.Get("ETag") {
		t.Errorf("rotated to %s", a.body)
	}
	h.must(h.send("POST", address+":rotate-secret", ""), http.StatusOK)
	if p := check(h.must(h.send("POST", address+":rotate-secret", ""), http.StatusConflict)).problem(t); !strings.Contains(p.Detail, "keep 0s") {
		t.Error(p.Detail)
	}
	given := webhook.NewSecret().Text()
	h.must(h.sendJSON("POST", address+":rotate-secret", `{"keep":"0s","secret":"`+given+`"}`), http.StatusOK).decode(t, &signs)
	if signs.Secret != given {
		t.Error("rotated to another secret than was given")
	}
	for body, pointer := range map[string]string{`{"keep":"169h"}`: "/keep", `{"keep":-1}`: "/keep", `{"secret":"top-secret"}`: "/secret", `{"kept":1}`: "/kept", `[]`: ""} {
		p := check(h.must(h.sendJSON("POST", address+":rotate-secret", body), http.StatusUnprocessableEntity)).problem(t)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, p)
		}
	}

	h.must(h.send("DELETE", address, ""), http.StatusNoContent)
	var page list[catalog.Entry]
	check(h.must(h.send("GET", "/v1/admin/audit?limit=6", ""), http.StatusOK)).decode(t, &page)
	var actions []catalog.Action
	for _, e := range page.Items {
		actions = append(actions, e.Action)
	}
	want := []catalog.Action{catalog.ActionDeleted, catalog.ActionRotated, catalog.ActionRotated, catalog.ActionRotated, catalog.ActionChanged, catalog.ActionCreated}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Error(diff)
	}
}

// pushing is a Push that finds some endpoints failing.
type pushing struct {
	Push
	failing map[string]string
}

func (p pushing) Failing(id string) (string, bool) { reason, ok := p.failing[id]; return reason, ok }

func TestSubscriptionWithASinkIsPausedAndResumed(t *testing.T) {
	failing := pushing{failing: map[string]string{}}
	h := newHarness(t, func(_ *Config, d *Deps) { d.Push = failing }).withTrains()
	made, address := h.sunk("")
	made.Subscription, _ = h.deps.Catalog.Subscription(made.ID)
	is := func(a answer, state catalog.SubscriptionState, reason string) {
		t.Helper()
		if s := a.subscription(t); s.Status.State != state || !strings.Contains(s.Status.Reason, reason) || a.header.Get("ETag") != made.ETag() {
			t.Errorf("it is %s", a.body)
		}
	}
	engine := h.deps.Catalog.As(catalog.Actor{Name: "push"})
	if _, err := engine.ProveSubscription(t.Context(), made.ID, made.Sink, catalog.Proof{State: catalog.ProofProven, By: catalog.ByConsent, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	is(h.must(h.send("GET", address, ""), http.StatusOK), catalog.SubscriptionActive, "")
	failing.failing[made.ID] = "it answered 503 for 5 minutes"
	is(h.must(h.send("GET", address, ""), http.StatusOK), catalog.SubscriptionFailing, "503")
	is(h.must(h.send("POST", address+":pause", "", "If-Match: "+made.ETag()), http.StatusOK), catalog.SubscriptionPaused, "")
	is(h.must(h.send("POST", address+":pause", ""), http.StatusOK), catalog.SubscriptionPaused, "")
	delete(failing.failing, made.ID)
	is(h.must(h.send("POST", address+":resume", ""), http.StatusOK), catalog.SubscriptionActive, "")
	if _, err := engine.DisableSubscription(t.Context(), made.ID, made.Incarnation, "it answered 410"); err != nil {
		t.Fatal(err)
	}
	is(h.must(h.send("GET", address, ""), http.StatusOK), catalog.SubscriptionDisabled, "410")
	is(h.must(h.send("POST", address+":resume", ""), http.StatusOK), catalog.SubscriptionActive, "")

	for verb, body := range map[string]string{":pause": "{}", ":resume": "{}", ":rotate-secret": "{}", ":replay": `{"from":"oldest"}`} {
		h.must(h.sendJSON("POST", address+verb, body, `If-Match: "another"`), http.StatusPreconditionFailed)
		none := "/v1/subscriptions/s" + strings.Repeat("a", 26)
		if p := h.must(h.sendJSON("POST", none+verb, body), http.StatusNotFound).problem(t); p.Type != "/problems/unknown-subscription" {
			t.Errorf("%s: %+v", verb, p)
		}
	}
}

func TestEachWayOfDeliveryHasItsOwnOperations(t *testing.T) {
	h := newHarness(t).withTrains()
	_, pushed := h.sunk("")
	read := "/v1/subscriptions/" + h.must(h.sendJSON("POST", "/v1/subscriptions", `{"streams":["trains"]}`), http.StatusCreated).subscription(t).ID
	for _, c := range []struct{ method, path, body string }{
		{"GET", pushed + "/events", ""},
		{"POST", pushed + "/cursors", `{"cursors":["x"]}`},
		{"POST", pushed + ":reset", `{"from":"oldest"}`},
		{"POST", read + ":pause", ""},
		{"POST", read + ":resume", ""},
		{"POST", read + ":rotate-secret", `{}`},
		{"POST", read + ":replay", `{"from":"oldest"}`},
	} {
		if p := h.must(h.sendJSON(c.method, c.path, c.body), http.StatusConflict).problem(t); p.Type != "/problems/other-delivery" || !strings.Contains(p.Detail, "sink") {
			t.Errorf("%s %s: %+v", c.method, c.path, p)
		}
	}
	h.must(h.sendJSON("PATCH", read, `{"sink":"https://example.com/"}`), http.StatusUnprocessableEntity)
	h.must(h.sendJSON("PUT", pushed, `{"streams":["trains"]}`), http.StatusUnprocessableEntity)
	h.must(h.send("DELETE", pushed, ""), http.StatusNoContent)
}

func TestEventsAreReplayedFromWhereTheyAre(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.send("POST", "/v1/events", "["+trainEvent("1", `,"partitionkey":"a"`)+","+trainEvent("2", `,"partitionkey":"a"`)+"]", batched), http.StatusOK)
	made, address := h.sunk("")
	ordered, inOrder := h.sunk(`,"config":{"ordering":"key"}`)
	begins, _ := h.deps.Catalog.Subscription(made.ID)
	h.must(h.send("POST", "/v1/events", trainEvent("3", `,"partitionkey":"a"`), structured), http.StatusOK)

	var got replayed
	h.must(h.sendJSON("POST", address+":replay", `{"from":"oldest"}`), http.StatusAccepted).decode(t, &got)
	s, _ := h.deps.Catalog.Subscription(made.ID)
	if got.Mode != "beside" || got.Records != 3 || len(s.Replays) != 1 || s.Replays[0].Incarnation != got.Replay || s.Incarnation != begins.Incarnation {
		t.Errorf("%+v: %+v", got, s.Replays)
	}
	var ways []string
	for p := range int32(3) {
		if from, to, ok := s.Replays[0].Goes("trains", p); ok {
			ways = append(ways, fmt.Sprint(from, "-", to))
		}
	}
	if diff := cmp.Diff([]string{"0-3"}, ways); diff != "" {
		t.Error(diff)
	}
	since := time.Now().Add(-time.Hour).Format(time.RFC3339)
	h.must(h.sendJSON("POST", address+":replay", `{"since":"`+since+`"}`), http.StatusAccepted).decode(t, &got)
	if s, _ = h.deps.Catalog.Subscription(made.ID); got.Since.Format(time.RFC3339) != s.Replays[1].Since.Format(time.RFC3339) || len(s.Replays) != 2 {
		t.Errorf("%+v: %+v", got, s.Replays)
	}
	h.must(h.sendJSON("POST", address+":replay", `{"from":"oldest"}`), http.StatusAccepted)
	h.must(h.sendJSON("POST", address+":replay", `{"from":"oldest"}`), http.StatusAccepted)
	if p := h.must(h.sendJSON("POST", address+":replay", `{"from":"oldest"}`), http.StatusConflict).problem(t); p.Type != "/problems/conflict" {
		t.Errorf("%+v", p)
	}

	before, _ := h.deps.Catalog.Subscription(ordered.ID)
	got = replayed{}
	h.must(h.sendJSON("POST", inOrder+":replay", `{"from":"oldest"}`), http.StatusAccepted).decode(t, &got)
	after, _ := h.deps.Catalog.Subscription(ordered.ID)
	sum := int64(0)
	for _, n := range after.Start["trains"].Next {
		sum += n
	}
	if got.Mode != "rewind" || got.Replay != "" || got.Records != 3 || after.Incarnation == before.Incarnation || sum != 0 || len(after.Replays) != 0 {
		t.Errorf("%+v: %+v", got, after.Start)
	}
	for _, body := range []string{`{}`, `{"from":"latest"}`, `{"since":"yesterday"}`, `{"since":"2999-01-01T00:00:00Z"}`, `{"from":"oldest","since":"2020-01-01T00:00:00Z"}`, `{"attempt":1}`} {
		h.must(h.sendJSON("POST", inOrder+":replay", body), http.StatusBadRequest)
	}
}

func TestServerWithoutKeysHasNoSinks(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) {
		definitions, err := table.New(table.Config{Log: d.Log, Topic: "_eventissuer.catalog"})
		if err != nil {
			t.Fatal(err)
		}
		without, err := catalog.New(catalog.Config{Table: definitions, Topics: d.Log, TopicPrefix: "eventissuer."})
		if err != nil {
			t.Fatal(err)
		}
		running(t, definitions.Run)
		<-without.Ready()
		d.Catalog = without
	}).withTrains()
	p := h.must(h.sendJSON("POST", "/v1/subscriptions", `{"streams":["trains"],"sink":"https://example.com/"}`), http.StatusNotImplemented).problem(t)
	if p.Type != "/problems/no-sinks" || !strings.Contains(p.Detail, "key ring") {
		t.Errorf("%+v", p)
	}
	h.must(h.sendJSON("POST", "/v1/subscriptions", `{"streams":["trains"]}`), http.StatusCreated)
}
