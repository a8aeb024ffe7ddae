package dedupe

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/eventissuer/eventissuer/broker"
)

var (
	schedules = flag.Int("schedules", 800, "random schedules of each kind")
	oneSeed   = flag.Uint64("seed", 0, "run this schedule alone")
)

// TestSchedules is the protocol's model grown onto the engine: publishers step through random interleavings of what
// they do to the log and to Redis, and at each step a process may die, an append be refused, doubtful and there, doubtful
// and lost or land later, a reply of Redis be lost and a command of its client land twice.
//
//   - strict: no append lands later than the lease allows. There is at most one copy of an event.
//   - loose: anybody may be paused for longer, and Redis may lose everything. What is answered is true.
//
// In both, whatever happened, an event can be published in the end.
func TestSchedules(t *testing.T) {
	for _, store := range []string{"memory", "redis"} {
		for _, strict := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s strict=%v", store, strict), func(t *testing.T) {
				w := &world{strict: strict, t: t}
				if store == "redis" {
					w.redis = miniredis.RunT(t)
				}
				from, to := uint64(1), uint64(*schedules)
				if *oneSeed != 0 {
					from, to = *oneSeed, *oneSeed
				}
				seen := make(map[string]int)
				for seed := from; seed <= to; seed++ {
					w.run(seed, seen)
					if t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				}
				t.Log(seen)
				for _, want := range []string{"persisted", "duplicate", "retry", "in doubt", "settled", "crashed"} {
					if *oneSeed == 0 && seen[want] == 0 {
						t.Errorf("no schedule in %d had: %s", to, want)
					}
				}
			})
		}
	}
}

const publishers = 4

type world struct {
	t      *testing.T
	strict bool
	redis  *miniredis.Miniredis // nil: the store is in the process

	rnd     *rand.Rand
	clock   *timer
	log     *memoryLog
	asking  chan *ask
	flight  []func() // appends on their way
	late    []func() // commands on their way to Redis
	clients []*redis.Client
	wires   []*wire
	trace   []string
}

// ask is a publisher that is about to do something.
type ask struct {
	who      int
	what     string
	answer   chan string
	finished bool
}

var errLost = errors.New("the reply was lost")

// step waits until the schedule lets the publisher go on, and returns how.
func (w *world) step(who int, what string) string {
	a := &ask{who: who, what: what, answer: make(chan string)}
	w.asking <- a
	how := <-a.answer
	if how == "crash" {
		runtime.Goexit()
	}
	return how
}

// seat is the log as publishers have it.
type seat struct {
	*memoryLog
	w *world
}

type whoKey struct{}

func (s *seat) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	who := ctx.Value(whoKey{}).(int)
	acks := make([]broker.Ack, len(msgs))
	how := "acked"
	if who >= 0 {
		how = s.w.step(who, "append")
	}
	for i := range msgs {
		one := msgs[i : i+1]
		fate := how
		if how == "mixed" {
			fate = []string{"acked", "refused", "landed", "flying", "lost"}[s.w.rnd.IntN(5)]
		}
		doubt := broker.Ack{Partition: -1, Offset: -1, Err: broker.ErrUnavailable}
		switch fate {
		case "acked":
			acks[i] = s.memoryLog.Append(ctx, topic, one)[0]
		case "refused":
			acks[i] = broker.Ack{Partition: -1, Offset: -1, Err: broker.ErrRefused}
		case "landed":
			s.memoryLog.Append(ctx, topic, one)
			acks[i] = doubt
		case "flying":
			s.w.flight = append(s.w.flight, func() { s.memoryLog.Append(context.Background(), topic, one) })
			acks[i] = doubt
		case "lost":
			acks[i] = doubt
		}
	}
	return acks
}

func (s *seat) scheduled(ctx context.Context, what string) {
	if who, ok := ctx.Value(whoKey{}).(int); ok && who >= 0 {
		s.w.step(who, what)
	}
}

func (s *seat) Place(ctx context.Context, topic string, msgs []broker.Message) (broker.Epoch, []int64, error) {
	e, ends, err := s.memoryLog.Place(ctx, topic, msgs)
	s.scheduled(ctx, "placed")
	return e, ends, err
}

func (s *seat) End(ctx context.Context, topic string, p int32) (int64, error) {
	end, err := s.memoryLog.End(ctx, topic, p)
	s.scheduled(ctx, "end")
	return end, err
}

func (s *seat) Read(ctx context.Context, topic string, p int32, offset int64, maxBytes int) (broker.Batch, error) {
	b, err := s.memoryLog.Read(ctx, topic, p, offset, maxBytes)
	s.scheduled(ctx, "read")
	return b, err
}

// wire is a hook on a publisher's Redis client.
type wire struct {
	w    *world
	who  int
	lost bool // the last reply
}

func (*wire) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.who < 0 {
			return next(ctx, cmds)
		}
		how := h.w.step(h.who, "redis")
		if how == "lost" && h.lost && h.w.strict {
			how = "done" // twice would be a Redis that is away
		}
		h.lost = how == "lost"
		err := next(ctx, cmds)
		if how == "twice" { // as a client that repeats a command, of which the first copy was slow
			var copies [][]any
			for _, c := range cmds {
				if name := c.Name(); name == "set" || name == "eval" {
					copies = append(copies, c.Args())
				}
			}
			client := h.w.clients[publishers]
			h.w.late = append(h.w.late, func() {
				for _, args := range copies {
					client.Do(context.Background(), args...)
				}
			})
		}
		if how == "lost" {
			for _, c := range cmds {
				c.SetErr(errLost)
			}
			return errLost
		}
		return err
	}
}

// run runs one schedule.
func (w *world) run(seed uint64, seen map[string]int) {
	t := w.t
	w.rnd = rand.New(rand.NewPCG(seed, 3))
	w.clock = &timer{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.log = newMemoryLog(w.clock.now)
	w.log.create("prefix.s", 2)
	w.asking = make(chan *ask)
	w.flight, w.late, w.trace = nil, nil, nil
	settleBytes := int64(1 + w.rnd.IntN(1000))
	dedupers := make([]*Deduper, publishers+1)
	if w.redis != nil {
		w.redis.FlushAll()
	}
	for i := range dedupers {
		deps := Deps{Log: &seat{memoryLog: w.log, w: w}}
		cfg := Config{SettleBytes: settleBytes, RedisTimeout: time.Minute, SettleTime: 9 * time.Second, MemoryBytes: 1 << 20}
		switch {
		case w.redis == nil && i > 0: // one process
			dedupers[i] = dedupers[0]
			continue
		case w.redis != nil:
			if len(w.clients) <= i {
				c := redis.NewClient(&redis.Options{
					Addr: w.redis.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true,
					MaintNotificationsConfig: silent(),
				})
				t.Cleanup(func() { _ = c.Close() })
				who := i
				if i == publishers {
					who = -1
				}
				w.wires = append(w.wires, &wire{w: w, who: who})
				c.AddHook(w.wires[i])
				w.clients = append(w.clients, c)
			}
			w.wires[i].lost = false
			deps.Redis = w.clients[i]
		}
		d, err := newDeduper(cfg, deps, w.clock.now)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		dedupers[i] = d
	}
	if err := dedupers[0].Prepare(context.Background(), Stream{"s", "prefix.s"}, day); err != nil {
		t.Fatal(err)
	}

	type said struct {
		who    int
		events []Event
		out    []Outcome
	}
	answers := make(chan said, 2*publishers)
	ids := []string{"x", "y", "z"}
	for i := range publishers {
		rounds := 1 + w.rnd.IntN(2)
		var calls [][]Event
		for range rounds {
			var events []Event
			for range 1 + w.rnd.IntN(3) {
				n := w.rnd.IntN(len(ids))
				events = append(events, happening(t, ids[n], []string{"a", "b"}[n%2]))
			}
			calls = append(calls, events)
		}
		go func() {
			defer func() { w.asking <- &ask{who: i, finished: true} }()
			for _, events := range calls {
				ctx := context.WithValue(context.Background(), whoKey{}, i)
				answers <- said{i, events, dedupers[i].Append(ctx, Stream{"s", "prefix.s"}, events)}
			}
		}()
	}
	w.schedule(seen)
	close(answers)
	for a := range answers {
		w.check(a.events, a.out, seen)
	}
	for _, f := range append(w.flight, w.late...) {
		f()
	}

	// Whatever happened: it can be published in the end, and then it is there.
	last := context.WithValue(context.Background(), whoKey{}, -1)
	for _, id := range ids {
		var was broker.Ack
		for round, left := 0, 3; left > 0; round++ {
			w.pass(61 * time.Second)
			e := happening(t, id, "a")
			out := dedupers[publishers].Append(last, Stream{"s", "prefix.s"}, []Event{e})
			w.check([]Event{e}, out, seen)
			if out[0].Ack.Err == nil {
				left--
			}
			switch {
			case out[0].Ack.Err == nil && was == broker.Ack{}:
				was = out[0].Ack
			case out[0].Ack.Err == nil && was != out[0].Ack:
				w.failf("%s was at %+v, and then at %+v", id, was, out[0].Ack)
			case out[0].Ack.Err != nil && round == 100:
				w.failf("%s cannot be published: %v", id, out[0].Ack.Err)
				return
			}
		}
		if n := len(w.log.copies("prefix.s", keyOf("/test", id))); n != 1 && w.strict {
			w.failf("%d copies of %s", n, id)
		}
	}
	if w.redis == nil {
		for i := range shards {
			if n := len(dedupers[0].store.(*memory).shards[i].reserved); n > 0 {
				w.failf("%d reservations are left", n)
			}
		}
	}
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf(format+"\n%s", append(args, strings.Join(w.trace, "\n"))...)
}

func (w *world) pass(d time.Duration) {
	w.clock.pass(d)
	if w.redis != nil {
		w.redis.FastForward(d)
	}
}

// schedule lets the publishers go on one at a time until all are done.
func (w *world) schedule(seen map[string]int) {
	var waiting []*ask
	for left := publishers; left > 0; {
		for len(waiting) < left {
			a := <-w.asking
			if a.finished {
				left--
			} else {
				waiting = append(waiting, a)
			}
		}
		if left == 0 {
			return
		}
		slices.SortFunc(waiting, func(a, b *ask) int { return a.who - b.who })
		appending := slices.ContainsFunc(waiting, func(a *ask) bool { return a.what == "append" })
		switch x := w.rnd.IntN(100); {
		case x < 15 && (!w.strict || !appending && len(w.flight) == 0):
			d := []time.Duration{20 * time.Second, 61 * time.Second}[w.rnd.IntN(2)]
			w.trace = append(w.trace, fmt.Sprint("pass ", d))
			w.pass(d)
			continue
		case x < 30 && len(w.flight) > 0:
			n := w.rnd.IntN(len(w.flight))
			w.trace = append(w.trace, "landed")
			w.flight[n]()
			w.flight = slices.Delete(w.flight, n, n+1)
			continue
		case x < 35 && len(w.late) > 0:
			n := w.rnd.IntN(len(w.late))
			w.trace = append(w.trace, "a late command")
			w.late[n]()
			w.late = slices.Delete(w.late, n, n+1)
			continue
		case x < 37:
			w.trace = append(w.trace, "noise")
			w.log.Append(context.Background(), "prefix.s", []broker.Message{happening(w.t, "noise", "a").Message})
			continue
		case x < 38 && !w.strict && w.redis != nil:
			w.trace = append(w.trace, "flush")
			w.redis.FlushAll()
			continue
		}
		n := w.rnd.IntN(len(waiting))
		a := waiting[n]
		waiting = slices.Delete(waiting, n, n+1)
		how := "go"
		switch y := w.rnd.IntN(100); {
		case y < 4:
			how = "crash"
			seen["crashed"]++
		case a.what == "append":
			how = []string{"acked", "acked", "refused", "landed", "flying", "lost", "mixed"}[w.rnd.IntN(7)]
		case a.what == "redis":
			how = []string{"done", "done", "done", "done", "lost", "twice"}[w.rnd.IntN(6)]
		case a.what == "end":
			seen["settled"]++
		}
		w.trace = append(w.trace, fmt.Sprint(a.who, " ", a.what, " ", how))
		a.answer <- how
	}
}

// check holds answers to the log.
func (w *world) check(events []Event, out []Outcome, seen map[string]int) {
	next := make(map[int32]int64)
	for i, o := range out {
		k := keyOf(events[i].Source, events[i].ID)
		switch {
		case o.Ack.Err != nil && errors.Is(o.Ack.Err, broker.ErrRefused):
			seen["retry"]++
		case o.Ack.Err != nil:
			seen["in doubt"]++
		case !w.log.holds("prefix.s", k, o.Ack):
			w.failf("answered %+v for %s, which is at %+v", o, events[i].ID, w.log.copies("prefix.s", k))
		case o.Duplicate:
			seen["duplicate"]++
		default:
			seen["persisted"]++
			if o.Ack.Offset < next[o.Ack.Partition] {
				w.failf("written out of order: %+v", out)
			}
			next[o.Ack.Partition] = o.Ack.Offset + 1
		}
		if o.Degraded {
			seen["degraded"]++
			if w.strict {
				w.failf("written undeduplicated: %+v", o)
			}
		}
		if o.Stream != "s" {
			w.failf("the stream is %q", o.Stream)
		}
	}
}

func silent() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
