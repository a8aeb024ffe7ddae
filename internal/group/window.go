package group

import (
	"slices"
	"sort"
)

// window are the events of a lane from its position on, as far as they were read, by offset.
type window struct {
	items []*item
	marks []int32 // of each, apart from them so that a pass over all is quick: how often it was handed over, or markDone
	front int     // items[:front] have left
	moved uint64  // how many have left and have no place in items any more
}

// markDone is of what is done, or acknowledged and about to be stored.
const markDone = -1

// live are the items in the window.
func (w *window) live() []*item { return w.items[w.front:] }

// push takes items in.
func (w *window) push(items []item) {
	w.items = slices.Grow(w.items, len(items))
	w.marks = slices.Grow(w.marks, len(items))
	for k := range items {
		i := &items[k]
		i.place = w.moved + uint64(len(w.items))
		w.items = append(w.items, i)
		w.marks = append(w.marks, markOf(i))
	}
}

// mark notes that an item's phase or attempts have changed.
func (w *window) mark(i *item) { w.marks[i.place-w.moved] = markOf(i) }

func markOf(i *item) int32 {
	if i.phase == phaseDone || i.phase == phaseAcking {
		return markDone
	}
	return int32(i.n)
}

// trim lets what is done at the window's front leave it.
func (w *window) trim() {
	for w.front < len(w.items) && w.items[w.front].phase == phaseDone {
		w.items[w.front] = nil
		w.front++
	}
	if w.front > 256 && w.front > len(w.items)/2 {
		n := copy(w.items, w.items[w.front:])
		clear(w.items[n:])
		copy(w.marks, w.marks[w.front:])
		w.items, w.marks = w.items[:n], w.marks[:n]
		w.moved += uint64(w.front)
		w.front = 0
	}
}

// find returns the item at an offset, nil where none is in the window.
func (w *window) find(offset int64) *item {
	live := w.live()
	k := sort.Search(len(live), func(k int) bool { return live[k].offset >= offset })
	if k < len(live) && live[k].offset == offset {
		return live[k]
	}
	return nil
}

// state is what is to be stored of the window, where everything below read was read.
func (w *window) state(read int64) state {
	s := state{pos: read}
	live, marks := w.live(), w.marks[w.front:]
	first := 0
	for first < len(marks) && marks[first] == markDone {
		first++
	}
	if first < len(marks) {
		s.pos = live[first].offset
	}
	for from := first; from < len(marks); {
		mark := marks[from]
		to := from + 1
		for to < len(marks) && marks[to] == mark {
			to++
		}
		switch run := live[from:to]; {
		case mark == markDone:
			s.done = append(s.done, span{run[0].offset, run[len(run)-1].offset + 1})
		case mark > 0:
			s.attempts = appendAttempts(s.attempts, run, int(mark))
		}
		from = to
	}
	return s
}

// appendAttempts adds what was given out equally often, without the offsets in between at which there is nothing.
func appendAttempts(dst []attempt, run []*item, n int) []attempt {
	for len(run) > 0 {
		together := len(run)
		if first, last := run[0].offset, run[len(run)-1].offset; last-first != int64(len(run)-1) {
			together = 1
			for run[together].offset == first+int64(together) {
				together++
			}
		}
		dst = append(dst, attempt{span{run[0].offset, run[together-1].offset + 1}, n})
		run = run[together:]
	}
	return dst
}
