package dedupe

import "encoding/binary"

// twins finds the events of a batch that are the same.
type twins struct {
	table []int32 // 1 + the attempt, by key; open addressing
	mask  uint64
	pairs []pair
}

type pair struct{ attempt, event int }

// reset prepares for n events.
func (t *twins) reset(n int) {
	size := 4
	for size < 2*n {
		size *= 2
	}
	if cap(t.table) < size {
		t.table = make([]int32, size)
	}
	t.table = t.table[:size]
	clear(t.table)
	t.mask, t.pairs = uint64(size-1), t.pairs[:0]
}

// first reports whether k is new, as the key of attempt number next. Else it notes that event is a twin.
func (t *twins) first(k key, next, event int, attempts []attempt) bool {
	for at := binary.LittleEndian.Uint64(k[8:]) & t.mask; ; at = (at + 1) & t.mask {
		n := t.table[at]
		if n == 0 {
			t.table[at] = int32(next) + 1
			return true
		}
		if attempts[n-1].key == k {
			t.pairs = append(t.pairs, pair{int(n - 1), event})
			return false
		}
	}
}
