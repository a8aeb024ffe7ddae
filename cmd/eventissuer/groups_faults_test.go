package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker/kafka"
)

// Two subscriptions of the same events, one ordered by key and one not, on three replicas, three Kafka brokers and a
// Redis, while events are published all the time and clients of every transport come and go: they take and acknowledge
// as they please, through whatever replica. Step by step, drawn at random, replicas and brokers are killed and started
// again, replicas stand still for longer than anybody waits for them, Redis stands still for a moment or loses everything,
// clients come, leave, and have their connections cut. When all is well again everything drains, and what the clients
// saw is held against the rules, each of which says what it asks.
//
// EVENTISSUER_TEST_STEPS is the number of steps, EVENTISSUER_TEST_SEED repeats a run's draws.
func TestSubscriptionsKeepTheirPromisesThroughRandomFaults(t *testing.T) {
	seed, steps := seedOf(t), stepsOf(t, 60)
	w := &sharing{world: newWorld(t, seed)}
	all := w.servers()
	const partitions = 12
	define(t, partitions, all...)
	w.subscribe("by-key", true, all)
	w.subscribe("unordered", false, all)

	begun, end := context.WithCancel(t.Context())
	defer w.parts.Wait()
	defer w.repairs.Wait()
	defer end()
	feeding := make(chan struct{})
	var feeders sync.WaitGroup
	const keys, workers = 60, 12
	for i := range workers {
		feeders.Go(func() { w.feed(begun, feeding, i, workers, keys) })
	}
	for _, s := range w.subscriptions {
		for range 8 {
			s.join(begun, w)
		}
		w.parts.Go(func() { s.watch(begun, w, rand.New(rand.NewPCG(seed, 1<<34))) })
		w.parts.Go(func() { s.watchCommits(begun, w) })
	}
	w.progress(60)
	w.say("everything is up")

	for n := range steps {
		w.step(begun, n)
		w.progress(5 + w.rand.IntN(30))
		if t.Failed() {
			break
		}
	}
	w.say("the faults are over")
	w.heal()
	close(feeding)
	feeders.Wait()
	w.say("every event is acknowledged by the log")
	w.calm.Store(true)
	for _, s := range w.subscriptions {
		eventually(t, "subscription "+s.name+" has drained", func() bool { return s.drained(begun, w) })
	}
	w.say("everything has drained")
	end()
	w.parts.Wait()

	log := readByOffset(t, kafka.Config{Brokers: w.brokers}, w.topic)
	copies := len(log.at) - len(log.of)
	events := map[place]string{}
	for at, n := range log.at {
		events[at] = n.id
	}
	for _, s := range w.subscriptions {
		t.Run(s.name, func(t *testing.T) { s.verify(t, events, copies, steps) })
	}
}

// sharing is a world in which clients share the events of subscriptions.
type sharing struct {
	*world
	subscriptions []*shared   // owned by the test
	calm          atomic.Bool // clients do as they should
}

// step does something.
func (w *sharing) step(ctx context.Context, n int) {
	s := w.subscriptions[w.rand.IntN(len(w.subscriptions))]
	switch draw := w.rand.IntN(100); {
	case draw < disturbances:
		w.disturb(ctx, n, draw)
	case draw < 70:
		w.say("step %d: cut a client of %s", n, s.name)
		s.takers[w.rand.IntN(len(s.takers))].drop()
	case draw < 82 && len(s.takers) < 14:
		w.say("step %d: a client joins %s", n, s.name)
		s.join(ctx, w)
	case draw < 94 && len(s.takers) > 3:
		w.say("step %d: a client leaves %s", n, s.name)
		s.leave(w.rand.IntN(len(s.takers)))
	default: // all goes on
	}
}

// progress waits until clients of every subscription had so many more events durably acknowledged.
func (w *sharing) progress(n int) {
	w.t.Helper()
	for _, s := range w.subscriptions {
		want := s.book.counted("acknowledged") + n
		eventually(w.t, "subscription "+s.name+" goes on", func() bool { return w.t.Failed() || s.book.counted("acknowledged") >= want })
	}
}

// shared is a subscription, and who takes from it.
type shared struct {
	name, id string
	book     *logbook

	// owned by the test
	takers []*taker
	left   []context.CancelFunc // of each
	joined int
}

func (w *sharing) subscribe(name string, ordered bool, all []*server) {
	w.t.Helper()
	ordering := "none"
	if ordered {
		ordering = "key"
	}
	var made struct{ ID string }
	out := all[0].call(w.t, http.StatusCreated, http.MethodPost, "/v1/subscriptions", map[string]any{
		"name": name, "streams": []string{theStream},
		"config": map[string]any{
			"from": "oldest", "ordering": ordering, "ackTimeout": ackTimeout.String(), "maxUncommitted": 40, "maxSessions": 1000, "maxAttempts": 1_000_000,
		},
	})
	if err := json.Unmarshal(out, &made); err != nil || made.ID == "" {
		w.t.Fatalf("a new subscription is %s (%v), expected an id in it", out, err)
	}
	for _, v := range all {
		eventually(w.t, "every replica knows the subscription", func() bool {
			status, _, err := v.try(w.t.Context(), http.MethodGet, "/v1/subscriptions/"+made.ID, nil)
			return err == nil && status == http.StatusOK
		})
	}
	s := &shared{name: name, id: made.ID, book: newLogbook(ordered)}
	w.subscriptions, w.witnesses = append(w.subscriptions, s), append(w.witnesses, s.book)
}

// join has one more client take from the subscription.
func (s *shared) join(ctx context.Context, w *sharing) {
	kinds := append(slices.Sorted(maps.Keys(links)), "poll")
	k := &taker{
		t: w.t, over: kinds[s.joined%len(kinds)], path: "/v1/subscriptions/" + s.id, book: s.book, servers: w.choose, calm: &w.calm,
		rand: rand.New(rand.NewPCG(w.seed, uint64(1000*len(s.name)+s.joined))),
	}
	k.name = fmt.Sprintf("client %d of %s (%s)", s.joined, s.name, k.over)
	s.joined++
	ctx, leave := context.WithCancel(ctx)
	s.takers, s.left = append(s.takers, k), append(s.left, leave)
	w.parts.Go(func() { k.run(ctx) })
}

// leave has a client go.
func (s *shared) leave(i int) {
	s.left[i]()
	s.takers = slices.Delete(s.takers, i, i+1)
	s.left = slices.Delete(s.left, i, i+1)
}

type sharedStats struct {
	Lag                      int64
	Uncommitted, DeadLetters int
	Partitions               []struct {
		Partition int
		Position  int64
	}
}

func (s *shared) stats(ctx context.Context, v *server) (stats sharedStats, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	status, out, err := v.try(ctx, http.MethodGet, "/v1/subscriptions/"+s.id+"/stats", nil)
	if err != nil {
		return stats, err
	}
	if status != http.StatusOK {
		return stats, &statusError{status, string(out)}
	}
	return stats, json.Unmarshal(out, &stats)
}

// watch asks for the positions all the time, of whatever replica.
func (s *shared) watch(ctx context.Context, w *sharing, r *rand.Rand) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := s.book.now()
		stats, err := s.stats(ctx, w.choose(r))
		if err != nil {
			s.book.note("stats not answered")
			continue
		}
		at := map[int]int64{}
		for _, p := range stats.Partitions {
			at[p.Partition] = p.Position
		}
		s.book.looked(asked, at)
		s.book.note("stats answered")
		if stats.DeadLetters > 0 {
			w.t.Errorf("%d dead letters of %s, though no attempts are used up", stats.DeadLetters, s.name)
		}
	}
}

// watchCommits asks Kafka for what is committed, all the time.
func (s *shared) watchCommits(ctx context.Context, w *sharing) {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	cfg.Net.DialTimeout, cfg.Net.ReadTimeout, cfg.Net.WriteTimeout = time.Second, 2*time.Second, 2*time.Second
	cfg.Metadata.Retry.Max = 1
	cfg.Admin.Retry.Max = 0
	var admin sarama.ClusterAdmin
	quit := func() {
		if admin != nil {
			_ = admin.Close() // it only asked
			admin = nil
		}
	}
	defer quit()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		if admin == nil {
			if admin, err = sarama.NewClusterAdmin(w.brokers, cfg); err != nil {
				continue
			}
		}
		asked := s.book.now()
		got, err := admin.ListConsumerGroupOffsets("sub."+s.id, nil)
		if err != nil || got.Err != sarama.ErrNoError {
			quit() // another broker coordinates by now
			s.book.note("commits not answered")
			continue
		}
		offsets := map[int]int64{}
		for p, b := range got.Blocks[w.topic] {
			if b.Err == sarama.ErrNoError && b.Offset >= 0 {
				offsets[int(p)] = b.Offset
			}
		}
		s.book.committed(asked, offsets)
		s.book.note("commits answered")
	}
}

func (s *shared) drained(ctx context.Context, w *sharing) bool {
	stats, err := s.stats(ctx, w.replicas[0].server)
	return err == nil && len(stats.Partitions) > 0 && stats.Lag == 0 && stats.Uncommitted == 0
}

// verify holds what the clients saw against the rules.
func (s *shared) verify(t *testing.T, log map[place]string, copies, steps int) {
	rules := map[rule]*few{}
	for _, m := range s.book.mistakes(log) {
		f := rules[m.rule]
		if f == nil {
			f = &few{t: t, what: string(m.rule)}
			rules[m.rule] = f
		}
		f.errorf("%s: %s", m.rule, m.text)
	}
	for _, f := range rules {
		f.done()
	}
	t.Logf("%d events, %d of them copies; %v", len(log), copies, s.book.count)
	if copies > len(log)/10 {
		t.Errorf("%d of %d records are copies, of which little is asked", copies, len(log))
	}
	for what, least := range map[string]int{
		"acknowledged": len(log) / 2, "delivered again": steps, "given back": steps / 4, "answered durable": steps, "answered refused": 1 + steps/100,
		"session told to begin anew": 1 + steps/100, "stats answered": steps, "commits answered": steps,
	} {
		if n := s.book.counted(what); n < least {
			t.Errorf("%q came to pass %d times, which shows nothing: expected %d", what, n, least)
		}
	}
}
