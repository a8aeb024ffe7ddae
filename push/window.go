package push

import "time"

// window is how many attempts an endpoint is thought to take at once: it grows while answers come as fast as they did, and
// shrinks when they come slower or not at all. It is guarded by the endpoint's mu.
type window struct {
	size  float64
	rapid bool          // it has never had to shrink: it doubles
	base  time.Duration // how fast answers come when little is asked
	calm  time.Time     // it does not shrink again before
}

const (
	windowStart = 4
	// Answers count as slow when they take so much longer than they did, and longer than what a busy network adds.
	slowFactor = 3
	slowLeast  = 20 * time.Millisecond
)

func newWindow() window { return window{size: windowStart, rapid: true} }

// answered takes how long an answer took, with flying attempts under way.
func (w *window) answered(took time.Duration, flying, most int, now time.Time) {
	switch {
	case w.base == 0 || took < w.base:
		w.base = took
	default:
		w.base += (took - w.base) / 512 // what it could do once is forgotten slowly
	}
	switch {
	case took > slowFactor*w.base && took > w.base+slowLeast:
		w.shrink(0.8, now, took)
	case float64(flying) >= w.size-1 && w.rapid:
		w.size++
	case float64(flying) >= w.size-1:
		w.size += 1 / w.size
	}
	w.size = max(min(w.size, float64(most)), 1)
}

// failed notes that there was no answer, or one that says that the endpoint is in trouble.
func (w *window) failed(now time.Time, took time.Duration) { w.shrink(0.5, now, took) }

// shrink makes it smaller, once for all the attempts that were under way together.
func (w *window) shrink(by float64, now time.Time, took time.Duration) {
	w.rapid = false
	if now.Before(w.calm) {
		return
	}
	w.calm = now.Add(took)
	w.size = max(1, w.size*by)
}

// limit is how many attempts may be under way, where most may be.
func (w *window) limit(most int) int { return min(max(1, int(w.size)), most) }
