package push

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// The schedules below are those of the protocol's model, on the real code over a log in memory: owners that are killed, or
// replaced and run on, statements that are not answered and land late, twice or never, compaction of whatever it may take,
// catalogs that lag, subscriptions made, changed, rewound, replayed, deleted and made again, endpoints that refuse, fail and are slow,
// and attempts whose answer nobody hears.
//
// It checks: nothing is lost; an event is first sent only when all before it with its key are done, over all owners; an
// owner that was not replaced without its noticing leaves no more deliveries of a lane to be repeated than it may; and when
// the faults stop everything is delivered.

// schedules are how many are run: EVENTISSUER_TEST_SCHEDULES says another number, EVENTISSUER_TEST_SEED the first one's
// seed.
const schedules = 50

func number(t testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: a number is expected, not %q", name, text)
	}
	return n
}

func TestScheduleOfFaultsLosesNothing(t *testing.T) {
	first := number(t, "EVENTISSUER_TEST_SEED", int(time.Now().UnixNano()%1_000_000_000))
	for n := range number(t, "EVENTISSUER_TEST_SCHEDULES", schedules) {
		seed := uint64(first + n)
		if !t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runSchedule(t, seed) })
		}) {
			t.Fatalf("run it again with EVENTISSUER_TEST_SEED=%d EVENTISSUER_TEST_SCHEDULES=1", seed)
		}
	}
}

const testLaneMost = 8

// schedule is one random run.
type schedule struct {
	*world
	partitions int32
	faults     tabletest.Faults
	live       []*process
	subs       []string
	made       int
	mayZombie  bool // owners may be replaced without noticing
	zombies    bool // one was
	refusing   float64
	failing    map[string]bool
}

func runSchedule(t *testing.T, seed uint64) {
	s := &schedule{world: newWorld(t, seed, 1+int32(seed%3)), failing: map[string]bool{}, mayZombie: seed%2 == 0}
	s.partitions = int32(len(s.bounds()))
	chance := func(most float64) float64 { return most * float64(s.draw(100)) / 100 }
	s.faults = tabletest.Faults{Delay: time.Duration(1+s.draw(200)) * time.Millisecond, Lose: chance(.2), Late: chance(.2), Twice: chance(.1), Mute: chance(.2)}
	s.refusing = chance(.3)
	for range 1 + s.draw(3) {
		s.subscribeAny()
	}
	for range 2 {
		s.startOne()
	}
	steps := 40 + s.draw(160)
	for range steps {
		s.step()
		time.Sleep(time.Duration(s.draw(2000)) * time.Millisecond)
	}
	// The faults stop.
	s.mu.Lock()
	s.refusing = 0
	clear(s.failing)
	s.mu.Unlock()
	for _, p := range s.live {
		p.view.Set(tabletest.Faults{Delay: time.Millisecond})
	}
	for _, id := range s.subs {
		s.edit(id, func(c *Subscription) { c.Blocked = "" })
	}
	for _, p := range s.live {
		p.tell(1 << 30)
	}
	time.Sleep(time.Minute) // zombies end
	for partition := range s.partitions {
		s.assign(partition, s.live[s.draw(len(s.live))], true)
	}
	s.await(30 * time.Minute)
	for deadline := time.Now().Add(30 * time.Minute); s.replays() > 0; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Errorf("%d replays have not ended", s.replays())
			s.dump()
			break
		}
	}
	for _, p := range s.live {
		p.stop()
	}
	s.checkRepeats()
}

func (s *schedule) startOne() {
	p := s.start(uint64(s.draw(1<<30)), s.faults, func(c *Config, e *Engine) {
		if e != nil {
			e.laneMost = testLaneMost
		} else {
			c.MemoryBytes = []int64{0, 1 << 10, 8 << 10}[s.draw(3)] // of an event or two, of some, of all
		}
	})
	p.tell(s.draw(len(s.catalog) + 1))
	s.live = append(s.live, p)
}

func (s *schedule) starts() []int64 {
	starts := make([]int64, s.partitions)
	for i := range starts {
		starts[i] = int64(s.draw(int(s.end(int32(i))) + 1))
	}
	return starts
}

func (s *schedule) subscribeAny() {
	s.made++
	id := fmt.Sprintf("s%d", s.made)
	query := filter.Query{}
	if s.draw(2) == 0 {
		query.Subjects = []string{[]string{"a", "b", "c"}[s.draw(3)]}
	}
	one := s.sink(id)
	one.answer = s.answer
	batch := s.draw(3) == 0
	one.spec = func(e *Endpoint) {
		if batch {
			e.Batch = Batch{Max: 4, Bytes: 1 << 20}
		}
	}
	s.subs = append(s.subs, id)
	s.subscribe(id, s.starts(), query, s.draw(4) > 0)
}

// answer is what an endpoint says. w.mu is held.
func (s *schedule) answer(id string, _ spot) (int, time.Duration) {
	took := time.Duration(s.rnd.IntN(300)) * time.Millisecond
	switch {
	case s.failing[id]:
		return 503, took
	case s.rnd.Float64() < s.refusing:
		return 422, took
	case s.rnd.Float64() < s.refusing:
		return 500, took
	}
	return 200, took
}

func (s *schedule) step() {
	one := func() *process { return s.live[s.draw(len(s.live))] }
	sub := func() string { return s.subs[s.draw(len(s.subs))] }
	switch x := s.draw(100); {
	case x < 30:
		for range 1 + s.draw(12) {
			s.publish(int32(s.draw(int(s.partitions))), []string{"a", "b", "c", "d"}[s.draw(4)])
		}
	case x < 45:
		s.assign(int32(s.draw(int(s.partitions))), one(), true)
	case x < 50:
		inOrder := !s.mayZombie
		s.zombies = s.zombies || !inOrder
		s.assign(int32(s.draw(int(s.partitions))), one(), inOrder)
	case x < 55:
		p := one()
		p.kill()
		for i, q := range s.live {
			if q == p {
				s.live = append(s.live[:i], s.live[i+1:]...)
				break
			}
		}
		s.startOne()
	case x < 65:
		one().tell(s.draw(len(s.catalog) + 1))
	case x < 70:
		if len(s.subs) < 5 {
			s.subscribeAny()
		}
	case x < 72:
		if id := sub(); len(s.subs) > 1 {
			s.unsubscribe(id)
			for i := range s.subs {
				if s.subs[i] == id {
					s.subs = append(s.subs[:i], s.subs[i+1:]...)
					break
				}
			}
		}
	case x < 74:
		s.rewind(sub(), s.starts())
	case x < 76:
		ends := make([]int64, s.partitions)
		for i := range ends {
			ends[i] = s.end(int32(i))
		}
		s.replay(sub(), s.starts(), ends)
	case x < 80:
		id := sub()
		s.edit(id, func(c *Subscription) {
			c.Blocked = map[bool]string{true: "paused"}[c.Blocked == ""]
		})
	case x < 85:
		id := sub()
		s.mu.Lock()
		s.failing[id] = !s.failing[id]
		s.mu.Unlock()
	case x < 95:
		// The log holds a lock of its own meanwhile, which those who hold the world's wait for.
		draws := rand.New(rand.NewPCG(uint64(s.draw(1<<30)), 3))
		s.log.Compact(testPositions, func() bool { return draws.IntN(2) == 0 })
	default:
		time.Sleep(time.Duration(s.draw(60)) * time.Second)
	}
}

// checkRepeats holds the deliveries that were made again to what an owner may leave.
func (s *schedule) checkRepeats() {
	if s.zombies {
		return // two owners send at once, for as long as the one has not noticed
	}
	for _, l := range s.lives {
		for partition := range s.partitions {
			repeats := 0
			for at, times := range l.got {
				if at.partition == partition {
					repeats += len(times) - 1
				}
			}
			if most := testLaneMost * s.owned[partition]; repeats > most {
				s.t.Errorf("%s: %d deliveries of partition %d were made again, over %d owners that may leave %d each", l.subscription, repeats, partition, s.owned[partition], testLaneMost)
			}
		}
	}
}
