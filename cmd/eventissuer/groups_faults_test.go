package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// stepsVariable says how many faults a test of random ones takes. The default is for every day.
const stepsVariable = "EVENTISSUER_TEST_STEPS"

func stepsOf(t *testing.T) int {
	t.Helper()
	text := os.Getenv(stepsVariable)
	if text == "" {
		return 60
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: expected a number of steps", stepsVariable, text)
	}
	return n
}

// Two subscriptions of the same events, one ordered by key and one not, on three replicas, three Kafka brokers and a
// Redis, while events are published all the time and clients of every transport come and go: they take and acknowledge
// as they please, through whatever replica. Step by step, drawn at random, replicas and brokers are killed and started
// again, replicas stand still for longer than anybody waits for them, Redis stands still for a moment or loses everything,
// clients come, leave, and have their connections cut. When all is well again everything drains, and what the clients
// saw is held against the rules, each of which says what it asks.
//
// EVENTISSUER_TEST_STEPS is the number of steps, EVENTISSUER_TEST_SEED repeats a run's draws.
func TestSubscriptionsKeepTheirPromisesThroughRandomFaults(t *testing.T) {
	seed, steps := seedOf(t), stepsOf(t)
	nodes := testenv.StartKafkaCluster(t, 3, testenv.KafkaOptions{
		HeapMB: 256,
		Properties: map[string]string{
			"group.min.session.timeout.ms": "1000",
			"replica.lag.time.max.ms":      "3000", // --dedupe-lease is longer, with 20 s
		},
	})
	store := testenv.StartRedis(t, testenv.RedisOptions{})
	prefix := testenv.Name("e2e") + "."
	var brokers []string
	for _, n := range nodes {
		brokers = append(brokers, n.Addr())
	}
	shared := storage{
		"--kafka-brokers", strings.Join(brokers, ","), "--redis-url", store.URL(), "--topic-prefix", prefix,
		"--dedupe-lease", "25s", "--group-session-timeout", "1s",
	}
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 1<<33)), seed: seed, nodes: nodes, store: store, brokers: brokers, topic: prefix + theStream,
		redis: redis.NewClient(&redis.Options{Addr: store.Addr()}), began: time.Now(),
	}
	defer func() { _ = w.redis.Close() }() // only orders went over it
	for range 3 {
		w.replicas = append(w.replicas, &machine{server: startServer(t, shared)})
	}
	for range nodes {
		w.brokerStates = append(w.brokerStates, stateUp)
	}
	all := []*server{w.replicas[0].server, w.replicas[1].server, w.replicas[2].server}
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

	log := readByOffset(t, kafka.Config{Brokers: brokers}, w.topic)
	copies := len(log.at) - len(log.of)
	events := map[place]string{}
	for at, n := range log.at {
		events[at] = n.id
	}
	for _, s := range w.subscriptions {
		t.Run(s.name, func(t *testing.T) { s.verify(t, events, copies, steps) })
	}
}

type state int

const (
	stateUp state = iota
	stateDown
	statePaused
	stateBusy // being started
)

// machine is a replica and what was done to it.
type machine struct {
	*server
	state state // guarded by the world's mu
}

// world is all that runs, and what is done to it.
type world struct {
	// static
	t       *testing.T
	seed    uint64
	nodes   []*testenv.KafkaProcess
	store   *testenv.RedisProcess
	redis   *redis.Client
	brokers []string
	topic   string
	began   time.Time
	calm    atomic.Bool // clients do as they should

	rand          *rand.Rand // owned by the test
	subscriptions []*shared  // likewise
	parts         sync.WaitGroup
	repairs       sync.WaitGroup // what is being started

	mu           sync.Mutex
	replicas     []*machine // the list is static
	brokerStates []state    // guarded by mu
}

func (w *world) say(format string, args ...any) {
	w.t.Logf("%6.1fs: %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// choose draws a replica that is not known to be down, and now and then one that stands still.
func (w *world) choose(r *rand.Rand) *server {
	w.mu.Lock()
	defer w.mu.Unlock()
	var those []*server
	still := r.IntN(5) == 0
	for _, m := range w.replicas {
		if m.state == stateUp || m.state == statePaused && still {
			those = append(those, m.server)
		}
	}
	return those[r.IntN(len(those))]
}

// any draws a replica in a state, nil where none is, or no more than so many are up.
func (w *world) any(s state, others int) *machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	var those []*machine
	up := 0
	for _, m := range w.replicas {
		if m.state == s {
			those = append(those, m)
		}
		if m.state == stateUp {
			up++
		}
	}
	if len(those) == 0 || up <= others {
		return nil
	}
	return those[w.rand.IntN(len(those))]
}

func (w *world) set(m *machine, s state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.state = s
}

// stillness is how long a replica stands still at least: longer than its session of the consumer group, than events
// wait for their acknowledgement, and than others take it for alive.
const stillness = 4500 * time.Millisecond

// step does something.
func (w *world) step(ctx context.Context, n int) {
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	s := w.subscriptions[w.rand.IntN(len(w.subscriptions))]
	switch draw := w.rand.IntN(100); {
	case draw < 9:
		if m := w.any(stateUp, 1); m != nil {
			w.say("step %d: kill %s", n, m.base)
			w.set(m, stateDown)
			must(m.Kill())
		}
	case draw < 22:
		if m := w.any(stateDown, 0); m != nil {
			w.say("step %d: start %s", n, m.base)
			w.start(m)
		}
	case draw < 29:
		if m := w.any(stateUp, 1); m != nil {
			d := stillness + time.Duration(w.rand.IntN(5000))*time.Millisecond
			w.say("step %d: pause %s for %s", n, m.base, d)
			must(w.pause(m, d))
		}
	case draw < 33:
		w.killBroker(n)
	case draw < 43:
		w.startBroker(n)
	case draw < 47:
		w.say("step %d: flush Redis", n)
		must(w.flush(ctx))
	case draw < 52:
		d := time.Duration(100+w.rand.IntN(1400)) * time.Millisecond
		w.say("step %d: pause Redis for %s", n, d)
		over := w.still()
		must(w.store.Pause())
		time.Sleep(d) // it is what is done to Redis
		must(w.store.Resume())
		over()
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

// flush has Redis lose everything. All subscriptions are told first: what they see while it is done may be of after it.
func (w *world) flush(ctx context.Context) error {
	flush := func() error { return w.redis.FlushAll(ctx).Err() }
	for _, s := range w.subscriptions {
		inner := flush
		flush = func() error { return s.book.flush(inner) }
	}
	return flush()
}

// still notes in all logbooks that something stands still, until the function that it returns is called.
func (w *world) still() (over func()) {
	var all []func()
	for _, s := range w.subscriptions {
		all = append(all, s.book.still())
	}
	return func() {
		for _, over := range all {
			over()
		}
	}
}

// start starts a replica while all goes on.
func (w *world) start(m *machine) {
	w.set(m, stateBusy)
	w.repairs.Go(func() {
		if err := m.Start(w.t.Context()); err != nil {
			w.t.Errorf("a replica does not start: %v", err)
		}
		w.set(m, stateUp)
	})
}

// pause has a replica stand still for so long.
func (w *world) pause(m *machine, d time.Duration) error {
	w.set(m, statePaused)
	over := w.still()
	if err := m.Pause(); err != nil {
		return err
	}
	w.repairs.Go(func() {
		defer over()
		time.Sleep(d) // it is what is done to the replica
		if err := m.Resume(); err != nil {
			w.t.Errorf("a replica cannot be resumed: %v", err)
		}
		w.set(m, stateUp)
	})
	return nil
}

// killBroker kills one where all are up: the others have a majority, and every event.
func (w *world) killBroker(n int) {
	w.mu.Lock()
	healthy := !slices.ContainsFunc(w.brokerStates, func(s state) bool { return s != stateUp })
	i := w.rand.IntN(len(w.nodes))
	if healthy {
		w.brokerStates[i] = stateDown
	}
	w.mu.Unlock()
	if !healthy {
		return
	}
	w.say("step %d: kill broker %d", n, i+1)
	if err := w.nodes[i].Kill(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) startBroker(n int) {
	w.mu.Lock()
	i := slices.Index(w.brokerStates, stateDown)
	if i >= 0 {
		w.brokerStates[i] = stateBusy
	}
	w.mu.Unlock()
	if i < 0 {
		return
	}
	w.say("step %d: start broker %d", n, i+1)
	w.repairs.Go(func() {
		err := w.nodes[i].Start(w.t.Context())
		if err != nil {
			w.t.Errorf("broker %d does not start: %v", i+1, err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.brokerStates[i] = stateUp
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.startBroker(-1)
	for _, m := range w.replicas {
		w.mu.Lock()
		down := m.state == stateDown
		w.mu.Unlock()
		if down {
			w.start(m)
		}
	}
	w.repairs.Wait()
}

// progress waits until clients of every subscription had so many more events durably acknowledged.
func (w *world) progress(n int) {
	w.t.Helper()
	for _, s := range w.subscriptions {
		want := s.book.counted("acknowledged") + n
		eventually(w.t, "subscription "+s.name+" goes on", func() bool { return w.t.Failed() || s.book.counted("acknowledged") >= want })
	}
}

// feed publishes events of some keys, each key's one after the other: the next only when the one before is acknowledged.
func (w *world) feed(ctx context.Context, stop <-chan struct{}, worker, workers, keys int) {
	r := rand.New(rand.NewPCG(w.seed, 1<<35+uint64(worker)))
	for n := 0; ; n++ {
		for key := worker; key < keys; key += workers {
			select {
			case <-stop:
				return
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(r.IntN(120)) * time.Millisecond):
			}
			subject := fmt.Sprintf("k%02d", key)
			id := fmt.Sprintf("%s-%06d", subject, n)
			event := fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/e2e","type":"e2e.trip","subject":%q,"data":{"n":%d}}`, id, subject, n)
			for _, s := range w.subscriptions {
				s.book.posting(id, subject, n)
			}
			for ctx.Err() == nil {
				try, cancel := context.WithTimeout(ctx, 15*time.Second)
				at, err := w.choose(r).publishOne(try, event)
				cancel()
				if err == nil {
					for _, s := range w.subscriptions {
						s.book.posted(id, at)
					}
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
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

func (w *world) subscribe(name string, ordered bool, all []*server) {
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
	w.subscriptions = append(w.subscriptions, &shared{name: name, id: made.ID, book: newLogbook(ordered)})
}

// join has one more client take from the subscription.
func (s *shared) join(ctx context.Context, w *world) {
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
func (s *shared) watch(ctx context.Context, w *world, r *rand.Rand) {
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
func (s *shared) watchCommits(ctx context.Context, w *world) {
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

func (s *shared) drained(ctx context.Context, w *world) bool {
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
