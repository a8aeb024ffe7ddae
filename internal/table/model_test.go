package table

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// schedules returns how many random schedules to run; EVENTISSUER_TEST_SCHEDULES multiplies them.
func schedules(n int) int {
	if testing.Short() {
		n /= 10
	}
	if f, err := strconv.Atoi(os.Getenv("EVENTISSUER_TEST_SCHEDULES")); err == nil {
		n *= f
	}
	return n
}

// seedFrom returns the seed of this run and prints it.
func seedFrom(t *testing.T) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("EVENTISSUER_TEST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() >> 1
	}
	t.Logf("EVENTISSUER_TEST_SEED=%d", seed)
	return seed
}

// digest says what a state is, for comparing.
func digest(state map[string]*Version) string {
	s := ""
	for _, id := range slices.Sorted(maps.Keys(state)) {
		v := state[id]
		s += fmt.Sprintf("%s@%d:%v:%q ", id, v.Offset, v.U, v.Body)
	}
	return s
}

// digestOf is the digest of what a fold keeps.
func digestOf(f *fold) string {
	state := map[string]*Version{}
	for id, k := range f.cur {
		v := k.Version()
		state[id] = &v
	}
	return digest(state)
}

// ideal is the fold by the rules as they are written, apart from the code under test: states[o] is the fold of all
// offsets below o.
type ideal struct {
	retain   int64
	state    map[string]*Version
	states   []string
	accepted map[uuid.UUID][]int64 // where each write was accepted: mostly once
}

func newIdeal(retain int64) *ideal {
	return &ideal{retain: retain, state: map[string]*Version{}, states: []string{""}, accepted: map[uuid.UUID][]int64{}}
}

func (f *ideal) add(r broker.Record) {
	var u, prev uuid.UUID
	for _, h := range r.Headers {
		switch h.Key {
		case "u":
			u = uuid.MustParse(string(h.Value))
		case "prev":
			prev = uuid.MustParse(string(h.Value))
		}
	}
	id, at := string(r.Key), int64(len(f.states)-1)
	var cur uuid.UUID
	if v := f.state[id]; v != nil {
		cur = v.U
	}
	if u != uuid.Nil && cur == prev {
		f.state[id] = &Version{U: u, Body: r.Value, Offset: at}
		f.accepted[u] = append(f.accepted[u], at)
	}
	for id, v := range f.state {
		if v.Body == nil && v.Offset+f.retain <= at {
			delete(f.state, id)
		}
	}
	f.states = append(f.states, digest(f.state))
}

// stepReplica is a replica of the step-by-step schedule.
type stepReplica struct {
	f       *fold
	loading *fold
	begun   bool // the load has chosen its snapshot
	parts   []part
	cut     []int64 // decided truncation: X, first part
}

// TestEveryScheduleOfStepsFoldsAlike interleaves single steps of replicas: applying, writing parts of snapshots,
// truncating late, loading; as the protocol's model does.
func TestEveryScheduleOfStepsFoldsAlike(t *testing.T) {
	seed := seedFrom(t)
	n := schedules(6_000)
	for k := range n {
		if problem := stepSchedule(seed + uint64(k)); problem != "" {
			t.Fatalf("schedule %d: %s", seed+uint64(k), problem)
		}
	}
}

func stepSchedule(seed uint64) string {
	R := rand.New(rand.NewPCG(seed, 7))
	retain := int64(3 + R.IntN(20))
	ref := newIdeal(retain)
	var log, snaps []broker.Record
	var start, sstart int64
	epoch := broker.Epoch{1}
	newUUID := func() (u uuid.UUID) {
		for i := range u {
			u[i] = byte(R.IntN(256))
		}
		return u
	}
	validNow := func(build bool) *attempt {
		sc := newScan(epoch, build)
		for _, r := range snaps[sstart:] {
			sc.add(&r)
		}
		return sc.last
	}
	replicas := make([]*stepReplica, 3)
	for i := range replicas {
		replicas[i] = &stepReplica{f: newFold(retain)}
	}
	restart := func(r *stepReplica) { r.loading, r.begun = newFold(retain), false }
	steps := 20 + R.IntN(100)
	for range steps {
		r := replicas[R.IntN(len(replicas))]
		a := R.Float64()
		switch {
		case r.loading != nil && !r.begun:
			if v := validNow(true); v != nil {
				r.loading = restore(v, retain)
			}
			r.begun = true
		case r.loading != nil && r.loading.next < start:
			restart(r)
		case r.loading != nil && r.loading.next < int64(len(log)):
			r.loading.apply(&log[r.loading.next])
		case r.loading != nil:
			r.f, r.loading = r.loading, nil
		case a < .35:
			w := write{id: string("ab"[R.IntN(2)]), u: newUUID()}
			if cur := r.f.cur[w.id]; cur != nil {
				w.prev = cur.u
			}
			if R.IntN(3) > 0 {
				w.body = w.u[:]
			}
			for range 1 + R.IntN(4)/3 {
				m := w.message(0)
				log = append(log, broker.Record{Offset: int64(len(log)), Key: m.Key, Value: m.Value, Headers: m.Headers})
				ref.add(log[len(log)-1])
			}
		case a < .65:
			if r.f.next < start {
				restart(r)
			} else if r.f.next < int64(len(log)) {
				r.f.apply(&log[r.f.next])
			}
		case a < .80:
			if r.parts == nil {
				es := r.f.entries()
				slices.SortFunc(es, func(a, b entry) int { return int(a.id[0]) - int(b.id[0]) })
				p := part{epoch: epoch, w: newUUID(), x: r.f.next, n: 2}
				half := len(es) / 2
				for k, es := range [][]entry{es[:half], es[half:]} {
					p.k, p.entries = int64(k), nil
					for _, e := range es {
						p.entries = appendEntry(p.entries, e)
					}
					r.parts = append(r.parts, p)
				}
			} else {
				snaps = append(snaps, broker.Record{Offset: int64(len(snaps)), Value: r.parts[0].encode()})
				r.parts = r.parts[1:]
				if len(r.parts) == 0 {
					r.parts = nil
				}
			}
			if R.IntN(10) == 0 {
				r.parts = nil // stopped for ever
			}
		case a < .92:
			if r.cut == nil {
				if v := validNow(false); v != nil {
					r.cut = []int64{v.x, v.first}
				}
			} else {
				start = max(start, min(r.cut[0], int64(len(log))))
				sstart = max(sstart, r.cut[1])
				r.cut = nil
			}
		default:
			restart(r)
		}
		if r.loading == nil && digestOf(r.f) != ref.states[r.f.next] {
			return fmt.Sprintf("a replica at %d has %s, the log says %s", r.f.next, digestOf(r.f), ref.states[r.f.next])
		}
	}
	f := newFold(retain)
	if v := validNow(true); v != nil {
		f = restore(v, retain)
	}
	if f.next < start {
		return "nothing to load from"
	}
	for f.next < int64(len(log)) {
		f.apply(&log[f.next])
	}
	if digestOf(f) != ref.states[len(log)] {
		return "a fresh replica differs from the log"
	}
	return ""
}
