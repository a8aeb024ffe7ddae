package main_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/testenv"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Six subscriptions with a sink, on three replicas, three Kafka brokers and a Redis, while events are published all the
// time: two ordered by key, one of them in batches, one with a filter, one whose endpoint refuses events now and then, one
// whose endpoint is away for stretches, and one that is simple. Step by step, drawn at random, replicas and brokers are
// killed and started again, replicas stand still for longer than their share of the group lasts, Redis stands still or loses
// everything, endpoints fail or are slow, and subscriptions are paused, resumed, rewound, deleted and made again. When all
// is well again everything is delivered, and what the endpoints saw is held against the rules, each of which says what it
// asks.
//
// EVENTISSUER_TEST_STEPS is the number of steps, EVENTISSUER_TEST_SEED repeats a run's draws.
func TestWebhooksKeepTheirPromisesThroughRandomFaults(t *testing.T) {
	seed, steps := seedOf(t), stepsOf(t, 25)
	w := &pushing{world: newWorld(t, seed, "--allow-loopback-sinks", "--secret-keys", secretKeys(t)), book: newLogbook(false)}
	w.witnesses = []witness{w.book}
	const partitions = 4
	define(t, partitions, w.servers()...)
	w.observe()
	w.hooks()

	begun, end := context.WithCancel(t.Context())
	defer w.repairs.Wait()
	defer end()
	feeding := make(chan struct{})
	var feeders sync.WaitGroup
	defer feeders.Wait()
	const keys, workers = 60, 12
	for i := range workers {
		feeders.Go(func() { w.feed(begun, feeding, i, workers, keys) })
	}
	w.progress(20)
	w.say("everything is up")

	for n := range steps {
		w.step(begun, n)
		w.progress(3 + w.rand.IntN(10))
		if t.Failed() {
			break
		}
	}
	w.say("the faults are over")
	w.heal()
	w.comfort()
	close(feeding)
	feeders.Wait()
	w.say("every event is acknowledged by the log")
	log := readByOffset(t, kafka.Config{Brokers: w.brokers}, w.topic)
	e := w.evidence(log)
	for _, h := range w.all {
		w.drain(h, e)
	}
	w.say("everything is delivered")
	end()

	for _, h := range w.all {
		t.Run(h.name, func(t *testing.T) { h.verify(t, e, w.letters(h)) })
	}
	t.Logf("%d events, %d of them copies; %d troubles", len(log.at), len(log.at)-len(log.of), len(e.troubles))
}

// secretKeys writes a key ring.
func secretKeys(t *testing.T) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	path := filepath.Join(t.TempDir(), "secret-keys")
	if err := os.WriteFile(path, []byte("1 "+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pushing is a world in which events are sent to endpoints.
type pushing struct {
	*world
	book    *logbook
	all     []*hook
	log     *kafka.Log
	catalog *catalog.Catalog // as the test itself reads it
}

// observe has the test read the catalog as a replica does: it learns of all incarnations, which no client is told.
func (w *pushing) observe() {
	t := w.t
	t.Helper()
	log, err := kafka.New(kafka.Config{Brokers: w.brokers}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	definitions, err := table.New(table.Config{Log: log, Topic: "_" + w.prefix + "catalog", SnapshotBytes: 1 << 40})
	if err == nil {
		w.catalog, err = catalog.New(catalog.Config{Table: definitions, Topics: log})
	}
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]catalog.Subscription{} // one that is deleted is as it was
	w.catalog.Watch(func(c catalog.Change) {
		if c.Subscription == "" {
			return
		}
		if s, ok := w.catalog.Subscription(c.Subscription); ok {
			last[c.Subscription] = s
		}
		for _, h := range w.all {
			if h.name == last[c.Subscription].Name {
				if err := h.learn(last[c.Subscription], c.Deleted); err != nil {
					t.Errorf("the catalog's %s: %v", h.name, err)
				}
			}
		}
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := definitions.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("the catalog cannot be read: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the test has read the catalog", func() bool {
		select {
		case <-w.catalog.Ready():
			return true
		default:
			return false
		}
	})
}

// hooks makes the subscriptions and their endpoints.
func (w *pushing) hooks() {
	refuses := func(chance float64, always string) func(*mathrand.Rand, *arrival) int {
		return func(r *mathrand.Rand, a *arrival) int {
			if r.Float64() < chance || always != "" && slices.ContainsFunc(a.events, func(id string) bool { return strings.HasSuffix(id, always) }) {
				return http.StatusUnprocessableEntity
			}
			return http.StatusNoContent
		}
	}
	schedule := func(steps ...string) map[string]any {
		return map[string]any{"retry": map[string]any{"schedule": steps}}
	}
	batches := schedule("1s", "1s", "1s")
	batches["batch"] = map[string]any{"max": 10, "maxWait": "100ms"}
	w.all = []*hook{
		{name: "by-key", ordered: true, config: schedule("1s", "1s", "2s"), answers: refuses(.01, "")},
		{name: "unordered", config: schedule("1s", "2s")},
		{
			name: "filtered", config: schedule("1s", "2s"),
			filters: []any{map[string]any{"any": []any{
				map[string]any{"suffix": map[string]any{"subject": "3"}}, map[string]any{"sql": "subject LIKE 'k1%'"},
			}}},
			wants: func(key string) bool { return strings.HasSuffix(key, "3") || strings.HasPrefix(key, "k1") },
		},
		{name: "batched", ordered: true, config: batches, answers: refuses(.02, "7")},
		{name: "refusing", config: schedule("1s", "1s"), answers: refuses(.2, "13")},
		{name: "away", config: schedule("1s", "2s")},
	}
	for i, h := range w.all {
		h.book, h.lives = w.book, map[uuid.UUID]*life{}
		h.rand = mathrand.New(mathrand.NewPCG(w.seed, 1<<36+uint64(i)))
		h.door = &door{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(w.t))), handler: h}
		w.t.Cleanup(func() { h.close(w.t) })
		if err := h.door.open(); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, h := range w.all {
		w.make(h, catalog.FromOldest, false)
	}
}

// ask makes a request of whatever replica until it is answered with one of the statuses. It says how often.
func (w *pushing) ask(method, path string, body any, want ...int) (status int, out []byte, times int) {
	w.t.Helper()
	eventually(w.t, method+" "+path+" is answered", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		defer cancel()
		times++
		var err error
		status, out, err = w.choose(w.rand).try(ctx, method, path, body)
		return err == nil && slices.Contains(want, status)
	})
	return status, out, times
}

// make makes the subscription, or makes it again.
func (w *pushing) make(h *hook, from string, hesitates bool) {
	w.t.Helper()
	body := h.definition(from, hesitates)
	// 409: this replica has not heard yet that the one before was deleted.
	_, out, _ := w.ask(http.MethodPost, "/v1/subscriptions", body, http.StatusCreated, http.StatusOK)
	var made struct{ ID, PublicKey string }
	if err := json.Unmarshal(out, &made); err != nil || made.ID == "" {
		w.t.Fatalf("a new subscription is %s (%v), expected an id in it", out, err)
	}
	key, err := webhook.ParsePublicKey(made.PublicKey)
	if err != nil {
		w.t.Fatalf("a new subscription is %s: %v", out, err)
	}
	s := h.newest()
	h.id = made.ID
	h.mu.Lock()
	s.key = key
	h.mu.Unlock()
	eventually(w.t, "the test knows the new life of "+h.name, func() bool {
		_, path := h.present()
		return path == s.path
	})
}

// step does something.
func (w *pushing) step(ctx context.Context, n int) {
	h := w.all[w.rand.IntN(len(w.all))]
	switch draw := w.rand.IntN(100); {
	case draw < 50:
		w.disturb(ctx, n, w.rand.IntN(disturbances))
	case draw < 57:
		w.pauseOrResume(n, h)
	case draw < 67:
		w.replay(n, h)
	case draw < 73:
		w.makeAgain(n, h)
	case draw < 79:
		h.mu.Lock()
		if h.slow > 0 {
			h.slow = 0
		} else {
			h.slow = time.Duration(20+w.rand.IntN(400)) * time.Millisecond
		}
		w.say("step %d: %s takes up to %s to answer", n, h.name, h.slow)
		h.mu.Unlock()
	default:
		w.goAway(n, w.all[len(w.all)-1])
	}
}

func (w *pushing) pauseOrResume(n int, h *hook) {
	path := "/v1/subscriptions/" + h.id
	if h.paused {
		w.say("step %d: resume %s", n, h.name)
		h.loud()
		w.ask(http.MethodPost, path+":resume", nil, http.StatusOK)
	} else {
		w.say("step %d: pause %s", n, h.name)
		w.ask(http.MethodPost, path+":pause", nil, http.StatusOK)
		h.quiet()
	}
	h.setPaused(!h.paused)
}

func (w *pushing) replay(n int, h *hook) {
	before, _ := h.present()
	body := map[string]string{"from": "oldest"}
	if w.rand.IntN(3) > 0 {
		body = map[string]string{"since": time.Now().Add(-time.Duration(1+w.rand.IntN(20)) * time.Second).UTC().Format(time.RFC3339)}
	}
	w.say("step %d: replay %s: %v", n, h.name, body)
	// 409: there are enough replays already.
	status, out, times := w.ask(http.MethodPost, "/v1/subscriptions/"+h.id+":replay", body, http.StatusAccepted, http.StatusConflict)
	h.doubtful = h.doubtful || times > 1
	if status != http.StatusAccepted {
		return
	}
	var answer struct{ Mode, Replay string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Mode != map[bool]string{true: "rewind", false: "beside"}[h.ordered] {
		w.t.Fatalf("a replay of %s was answered %s (%v)", h.name, out, err)
	}
	if h.ordered {
		eventually(w.t, "the test knows the new life of "+h.name, func() bool {
			now, _ := h.present()
			return now != before && now != uuid.Nil
		})
	}
}

func (w *pushing) makeAgain(n int, h *hook) {
	if !h.door.isOpen() { // it could not consent, and is asked again after ever longer times
		return
	}
	w.say("step %d: delete %s and make it again", n, h.name)
	status, _, times := w.ask(http.MethodDelete, "/v1/subscriptions/"+h.id, nil, http.StatusNoContent, http.StatusNotFound)
	if status == http.StatusNotFound && times == 1 {
		w.t.Errorf("%s is not there any more", h.name)
	}
	h.quiet()
	h.setPaused(false)
	from := catalog.FromLatest
	if w.rand.IntN(2) == 0 {
		from = catalog.FromOldest
	}
	w.make(h, from, w.rand.IntN(3) == 0)
}

// goAway has an endpoint fail, or be refused, or be well again.
func (w *pushing) goAway(n int, h *hook) {
	h.mu.Lock()
	failing := h.failing
	h.mu.Unlock()
	switch open := h.door.isOpen(); {
	case failing || !open:
		w.say("step %d: %s is back", n, h.name)
		h.setFailing(false)
		if err := h.door.open(); err != nil {
			w.t.Error(err)
		}
	case w.rand.IntN(2) == 0:
		w.say("step %d: %s answers 503", n, h.name)
		h.setFailing(true)
	default:
		w.say("step %d: %s is shut", n, h.name)
		if err := h.door.shut(); err != nil {
			w.t.Error(err)
		}
	}
}

// comfort ends what is done to endpoints and subscriptions.
func (w *pushing) comfort() {
	for _, h := range w.all {
		h.setFailing(false)
		if err := h.door.open(); err != nil {
			w.t.Error(err)
		}
		h.mu.Lock()
		h.slow = 0
		h.mu.Unlock()
		if h.paused {
			h.loud()
			w.ask(http.MethodPost, "/v1/subscriptions/"+h.id+":resume", nil, http.StatusOK)
			h.setPaused(false)
		}
	}
}

// progress waits until every endpoint that can be sent to has had so many more events.
func (w *pushing) progress(n int) {
	w.t.Helper()
	for _, h := range w.all {
		want := h.counted() + n
		eventually(w.t, h.name+" is sent more", func() bool { return w.t.Failed() || !h.goes() || h.counted() >= want })
	}
}

// letters are the dead letters of a subscription.
func (w *pushing) letters(h *hook) (all []deadletters.Letter) {
	w.t.Helper()
	box, err := deadletters.New(deadletters.Config{Log: w.log, Topic: "_" + w.prefix + "dead-letters"})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for from := int64(0); from >= 0; {
		var page []deadletters.Letter
		if page, from, err = box.Page(ctx, h.id, from, 1000); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page...)
	}
	return all
}

// evidence is what is known once nothing is published any more.
func (w *pushing) evidence(log *written) *pushEvidence {
	w.t.Helper()
	e := &pushEvidence{began: w.book.began, keys: map[string]string{}, log: map[place]string{}, where: map[string][]place{}}
	for at, n := range log.at {
		e.log[at] = n.id
		e.where[n.id] = append(e.where[n.id], at)
	}
	w.book.mu.Lock()
	for id, p := range w.book.posts {
		e.keys[id] = p.key
		if p.done && e.log[p.at] != id {
			w.t.Errorf("%s was acknowledged at %v, where there is %q", id, p.at, e.log[p.at])
		}
	}
	w.book.mu.Unlock()
	eventually(w.t, "the epoch of the topic is known", func() bool {
		var err error
		e.epoch, err = w.log.Present(w.t.Context(), w.topic)
		return err == nil && e.epoch != broker.Epoch{}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.troubles {
		e.troubles = append(e.troubles, *t)
	}
	return e
}

// drain waits until a subscription has nothing left to deliver.
func (w *pushing) drain(h *hook, e *pushEvidence) {
	w.t.Helper()
	left := errors.New("not looked at yet")
	var looked time.Time
	defer func() {
		if left != nil {
			w.t.Logf("of %s: %v", h.name, left)
		}
	}()
	eventually(w.t, "all of "+h.name+" is delivered", func() bool {
		if time.Since(looked) < 300*time.Millisecond {
			return false
		}
		c := h.account(e, w.letters(h))
		left = nil
		if missing := c.missing(); len(missing) > 0 {
			left = fmt.Errorf("%d events were neither delivered nor set aside, first %s", len(missing), missing[0])
		}
		looked = time.Now()
		return left == nil
	})
}
