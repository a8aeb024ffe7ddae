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
	seed, n := seedFrom(t), schedules(70)
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
	stream    stream
	confirmed map[Lease][]word // the client's words by lease
	puts      []put            // the words of PUTs
	saved     []answer
	owners    map[Lease]int
	begun     []beginning
	noticed   []notice
	opened    int
}

// stream is what the consumer reads: a topic that grows, gains partitions, loses its ends and is made anew.
type stream struct {
	epoch uint64
	end   []int64
	cuts  [][]cut            // by partition, of this epoch
	was   map[uint64][][]cut // of earlier epochs
}

// cut is a loss of the log's end.
type cut struct {
	when time.Time
	to   int64
}

// where is a place in the stream beside what is true of it: how many cuts of each partition there had been when it was
// read there.
type where struct {
	StreamCursor
	seen []int
}

// word is what a client said it needs no more, and when.
type word struct {
	at time.Time
	where
}

// notice is that a session was told of a cut: from then on its lease's versions of that number know of it.
type notice struct {
	lease     Lease
	number    uint64
	epoch     uint64
	partition int
	cut       int // which one of the partition
	to        int64
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
	at    StreamCursor
}

// beginning is where a session without a cursor began.
type beginning struct {
	lease Lease
	start []int64
}

func newWorld(seed uint64, r *miniredis.Miniredis) *world {
	return &world{
		log: tabletest.New(), redis: r, rnd: rand.New(rand.NewPCG(seed, 5)),
		stream:    stream{epoch: streamEpoch, end: make([]int64, partitions), cuts: make([][]cut, partitions), was: map[uint64][][]cut{}},
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
	return slices.Clone(w.stream.end), nil
}

func (w *world) present(context.Context) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream.epoch, nil
}

// change is what happens to the stream. The caller holds mu.
func (w *world) change() {
	s := &w.stream
	p := w.rnd.IntN(len(s.end))
	switch x := w.rnd.IntN(100); {
	case x < 10 && s.end[p] > 0:
		s.end[p] = max(0, s.end[p]-1-int64(w.rnd.IntN(6)))
		s.cuts[p] = append(s.cuts[p], cut{time.Now(), s.end[p]})
	case x < 12:
		s.was[s.epoch] = s.cuts
		s.epoch++
		s.end, s.cuts = make([]int64, len(s.end)), make([][]cut, len(s.end))
	case x < 15 && len(s.end) < 2*partitions:
		s.end, s.cuts = append(s.end, 0), append(s.cuts, nil)
	default:
		s.end[p] += int64(w.rnd.IntN(4))
	}
}

// here is a place in the stream as it is now.
func (w *world) here(next []int64) where {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := where{StreamCursor: StreamCursor{Epoch: w.stream.epoch, Next: slices.Clone(next)}}
	for _, cuts := range w.stream.cuts {
		at.seen = append(at.seen, len(cuts))
	}
	return at
}

func (at *where) clone() where {
	c := *at
	c.Next, c.seen = slices.Clone(at.Next), slices.Clone(at.seen)
	return c
}

// holds reports whether a place is of the stream as it is: no cut since lies below it. The caller holds mu.
func (w *world) holds(at *where) bool {
	if at.Epoch != w.stream.epoch {
		return false
	}
	for p, next := range at.Next {
		for i, c := range w.stream.cuts[p] {
			if i >= at.seen[p] && c.to < next {
				return false
			}
		}
	}
	return true
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
		w.change()
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
		ErrSuperseded, ErrBusy, ErrInDoubt, ErrNotFound, ErrLost, ErrEpoch, table.ErrNotReady, broker.ErrUnavailable,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// say notes the client's word under a lease.
func (w *world) say(at where) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.confirmed[at.Lease] = append(w.confirmed[at.Lease], word{time.Now(), at.clone()})
}

// client opens sessions one after the other, at any replica, with or without its cursor.
func (w *world) client(ctx context.Context, t *testing.T, n int, pick func() *process) {
	var have *where
	for ctx.Err() == nil {
		w.sleep(300 * time.Millisecond)
		r := OpenRequest{Name: reader, From: w.latest, Poll: w.int(3) == 0, Present: w.present, Ends: w.latest}
		begins := w.here(nil)
		r.Epoch, r.Partitions = begins.Epoch, len(begins.seen)
		if w.int(5) == 0 { // a replica that has not noticed yet
			r.Epoch--
		}
		r.Partitions = max(partitions, r.Partitions-w.int(2))
		r.Latest = make([]int64, r.Partitions)
		if have != nil && w.int(3) > 0 {
			r.Presented = &have.StreamCursor
			w.say(*have)
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
		begins.Epoch, begins.Next, begins.Lease, begins.Cut = r.Epoch, h.Start(), h.Lease(), h.Cut()
		for len(begins.seen) < len(begins.Next) {
			begins.seen = append(begins.seen, 0)
		}
		have = w.session(ctx, t, h, begins)
	}
}

// session reads and confirms for a while, and returns the last cursor it got, if that is worth anything.
func (w *world) session(ctx context.Context, t *testing.T, h *Held, at where) *where {
	old := []where{at.clone()}
	var said StreamCursor
	for range w.int(12) {
		w.sleep(700 * time.Millisecond)
		select {
		case <-h.Lost():
			if h.Reason() == nil {
				t.Error("a lease was lost for no reason")
			}
		default:
		}
		if w.int(2) == 0 && !w.look(h, &at) {
			_ = h.Close(ctx)
			return nil
		}
		switch x := w.int(10); {
		case x < 6: // something was read, and confirmed
			w.read(&at)
			old = append(old, at.clone())
			word := at.clone()
			if w.int(5) == 0 { // late on its way
				word = old[w.int(len(old))]
			}
			w.say(word)
			h.Confirm(word.StreamCursor, len(at.Next))
			said = word.StreamCursor
		case x < 9:
			w.answer(t, h.Lease(), said, h.Save(ctx))
		case x == 9 && w.int(4) == 0: // the client is gone, and the session with it
			return &at
		}
	}
	if err := h.Close(ctx); err != nil && !expected(err) {
		t.Errorf("closing: %v", err)
	}
	return &at
}

// read moves on in some partition, where the session's epoch is still the stream's.
func (w *world) read(at *where) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at.Epoch != w.stream.epoch {
		return
	}
	for len(at.Next) < len(w.stream.end) { // partitions were added
		at.Next, at.seen = append(at.Next, 0), append(at.seen, 0)
	}
	if !w.holds(at) {
		return // nothing can be read there
	}
	p := w.rnd.IntN(len(at.Next))
	at.Next[p] = max(at.Next[p], min(at.Next[p]+int64(w.rnd.IntN(3)), w.stream.end[p]))
	at.seen[p] = len(w.stream.cuts[p])
}

// look has the session notice what became of the stream. It returns false where the log lost its end and has grown past
// the session since: then nobody can know.
func (w *world) look(h *Held, at *where) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at.Epoch != w.stream.epoch {
		at.Epoch, at.Next, at.seen = w.stream.epoch, make([]int64, len(w.stream.end)), make([]int, len(w.stream.end))
		h.Recreated(at.Epoch, len(at.Next))
		return true // the cuts of a new topic are seen from its beginning
	}
	for p, next := range at.Next {
		if end := w.stream.end[p]; next > end {
			h.Truncated(broker.Gap{Partition: int32(p), From: next, To: end, Reason: broker.GapTruncated})
			at.Next[p], at.seen[p], at.Cut = end, len(w.stream.cuts[p]), h.Cut()
			w.noticed = append(w.noticed, notice{h.Lease(), at.Cut, at.Epoch, p, len(w.stream.cuts[p]) - 1, end})
		}
	}
	return w.holds(at)
}

func (w *world) answer(t *testing.T, l Lease, at StreamCursor, err error) {
	switch {
	case err == nil:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.saved = append(w.saved, answer{l, time.Now(), at})
	case !expected(err):
		t.Errorf("saving: %v", err)
	}
}

// putCursor saves or resets from outside a session.
func (w *world) putCursor(ctx context.Context, t *testing.T, r *process, reset bool) {
	at := w.here(nil)
	end, _ := w.latest(ctx)
	for p := range at.seen {
		at.Next = append(at.Next, int64(w.int(int(end[p]+1))))
	}
	if cur, err := r.Get(ctx, reader); err == nil && !reset && w.int(4) > 0 {
		at.Lease, at.Cut = cur.Lease, cur.Cut
	}
	if !reset {
		w.say(at)
		w.mu.Lock()
		w.puts = append(w.puts, put{at.Lease, word{time.Now(), at}})
		w.mu.Unlock()
	}
	s, err := r.Put(ctx, PutRequest{
		Name: reader, Epoch: at.Epoch, Partitions: len(at.seen), Reset: reset, Cursor: at.StreamCursor, Present: w.present, Ends: w.latest,
	})
	if at.Lease == s.Lease { // else it says nothing of that lease's words
		w.answer(t, s.Lease, at.StreamCursor, err)
	}
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
	w.checkCuts(t, history)
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
	same := v.Pos.Epoch == c.Pos.Epoch
	var allowed []int64
	if same {
		allowed = slices.Clone(c.Pos.Next)
	}
	for _, words := range [][]word{w.confirmed[c.lease()], w.freeFor(v)} {
		for _, word := range words {
			if !word.at.After(at) && word.Epoch == uint64(v.Pos.Epoch) {
				allowed = Max(allowed, word.Next)
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
	case v.Pos.Epoch < c.Pos.Epoch:
		t.Errorf("%s went back from epoch %v to %v", v.Reason, c.Pos.Epoch, v.Pos.Epoch)
	case v.Cut < c.Cut:
		t.Errorf("%s undid a cut: from number %d to %d", v.Reason, c.Cut, v.Cut)
	case v.Reason != reasonReset && same && v.Cut == c.Cut && !below(c.Pos.Next, v.Pos.Next):
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
			e := uint64(h.v.Pos.Epoch)
			return h.v.Lease > 0 && h.v.lease() == a.lease && !h.at.After(a.to) &&
				(e > a.at.Epoch || e == a.at.Epoch && (h.v.Cut > a.at.Cut || below(a.at.Next, h.v.Pos.Next)))
		})
		if !durable {
			t.Errorf("answered %+v as saved under %v, the log has no such version", a.at, a.lease)
		}
	}
}

// checkBegun: a session without a cursor of its own begins at the position it took over.
func (w *world) checkBegun(t *testing.T, history []accepted) {
	for _, b := range w.begun {
		for _, h := range history {
			if h.v.Lease > 0 && h.v.lease() == b.lease && h.v.Reason != reasonSaved {
				if beyond(b.start, h.v.Pos.Next) || beyond(h.v.Pos.Next, b.start) {
					t.Errorf("lease %v took over at %v and began at %v", b.lease, h.v.Pos.Next, b.start)
				}
			}
		}
	}
}

// checkCuts: once a version knows that the log lost its end, later ones pass only what was confirmed of the log as it is
// since: what has been appended at the lost offsets would else be skipped.
func (w *world) checkCuts(t *testing.T, history []accepted) {
	for _, n := range w.noticed {
		knows := false
		for _, h := range history {
			switch {
			case h.v.Lease > 0 && h.v.lease() == n.lease && h.v.Cut >= n.number && uint64(h.v.Pos.Epoch) == n.epoch:
				knows = true
			case !knows:
				continue
			}
			if h.v.Lease == 0 || h.v.Reason == reasonReset || uint64(h.v.Pos.Epoch) != n.epoch || w.cutAgain(n, h.at) {
				break
			}
			if p := n.partition; p < len(h.v.Pos.Next) && h.v.Pos.Next[p] > w.upTo(n, h.at) {
				t.Errorf("%s at %v under lease %d, cut %d: partition %d lost its end at %d, and only up to %d was confirmed since",
					h.v.Reason, h.v.Pos.Next, h.v.Lease, h.v.Cut, p, n.to, w.upTo(n, h.at))
			}
		}
	}
}

// cutAgain reports whether the partition lost its end again before a time.
func (w *world) cutAgain(n notice, before time.Time) bool {
	cuts := w.cutsOf(n)
	return n.cut+1 < len(cuts) && !cuts[n.cut+1].when.After(before)
}

// upTo is how far clients had confirmed the partition by a time, of what it holds since the cut.
func (w *world) upTo(n notice, by time.Time) int64 {
	most := n.to
	for _, words := range w.confirmed {
		for _, word := range words {
			if p := n.partition; word.Epoch == n.epoch && !word.at.After(by) && p < len(word.Next) &&
				(word.seen[p] > n.cut || word.Next[p] <= w.cutsOf(n)[n.cut].to) {
				most = max(most, word.Next[p])
			}
		}
	}
	return most
}

func (w *world) cutsOf(n notice) []cut {
	if n.epoch == w.stream.epoch {
		return w.stream.cuts[n.partition]
	}
	return w.stream.was[n.epoch][n.partition]
}
