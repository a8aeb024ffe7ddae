package quota

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// amounts are of events and of bytes.
type amounts [2]int64

// entry is what this replica holds of one key.
type entry struct {
	key  string
	name string       // what the key is called in Redis: it may name persons, and Redis need not know them
	used atomic.Int64 // the clock's elapsed time at the last use

	mu      sync.Mutex
	limit   Limit         // guarded by mu
	meters  [2]meter      // of events and bytes; guarded by mu
	pending chan struct{} // closed when a refill has been tried; nil: none is on its way; guarded by mu
}

func newEntry(key string) *entry {
	sum := sha256.Sum256([]byte(key))
	return &entry{key: key, name: hex.EncodeToString(sum[:16])}
}

// meter holds the tokens of one limit. A token is of one second, is good from then on for the burst, and is spent before
// younger ones. So all that is spent within T seconds is of T seconds and the burst before them.
type meter struct {
	limit int64 // per second; 0: none
	burst int64 // seconds
	slots []slot

	// what is asked for
	missing     int64 // what those who wait want
	last        int64 // the last amount wanted
	second      int64 // of wanted
	wanted      int64 // in that second
	wantedPrior int64 // in the one before

	// The share of a replica alone, a plain token bucket. What is spent of shared tokens is taken off it, too, so that
	// Redis that comes and goes gives nobody a burst each time.
	tokens  float64
	counted time.Time // when tokens were that many; zero: never
}

// slot is what is known of one second.
type slot struct {
	second int64
	tokens int64 // leased and not spent
	leased int64 // by all replicas, as last heard
	asked  bool  // of the next second: that it has been asked for ahead
}

// full reports whether nothing more is to be had of the second.
func (s *slot) full(limit int64) bool { return s.leased >= limit }

// fit makes the meters those of the limit. The caller holds the lock, here and below.
func (e *entry) fit(l Limit) {
	if e.limit == l {
		return
	}
	e.limit = l
	for i, n := range (amounts{l.Events, l.Bytes}) {
		m := &e.meters[i]
		if n = max(n, 0); m.limit == n && m.burst == l.seconds() {
			continue
		}
		*m = meter{limit: n, burst: l.seconds()}
		if n > 0 {
			m.slots = make([]slot, m.burst+1)
		}
	}
}

// decide takes what is wanted where that is allowed. waiting says that it cannot be told before a refill.
func (e *entry) decide(now time.Time, want amounts, shared bool, replicas func() int64) (d Decision, waiting bool) {
	for i := range e.meters {
		if m := &e.meters[i]; m.limit > 0 && want[i] > m.limit*m.burst {
			d.Never = true
		}
	}
	enough, closed := !d.Never, false
	divisor := replicas()
	for i := range e.meters {
		m := &e.meters[i]
		if m.limit == 0 || d.Never {
			continue
		}
		m.refill(now, divisor)
		lacks := want[i] - m.held(now.Unix())
		if !shared {
			lacks = int64(math.Ceil(float64(min(want[i], m.most(divisor))) - m.tokens))
		}
		if lacks > 0 {
			enough = false
			closed = closed || !shared || !m.open(now.Unix())
			d.RetryAfter = max(d.RetryAfter, m.after(now, lacks, shared, divisor))
		}
	}
	if enough {
		d.Allowed = true
		for i := range e.meters {
			if m := &e.meters[i]; m.limit > 0 {
				m.take(now, want[i], shared)
			}
		}
	}
	d.Events, d.Bytes = e.meters[0].standing(now, shared), e.meters[1].standing(now, shared)
	return d, !enough && !closed && !d.Never
}

// slot returns what is known of a second, which is good or next.
func (m *meter) slot(second int64) *slot {
	s := &m.slots[uint64(second)%uint64(len(m.slots))] // before 1970, too: a machine may learn the time late
	if s.second != second {
		*s = slot{second: second}
	}
	return s
}

// held is how many tokens are good now.
func (m *meter) held(second int64) (n int64) {
	for k := second - m.burst + 1; k <= second; k++ {
		n += m.slot(k).tokens
	}
	return n
}

// open reports whether more can be leased now.
func (m *meter) open(second int64) bool {
	for k := second - m.burst + 1; k <= second; k++ {
		if !m.slot(k).full(m.limit) {
			return true
		}
	}
	return false
}

func (m *meter) take(now time.Time, n int64, shared bool) {
	if !shared {
		m.tokens -= float64(n) // below zero where one request is more than the share
		return
	}
	m.tokens = max(min(m.tokens, 0), m.tokens-float64(n))
	for k := now.Unix() - m.burst + 1; n > 0; k++ {
		s := m.slot(k)
		spent := min(n, s.tokens)
		s.tokens -= spent
		n -= spent
	}
}

// note remembers how much is asked for, allowed or not: a replica that was refused must not ask for less than others.
func (e *entry) note(second int64, want amounts) {
	for i := range e.meters {
		m := &e.meters[i]
		switch second - m.second {
		case 0:
		case 1:
			m.wantedPrior, m.wanted = m.wanted, 0
		default:
			m.wantedPrior, m.wanted = 0, 0
		}
		m.second = second
		m.wanted += want[i]
		m.last = want[i]
	}
}

// target is how many tokens are to be held ahead of need: those of a tenth of a second at the present rate, and as many
// as the last request wanted. Of a large limit it is a 64th at least, so that many keys of little use do not ask Redis for
// every token, and an eighth at most, so that idle tokens of some replicas starve no other.
func (m *meter) target() int64 {
	return max(min(m.last, m.limit), min(max(max(m.wanted, m.wantedPrior)/10, m.limit/64), m.limit/8))
}

// low reports whether tokens are to be leased ahead.
func (e *entry) low(now time.Time) bool {
	second := now.Unix()
	for i := range e.meters {
		m := &e.meters[i]
		if m.limit == 0 {
			continue
		}
		if 2*m.held(second) < m.target() && m.open(second) {
			return true
		}
		if late(now) && !m.slot(second+1).asked {
			return true
		}
	}
	return false
}

// late reports whether it is time to lease tokens of the next second.
func late(now time.Time) bool { return now.Nanosecond() > int(800*time.Millisecond) }

// expect has the next refill bring what somebody waits for.
func (e *entry) expect(want amounts) {
	for i := range e.meters {
		if m := &e.meters[i]; m.limit > 0 {
			m.missing += want[i]
		}
	}
}

// after is how long to wait for lacking tokens.
func (m *meter) after(now time.Time, lacks int64, shared bool, divisor int64) time.Duration {
	if !shared {
		return max(untilNext(now), time.Duration(float64(lacks*divisor)/float64(m.limit)*float64(time.Second)))
	}
	more := (lacks - 1) / m.limit // seconds beyond the next
	return untilNext(now) + time.Duration(more)*time.Second
}

func untilNext(now time.Time) time.Duration {
	return time.Second - time.Duration(now.Nanosecond())
}

// most is how much a replica alone may hold: its share of the burst, and one at least.
func (m *meter) most(divisor int64) int64 { return max(1, m.limit*m.burst/divisor) }

// refill fills the bucket of a replica alone.
func (m *meter) refill(now time.Time, divisor int64) {
	most := float64(m.most(divisor))
	if m.counted.IsZero() {
		m.tokens, m.counted = most, now
		return
	}
	if passed := now.Sub(m.counted); passed > 0 {
		m.tokens = min(most, m.tokens+passed.Seconds()*float64(m.limit)/float64(divisor))
		m.counted = now
	}
}

// standing is what clients are told.
func (m *meter) standing(now time.Time, shared bool) Standing {
	if m.limit == 0 {
		return Standing{}
	}
	s := Standing{Limit: m.limit, Reset: untilNext(now)}
	if !shared {
		s.Remaining = max(0, int64(m.tokens))
		return s
	}
	for k := now.Unix() - m.burst + 1; k <= now.Unix(); k++ {
		slot := m.slot(k)
		s.Remaining += slot.tokens + max(0, m.limit-slot.leased)
	}
	return s
}
