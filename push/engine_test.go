package push

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

func eventOf(t testing.TB, r broker.Record) *event.Event {
	e, err := event.FromRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

// undelivered counts what of all lives that are not over was not acknowledged.
func (w *world) undelivered() (n int) {
	partitions := int32(len(w.bounds()))
	for partition := range partitions {
		records := w.log.Records(testTopic, partition)
		w.mu.Lock()
		for _, l := range w.lives {
			if l.over {
				continue
			}
			for _, r := range l.due(partition, records) {
				if l.matches(w, r) && len(l.got[spot{partition, r.Offset}]) == 0 {
					n++
				}
			}
		}
		w.mu.Unlock()
	}
	return n
}

// dump tells where the lanes are.
func (w *world) dump() {
	for _, p := range w.processes {
		for _, st := range p.engine.streams {
			for _, part := range st.parts {
				part.mu.Lock()
				w.t.Logf("%s: partition %d: head %d, end %d, late %v", p.name, part.id, part.head, part.end, part.late)
				for c := range part.lanes {
					for r, l := range part.lanes[c] {
						l.point.mu.Lock()
						w.t.Logf("  %s: place %d next %d, flying %d idle %d unkeyed %d unshown %d queued %v; endpoint: blocked %q reason %q breaker %+v flying %d window %v ready %d takes %v",
							r.sub.id, l.place, l.next, l.flying, l.idle, l.unkeyed, l.unshown(), l.queued, l.point.blocked, l.point.reason, l.point.breaker.isOpen, l.point.flying, l.point.window.size, len(l.point.ready), l.point.open())
						l.point.mu.Unlock()
						for _, i := range l.items {
							w.t.Logf("    %d: phase %d, attempts %d, due %v", i.offset, i.phase, i.attempts, i.due)
						}
					}
				}
				part.mu.Unlock()
			}
		}
	}
}

// await waits for the log's time until all is delivered.
func (w *world) await(d time.Duration) {
	w.t.Helper()
	for deadline := time.Now().Add(d); w.undelivered() > 0; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			w.t.Errorf("%d events are not delivered after %v", w.undelivered(), d)
			w.dump()
			return
		}
	}
}

func TestEventsAreDeliveredToWhomTheyMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		for n := range 50 {
			w.publish(int32(n%2), []string{"a", "b", "c"}[n%3])
		}
		p := w.start(1, tabletest.Faults{Delay: 2 * time.Millisecond}, nil)
		w.subscribe("all", []int64{0, 0}, filter.Query{}, true)
		w.subscribe("b", []int64{5, 7}, filter.Query{Subjects: []string{"b"}}, false)
		w.subscribe("late", []int64{25, 25}, filter.Query{}, true)
		p.tell(10)
		time.Sleep(time.Second)
		w.assign(0, p, true)
		w.assign(1, p, true)
		w.await(time.Minute)
		for n := range 50 {
			w.publish(int32(n%2), []string{"a", "b", "c"}[n%3])
		}
		w.await(time.Minute)
		p.stop()
		for _, l := range w.lives {
			for at, times := range l.got {
				if len(times) != 1 {
					t.Errorf("%s: %+v was delivered %d times", l.subscription, at, len(times))
				}
			}
		}
	})
}
