package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGarbageIsCollectedByHowMuchThereIs(t *testing.T) {
	pace := collectorPace{percent: busyPercent}
	var got []int
	spent := 0.0
	// A start, a busy time, a pause, a light load that costs twice as much as soon as it is collected for at twice the heap, a busy
	// time again, and the light load.
	for _, part := range []float64{.05, .2, .004, .008, .009, .019, .1, .05, .006, .0049} {
		spent += part
		got = append(got, pace.next(spent))
	}
	want := []int{0, 0, restPercent, 0, 0, 0, busyPercent, 0, 0, restPercent}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("percentages (-want +got)\n%s", diff)
	}
}
