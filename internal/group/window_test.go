package group

import (
	"math/rand/v2"
	"testing"
)

// What a window says is stored is what its items are, whatever of it has left and moved.
func TestAWindowSaysOfEveryOffsetHowFarItIs(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		var w window
		var all []*item
		read := int64(r.IntN(100))
		first := read
		for range 60 {
			switch r.IntN(3) {
			case 0: // with gaps, as a filter leaves them
				slab := make([]item, 1+r.IntN(20))
				for k := range slab {
					read += int64(r.IntN(3) / 2 * r.IntN(4))
					slab[k] = item{offset: read, n: r.IntN(2)}
					read++
				}
				w.push(slab)
				for k := range slab {
					all = append(all, &slab[k])
				}
			case 1:
				if live := w.live(); len(live) > 0 {
					from := r.IntN(len(live))
					for _, i := range live[from:min(len(live), from+1+r.IntN(40))] {
						i.phase = []phase{phaseAcking, phaseDone, phaseDone}[r.IntN(3)]
						w.mark(i)
					}
				}
			case 2:
				if live := w.live(); len(live) > 0 {
					if i := live[r.IntN(len(live))]; i.phase != phaseDone && i.phase != phaseAcking {
						i.n++
						w.mark(i)
					}
				}
			}
			w.trim()
			s := w.state(read)
			for _, i := range all {
				isDone := i.phase == phaseDone || i.phase == phaseAcking
				if s.isDone(i.offset) != isDone {
					t.Fatalf("seed %d: %+v: %d is done: %t", seed, s, i.offset, isDone)
				}
				if n := s.attemptsOf(i.offset); !isDone && n != i.n {
					t.Fatalf("seed %d: %+v: %d attempts of %d, want %d", seed, s, n, i.offset, i.n)
				}
				if i.phase != phaseDone && w.find(i.offset) != i {
					t.Fatalf("seed %d: %d is not found", seed, i.offset)
				}
			}
			for o, k := first, 0; o < read; o++ {
				if k < len(all) && all[k].offset == o {
					k++
				} else if n := s.attemptsOf(o); n > 0 {
					t.Fatalf("seed %d: %+v: %d attempts of %d, where nothing is", seed, s, n, o)
				}
			}
			if back, err := parseState(s.binary()); err != nil || back.pos != s.pos {
				t.Fatalf("seed %d: %+v cannot be written: %v", seed, s, err)
			}
		}
	}
}
