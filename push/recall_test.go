package push

import (
	"slices"
	"testing"
)

// What is asked for while a read is under way that began above it is not taken for what the read did not find.
func TestWhatIsAskedForBelowAReadWaitsForTheNextSweep(t *testing.T) {
	var a again
	popped := func(upTo int64) (offsets []int64) {
		for {
			r, ok := a.pop(upTo)
			if !ok {
				return offsets
			}
			offsets = append(offsets, r.offset)
		}
	}
	for _, offset := range []int64{900, 10, 3000} {
		a.ask(recall{offset: offset})
	}
	from, much, ok := a.begin()
	if from != 10 || much || !ok {
		t.Fatalf("it begins at %d, much: %v, %v", from, much, ok)
	}
	for _, offset := range []int64{5, 9, 20} {
		a.ask(recall{offset: offset})
	}
	if got := popped(100); !slices.Equal(got, []int64{10, 20}) {
		t.Errorf("a read from 10 on answers %v", got)
	}
	a.at = 101
	a.ask(recall{offset: 50})
	a.ask(recall{offset: 950})
	if from, much, _ = a.begin(); from != 900 || !much {
		t.Errorf("then it reads from %d, much: %v", from, much)
	}
	if got := popped(5000); !slices.Equal(got, []int64{900, 950, 3000}) {
		t.Errorf("a read from 900 on answers %v", got)
	}
	if from, _, ok = a.begin(); from != 5 || !ok {
		t.Errorf("the next sweep begins at %d, %v", from, ok)
	}
	if got := popped(5000); !slices.Equal(got, []int64{5, 9, 50}) {
		t.Errorf("the next sweep answers %v", got)
	}
	if _, _, ok = a.begin(); ok {
		t.Error("there is more")
	}
}
