package dedupe

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

// The table is held to a map and a list.
func TestTheTableForgetsTheOldestAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 3 * chunkIDs
		table := newIDs(most)
		where := make(map[key]uint64)
		now := uint32(1000)
		entries := 0 // put since the last time that all was checked
		numbers := rapid.IntRange(0, 6*chunkIDs)
		bits := rapid.SampledFrom([]int{0, 3, 64}).Draw(t, "bits of the hash") // few: nearly all collide
		makeKey := func(n int) (k key) {
			if bits == 64 {
				return keyOf("/test", fmt.Sprint(n))
			}
			k[0] = byte(n) & (1<<bits - 1)
			binary.LittleEndian.PutUint32(k[8:], uint32(n))
			return k
		}
		if bits < 64 {
			numbers = rapid.IntRange(0, 300)
		}
		order := []key{}
		for range rapid.IntRange(1, 20).Draw(t, "runs") {
			from, n := numbers.Draw(t, "from"), rapid.IntRange(1, chunkIDs).Draw(t, "n")
			if bits < 64 {
				n = min(n, 100)
			}
			for i := from; i < from+n; i++ {
				k := makeKey(i)
				evicted := table.put(&k, uint64(i), now, 1000, now)
				where[k] = uint64(i)
				order = append(order, k)
				entries++
				if evicted > chunkIDs {
					t.Fatalf("one put made %d leave", evicted)
				}
			}
		}
		// What was put last is there, as many as fit but for one chunk.
		kept := make(map[key]bool)
		for i := len(order) - 1; i >= max(0, len(order)-2*chunkIDs); i-- {
			k := order[i]
			kept[k] = true
			if at, since, ok := table.get(&k); !ok || at != where[k] || since != now {
				t.Fatalf("%x is at %d (%v), want %d", k, at, ok, where[k])
			}
		}
		found := 0
		for k := range where {
			if at, _, ok := table.get(&k); ok {
				found++
				if at != where[k] {
					t.Fatalf("%x is at %d, want %d", k, at, where[k])
				}
			}
		}
		if found != table.live {
			t.Fatalf("%d are there, and %d are counted", found, table.live)
		}
		if len(table.order) > most/chunkIDs {
			t.Fatalf("%d chunks, more than %d", len(table.order), most/chunkIDs)
		}
		// When their windows are over all leave with the next chunk.
		for i := range chunkIDs + 1 {
			k := keyOf("/later", fmt.Sprint(i))
			if n := table.put(&k, 1, now+5000, 1000, now+5000); n > 0 && i > 0 {
				t.Fatalf("%d left early, though all others' windows were over", n)
			}
		}
		if len(table.order) > 3 {
			t.Errorf("%d chunks are left", len(table.order))
		}
	})
}

func TestAnEventTakesFewBytesInTheProcess(t *testing.T) {
	for _, n := range []int{150_000, 200_000} { // the index of each shard just before and after it doubles
		got := bytesPerID(n)
		t.Logf("%.1f bytes an event of %d", got, n)
		if got > idBytes+2 { // and of each shard's last chunk, which is half empty
			t.Errorf("an event takes %.1f bytes, more than the %d that the bound counts with", got, idBytes)
		}
	}
}

func TestMemoryIsBoundedAndKeepsTheNewest(t *testing.T) {
	m := newMetrics(nil)
	s := newMemory(Config{MemoryBytes: 4 << 20}.withDefaults(), nil, nil, m, time.Now)
	const n = 150_000
	put(s, n)
	held := s.count()
	if least := 4 << 20 / idBytes * 7 / 10; held < least || held > 4<<20/idBytes {
		t.Errorf("%d are held, want between %d and %d", held, least, 4<<20/idBytes)
	}
	if evicted := testutil.ToFloat64(m.evicted); int(evicted) != n-held {
		t.Errorf("%v are counted to have left early, want %d", evicted, n-held)
	}
	for _, c := range []struct {
		i    int
		want kind
	}{{0, absent}, {n - 1, done}, {n - 30_000, done}} {
		a := &attempt{key: keyOf("/test", fmt.Sprint(c.i)), window: day, mine: state{kind: reserved, life: life{"prefix.s", "s", epoch{1}}}}
		s.reserve([]*attempt{a})
		if a.found.kind != c.want {
			t.Errorf("number %d is %q, want %q", c.i, a.found.kind, c.want)
		}
	}
}
