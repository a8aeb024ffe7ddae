package push

import "time"

// The breaker opens after so many failures in a row, or where half of the last deliveries within a minute failed.
const (
	failuresInRow = 5
	recentResults = 20
	recentTime    = time.Minute
)

// breaker says whether an endpoint is sent to. While it is open one delivery is tried at each step of the schedule, and the
// last step repeats. It is guarded by the endpoint's mu.
type breaker struct {
	isOpen bool
	until  time.Time // while open: when the next trial is due
	trying bool      // it is under way
	step   int       // of the schedule
	row    int       // failures in a row
	recent [recentResults]result
	next   int
	since  time.Time // of the first failure after the last success; zero: the last one succeeded
}

type result struct {
	at     time.Time
	failed bool
}

// succeeded notes that the endpoint answered as one that works.
func (b *breaker) succeeded(now time.Time) (closed bool) {
	closed = b.isOpen
	if closed {
		b.recent = [recentResults]result{}
	}
	b.isOpen, b.trying, b.row, b.step, b.since = false, false, 0, 0, time.Time{}
	b.note(now, false)
	return closed
}

// failed notes that the endpoint failed, and reports whether that opened the breaker.
func (b *breaker) failed(now time.Time, schedule []time.Duration) (opened bool) {
	if b.since.IsZero() {
		b.since = now
	}
	b.row++
	b.note(now, true)
	if b.isOpen {
		if b.trying { // what was under way when it opened says nothing new
			b.trying = false
			b.step = min(b.step+1, len(schedule)-1)
			b.until = now.Add(jitter(schedule[b.step]))
		}
		return false
	}
	if b.row < failuresInRow && !b.half(now) {
		return false
	}
	b.open(now, schedule)
	return true
}

func (b *breaker) open(now time.Time, schedule []time.Duration) {
	b.isOpen, b.step = true, 0
	b.until = now.Add(jitter(schedule[0]))
}

func (b *breaker) note(now time.Time, failed bool) {
	b.recent[b.next] = result{now, failed}
	b.next = (b.next + 1) % recentResults
}

// half reports whether half of the last results, all within a minute, are failures.
func (b *breaker) half(now time.Time) bool {
	failures := 0
	for _, r := range b.recent {
		if r.at.IsZero() || now.Sub(r.at) > recentTime {
			return false
		}
		if r.failed {
			failures++
		}
	}
	return failures*2 >= recentResults
}
