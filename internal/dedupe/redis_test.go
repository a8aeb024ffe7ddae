package dedupe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// onRealRedis is a desk with a real Redis, which others may be using, and real time.
func onRealRedis(t *testing.T, url string, cfg Config) *desk {
	t.Helper()
	cfg.Prefix = testenv.Name("dedupe") + ":"
	d := &desk{t: t, cfg: cfg}
	d.log = &faultyLog{memoryLog: newMemoryLog(time.Now)}
	d.log.create(stream.Topic, 2)
	var err error
	if d.Deduper, err = New(cfg, Deps{Log: d.log, Redis: realRedis(t, url)}); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRealRedisKeepsTheProtocol(t *testing.T) {
	short := Config{Lease: 5 * time.Second, Landing: 2 * time.Second, SettleTime: time.Second, RedisTimeout: 10 * time.Second}
	d := onRealRedis(t, testenv.Redis(t), short)
	d.log.next = []string{"acked", "landed", "lost", "refused"}
	d.expect([]string{"1", "2", "3", "4"}, "persisted 0", "in doubt", "in doubt", "refused")
	d.expect([]string{"1", "2", "3", "4"}, "duplicate 0", "retry", "retry", "persisted 2")
	client := d.store.(*redisStore).client
	for _, id := range []string{"1", "2"} { // done and reserved
		const want = day + 5*time.Second
		k := d.store.(*redisStore).name(keyOf("/test", id))
		if ttl := client.PTTL(t.Context(), k).Val(); ttl > want || ttl < want-time.Minute {
			t.Errorf("the key of %s lives for %v, want %v", id, ttl, want)
		}
		if v := client.Get(t.Context(), k).Val(); strings.Contains(v, "/test") {
			t.Errorf("the source is in Redis: %q", v)
		}
	}
	// Redis's own clock decides when the lease is over.
	deadline := time.Now().Add(time.Minute)
	for said := d.publish("2", "3"); ; said = d.publish("2", "3") {
		if said[0] == "duplicate 1" && said[1] == "persisted 3" {
			break
		}
		if said[0] != "retry" && said[0] != "duplicate 1" || time.Now().After(deadline) {
			t.Fatal(said)
		}
	}
	if err := client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	d.expect(one("5"), "persisted 4")
	d.expect(one("5"), "duplicate 4") // confirmed, though Redis had forgotten the script
	if late := testutil.ToFloat64(d.metrics.late); late > 0 {
		t.Errorf("%v are counted as late", late)
	}
}

func TestARedisThatLostEverythingIsForgiven(t *testing.T) {
	own := testenv.StartRedis(t, testenv.RedisOptions{})
	d := onRealRedis(t, own.URL(), Config{RedisTimeout: 10 * time.Second})
	client := realRedis(t, own.URL())
	d.expect(one("1"), "persisted 0")
	// Between reservation and confirmation: it is made known all the same.
	d.log.on = func() { client.FlushAll(context.Background()) }
	d.expect(one("2"), "persisted 1")
	d.log.on = nil
	d.expect([]string{"2", "1"}, "duplicate 1", "persisted 2")
	if late := testutil.ToFloat64(d.metrics.late); late > 0 {
		t.Errorf("%v are counted as late", late)
	}

	// While the first is on its way, somebody else reserves and appends it.
	other, err := New(d.cfg, Deps{Log: d.log, Redis: client})
	if err != nil {
		t.Fatal(err)
	}
	d.log.on = func() {
		d.log.on = nil
		client.FlushAll(context.Background())
		d.say(other.Append(context.Background(), stream, []Event{happening(t, "3", "a")}))
	}
	d.expect(one("3"), "persisted 4")
	if late := testutil.ToFloat64(d.metrics.late); late != 1 {
		t.Errorf("%v are counted as late, want 1", late)
	}
}

func TestWithoutRedisEventsAreWrittenAndSaySo(t *testing.T) {
	own := testenv.StartRedis(t, testenv.RedisOptions{})
	d := onRealRedis(t, own.URL(), Config{RedisTimeout: 200 * time.Millisecond})
	strict := happening(t, "strict", "a")
	strict.Strict = true
	d.expect(one("1"), "persisted 0")
	for name, fail := range map[string]struct{ begin, end func() error }{
		"away":    {own.Kill, func() error { return own.Start(context.WithoutCancel(t.Context())) }},
		"hanging": {own.Pause, own.Resume},
	} {
		if err := fail.begin(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 50 {
			out := d.Append(t.Context(), stream, []Event{happening(t, "1", "a"), strict, happening(t, "1", "a")})
			if !out[0].Degraded || out[0].Duplicate || out[0].Ack.Err != nil {
				t.Fatalf("%s: %+v, want it written and said to be undeduplicated", name, out[0])
			}
			if !errors.Is(out[1].Ack.Err, ErrStoreAway) {
				t.Fatalf("%s: %+v, want %v", name, out[1], ErrStoreAway)
			}
			if !out[2].Duplicate || out[2].Ack != out[0].Ack {
				t.Fatalf("%s: %+v, want a duplicate of %+v", name, out[2], out[0])
			}
		}
		// A few waits of 200 ms, not 50.
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: 50 publishes took %v", name, took)
		}
		if got := testutil.ToFloat64(d.metrics.away); got != 1 {
			t.Errorf("%s: degraded is %v, want 1", name, got)
		}
		if err := fail.end(); err != nil {
			t.Fatal(err)
		}
		for deadline, n := time.Now().Add(time.Minute), 0; ; n++ {
			// Each time another: a command that Redis had when it hung may have made a reservation of nobody's.
			strict = happening(t, fmt.Sprint("strict after ", name, n), "a")
			strict.Strict = true
			out := d.Append(t.Context(), stream, []Event{strict})
			if out[0].Ack.Err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: Redis is back, and yet %+v", name, out[0])
			}
		}
		if got := testutil.ToFloat64(d.metrics.away); got != 0 {
			t.Errorf("%s: degraded is %v, want 0", name, got)
		}
		strict = happening(t, "strict", "a")
		strict.Strict = true
	}
}

// cutter loses replies: it carries a connection's bytes to Redis and drops what comes back once it is told to.
type cutter struct {
	net.Conn
	cut *atomic.Bool
}

func (c cutter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Swap(false) {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func TestALostReplyIsNoReservationOfAnother(t *testing.T) {
	var cut atomic.Bool
	own := testenv.StartRedis(t, testenv.RedisOptions{})
	for name, retries := range map[string]int{"client repeats": 3, "client does not": -1} {
		d := onRealRedis(t, own.URL(), Config{RedisTimeout: 10 * time.Second})
		client := redis.NewClient(&redis.Options{
			Addr: own.Addr(), MaxRetries: retries, ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: silent(),
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				var dialer net.Dialer
				conn, err := dialer.DialContext(ctx, network, addr)
				return cutter{conn, &cut}, err
			},
		})
		defer client.Close()
		d.store.(*redisStore).client = client
		d.expect(one("first"), "persisted 0") // it is connected
		cut.Store(true)                       // of the reservation
		d.expect([]string{"1", "2"}, "persisted 1", "persisted 2")
		d.log.on = func() { cut.Store(true) } // of the confirmation
		d.expect([]string{"3", "4"}, "persisted 3", "persisted 4")
		d.log.on = nil
		if cut.Load() {
			t.Errorf("%s: no reply was lost", name)
		}
		d.expect([]string{"1", "2", "3", "4"}, "duplicate 1", "duplicate 2", "duplicate 3", "duplicate 4")
		if late := testutil.ToFloat64(d.metrics.late); late > 0 {
			t.Errorf("%s: %v are counted as late", name, late)
		}
	}
}

func TestAKeyThatIsNotOursIsLeftAlone(t *testing.T) {
	d := onRealRedis(t, testenv.Redis(t), Config{RedisTimeout: 10 * time.Second})
	s := d.store.(*redisStore)
	if err := s.client.Set(t.Context(), s.name(keyOf("/test", "1")), "Xsomething", 0).Err(); err != nil {
		t.Fatal(err)
	}
	d.expect(one("1"), "retry")
	if diff := cmp.Diff("Xsomething", s.client.Get(t.Context(), s.name(keyOf("/test", "1"))).Val()); diff != "" {
		t.Error(diff)
	}
}

func TestAClusterKeepsTheProtocol(t *testing.T) {
	own := testenv.StartRedis(t, testenv.RedisOptions{Args: []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(testenv.FreePort(t))}})
	if err := realRedis(t, own.URL()).ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{own.Addr()}, ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: silent()})
	t.Cleanup(func() { _ = client.Close() })
	for deadline := time.Now().Add(time.Minute); client.Set(t.Context(), "up", 1, 0).Err() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not come up")
		}
	}
	d := onRealRedis(t, own.URL(), Config{RedisTimeout: 10 * time.Second})
	d.store.(*redisStore).client = client
	var ids, first, second []string
	for i := range 100 {
		ids = append(ids, fmt.Sprint(i))
		first = append(first, fmt.Sprint("persisted ", i))
		second = append(second, fmt.Sprint("duplicate ", i))
	}
	d.expect(ids, first...)
	d.expect(ids, second...)
}
