package cursor

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	consumersTopic = "_test.consumers"
	streamEpoch    = 77
	partitions     = 2
)

var reader = Name{Owner: "local", Stream: "trains", Consumer: "app"}

// process is one replica: a table on a log of its own faults, and the consumers in it.
type process struct {
	*Consumers
	log  *tabletest.View
	stop context.CancelFunc
	done sync.WaitGroup
}

func start(t *testing.T, log *tabletest.View, addr string) *process {
	t.Helper()
	tab, err := table.New(table.Config{
		Log: log, Topic: consumersTopic, SnapshotBytes: 2000, SnapshotDelay: time.Second, WriteTimeout: 3 * time.Second, Backoff: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	var client redis.UniversalClient
	if addr != "" {
		client = newClient(addr)
	}
	c, err := NewConsumers(ConsumersConfig{Table: tab, Redis: client, SaveEvery: 2 * time.Second, HintEvery: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Consumers: c, log: log}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = func() {
		stop()
		p.done.Wait()
		if client != nil {
			_ = client.Close()
		}
	}
	p.done.Go(func() { _ = tab.Run(ctx) })
	p.done.Go(func() { _ = c.Run(ctx) })
	return p
}

func newClient(addr string) redis.UniversalClient {
	return redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, ContextTimeoutEnabled: true})
}

func (p *process) loaded(t *testing.T) {
	t.Helper()
	select {
	case <-p.table.Ready():
	case <-time.After(10 * time.Minute):
		t.Fatal("the table cannot be loaded")
	}
}

// TestPositionsHoldWhateverHappens runs replicas, clients and a Redis that forgets, against a log that is slow, loses,
// repeats and delays, and then holds what was answered against what the log says.
func TestPositionsHoldWhateverHappens(t *testing.T) {
	seed, n := seedFrom(t), schedules(150)
	for k := range n {
		s := seed + uint64(k)
		redisServer := miniredis.RunT(t)
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(s, redisServer).run(t) })
		})
		redisServer.Close()
		if !ok {
			t.Fatalf("schedule of seed %d", s)
		}
	}
}

func schedules(n int) int {
	if testing.Short() {
		n /= 10
	}
	if f, err := strconv.Atoi(os.Getenv("EVENTISSUER_TEST_SCHEDULES")); err == nil {
		n *= f
	}
	return n
}

func seedFrom(t *testing.T) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("EVENTISSUER_TEST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() >> 1
	}
	t.Logf("EVENTISSUER_TEST_SEED=%d", seed)
	return seed
}

// world is one schedule, and what its clients did and were told.
type world struct {
	log   *tabletest.Log
	redis *miniredis.Miniredis

	mu        sync.Mutex
	rnd       *rand.Rand
	end       [partitions]int64 // of the stream
	confirmed map[Lease][]word  // the client's words by lease
	puts      []put             // the words of PUTs
	saved     []answer
	owners    map[Lease]int
	begun     []beginning
	opened    int
}

// word is what a client said it needs no more, and when.
type word struct {
	at   time.Time
	next []int64
}

// put is a word from outside a session. Under no lease of this incarnation it takes over.
type put struct {
	lease Lease
	word
}

// answer is that a position was said to be saved.
type answer struct {
	lease Lease
	to    time.Time
	next  []int64
}

// beginning is where a session without a cursor began.
type beginning struct {
	lease Lease
	start []int64
}

func newWorld(seed uint64, r *miniredis.Miniredis) *world {
	return &world{
		log: tabletest.New(), redis: r, rnd: rand.New(rand.NewPCG(seed, 5)),
		confirmed: map[Lease][]word{}, owners: map[Lease]int{},
	}
}

func (w *world) int(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) sleep(most time.Duration) { time.Sleep(time.Duration(w.int(int(most)))) }

func (w *world) latest(context.Context) ([]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.end[:]), nil
}

func (w *world) run(t *testing.T) {
	usual := tabletest.Faults{Delay: 60 * time.Millisecond, Lose: .04, Late: .08, Twice: .03, Mute: .05}
	var replicas []*process
	var mu sync.Mutex // of replicas
	pick := func() *process {
		i := w.int(3)
		mu.Lock()
		defer mu.Unlock()
		return replicas[i]
	}
	launch := func() *process { return start(t, w.log.View(uint64(w.int(1<<40)), usual), w.redis.Addr()) }
	for range 3 {
		replicas = append(replicas, launch())
	}
	for _, r := range replicas {
		r.loaded(t)
	}
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	var clients sync.WaitGroup
	for n := range 3 {
		clients.Go(func() { w.client(ctx, t, n, pick) })
	}
	var old map[string]string // of Redis, to roll back to
	for ctx.Err() == nil {
		w.sleep(400 * time.Millisecond)
		w.mu.Lock()
		w.end[w.rnd.IntN(partitions)] += int64(w.rnd.IntN(4))
		w.mu.Unlock()
		switch x := w.int(100); {
		case x < 10: // paused or awake
			f := usual
			if x < 5 {
				f.Delay = 2 * time.Second
			}
			pick().log.Set(f)
		case x < 15:
			w.redis.FlushAll()
		case x < 25:
			old = w.dump()
		case x < 35:
			w.restore(old)
		case x < 45:
			w.putCursor(ctx, t, pick(), x < 40)
		case x < 46:
			if err := pick().Delete(ctx, reader); err != nil && !expected(err) {
				t.Errorf("deleting: %v", err)
			}
		case x < 50: // killed, and another started
			i := w.int(3)
			mu.Lock()
			was := replicas[i]
			replicas[i] = launch()
			mu.Unlock()
			was.stop()
		}
	}
	clients.Wait()
	for _, r := range replicas {
		r.log.Set(tabletest.Faults{})
	}
	time.Sleep(time.Minute) // what is late has come by now
	for _, r := range replicas {
		r.stop()
	}
	w.check(t)
}

func expected(err error) bool {
	for _, e := range []error{
		ErrSuperseded, ErrBusy, ErrInDoubt, ErrNotFound, ErrLost, table.ErrNotReady, broker.ErrUnavailable,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// say notes the client's word under a lease.
func (w *world) say(l Lease, next []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.confirmed[l] = append(w.confirmed[l], word{time.Now(), slices.Clone(next)})
}

// client opens sessions one after the other, at any replica, with or without its cursor.
func (w *world) client(ctx context.Context, t *testing.T, n int, pick func() *process) {
	var have *StreamCursor
	for ctx.Err() == nil {
		w.sleep(300 * time.Millisecond)
		r := OpenRequest{Name: reader, Epoch: streamEpoch, Partitions: partitions, From: w.latest, Poll: w.int(3) == 0}
		if have != nil && w.int(3) > 0 {
			r.Presented = have
			w.say(have.Lease, have.Next)
		}
		h, err := pick().Open(ctx, r)
		if errors.Is(err, ErrSuperseded) {
			have = nil
			continue
		}
		if err != nil {
			if !expected(err) {
				t.Errorf("opening: %v", err)
			}
			continue
		}
		w.mu.Lock()
		w.opened++
		if r.Presented == nil {
			w.begun = append(w.begun, beginning{h.Lease(), h.Start()})
		}
		took := r.Presented == nil || r.Presented.Lease != h.Lease() // else a poll that goes on
		if owner, ok := w.owners[h.Lease()]; took && ok {
			t.Errorf("lease %v was given to client %d and to client %d", h.Lease(), owner, n)
		}
		w.owners[h.Lease()] = n
		w.mu.Unlock()
		have = w.session(ctx, t, h)
	}
}

// session reads and confirms for a while, and returns the last cursor it got.
func (w *world) session(ctx context.Context, t *testing.T, h *Held) *StreamCursor {
	next := h.Start()
	var said []int64
	for range w.int(12) {
		w.sleep(700 * time.Millisecond)
		select {
		case <-h.Lost():
			if h.Reason() == nil {
				t.Error("a lease was lost for no reason")
			}
		default:
		}
		switch x := w.int(10); {
		case x < 6: // something was read, and confirmed
			end, _ := w.latest(ctx)
			p := w.int(partitions)
			next[p] = min(next[p]+int64(w.int(3)), max(end[p], next[p]))
			w.say(h.Lease(), next)
			h.Confirm(next)
			said = slices.Clone(next)
		case x < 9:
			w.answer(t, h.Lease(), said, h.Save(ctx))
		case x == 9 && w.int(4) == 0: // the client is gone, and the session with it
			return &StreamCursor{Epoch: streamEpoch, Next: next, Lease: h.Lease()}
		}
	}
	if err := h.Close(ctx); err != nil && !expected(err) {
		t.Errorf("closing: %v", err)
	}
	return &StreamCursor{Epoch: streamEpoch, Next: next, Lease: h.Lease()}
}

func (w *world) answer(t *testing.T, l Lease, next []int64, err error) {
	switch {
	case err == nil:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.saved = append(w.saved, answer{l, time.Now(), slices.Clone(next)})
	case !expected(err):
		t.Errorf("saving: %v", err)
	}
}

// putCursor saves or resets from outside a session.
func (w *world) putCursor(ctx context.Context, t *testing.T, r *process, reset bool) {
	end, _ := w.latest(ctx)
	q := PutRequest{Name: reader, Epoch: streamEpoch, Partitions: partitions, Reset: reset, Cursor: StreamCursor{Epoch: streamEpoch}}
	for p := range end {
		q.Cursor.Next = append(q.Cursor.Next, int64(w.int(int(end[p]+1))))
	}
	if cur, err := r.Get(ctx, reader); err == nil && !reset && w.int(4) > 0 {
		q.Cursor.Lease = cur.Lease
	}
	if !reset {
		w.say(q.Cursor.Lease, q.Cursor.Next)
		w.mu.Lock()
		w.puts = append(w.puts, put{q.Cursor.Lease, word{time.Now(), q.Cursor.Next}})
		w.mu.Unlock()
	}
	s, err := r.Put(ctx, q)
	w.answer(t, s.Lease, q.Cursor.Next, err)
}

func (w *world) dump() map[string]string {
	all := map[string]string{}
	for _, k := range w.redis.Keys() {
		for _, f := range []string{"i", "l", "e", "n"} {
			all[k+"\x00"+f] = w.redis.HGet(k, f)
		}
	}
	return all
}

// restore is a fail-over to a replica that lagged.
func (w *world) restore(old map[string]string) {
	w.redis.FlushAll()
	for kf, v := range old {
		if k, f, ok := cutKey(kf); ok {
			w.redis.HSet(k, f, v)
		}
	}
}

func cutKey(s string) (k, f string, ok bool) {
	i := slices.Index([]byte(s), 0)
	return s[:max(i, 0)], s[i+1:], i >= 0
}

// below reports whether a is nowhere above b.
func below(a, b []int64) bool { return !beyond(a, b) }

// check is the model's judge: it goes through what the log accepted and holds each step against the rules.
func (w *world) check(t *testing.T) {
	var cur *version
	var curAt time.Time
	var history []accepted
	for _, r := range w.log.Records(consumersTopic, 0) {
		u, prev := uuids(r)
		if have := (uuid.UUID{}); true {
			if cur != nil {
				have = cur.u
			}
			if prev != have {
				continue
			}
		}
		v := &version{}
		if r.Value != nil {
			var err error
			if v, err = decodeVersion(u, r.Value); err != nil {
				t.Fatal(err)
			}
			w.step(t, cur, v, r.Timestamp)
		}
		v.u = u
		history = append(history, accepted{r.Timestamp, v})
		cur, curAt = v, r.Timestamp
	}
	if w.opened == 0 || cur == nil {
		t.Errorf("nothing happened until %v: this tests nothing", curAt)
	}
	w.checkSaved(t, history)
	w.checkBegun(t, history)
}

type accepted struct {
	at time.Time
	v  *version // Lease 0: deleted
}

func uuids(r broker.Record) (u, prev uuid.UUID) {
	for _, h := range r.Headers {
		switch h.Key {
		case "u":
			u = uuid.MustParse(string(h.Value))
		case "prev":
			prev = uuid.MustParse(string(h.Value))
		}
	}
	return u, prev
}

// step is one accepted version over another.
func (w *world) step(t *testing.T, c, v *version, at time.Time) {
	t.Helper()
	if c == nil || c.Lease == 0 {
		if v.Reason != reasonCreated || v.Lease != 1 {
			t.Errorf("%s with lease %d where there was none", v.Reason, v.Lease)
		}
		return
	}
	allowed := slices.Clone(c.Pos.Next)
	for _, words := range [][]word{w.confirmed[c.lease()], w.freeFor(v)} {
		for _, word := range words {
			if !word.at.After(at) {
				allowed = Max(allowed, word.next)
			}
		}
	}
	switch {
	case v.Incarnation != c.Incarnation:
		t.Errorf("incarnation %v replaced %v", v.Incarnation, c.Incarnation)
	case v.Reason == reasonCreated:
		t.Error("created where there was one: fell to latest")
	case v.Reason == reasonSaved && v.Lease != c.Lease:
		t.Errorf("lease %d saved over lease %d", v.Lease, c.Lease)
	case v.Reason != reasonSaved && v.Lease != c.Lease+1:
		t.Errorf("%s: lease %d after %d", v.Reason, v.Lease, c.Lease)
	case v.Reason != reasonReset && !below(c.Pos.Next, v.Pos.Next):
		t.Errorf("%s went back from %v to %v", v.Reason, c.Pos.Next, v.Pos.Next)
	case v.Reason != reasonReset && !below(v.Pos.Next, allowed):
		t.Errorf("%s passed what was confirmed: %v, at most %v", v.Reason, v.Pos.Next, allowed)
	}
}

// freeFor returns the words that only a PUT without a number of v's incarnation may have brought into v.
func (w *world) freeFor(v *version) []word {
	var words []word
	for _, p := range w.puts {
		if v.Reason == reasonTaken && p.lease.Incarnation != v.incarnation() {
			words = append(words, p.word)
		}
	}
	return words
}

// checkSaved: what was answered as saved under a lease was in the log by then, in a version of that lease. That nothing
// but a reset goes behind it afterwards is what step sees to.
func (w *world) checkSaved(t *testing.T, history []accepted) {
	for _, a := range w.saved {
		durable := slices.ContainsFunc(history, func(h accepted) bool {
			return h.v.Lease > 0 && h.v.lease() == a.lease && !h.at.After(a.to) && below(a.next, h.v.Pos.Next)
		})
		if !durable {
			t.Errorf("answered %v as saved under %v, the log has no such version", a.next, a.lease)
		}
	}
}

// checkBegun: a session without a cursor of its own begins at the position it took over.
func (w *world) checkBegun(t *testing.T, history []accepted) {
	for _, b := range w.begun {
		for _, h := range history {
			if h.v.Lease > 0 && h.v.lease() == b.lease && h.v.Reason != reasonSaved {
				if !slices.Equal(b.start, Max(h.v.Pos.Next, make([]int64, partitions))) {
					t.Errorf("lease %v took over at %v and began at %v", b.lease, h.v.Pos.Next, b.start)
				}
			}
		}
	}
}
