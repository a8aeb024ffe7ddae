package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGarbageIsCollectedByHowMuchThereIs(t *testing.T) {
	pace := collectorPace{percent: busyPercent}
	var got []int
	cycles := uint64(0)
	// A start, a busy time, a pause, a light load that is one collection in two looks at three times and so one a look at twice,
	// a busy time again.
	for _, since := range []uint64{4, 9, 9, 0, 0, 1, 2, 1, 2, 3, 9, 1, 0} {
		cycles += since
		got = append(got, pace.next(cycles))
	}
	want := []int{0, 0, 0, restPercent, 0, 0, 0, 0, 0, busyPercent, 0, 0, restPercent}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("percentages (-want +got)\n%s", diff)
	}
}
