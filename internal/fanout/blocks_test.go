package fanout

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlocksThatWerePassedLeaveFirst(t *testing.T) {
	kept := func(b *blocks) (from []int64) {
		for _, k := range b.partitions[0] {
			from = append(from, k.from)
		}
		return from
	}
	for name, test := range map[string]struct {
		bytes, limit int64
		do           func(c *blockCache, b *blocks, k []*block)
		want         []int64
	}{
		"none":                  {10, 100, func(*blockCache, *blocks, []*block) {}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"one":                   {10, 100, func(_ *blockCache, b *blocks, k []*block) { b.pass(k[8]) }, []int64{0, 1, 2, 3, 4, 5, 6, 7, 9, 10}},
		"one that is used then": {10, 100, func(c *blockCache, b *blocks, k []*block) { b.pass(k[0]); c.use(k[0]) }, []int64{0, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"more than are kept": {10 << 20, 1 << 30, func(_ *blockCache, b *blocks, k []*block) {
			for _, passed := range k[3:6] {
				b.pass(passed)
				b.pass(passed)
			}
		}, []int64{0, 1, 2, 5, 6, 7, 8, 9, 10}},
		"one that has left": {10, 100, func(c *blockCache, b *blocks, k []*block) { c.forget(k[1]); b.pass(k[1]) }, []int64{0, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &blockCache{limit: test.limit, m: newMetrics(nil)}
			b := &blocks{cache: c, partitions: map[int32][]*block{}}
			var all []*block
			keep := func(i int64) {
				k := &block{owner: b, from: i, next: i + 1, bytes: test.bytes}
				all = append(all, k)
				b.keep(k)
			}
			for i := range int64(10) {
				keep(i)
			}
			test.do(c, b, all)
			keep(10)
			if diff := cmp.Diff(test.want, kept(b)); diff != "" {
				t.Error(diff)
			}
			if want := test.bytes * int64(len(test.want)); c.bytes != want || c.used.Len()+c.passed.Len() != len(test.want) {
				t.Errorf("counts %d bytes of %d blocks, want %d", c.bytes, c.used.Len()+c.passed.Len(), want)
			}
		})
	}
}
