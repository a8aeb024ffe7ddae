package loadtest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTellsGapsOfBeforeFromThoseOfAfter(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(ms ...int) *arrivals {
		a := &arrivals{}
		for i, n := range ms {
			a.add(begin.Add(time.Duration(n)*time.Millisecond), time.Duration(i)*time.Millisecond)
		}
		return a
	}
	// Another leaves at 100. The second has been given nothing since, until 260; the third nothing at all: it waits.
	got := round([]*arrivals{at(0, 10, 20, 50, 90, 130, 250), at(0, 80, 95), {}}, begin, begin.Add(100*time.Millisecond), begin.Add(260*time.Millisecond))
	want := RebalanceRound{
		Fed: 2, Usual: 15, UsualMiddle: 80, UsualLongest: 80, Middle: 165, Longest: 165, UsualOldest: 4, Oldest: 6,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-expected +got:\n%s", diff)
	}
}
