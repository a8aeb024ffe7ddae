package quota

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replica starts the quotas of one replica on a Redis.
func replica(t testing.TB, addr string, c Config) *Quotas {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	q := New(c, Deps{Redis: client})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = q.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); _ = client.Close() })
	for !q.running.Load() {
		time.Sleep(time.Millisecond)
	}
	return q
}

func miniRedis(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestAReplicaAloneAllowsABurstAndThenTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Config{}, Deps{})
		take := func(n int) Decision { return q.Take(t.Context(), "k", Limit{Events: 10, Burst: 3 * time.Second}, n, 0) }
		if d := take(25); !d.Allowed || d.Events.Remaining != 5 || d.Events.Limit != 10 || d.Bytes.Limit != 0 {
			t.Errorf("of a burst of 30: %+v", d)
		}
		d := take(10)
		if d.Allowed || d.RetryAfter <= 0 || d.RetryAfter > time.Second || d.Events.Remaining != 5 {
			t.Errorf("beyond the burst: %+v", d)
		}
		time.Sleep(d.RetryAfter)
		if d := take(10); !d.Allowed {
			t.Errorf("when it was said to be worth while: %+v", d)
		}
		time.Sleep(time.Hour)
		if d := take(31); d.Allowed || !d.Never || d.RetryAfter != 0 {
			t.Errorf("more than is ever allowed: %+v", d)
		}
		allowed := 0
		for range 100 {
			if take(1).Allowed {
				allowed++
			}
		}
		if allowed != 30 {
			t.Errorf("%d at once after an hour", allowed)
		}
		if n := testutil.ToFloat64(q.m.alone); n != 104 {
			t.Errorf("%v decisions are counted as made alone", n)
		}
		if d := q.Take(t.Context(), "k", Limit{}, 1<<30, 1<<60); !d.Allowed {
			t.Errorf("without a limit: %+v", d)
		}
	})
}

func TestEventsAndBytesAreTakenTogetherOrNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Config{}, Deps{})
		l := Limit{Events: 10, Bytes: 1000}
		if d := q.Take(t.Context(), "k", l, 1, 900); !d.Allowed {
			t.Errorf("%+v", d)
		}
		if d := q.Take(t.Context(), "k", l, 1, 200); d.Allowed || d.Events.Remaining != 9 || d.Bytes.Remaining != 100 {
			t.Errorf("%+v", d)
		}
		if d := q.Take(t.Context(), "k", l, 9, 100); !d.Allowed {
			t.Errorf("%+v", d)
		}
		if d := q.Take(t.Context(), "other", l, 10, 1000); !d.Allowed {
			t.Errorf("another key: %+v", d)
		}
	})
}

func TestReplicasThatCannotShareDivideTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Config{Replicas: func() int { return 4 }}, Deps{})
		allowed := 0
		for range 10 * 10 {
			for range 20 {
				if q.Take(t.Context(), "k", Limit{Events: 40}, 1, 0).Allowed {
					allowed++
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if allowed < 105 || allowed > 110 { // 10 at once, and 10 a second for 10 s less the last pause
			t.Errorf("%d of 400 in 10 s", allowed)
		}
		// A batch above the share, but not above the limit, has its turn.
		time.Sleep(time.Minute)
		if d := q.Take(t.Context(), "k", Limit{Events: 40}, 40, 0); !d.Allowed {
			t.Errorf("%+v", d)
		}
		if d := q.Take(t.Context(), "k", Limit{Events: 40}, 1, 0); d.Allowed || d.RetryAfter < 3*time.Second {
			t.Errorf("what it took beyond the share is not paid for: %+v", d)
		}
	})
}

func TestKeysAreBounded(t *testing.T) {
	q := New(Config{MaxKeys: 128}, Deps{})
	for i := range 10_000 {
		q.Take(t.Context(), fmt.Sprint(i), Limit{Events: 1}, 1, 0)
	}
	n := 0
	for i := range q.shards {
		n += len(q.shards[i].entries)
	}
	if n > 128 || float64(n) != testutil.ToFloat64(q.m.keys) {
		t.Errorf("%d keys are held, and %v are said to be", n, testutil.ToFloat64(q.m.keys))
	}
	q.sweep(q.clock.Elapsed() + 2*idleTime)
	if n := testutil.ToFloat64(q.m.keys); n != 0 {
		t.Errorf("%v keys are held that nobody uses", n)
	}
}

func TestHeadersAreThoseOfTheDraft(t *testing.T) {
	for _, c := range []struct {
		d             Decision
		policy, limit string
	}{
		{Decision{}, "", ""},
		{Decision{Events: Standing{1000, 50, time.Second}}, `"events";q=1000;w=1`, `"events";r=50;t=1`},
		{Decision{Events: Standing{10, -3, 1100 * time.Millisecond}, Bytes: Standing{1 << 20, 20000, time.Millisecond}}, `"events";q=10;w=1, "bytes";q=1048576;qu="content-bytes";w=1`, `"events";r=0;t=2, "bytes";r=20000;t=1`},
	} {
		h := http.Header{}
		c.d.SetHeaders(h)
		want := http.Header{}
		if c.policy != "" {
			want = http.Header{"Ratelimit-Policy": {c.policy}, "Ratelimit": {c.limit}}
		}
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestTokensOfASecondAreSpentOnce draws replicas that lease from one ledger at random times, and holds what all of them
// spend in every span of whole seconds to the limit and one burst.
func TestTokensOfASecondAreSpentOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := Limit{
			Events: rapid.Int64Range(1, 40).Draw(rt, "events"),
			Burst:  time.Duration(rapid.Int64Range(1, 4).Draw(rt, "burst")) * time.Second,
		}
		ledger := map[int64]int64{}
		replicas := make([]*entry, rapid.IntRange(1, 4).Draw(rt, "replicas"))
		for i := range replicas {
			replicas[i] = newEntry("k")
			replicas[i].fit(l)
		}
		type spent struct {
			at time.Time
			n  int64
		}
		var all []spent
		now := time.Unix(1_800_000_000, 0)
		var late []ask // answers that have not arrived
		for range rapid.IntRange(1, 300).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(rt, "ms")) * time.Millisecond)
			e := replicas[rapid.IntRange(0, len(replicas)-1).Draw(rt, "replica")]
			switch rapid.IntRange(0, 2).Draw(rt, "do") {
			case 0:
				want := amounts{rapid.Int64Range(1, l.Events*l.seconds()).Draw(rt, "want"), 0}
				e.note(now.Unix(), want)
				d, waiting := e.decide(now, want, true, func() int64 { return 1 })
				if d.Allowed {
					all = append(all, spent{now, want[0]})
				}
				if waiting {
					e.expect(want)
				}
			case 1:
				for _, a := range e.asks(nil, now) {
					ledger[a.second] += a.amount
					a.reply = redis.NewIntCmd(context.Background())
					a.reply.SetVal(ledger[a.second])
					late = append(late, a)
				}
			case 2:
				for _, a := range late {
					a.granted()
				}
				late = nil
				e.settled()
			}
		}
		for i := range all {
			sum := int64(0)
			for j := i; j < len(all); j++ {
				sum += all[j].n
				span := all[j].at.Unix() - all[i].at.Unix() // the seconds that began in it
				if most := l.Events * (span + l.seconds()); sum > most {
					t.Fatalf("%d were spent from %v to %v, where %d is the most of %+v", sum, all[i].at, all[j].at, most, l)
				}
			}
		}
	})
}

// load has workers take one event each from every replica for a while, and returns how many each replica allowed.
func load(t *testing.T, replicas []*Quotas, l Limit, during time.Duration) (allowed []int64, first, last int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	counts := make([]atomic.Int64, len(replicas))
	var workers sync.WaitGroup
	first = time.Now().Unix()
	for i, q := range replicas {
		for range 4 {
			workers.Go(func() {
				for ctx.Err() == nil {
					d := q.Take(t.Context(), "principal/type", l, 1, 100)
					if d.Allowed {
						counts[i].Add(1)
						continue
					}
					// A refused one asks again soon, and not as often as it can.
					select {
					case <-time.After(min(d.RetryAfter, 5*time.Millisecond)):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	workers.Wait()
	last = time.Now().Unix()
	for i := range counts {
		allowed = append(allowed, counts[i].Load())
	}
	return allowed, first, last
}

func sharedFairly(t *testing.T, addr string) {
	t.Helper()
	const limit = 2000
	var replicas []*Quotas
	for range 4 {
		replicas = append(replicas, replica(t, addr, Config{Wait: 5 * time.Second}))
	}
	l := Limit{Events: limit, Bytes: 1 << 30, Burst: 2 * time.Second}
	begin := time.Now()
	allowed, first, last := load(t, replicas, l, 4*time.Second)
	took := time.Since(begin)
	sum := int64(0)
	for i, n := range allowed {
		sum += n
		if share := took.Seconds() * limit / 4; float64(n) < share/3 {
			t.Errorf("replica %d allowed %d, a fair share being %.0f: %v", i, n, share, allowed)
		}
	}
	if most := limit * (last - first + l.seconds()); sum > most {
		t.Errorf("%d were allowed in %v, where %d is the most", sum, took, most)
	}
	if least := 0.9 * limit * took.Seconds(); float64(sum) < least {
		t.Errorf("%d were allowed in %v, where %.0f should have been", sum, took, least)
	}
	for _, q := range replicas {
		if n := testutil.ToFloat64(q.m.alone); n > 0 {
			t.Errorf("%v decisions were made without Redis", n)
		}
	}
}

func TestReplicasShareALimitFairly(t *testing.T) {
	t.Run("miniredis", func(t *testing.T) { sharedFairly(t, miniRedis(t).Addr()) })
	t.Run("Redis", func(t *testing.T) { sharedFairly(t, testenv.StartRedis(t, testenv.RedisOptions{}).Addr()) })
}

func TestWithoutRedisEachReplicaGoesByItsShareAndComesBack(t *testing.T) {
	m := miniRedis(t)
	q := replica(t, m.Addr(), Config{Replicas: func() int { return 2 }, Wait: 200 * time.Millisecond, Timeout: 100 * time.Millisecond})
	l := Limit{Events: 100}
	if d := q.Take(t.Context(), "k", l, 10, 0); !d.Allowed || testutil.ToFloat64(q.m.alone) != 0 {
		t.Fatalf("with Redis: %+v", d)
	}
	m.SetError("LOADING Redis is loading the dataset in memory")
	var allowed, alone int64
	for testutil.ToFloat64(q.m.alone) < 500 {
		before := testutil.ToFloat64(q.m.alone)
		if d := q.Take(t.Context(), "k", l, 1, 0); d.Allowed && testutil.ToFloat64(q.m.alone) > before {
			alone++
		} else if d.Allowed {
			allowed++
		}
	}
	if alone < 1 || alone > 70 {
		t.Errorf("%d were allowed alone, beside %d of before, where the share is 50", alone, allowed)
	}
	m.SetError("")
	for deadline := time.Now().Add(10 * time.Second); ; {
		before := testutil.ToFloat64(q.m.alone)
		if d := q.Take(t.Context(), "k", l, 1, 0); d.Allowed && testutil.ToFloat64(q.m.alone) == before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("Redis is not asked again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestARedisThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	own := testenv.StartRedis(t, testenv.RedisOptions{})
	q := replica(t, own.Addr(), Config{Wait: 20 * time.Millisecond})
	if d := q.Take(t.Context(), "k", Limit{Events: 10}, 1, 0); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	if err := own.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Kill() }()
	begin := time.Now()
	d := q.Take(t.Context(), "another", Limit{Events: 10}, 1, 0)
	if took := time.Since(begin); !d.Allowed || took > 2*time.Second {
		t.Errorf("%+v after %v", d, took)
	}
	if testutil.ToFloat64(q.m.alone) != 1 {
		t.Error("it is not counted as decided alone")
	}
}

func TestRedisLearnsNoNames(t *testing.T) {
	m := miniRedis(t)
	q := replica(t, m.Addr(), Config{Prefix: "p:"})
	q.Take(t.Context(), "01017012345/type", Limit{Events: 10, Bytes: 10}, 1, 1)
	keys := m.Keys()
	if len(keys) == 0 {
		t.Fatal("nothing is leased")
	}
	for _, key := range keys {
		if ttl := m.TTL(key); ttl <= 0 || ttl > 15*time.Second {
			t.Errorf("%s stays for %v", key, ttl)
		}
		if key[:8] != "p:quota:" || len(key) > 60 {
			t.Errorf("key %q", key)
		}
	}
}

func TestSteadyUseDoesNotWait(t *testing.T) {
	q := replica(t, miniRedis(t).Addr(), Config{Wait: 5 * time.Second})
	l := Limit{Events: 10_000, Burst: 2 * time.Second}
	q.Take(t.Context(), "k", l, 1, 0)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	waited := 0
	for range 500 { // 2.5 s, over two turns of the second
		<-tick.C
		e := q.entry("k")
		e.mu.Lock()
		held := e.meters[0].held(time.Now().Unix())
		e.mu.Unlock()
		if held == 0 {
			waited++
		}
		if d := q.Take(t.Context(), "k", l, 1, 0); !d.Allowed {
			t.Fatalf("%+v", d)
		}
	}
	if waited > 25 {
		t.Errorf("%d of 500 had to wait for tokens", waited)
	}
}

func BenchmarkTake(b *testing.B) {
	l := Limit{Events: 1 << 40, Bytes: 1 << 50, Burst: 2 * time.Second}
	b.Run("alone", func(b *testing.B) {
		q := New(Config{}, Deps{})
		b.ReportAllocs()
		for b.Loop() {
			q.Take(b.Context(), "principal/type", l, 1, 300)
		}
	})
	b.Run("shared", func(b *testing.B) {
		q := replica(b, miniRedis(b).Addr(), Config{})
		b.ReportAllocs()
		for b.Loop() {
			q.Take(b.Context(), "principal/type", l, 1, 300)
		}
		b.ReportMetric(testutil.ToFloat64(q.m.alone)/float64(b.N), "alone/op")
		b.ReportMetric(testutil.ToFloat64(q.m.leases)/float64(b.N), "leases/op")
	})
	b.Run("shared, 1000 keys in parallel", func(b *testing.B) {
		q := replica(b, miniRedis(b).Addr(), Config{})
		var keys [1000]string
		for i := range keys {
			keys[i] = fmt.Sprint("principal/", i)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				q.Take(context.Background(), keys[i%len(keys)], l, 1, 300)
			}
		})
		b.ReportMetric(testutil.ToFloat64(q.m.leases)/float64(b.N), "leases/op")
	})
}
