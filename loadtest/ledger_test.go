package loadtest

import (
	"math/rand/v2"
	"testing"
)

// TestLedgerAgreesWithCountingByHand feeds random arrivals, and compares with a plain set of numbers.
func TestLedgerAgreesWithCountingByHand(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 300 {
		g := newLedger(0, 1, false)
		seen := map[uint64]bool{}
		var highest, wantLate, wantDup, gotLate, dup uint64
		for range 200 {
			seq := min(highest+uint64(rng.IntN(4)), 400)
			if rng.IntN(3) == 0 && highest > 0 {
				seq = rng.Uint64N(highest)
			}
			switch {
			case seen[seq]:
				wantDup++
			case seq+1 < highest+1 && seq < highest:
				wantLate++
			}
			seen[seq] = true
			highest = max(highest, seq+1)
			switch g.see(mark{seq: seq}) {
			case late:
				gotLate++
			case duplicate:
				dup++
			}
		}
		sent := sequence{end: highest + 5, doubts: map[uint64]struct{}{highest + 1: {}, 0: {}}}
		var wantLost uint64
		for seq := range sent.end {
			if _, doubt := sent.doubts[seq]; !seen[seq] && !doubt {
				wantLost++
			}
		}
		if lost := g.lost([]sequence{sent}); lost != wantLost || gotLate != wantLate || dup != wantDup {
			t.Fatalf("seed %d: lost %d late %d duplicates %d, want %d %d %d", seed, lost, gotLate, dup, wantLost, wantLate, wantDup)
		}
	}
}

func TestLedgerOfOtherLanes(t *testing.T) {
	g := newLedger(3, 1, false)
	if v := g.see(mark{lane: 2}); v != unexpected {
		t.Errorf("an event of lane 2 is %d for a reader of lane 3", v)
	}
	if v := g.see(mark{lane: 3}); v != arrived {
		t.Errorf("an event of lane 3 is %d for a reader of lane 3", v)
	}
	if n := g.lost(make([]sequence, 3)); n != 0 {
		t.Errorf("%d lost of a lane that nobody published to", n)
	}
}

func TestLedgerThatBeganLateIsHeldToWhatItSawBegin(t *testing.T) {
	g := newLedger(0, 1, true)
	sent := []sequence{{end: 20}}
	if n := g.lost(sent); n != 0 {
		t.Errorf("%d lost before anything came", n)
	}
	for _, seq := range []uint64{10, 11, 13} {
		g.see(mark{seq: seq})
	}
	if n := g.lost(sent); n != 1+6 {
		t.Errorf("%d lost, want 12 and 14 to 19", n)
	}
	g.see(mark{seq: 9}) // before its first: neither new nor missed
	if n := g.lost(sent); n != 7 {
		t.Errorf("%d lost after an older one came, want 7", n)
	}
}

func TestLedgerBoundsWhatItRemembers(t *testing.T) {
	g := newLedger(0, 1, false)
	const holes = maxSpans + 10
	for i := range uint64(holes) {
		g.see(mark{seq: 2*i + 1})
	}
	if n := len(g.lanes[0].missing); n != maxSpans {
		t.Errorf("remembers %d holes, want at most %d", n, maxSpans)
	}
	if n := g.lost([]sequence{{end: 2 * holes}}); n != holes {
		t.Errorf("%d lost, want %d", n, holes)
	}
}
