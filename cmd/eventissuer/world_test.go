package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// stepsVariable says how many faults a test of random ones takes. The default is for every day.
const stepsVariable = "EVENTISSUER_TEST_STEPS"

func stepsOf(t *testing.T, otherwise int) int {
	t.Helper()
	text := os.Getenv(stepsVariable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: expected a number of steps", stepsVariable, text)
	}
	return n
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
	state state  // guarded by the world's mu
	over  func() // likewise: ends the trouble that it is in
}

// witness is told what is published, and what is done to Redis and to replicas that stand still.
type witness interface {
	// posting and posted tell of an event: that it is about to be sent for the first time, and that the log has it.
	posting(id, key string, n int)
	posted(id string, at place)
	// flush has Redis lose everything, by calling during.
	flush(during func() error) error
	// still tells that something stands still, until the function that it returns is called.
	still() (over func())
}

// trouble is a time in which something was done to replicas or brokers. What it leads to may come later.
type trouble struct {
	what     trial
	from, to time.Time // to is zero while it lasts
}

// trial says what was done.
type trial string

const (
	trialKill   trial = "kill"   // of a replica: until it is started again
	trialStart  trial = "start"  // of a replica: until it is ready
	trialPause  trial = "pause"  // of a replica
	trialBroker trial = "broker" // one is away
)

// world is three replicas, three Kafka brokers and a Redis, and what is done to them.
type world struct {
	// static
	t       *testing.T
	seed    uint64
	nodes   []*testenv.KafkaProcess
	store   *testenv.RedisProcess
	redis   *redis.Client
	brokers []string
	prefix  string // of topics
	topic   string
	began   time.Time

	rand      *rand.Rand // owned by the test
	witnesses []witness  // likewise; static once events are published
	parts     sync.WaitGroup
	repairs   sync.WaitGroup // what is being started

	mu           sync.Mutex
	replicas     []*machine // the list is static
	brokerStates []state    // guarded by mu
	brokerOver   func()     // guarded by mu: ends the trouble of the one that is away
	troubles     []*trouble // guarded by mu
}

// newWorld starts everything, with settings of the replicas beside those that all of them need.
func newWorld(t *testing.T, seed uint64, settings ...string) *world {
	t.Helper()
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
	all := storage{
		"--kafka-brokers", strings.Join(brokers, ","), "--redis-url", store.URL(), "--topic-prefix", prefix,
		"--dedupe-lease", "25s", "--group-session-timeout", "1s",
	}
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 1<<33)), seed: seed, nodes: nodes, store: store, brokers: brokers,
		prefix: prefix, topic: prefix + theStream,
		redis: redis.NewClient(&redis.Options{Addr: store.Addr()}), began: time.Now(),
		brokerStates: make([]state, len(nodes)),
	}
	t.Cleanup(func() { _ = w.redis.Close() }) // only orders went over it
	for range 3 {
		w.replicas = append(w.replicas, &machine{server: startServer(t, all, settings...)})
	}
	return w
}

// servers are the replicas, whatever was done to them.
func (w *world) servers() []*server {
	var all []*server
	for _, m := range w.replicas {
		all = append(all, m.server)
	}
	return all
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

// well ends a replica's trouble.
func (w *world) well(m *machine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.over()
	m.state, m.over = stateUp, nil
}

// stillness is how long a replica stands still at least: longer than its session of the consumer group, than events
// wait for their acknowledgement, and than others take it for alive.
const stillness = 4500 * time.Millisecond

// disturbances are the draws that disturb knows.
const disturbances = 52

// disturb does something to the replicas, the brokers or Redis, as drawn from 0 to below disturbances.
func (w *world) disturb(ctx context.Context, n, draw int) {
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	switch {
	case draw < 9:
		if m := w.any(stateUp, 1); m != nil {
			w.say("step %d: kill %s", n, m.base)
			w.trouble(m, stateDown, trialKill)
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
	default:
		d := time.Duration(100+w.rand.IntN(1400)) * time.Millisecond
		w.say("step %d: pause Redis for %s", n, d)
		over := w.still()
		must(w.store.Pause())
		time.Sleep(d) // it is what is done to Redis
		must(w.store.Resume())
		over()
	}
}

// trouble has a replica come into a state, from which the trouble lasts until it comes into the next.
func (w *world) trouble(m *machine, s state, what trial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.over != nil {
		m.over()
	}
	m.state, m.over = s, w.begin(what)
}

// begin notes the beginning of a trouble, and returns what notes its end. mu is held, and when that is called.
func (w *world) begin(what trial) (over func()) {
	t := &trouble{what: what, from: time.Now()}
	w.troubles = append(w.troubles, t)
	return func() { t.to = time.Now() }
}

// flush has Redis lose everything. All witnesses are told first: what they see while it is done may be of after it.
func (w *world) flush(ctx context.Context) error {
	flush := func() error { return w.redis.FlushAll(ctx).Err() }
	for _, s := range w.witnesses {
		inner := flush
		flush = func() error { return s.flush(inner) }
	}
	return flush()
}

// still tells all witnesses that something stands still, until the function that it returns is called.
func (w *world) still() (over func()) {
	var all []func()
	for _, s := range w.witnesses {
		all = append(all, s.still())
	}
	return func() {
		for _, over := range all {
			over()
		}
	}
}

// start starts a replica while all goes on.
func (w *world) start(m *machine) {
	w.trouble(m, stateBusy, trialStart)
	w.repairs.Go(func() {
		if err := m.Start(w.t.Context()); err != nil {
			w.t.Errorf("a replica does not start: %v", err)
		}
		w.well(m)
	})
}

// pause has a replica stand still for so long.
func (w *world) pause(m *machine, d time.Duration) error {
	w.trouble(m, statePaused, trialPause)
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
		w.well(m)
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
		w.brokerOver = w.begin(trialBroker)
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
		w.brokerOver()
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
			for _, s := range w.witnesses {
				s.posting(id, subject, n)
			}
			for ctx.Err() == nil {
				try, cancel := context.WithTimeout(ctx, 15*time.Second)
				at, err := w.choose(r).publishOne(try, event)
				cancel()
				if err == nil {
					for _, s := range w.witnesses {
						s.posted(id, at)
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
