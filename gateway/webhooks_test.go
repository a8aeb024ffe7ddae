package gateway

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/jwks"
	"github.com/eventissuer/eventissuer/internal/webhook"
	"github.com/eventissuer/eventissuer/push"
)

// attemptsOf lists attempts.
func (h *harness) attemptsOf(address, query string) []push.Attempt {
	h.t.Helper()
	var page list[push.Attempt]
	h.must(h.send("GET", address+"/attempts"+query, ""), http.StatusOK).decode(h.t, &page)
	return page.Items
}

func TestEventsComeToAnEndpointSignedAndItsOwnerSeesIt(t *testing.T) {
	to := newEndpoint(t)
	h := newHarness(t, delivering(t, to)).withTrains()
	made, address := h.hooked(to, "")
	if is := h.awaitState(address, catalog.SubscriptionActive).Status.Proof; is.State != catalog.ProofProven || is.By != catalog.ByConsent || is.RatePerMinute != 6000 || is.At.IsZero() || !is.Next.IsZero() {
		t.Errorf("it has proven itself as %+v", is)
	}
	secret, err := webhook.ParseSecret(made.Secret)
	if err != nil {
		t.Fatal(err)
	}
	public, err := webhook.ParsePublicKey(made.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(m message, secrets []webhook.Secret, keys ...ed25519.PublicKey) {
		t.Helper()
		if err := webhook.Verify(m.header, m.body, secrets, keys, time.Now(), time.Minute); err != nil {
			t.Errorf("%v: %v", err, m.header)
		}
	}
	h.publishTrains("a", "b", "c")
	for _, id := range []string{"a", "b", "c"} {
		m := to.awaitMessages(id, 1)[0]
		signed(m, []webhook.Secret{secret})
		signed(m, nil, public)
	}

	// What is seen of it.
	var seen []push.Attempt
	eventually(t, "an attempt is listed", func() bool {
		seen = h.attemptsOf(address, "?state=delivered&state=failed&limit=200")
		return len(seen) > 0
	})
	a := seen[len(seen)-1]
	if a.ID == "" || a.Subscription != "" || a.Outcome != push.Delivered || a.Status != http.StatusNoContent || a.Stream != "trains" || a.EventType != "train.position" || a.Number != 1 || a.Took <= 0 {
		t.Errorf("an attempt is %+v", a)
	}
	if again := h.attemptsOf(address, "?event="+a.EventID); len(again) != 1 || again[0].ID != a.ID {
		t.Errorf("of event %s there are %+v", a.EventID, again)
	}
	for _, query := range []string{"?state=failed", "?event=none", "?since=" + url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339)), "?until=2020-01-01T00:00:00%2B01:00"} {
		if none := h.attemptsOf(address, query); len(none) != 0 {
			t.Errorf("%s has %+v", query, none)
		}
	}
	eventually(t, "the series counts them", func() bool {
		var series list[deliveryPoint]
		h.must(h.send("GET", address+"/deliveries?step=5m", ""), http.StatusOK).decode(t, &series)
		var n int64
		for _, p := range series.Items {
			n += p.Delivered
		}
		return n == 3 && len(series.Items) >= 12 && series.Items[len(series.Items)-1].P99+series.Items[len(series.Items)-2].P99 != ""
	})
	eventually(t, "the stats have nothing left", func() bool {
		var stats deliveryStats
		h.must(h.send("GET", address+"/stats", ""), http.StatusOK).decode(t, &stats)
		var end int64
		for _, p := range stats.Partitions {
			end += p.End
		}
		return stats.Lag == 0 && stats.Undone == 0 && !stats.Partial && len(stats.Partitions) == 3 && end == 3 && stats.State == catalog.SubscriptionActive && stats.Name == "hook"
	})

	// The owner tries it, and has an event sent again.
	var tried push.Attempt
	h.must(h.send("POST", address+":test", ""), http.StatusOK).decode(t, &tried)
	if tried.Outcome != push.Delivered || !tried.Manual || tried.EventType != push.TestType || tried.Stream != "" {
		t.Errorf("the test is %+v", tried)
	}
	signed(to.awaitMessages(tried.EventID, 1)[0], []webhook.Secret{secret})
	var resent list[push.Attempt]
	body := fmt.Sprintf(`{"attempts":[%q,%q]}`, a.ID, a.ID)
	raw := h.must(h.sendJSON("POST", address+":replay", body), http.StatusOK)
	raw.decode(t, &resent)
	if strings.Count(string(raw.body), `{"of":"`+a.ID+`",`) != 2 || len(resent.Items) != 2 || resent.Items[1].Outcome != push.Delivered || !resent.Items[1].Manual || resent.Items[1].Message != a.Message {
		t.Errorf("sent again: %s", raw.body)
	}
	if both := to.messages(a.EventID); len(both) != 2 || both[0].id() != both[1].id() || both[0].id() != a.Message {
		t.Errorf("event %s came %d times", a.EventID, len(both))
	}
	if is := h.must(h.sendJSON("POST", address+":verify", ""), http.StatusOK).subscription(t); is.Status.Proof.State != catalog.ProofProven {
		t.Errorf("asked again, it is %+v", is.Status.Proof)
	}

	// A pause holds events back, and a rotation has both secrets sign.
	h.must(h.send("POST", address+":pause", ""), http.StatusOK)
	held := 0
	eventually(t, "events are held back", func() bool { // one that was just before the pause may have gone out still
		held++
		h.publishTrains(fmt.Sprint("d", held))
		var stats deliveryStats
		h.must(h.send("GET", address+"/stats", ""), http.StatusOK).decode(t, &stats)
		return stats.Lag > 0 && stats.InFlight == 0 && stats.State == catalog.SubscriptionPaused && len(to.messages(fmt.Sprint("d", held))) == 0
	})
	h.must(h.send("POST", address+":test", ""), http.StatusOK)
	var signs signing
	h.must(h.sendJSON("POST", address+":rotate-secret", `{"keep":"1h"}`), http.StatusOK).decode(t, &signs)
	h.must(h.send("POST", address+":resume", ""), http.StatusOK)
	m := to.awaitMessages(fmt.Sprint("d", held), 1)[0]
	second, err := webhook.ParseSecret(signs.Secret)
	if err != nil {
		t.Fatal(err)
	}
	signed(m, []webhook.Secret{secret})
	signed(m, []webhook.Secret{second})
	h.must(h.send("PATCH", address, `{"protocolsettings":{"signatures":["v1a"]}}`, "Content-Type: application/merge-patch+json"), http.StatusOK)
	eventually(t, "messages have the one signature alone", func() bool {
		h.must(h.send("POST", address+":test", ""), http.StatusOK).decode(t, &tried)
		got := to.awaitMessages(tried.EventID, 1)[0]
		return webhook.Verify(got.header, got.body, []webhook.Secret{second}, nil, time.Now(), time.Minute) != nil
	})

	// Who asks too often is told to wait.
	var last answer
	for range 10 {
		if last = h.send("POST", address+":test", ""); last.status != http.StatusOK {
			break
		}
	}
	if p := h.must(last, http.StatusTooManyRequests).problem(t); p.Type != "/problems/asked-too-often" || last.header.Get("Retry-After") == "" {
		t.Errorf("%+v", p)
	}
	h.must(h.send("DELETE", address, ""), http.StatusNoContent)
	_, address = h.hooked(to, "")
	if left := h.attemptsOf(address, ""); len(left) != 0 {
		t.Errorf("of the one that was deleted there are %+v", left)
	}
}

func TestDeadLettersAreSentAgain(t *testing.T) {
	to := newEndpoint(t)
	h := newHarness(t, delivering(t, to)).withTrains()
	_, address := h.hooked(to, `,"config":{"retry":{"schedule":["1s"]}}`)
	h.awaitState(address, catalog.SubscriptionActive)
	to.answer(func(m message) int {
		if m.about("well") {
			return http.StatusOK
		}
		return http.StatusUnprocessableEntity
	})
	h.publishTrains("a", "well", "b", "c")
	letters := func() (all []deadLetter) {
		var page list[deadLetter]
		h.must(h.send("GET", address+"/dead-letters", ""), http.StatusOK).decode(t, &page)
		return page.Items
	}
	eventually(t, "three events are dead letters", func() bool { return len(letters()) == 3 })
	dead := letters()
	byEvent := map[string]deadLetter{}
	for _, l := range dead {
		for _, id := range []string{"a", "b", "c"} {
			if (message{body: l.Event}).about(id) {
				byEvent[id] = l
			}
		}
		if l.Attempts != 2 || !strings.Contains(l.Reason, "422") || l.Redelivered {
			t.Errorf("a letter is %+v", l)
		}
	}
	failed := h.attemptsOf(address, "?state=refused&event=a")
	if len(failed) != 2 || !failed[0].DeadLetter || failed[1].Next.IsZero() {
		t.Errorf("the attempts are %+v", failed)
	}

	redeliver := func(body string) (done redelivered) {
		t.Helper()
		h.must(h.sendJSON("POST", address+"/dead-letters:redeliver", body), http.StatusOK).decode(t, &done)
		return done
	}
	// The endpoint refuses still.
	first := byEvent["a"].ID
	if done := redeliver(fmt.Sprintf(`{"ids":[%q,"999999"]}`, first)); done.Redelivered != 0 || len(done.Failed) != 2 || done.Next != "" {
		t.Errorf("%+v", done)
	}
	to.answer(nil)
	if done := redeliver(fmt.Sprintf(`{"ids":[%q]}`, first)); done.Redelivered != 1 || len(done.Failed) != 0 {
		t.Errorf("%+v", done)
	}
	for _, l := range letters() {
		if l.Redelivered != (l.ID == first) {
			t.Errorf("delivered since: %+v", l)
		}
	}
	if done := redeliver(fmt.Sprintf(`{"ids":[%q]}`, byEvent["b"].ID)); done.Redelivered != 1 {
		t.Errorf("%+v", done)
	}
	// The stream is made anew: its log no longer has the others, but their letters do.
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
	h.withTrains()
	if done := redeliver(`{"all":true}`); done.Redelivered != 1 || len(done.Failed) != 0 || done.Next != "" {
		t.Errorf("%+v", done)
	}
	for id, want := range map[string]struct{ times, ids int }{"a": {4, 1}, "b": {3, 1}, "c": {3, 2}, "well": {1, 1}} {
		ids := map[string]bool{}
		for _, m := range to.messages(id) {
			ids[m.id()] = true
		}
		if n := len(to.messages(id)); n != want.times || len(ids) != want.ids {
			t.Errorf("event %s came %d times, with %d ids of messages", id, n, len(ids))
		}
	}
	if done := redeliver(`{"all":true}`); done.Redelivered != 0 || len(done.Failed) != 0 {
		t.Errorf("once more: %+v", done)
	}
	// What the log no longer has is told of an attempt, too, although there are other events in its place.
	for i := range byEvent["b"].Offset + 1 {
		h.must(h.send("POST", "/v1/events", trainEvent(fmt.Sprint("other", i), `,"subject":"b"`), structured), http.StatusOK)
	}
	gone := h.attemptsOf(address, "?state=refused&event=b")
	raw := h.must(h.sendJSON("POST", address+":replay", fmt.Sprintf(`{"attempts":[%q]}`, gone[0].ID)), http.StatusOK)
	if !strings.Contains(string(raw.body), `"state":"lost"`) || !strings.Contains(string(raw.body), push.ErrGone.Error()) {
		t.Errorf("%s", raw.body)
	}
	for _, body := range []string{`{}`, `{"ids":[]}`, `{"ids":["x"]}`, `{"ids":["1"],"all":true}`, `{"ids":["1"],"next":"1"}`, `{"all":true,"next":"x"}`, `{"ids":["` + strings.Repeat(`1","`, 100) + `1"]}`} {
		h.must(h.sendJSON("POST", address+"/dead-letters:redeliver", body), http.StatusBadRequest)
	}
}

// journal is a log that a test can look into.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func TestEndpointConsentsByItsCallbackAndTheCodeIsToldToNobody(t *testing.T) {
	to := newEndpoint(t)
	to.consents = false
	var told journal
	h := newHarness(t, delivering(t, to), func(_ *Config, d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}).withTrains()
	_, address := h.hooked(to, "")
	var callback string
	eventually(t, "the endpoint is asked for its consent, and says nothing", func() bool {
		to.mu.Lock()
		callback = to.callback
		to.mu.Unlock()
		s := h.must(h.send("GET", address, ""), http.StatusOK).subscription(t)
		return callback != "" && s.Status.Proof.Tries > 0
	})
	s := h.must(h.send("GET", address, ""), http.StatusOK).subscription(t)
	if s.Status.State != catalog.SubscriptionPending || s.Status.Proof.State != catalog.ProofPending || !strings.Contains(s.Status.Proof.Reason, "challenge") || !s.Status.Proof.Next.After(time.Now()) {
		t.Errorf("it is %+v", s.Status)
	}
	for path, body := range map[string]string{":test": "", "/dead-letters:redeliver": `{"all":true}`} {
		if p := h.must(h.sendJSON("POST", address+path, body), http.StatusConflict).problem(t); p.Type != "/problems/unproven" || !strings.Contains(p.Detail, ":verify") {
			t.Errorf("%s: %+v", path, p)
		}
	}
	u, err := url.Parse(callback)
	if err != nil || u.Path != address+":consent" {
		t.Fatalf("%v: the callback is %s", err, callback)
	}
	code := u.Query().Get("code")
	wrong := strings.Map(func(c rune) rune { return map[bool]rune{true: 'B', false: 'A'}[c == 'A'] }, code)
	for _, path := range []string{address + ":consent?code=" + wrong, address + ":consent", "/v1/subscriptions/s" + strings.Repeat("a", 26) + ":consent?code=" + code} {
		for _, method := range []string{"GET", "POST"} {
			if p := h.must(h.send(method, path, ""), http.StatusForbidden).problem(t); p.Type != "/problems/wrong-code" {
				t.Errorf("%s %s: %+v", method, path, p)
			}
		}
	}
	right := u.Path + "?" + u.RawQuery
	h.must(h.send("GET", right, "", "WebHook-Allowed-Rate: often"), http.StatusBadRequest)
	h.must(h.send("HEAD", right, ""), http.StatusOK)
	if s := h.must(h.send("GET", address, ""), http.StatusOK).subscription(t); s.Status.State != catalog.SubscriptionPending {
		t.Errorf("it was proven by looking: %+v", s.Status)
	}
	if a := h.must(h.send("POST", right, "", "WebHook-Allowed-Rate: 120"), http.StatusOK); !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || len(a.body) == 0 {
		t.Errorf("%v: %s", a.header, a.body)
	}
	s = h.must(h.send("GET", address, ""), http.StatusOK).subscription(t)
	if is := s.Status.Proof; s.Status.State != catalog.SubscriptionActive || is.By != catalog.ByConsent || is.RatePerMinute != 120 {
		t.Errorf("it is %+v", s.Status)
	}
	h.must(h.send("GET", right, ""), http.StatusOK)
	h.publishTrains("a")
	to.awaitMessages("a", 1)

	// Another sink is another code's.
	h.must(h.send("PATCH", address, `{"sink":"`+to.server.URL+`/other"}`, "Content-Type: application/merge-patch+json"), http.StatusOK)
	h.must(h.send("GET", right, ""), http.StatusForbidden)

	metrics := string(h.must(h.send("GET", "/metrics", ""), http.StatusOK).body)
	if !strings.Contains(metrics, ":consent") || !strings.Contains(told.String(), ":consent") {
		t.Error("neither the log nor the metrics have the route")
	}
	for where, text := range map[string]string{"log": told.String(), "metrics": metrics} {
		for _, secret := range []string{code, wrong, u.RawQuery} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s tells the code", where)
			}
		}
	}
}

func TestWhatIsAskedOfDeliveriesIsChecked(t *testing.T) {
	to := newEndpoint(t)
	h := newHarness(t, delivering(t, to)).withTrains()
	_, pushed := h.hooked(to, "")
	h.awaitState(pushed, catalog.SubscriptionActive)
	read := h.subscribe("board", "")
	none := "/v1/subscriptions/s" + strings.Repeat("a", 26)
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/attempts", ""},
		{"GET", "/deliveries", ""},
		{"POST", ":verify", ""},
		{"POST", ":test", ""},
		{"POST", ":replay", `{"attempts":["x"]}`},
		{"POST", "/dead-letters:redeliver", `{"all":true}`},
	} {
		if p := h.must(h.sendJSON(c.method, read+c.path, c.body), http.StatusConflict).problem(t); p.Type != "/problems/other-delivery" {
			t.Errorf("%s: %+v", c.path, p)
		}
		if p := h.must(h.sendJSON(c.method, none+c.path, c.body), http.StatusNotFound).problem(t); p.Type != "/problems/unknown-subscription" {
			t.Errorf("%s: %+v", c.path, p)
		}
	}
	for _, path := range []string{
		"/attempts?state=well", "/attempts?states=failed", "/attempts?limit=201", "/attempts?limit=0", "/attempts?since=yesterday", "/attempts?until=1", "/attempts?event=a&event=b", "/attempts?next=x",
		"/deliveries?since=yesterday", "/deliveries?step=1s", "/deliveries?step=25h", "/deliveries?until=2026-01-02T03:04:05Z", "/deliveries?step=1m&step=2m",
	} {
		if p := h.must(h.send("GET", pushed+path, ""), http.StatusBadRequest).problem(t); p.Type != "/problems/invalid-parameter" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	for _, body := range []string{`{"attempts":[]}`, `{"attempts":["x"]}`, `{"attempts":["x"],"from":"oldest"}`, `{"attempts":["` + strings.Repeat(`x","`, 100) + `x"]}`} {
		h.must(h.sendJSON("POST", pushed+":replay", body), http.StatusBadRequest)
	}
	// An attempt that is nobody's.
	var made list[struct{ Of, State, Reason string }]
	const id = "AZJ9lQAAAQAAAAAAAAAAAAAABw"
	h.must(h.sendJSON("POST", pushed+":replay", `{"attempts":["`+id+`"]}`), http.StatusOK).decode(t, &made)
	if len(made.Items) != 1 || made.Items[0].Of != id || made.Items[0].State != string(attempts.Lost) || made.Items[0].Reason == "" {
		t.Errorf("%+v", made)
	}
}

// failing has every endpoint have failed since a time.
type failing struct{ since time.Time }

// Failed implements push.Health.
func (failing) Failed(string, uuid.UUID, string) {}

// Succeeded implements push.Health.
func (failing) Succeeded(uuid.UUID) {}

// Failing implements push.Health.
func (f failing) Failing(uuid.UUID) (since time.Time, cause string, ok bool) {
	return f.since, "it answered 503", true
}

func TestStatsOfWhatOthersDeliverSayHowFarItIsAtLeast(t *testing.T) {
	to, since := newEndpoint(t), time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	h := newHarness(t, delivering(t, to, func(c *push.Config, d *push.Deps) { c.Idle, d.Health = true, failing{since} })).withTrains()
	h.publishTrains("a", "b")
	made, address := h.hooked(to, "")
	h.publishTrains("c")
	var stats deliveryStats
	eventually(t, "the deliveries know of it", func() bool {
		h.must(h.send("GET", address+"/stats", ""), http.StatusOK).decode(t, &stats)
		return !stats.FailingSince.IsZero()
	})
	if stats.ID != made.ID || !stats.Partial || stats.Lag != 1 || len(stats.Partitions) != 3 || stats.State != catalog.SubscriptionPending || !stats.FailingSince.Equal(since) {
		t.Errorf("the stats are %+v", stats)
	}
	for _, p := range stats.Partitions {
		if !p.Elsewhere || p.Lag != p.End-p.Position {
			t.Errorf("%+v", p)
		}
	}
	// What the others have committed is told, where it is farther.
	behind := stats.Partitions[0]
	for _, p := range stats.Partitions {
		if p.Lag > 0 {
			behind = p
		}
	}
	commit, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := h.deps.Log.Join(commit, h.deps.Push.ConsumerGroup("eventissuer.trains"), []string{"eventissuer.trains"}, func(ctx context.Context, c broker.Claim) {
		if c.Partition() != behind.Partition {
			return
		}
		if err := c.Commit(ctx, behind.End, ""); err != nil {
			t.Error(err)
		}
		cancel()
	}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	h.must(h.send("GET", address+"/stats", ""), http.StatusOK).decode(t, &stats)
	if stats.Lag != 0 || !stats.Partial {
		t.Errorf("the stats are %+v", stats)
	}
}

func TestKeysThatSignTokensAreTold(t *testing.T) {
	key, err := jwks.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwks.New(key)
	if err != nil {
		t.Fatal(err)
	}
	for want, keys := range map[string]*jwks.Keys{`{"keys":[]}`: nil, string(keys.JWKS()): keys} {
		t.Run("", func(t *testing.T) {
			a := newHarness(t, func(_ *Config, d *Deps) { d.TokenKeys = keys }).send("GET", "/.well-known/jwks.json", "")
			if a.status != http.StatusOK || string(a.body) != want || !strings.HasPrefix(a.header.Get("Cache-Control"), "max-age=") {
				t.Errorf("it answers %d %s", a.status, a.body)
			}
		})
	}
}

func TestReplaysUnderWayAreShown(t *testing.T) {
	h := newHarness(t).withTrains()
	h.publishTrains("a", "b")
	_, address := h.sunk("")
	h.must(h.sendJSON("POST", address+":replay", `{"from":"oldest"}`), http.StatusAccepted)
	s := h.must(h.send("GET", address, ""), http.StatusOK).subscription(t)
	want := []replaying{{Replay: s.Status.Replays[0].Replay, Records: 2}}
	if diff := cmp.Diff(want, s.Status.Replays); diff != "" || want[0].Replay == "" {
		t.Error(diff)
	}
	// What was read can be written.
	read := h.must(h.send("GET", address, ""), http.StatusOK)
	if a := h.must(h.sendJSON("PUT", address, string(read.body)), http.StatusOK); a.header.Get("ETag") != read.header.Get("ETag") {
		t.Errorf("written back it is %s", a.body)
	}
}
