package fanout

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
)

// setClock is a wall clock that is set, and the time that passes all the same.
type setClock struct{ by atomic.Int64 }

func (s *setClock) wall() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

func (s *setClock) clock() clock.Clock {
	began := time.Now()
	return clock.New(s.wall, func() time.Duration { return time.Since(began) })
}

// stamp appends an event whose time is the wall clock's, as a log on the same machine gives it.
func (s *setClock) stamp(l *fanouttest.Log, key string, id int) {
	l.Put(0, broker.Record{
		Key: []byte(key), Timestamp: s.wall(),
		Value: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":%q}`, id, key),
	})
}

func TestAStateOutlivesAClockThatIsSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"an hour on": time.Hour, "a day on": 24 * time.Hour, "an hour back": -time.Hour, "a day back": -24 * time.Hour, "to about 1970": -30 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, set := fanouttest.NewLog(1), &setClock{}
				hs := start(t, Config{Log: l, Linger: 24 * time.Hour})
				hs.clock = set.clock()
				h := open(t, hs)
				h.Keep(State{Window: time.Hour, MaxKeys: 100, MaxBytes: 1 << 20})
				set.stamp(l, "before", 1)
				snapshotOf(t, h, nil).Release()
				set.by.Store(int64(by))
				set.stamp(l, "after", 2)
				synctest.Wait()
				var past time.Duration
				for _, at := range []time.Duration{time.Second, 5 * time.Minute, 9 * time.Minute, 30 * time.Minute} {
					if by > 0 && at > 10*time.Minute {
						break // by then the clock is believed
					}
					time.Sleep(at - past)
					past = at
					b := snapshotOf(t, h, nil)
					if diff := cmp.Diff(map[string]string{"before": "1", "after": "2"}, pictureOf(t, b)); diff != "" {
						t.Errorf("%s later (-want +got)\n%s", at, diff)
					}
					b.Release()
				}
				if by > 0 { // what was stamped before is over when its window is, by whichever clock
					time.Sleep(time.Hour)
					b := snapshotOf(t, h, nil)
					if _, there := pictureOf(t, b)["before"]; there {
						t.Error("a key is kept beyond its window")
					}
					b.Release()
				}
			})
		})
	}
}

func TestConflatedReadersGetTheirIntervalWhateverTheClockSays(t *testing.T) {
	for name, by := range map[string]time.Duration{"a day on": 24 * time.Hour, "an hour back": -time.Hour, "to about 1970": -30 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, set := fanouttest.NewLog(1), &setClock{}
				hs := start(t, Config{Log: l, Linger: 24 * time.Hour})
				hs.clock = set.clock()
				h := open(t, hs)
				var woken atomic.Int32
				a := h.Conflated(Options{Notify: func() { woken.Add(1) }}, time.Second)
				defer a.Close()
				a.all(t)
				if !a.Park() {
					t.Fatal("something is due")
				}
				put(l, 0, "k", 1)
				synctest.Wait()
				set.by.Store(int64(by)) // in the middle of the interval
				time.Sleep(2 * time.Second)
				if woken.Load() == 0 {
					t.Fatal("the reader is not woken once its interval is over")
				}
				if got := a.all(t); len(got) != 1 {
					t.Errorf("got %v", got)
				}
			})
		})
	}
}
