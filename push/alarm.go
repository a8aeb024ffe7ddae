package push

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// alarm is something that is to be called at a time.
type alarm struct {
	ring  func(now time.Time) // static once set
	at    time.Time           // guarded by the alarms' mu
	index int                 // in the heap, plus one; 0: not set; likewise
}

// alarms call what is due. They hold no goroutine and no timer for each.
type alarms struct {
	kick chan struct{}

	mu  sync.Mutex
	due alarmHeap // guarded by mu
}

// set has an alarm ring at a time, or sooner where it is set sooner already.
func (a *alarms) set(m *alarm, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case m.index == 0:
		m.at = at
		heap.Push(&a.due, m)
	case at.Before(m.at):
		m.at = at
		heap.Fix(&a.due, m.index-1)
	default:
		return
	}
	if m.index == 1 {
		nudge(a.kick)
	}
}

func (a *alarms) clear(m *alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.index > 0 {
		heap.Remove(&a.due, m.index-1)
	}
}

// run rings until ctx ends.
func (a *alarms) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		var ringing []*alarm
		wait := time.Hour
		a.mu.Lock()
		for len(a.due) > 0 {
			if at := a.due[0].at; at.After(now) {
				wait = at.Sub(now)
				break
			}
			ringing = append(ringing, heap.Pop(&a.due).(*alarm))
		}
		a.mu.Unlock()
		for _, m := range ringing {
			m.ring(now)
		}
		if len(ringing) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-a.kick:
		case <-ctx.Done():
			return
		}
	}
}

// alarmHeap implements heap.Interface.
type alarmHeap []*alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push implements heap.Interface.
func (h *alarmHeap) Push(x any) {
	m := x.(*alarm)
	*h = append(*h, m)
	m.index = len(*h)
}

// Pop implements heap.Interface.
func (h *alarmHeap) Pop() any {
	old := *h
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	m.index = 0
	return m
}
