package leases

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
)

func TestEachGetsItsFairPartInWholeUnits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		total float64
		wants []float64
		want  []float64
	}{
		{"enough for all", 10, []float64{2, 3, 1.5}, []float64{2, 3, 1.5}},
		{"one alone", 10, []float64{20, 0, 0}, []float64{10, 0, 0}},
		{"equal parts", 9, []float64{9, 9, 9}, []float64{3, 3, 3}},
		{"the modest get what they want", 10, []float64{1, 100, 100}, []float64{1, 5, 4}},
		{"a remainder", 8, []float64{8, 8, 8}, []float64{3, 3, 2}},
		{"a remainder that is no unit", 2.5, []float64{8, 8}, []float64{1.5, 1}},
		{"wants that are no units", 10, []float64{0.25, 100, 100}, []float64{0.25, 5, 4.75}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, map[string]float64{"k": tt.total}, func(w *world) {
				for i, want := range tt.wants {
					r := w.replica(func(c *Config, _ *Deps) { c.Replica = string(rune('a' + i)) })
					r.wants["k"] = want
					w.pass(50*time.Millisecond, nil) // the first holds all there is
				}
				w.pass(3*every, nil)
				if sum := w.sum("k"); math.Abs(sum-math.Min(tt.total, sumOf(tt.wants))) > 1e-9 {
					t.Errorf("%g are granted", sum)
				}
				w.wantHeld("k", tt.want...)
			})
		})
	}
}

func sumOf(all []float64) (sum float64) {
	for _, n := range all {
		sum += n
	}
	return sum
}

func TestTooLittleForAllGoesRound(t *testing.T) {
	for _, total := range []float64{1, 2, 0.5} {
		t.Run(fmt.Sprint(total), func(t *testing.T) {
			inBubble(t, map[string]float64{"k": total}, func(w *world) {
				for range 3 {
					w.replica(nil).wants["k"] = 5
				}
				w.pass(3*every, nil)
				turns := make([]time.Duration, 3)
				var idle, all time.Duration
				w.pass(60*every, func() {
					all += step
					if w.sum("k") < total {
						idle += step
					}
					for i, r := range w.all {
						if held := r.held("k"); held > 0 {
							turns[i] += time.Duration(held / total * float64(step))
						}
					}
				})
				if idle > all/5 {
					t.Errorf("%v of %v not all was granted, though all wanted more", idle, all)
				}
				for i, turn := range turns {
					if turn < all/4 || turn > all*2/5 {
						t.Errorf("replica %d had it all for %v of %v", i, turn, all)
					}
				}
			})
		})
	}
}

func TestWhoWantsSomethingAfterNothingIsServedAtOnce(t *testing.T) {
	inBubble(t, map[string]float64{"k": 8}, func(w *world) {
		told := 0
		r := w.replica(func(_ *Config, d *Deps) { d.Granted = func(string) { told++ } })
		if granted, ok := r.Share("k", 3, 8); ok || granted != 0 {
			t.Errorf("before any answer %g, %v", granted, ok)
		}
		w.pass(step, nil)
		if granted, ok := r.Share("k", 0, 8); !ok || granted != 3 || told != 1 {
			t.Errorf("%g, %v after a round trip, told %d times", granted, ok, told)
		}
		r.wants["k"] = 0
		w.pass(3*every, nil)
		if granted, ok := r.Share("k", 0, 8); !ok || granted != 0 {
			t.Errorf("%g, %v for who wants nothing", granted, ok)
		}
		r.wants["k"] = 8
		w.pass(2*step, nil)
		if granted, ok := r.Share("k", 1, 8); !ok || granted != 8 || told != 2 {
			t.Errorf("%g, %v after a round trip, told %d times", granted, ok, told)
		}
		if granted, ok := r.Share("k", 1, 5); !ok || granted != 5 {
			t.Errorf("%g, %v of a total that has shrunk to 5", granted, ok)
		}
		for _, total := range []float64{0, -1, math.NaN()} {
			if granted, ok := r.Share("none", 1, total); !ok || granted != 0 {
				t.Errorf("%g, %v of a total of %g", granted, ok, total)
			}
		}
	})
}

func TestWhoIsGrantedLessSaysAtOnceThatItKnows(t *testing.T) {
	inBubble(t, map[string]float64{"k": 8}, func(w *world) {
		w.replica(nil).wants["k"] = 8
		w.pass(every/2, nil)
		w.replica(nil).wants["k"] = 8
		w.pass(every/2+every/5+2*step, nil) // the first renews, and the second, which has nothing, looks again
		w.wantHeld("k", 4, 4)
	})
}

func TestARequestThatIsDoneTwiceGrantsOnce(t *testing.T) {
	inBubble(t, map[string]float64{"k": 8}, func(w *world) {
		a, b := w.replica(nil), w.replica(nil)
		a.wants["k"] = 8
		w.pass(every/10, nil)
		b.wants["k"] = 8
		w.pass(every/10, nil)
		a.net.again() // when its fair part is half of what it was
		w.pass(every/2, nil)
		w.wantHeld("k", 8, 0)
		w.pass(2*every, nil)
		w.wantHeld("k", 4, 4)
	})
}

func TestWhatIsInUseIsNobodyElses(t *testing.T) {
	inBubble(t, map[string]float64{"k": 8}, func(w *world) {
		a := w.replica(nil)
		a.wants["k"] = 8
		w.pass(every, nil)
		a.InUse("k", 7)
		b := w.replica(nil)
		b.wants["k"] = 8
		w.pass(3*every, nil)
		w.wantHeld("k", 4, 1)
		delete(a.wants, "k") // its attempts take longer than it asks
		w.pass(3*idleRenewals*every, nil)
		w.wantHeld("k", 4, 1)
		a.InUse("k", 0)
		w.pass(2*every, nil)
		w.wantHeld("k", 0, 8)
	})
}

func TestWhatIsNotUsedAnyMoreIsFree(t *testing.T) {
	for name, end := range map[string]struct {
		do    func(a *replica)
		after time.Duration
	}{
		"released":           {func(a *replica) { a.Release("k"); a.Release("unknown") }, 2 * every},
		"not asked for":      {func(*replica) {}, (idleRenewals + 3) * every},
		"of who has stopped": {func(a *replica) { a.stop() }, 2 * every},
		"of who is dead":     {func(a *replica) { a.net.set(0, true); a.stop() }, ttl + 2*every},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]float64{"k": 8}, func(w *world) {
				a, b := w.replica(nil), w.replica(nil)
				a.wants["k"], b.wants["k"] = 8, 8
				w.pass(3*every, nil)
				w.wantHeld("k", 4, 4)
				delete(a.wants, "k")
				end.do(a)
				w.pass(end.after, nil)
				w.wantHeld("k", 0, 8)
				delete(b.wants, "k")
				if w.pass(10*every, nil); len(w.mini.Keys()) != 0 {
					t.Errorf("Redis is left with %q", w.mini.Keys())
				}
			})
		})
	}
}

func TestWithoutRedisGrantsEndWithTheirTime(t *testing.T) {
	inBubble(t, map[string]float64{"k": 8}, func(w *world) {
		registry := prometheus.NewRegistry()
		r := w.replica(func(_ *Config, d *Deps) { d.Registerer = registry })
		r.wants["k"] = 8
		w.pass(every, nil)
		r.net.set(0, true)
		w.pass(ttl/2, nil)
		if granted, ok := r.Share("k", 8, 8); !ok || granted != 8 {
			t.Errorf("%g, %v within the TTL", granted, ok)
		}
		w.pass(ttl/2, nil)
		if granted, ok := r.Share("k", 8, 8); ok {
			t.Errorf("%g, %v after the TTL", granted, ok)
		}
		if n := testutil.ToFloat64(r.m.failures); n == 0 {
			t.Error("no failure was counted")
		}
		r.net.set(0, false)
		w.pass(every, nil)
		if granted, ok := r.Share("k", 8, 8); !ok || granted != 8 {
			t.Errorf("%g, %v when Redis is back", granted, ok)
		}
		r.stop()
		if granted, ok := r.Share("k", 8, 8); ok {
			t.Errorf("%g, %v after the end of Run", granted, ok)
		}
		if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v, %v", problems, err)
		}
	})
}

func TestKeysAreBounded(t *testing.T) {
	inBubble(t, map[string]float64{}, func(w *world) {
		r := w.replica(func(c *Config, _ *Deps) { c.MaxKeys = 300 })
		for i := range 400 {
			r.Share(fmt.Sprint(i), 1, 1)
		}
		w.pass(2*step, nil)
		served := 0
		for i := range 400 {
			if granted, ok := r.Share(fmt.Sprint(i), 1, 1); ok && granted == 1 {
				served++
			}
		}
		if served != 300 {
			t.Errorf("%d keys were served, want 300", served)
		}
		w.pass((idleRenewals+2)*every, nil)
		if _, ok := r.Share("399", 1, 1); ok || len(r.entries) != 1 || len(w.mini.Keys()) != 0 {
			t.Errorf("%d keys are held and %d left in Redis after nobody asked for them", len(r.entries), len(w.mini.Keys()))
		}
	})
}

// TestGrantsNeverExceedTheTotal has replicas come, die, and change their minds, while Redis does late what they ask, answers
// late, or not at all, or loses everything; and then has it be quiet, when all must get their parts.
func TestGrantsNeverExceedTheTotal(t *testing.T) {
	seed := rand.Uint64()
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		seed := seed + uint64(round)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inBubble(t, map[string]float64{"one": 1, "few": 8, "rate": 2.5, "many": 10_000}, func(w *world) {
				rng := rand.New(rand.NewPCG(seed, 0))
				for range 2 {
					w.chaos(rng)
					w.calm()
				}
			})
		})
	}
}

// chaos is half a minute in which everything happens.
func (w *world) chaos(rng *rand.Rand) {
	start := func() {
		r := w.replica(nil)
		r.net.rng = rand.New(rand.NewPCG(rng.Uint64(), 0))
		r.net.set(20, false)
	}
	for len(w.all) < 3 {
		start()
	}
	w.disturb(40, false)
	w.pass(30*every, func() {
		r := w.all[rng.IntN(len(w.all))]
		switch key := []string{"one", "few", "rate", "many"}[rng.IntN(4)]; rng.IntN(300) {
		case 0, 1, 2, 3, 4, 5:
			r.wants[key] = math.Round(rng.ExpFloat64() * w.totals[key])
		case 6:
			r.wants[key] = rng.Float64() * w.totals[key]
		case 7:
			r.wants[key] = 0
		case 8:
			delete(r.wants, key)
			r.Release(key)
		case 9:
			r.net.set(40, rng.IntN(3) == 0)
		case 10:
			if rng.IntN(4) == 0 {
				r.net.set(0, true) // it does not get to give back what it holds
				r.wants = map[string]float64{}
				if len(w.all) < 8 {
					start()
				}
			}
		case 11:
			if rng.IntN(5) == 0 {
				w.lose()
			}
		}
	})
}

func (w *world) disturb(odds int, cut bool) {
	for _, r := range w.all {
		r.net.set(odds, cut)
	}
}

// calm lets all be quiet, and checks that everybody gets its part.
func (w *world) calm() {
	t := w.t
	w.disturb(0, false)
	for _, r := range w.all {
		for key, total := range w.totals {
			r.wants[key] = total
		}
	}
	w.pass(5*time.Second+ttl, nil) // what is under way comes
	for _, r := range w.all[1:] {  // and what others have given up is had by those who want it
		r.wants["few"] = 1
	}
	w.pass(3*every, nil)
	if n := len(w.all) - 1; w.all[0].held("few") != 8-float64(n) && !t.Failed() {
		t.Errorf("who wants all of 8 holds %g, where %d others want 1", w.all[0].held("few"), n)
	}
	used, had := map[string]float64{}, make([]map[string]bool, len(w.all))
	looks := 0.0
	w.pass(time.Duration(3*len(w.all))*every, func() {
		looks++
		for key, total := range w.totals {
			used[key] += w.sum(key) / total
			for i, r := range w.all {
				if had[i] == nil {
					had[i] = map[string]bool{}
				}
				had[i][key] = had[i][key] || r.held(key) > 0
			}
		}
	})
	if t.Failed() {
		return
	}
	for key := range w.totals {
		least := 0.999
		if w.totals[key] < float64(len(w.all)) { // turns
			least = 0.75
		}
		if part := used[key] / looks; part < least || part > 1.000001 {
			t.Errorf("of %q %.4f was used", key, part)
		}
		for i := range w.all {
			if !had[i][key] {
				t.Errorf("replica %d was granted nothing of %q", i, key)
			}
		}
	}
}

// TestARequestThatWasOvertakenChangesNothing has an earlier request of a replica come to Redis after a later one.
func TestARequestThatWasOvertakenChangesNothing(t *testing.T) {
	inBubble(t, map[string]float64{"k": 10}, func(w *world) {
		a, b := w.replica(nil), w.replica(nil)
		a.wants["k"] = 10
		w.pass(every/2, nil)
		a.net.hold()
		a.wants["k"] = 1
		w.pass(every+a.cfg.Timeout, nil)
		a.wants["k"] = 10
		w.pass(every, nil)
		w.wantHeld("k", 10, 0)
		a.net.letGo()
		synctest.Wait()
		b.wants["k"] = 10
		w.pass(every/2, nil) // and no grant exceeds what there is
		w.wantHeld("k", 10, 0)
		w.pass(2*every, nil)
		w.wantHeld("k", 5, 5)
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = client.Close() })
	for _, tt := range []struct {
		cfg  Config
		deps Deps
		want string
	}{
		{Config{}, Deps{}, "need a Redis"},
		{Config{TTL: time.Second}, Deps{Redis: client}, "good for two renewals"},
		{Config{Every: time.Microsecond}, Deps{Redis: client}, "a millisecond is the least"},
		{Config{Timeout: 2 * time.Second}, Deps{Redis: client}, "must be within half"},
	} {
		if _, err := New(tt.cfg, tt.deps); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v) = %v, want %q", tt.cfg, err, tt.want)
		}
	}
}
