package loadtest

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Second is what was in one second of a run. Latencies are in milliseconds, of the events that arrived in it.
type Second struct {
	At         float64         `json:"at"` // its end, in seconds from the window's beginning; before that negative
	Published  uint64          `json:"published"`
	Failed     uint64          `json:"failed,omitempty"`
	Delivered  uint64          `json:"delivered"`
	Live       int             `json:"live"`
	Reconnects uint64          `json:"reconnects,omitempty"`
	Failures   uint64          `json:"failures,omitempty"` // attempts to connect that failed
	P50        float64         `json:"p50,omitempty"`
	P99        float64         `json:"p99,omitempty"`
	Max        float64         `json:"max,omitempty"`
	AckP50     float64         `json:"ackP50,omitempty"` // how long the publishers' requests that ended in it took
	AckP99     float64         `json:"ackP99,omitempty"`
	AckMax     float64         `json:"ackMax,omitempty"`
	Groups     []GroupSecond   `json:"readers,omitempty"` // where there are several
	Processes  []ProcessSecond `json:"processes,omitempty"`
}

// GroupSecond is a second of one group of readers.
type GroupSecond struct {
	Delivered uint64  `json:"delivered"`
	Live      int     `json:"live"`
	P99       float64 `json:"p99,omitempty"`
}

// ProcessSecond is a second of one measured process.
type ProcessSecond struct {
	Cores float64 `json:"cores"`
	RSS   int64   `json:"rss"` // bytes
}

// maxSeconds bounds a series: a day. A longer run's is of its last day.
const maxSeconds = 24 * 60 * 60

// series gathers the seconds of a run.
type series struct {
	pids   []int
	tree   bool
	all    []Second
	times  []time.Time
	before sums
	last   []usage // of each process
	lastAt time.Time
	recent recent // latencies
	acks   recent
}

// recent is distributions of the last seconds, for those who watch.
type recent []*hdrhistogram.Histogram

// add enters another second's.
func (r *recent) add(h *hdrhistogram.Histogram) {
	if *r = append(*r, h); len(*r) > maxRecent {
		*r = (*r)[1:]
	}
}

// quantiles are those of all the seconds together.
func (r recent) quantiles() *Quantiles {
	all := newHistogram()
	for _, h := range r {
		all.Merge(h)
	}
	return quantiles(all)
}

// sums are of everything since a run began.
type sums struct {
	published, failed, delivered, reconnects, failures uint64
	groups                                             []uint64 // deliveries
}

// maxRecent is how many seconds those who watch are told the latency of.
const maxRecent = 5

// add enters a second that ends now. groups is each group's state, with what arrived in the second.
func (s *series) add(now time.Time, publishers []*publishers, groups []groupState) error {
	second := Second{}
	c := sums{}
	acks := newHistogram()
	for _, p := range publishers {
		c.published += p.sent.Load()
		c.failed += p.failed.Load()
		p.takeRecent(acks)
	}
	if q := quantiles(acks); q != nil {
		second.AckP50, second.AckP99, second.AckMax = q.P50, q.P99, q.Max
	}
	latency := newHistogram()
	for i, g := range groups {
		c.delivered += g.Deliveries
		c.reconnects += g.Reconnects
		c.failures += g.Failures
		c.groups = append(c.groups, g.Deliveries)
		second.Live += g.Live
		own := newHistogram()
		if err := mergeEncoded(own, g.Recent); err != nil {
			return err
		}
		latency.Merge(own)
		if len(groups) > 1 {
			one := GroupSecond{Delivered: g.Deliveries, Live: g.Live}
			if i < len(s.before.groups) {
				one.Delivered -= s.before.groups[i]
			}
			if q := quantiles(own); q != nil {
				one.P99 = q.P99
			}
			second.Groups = append(second.Groups, one)
		}
	}
	second.Published, second.Failed = c.published-s.before.published, c.failed-s.before.failed
	second.Delivered, second.Reconnects, second.Failures = c.delivered-s.before.delivered, c.reconnects-s.before.reconnects, c.failures-s.before.failures
	if q := quantiles(latency); q != nil {
		second.P50, second.P99, second.Max = q.P50, q.P99, q.Max
	}
	second.Processes = s.processes(now)
	s.before = c
	if len(s.all) == maxSeconds {
		s.all, s.times = s.all[1:], s.times[1:]
	}
	s.all, s.times = append(s.all, second), append(s.times, now)
	s.recent.add(latency)
	s.acks.add(acks)
	return nil
}

// processes samples what the measured processes used since they were last sampled.
func (s *series) processes(now time.Time) []ProcessSecond {
	var out []ProcessSecond
	first := s.last == nil
	if first {
		s.last = make([]usage, len(s.pids))
	}
	for i, pid := range s.pids {
		u, err := glance(pid, s.tree)
		if err != nil {
			u = usage{cpu: s.last[i].cpu} // it is gone
		}
		one := ProcessSecond{RSS: u.rss}
		if !first {
			one.Cores = max(0, (u.cpu-s.last[i].cpu).Seconds()/now.Sub(s.lastAt).Seconds())
		}
		s.last[i] = u
		out = append(out, one)
	}
	s.lastAt = now
	return out
}

// since gives the seconds, counted from the window's beginning.
func (s *series) since(begin time.Time) []Second {
	for i, at := range s.times {
		s.all[i].At = float64(at.Sub(begin).Milliseconds()) / 1000
	}
	return s.all
}
