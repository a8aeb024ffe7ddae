package embedded

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestALookAtTheDiskCountsForAWhileWhereThereIsPlenty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reserve = reserveMost
		left, looks := uint64(0), 0
		s := &space{log: slog.New(slog.DiscardHandler), free: func(string) (uint64, uint64, error) {
			looks++
			return left, 1 << 40, nil
		}}
		expect := func(when string, bytes uint64, wantLook, wantFull bool) {
			t.Helper()
			before := looks
			if full := s.check(bytes, false) != nil; full != wantFull {
				t.Errorf("%s: full %v, want %v", when, full, wantFull)
			}
			if looked := looks > before; looked != wantLook {
				t.Errorf("%s: looked %v, want %v", when, looked, wantLook)
			}
		}
		left = reserve + plenty
		expect("at first", 1000, true, false)
		expect("at once again", 1000, false, false)
		time.Sleep(lookAge - 1)
		expect("just before its age", 1000, false, false)
		time.Sleep(time.Nanosecond)
		expect("at its age", 1000, true, false)
		expect("half of what was plenty", plenty/2-1000, false, false)
		expect("one more", 1, true, false)

		left = reserve + plenty - 1
		expect("within the age of a look", 1, false, false)
		time.Sleep(lookAge)
		expect("no longer plenty", 1, true, false)
		expect("and each time then", 1, true, false)
		left = reserve - 1
		expect("the disk is full", 1, true, true)
		expect("still", 1, true, true)
		left = reserve + plenty
		expect("there is room again", 1, true, false)
		expect("and plenty", 1, false, false)
	})
}
