package dedupe

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/eventissuer/eventissuer/broker"
)

type metrics struct {
	events    [outcomes]prometheus.Counter
	late      prometheus.Counter
	settled   *prometheus.CounterVec
	store     *prometheus.CounterVec
	away      prometheus.Gauge
	evicted   prometheus.Counter
	rebuilds  prometheus.Histogram
	shortened prometheus.Counter
}

const (
	persisted = iota
	duplicates
	degraded
	retried
	failed
	outcomes
)

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		late: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_dedupe_late_total",
			Help: "Events that were appended when their reservation was another's already: a second copy may be on the log. A process was paused past its lease, or Redis lost what it held.",
		}),
		settled: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_dedupe_settled_total",
			Help: "Appends of unknown fate that were looked for in the log, by what came of it: found, absent, unsettled.",
		}, []string{"result"}),
		store: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_dedupe_redis_failures_total",
			Help: "Exchanges with Redis that failed or took too long, by operation: reserve, change.",
		}, []string{"operation"}),
		away: f.NewGauge(prometheus.GaugeOpts{
			Name: "eventissuer_dedupe_degraded",
			Help: "1 while events are written undeduplicated, because Redis is away.",
		}),
		evicted: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_dedupe_evicted_total",
			Help: "Events that were forgotten before their window was over, because of the bound on memory.",
		}),
		rebuilds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "eventissuer_dedupe_rebuild_seconds",
			Help:    "Time that it took to read a topic's window from its log after a start.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}),
		shortened: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_dedupe_windows_shortened_total",
			Help: "Topics of which less than the window was read after a start, because of the bound on memory.",
		}),
	}
	events := f.NewCounterVec(prometheus.CounterOpts{
		Name: "eventissuer_dedupe_events_total",
		Help: "Events of types that are deduplicated, by outcome: persisted, duplicate, degraded (written undeduplicated), retry (to be sent again), failed (refused by the log or in doubt).",
	}, []string{"outcome"})
	for i, name := range []string{"persisted", "duplicate", "degraded", "retry", "failed"} {
		m.events[i] = events.WithLabelValues(name)
	}
	return m
}

// held tells how many events are kept in the process.
func (*metrics) held(r prometheus.Registerer, count func() int) {
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "eventissuer_dedupe_ids",
		Help: "Events that are remembered in the process.",
	}, func() float64 { return float64(count()) })
}

func (m *metrics) count(out []Outcome) {
	var n [outcomes]int
	for i := range out {
		switch o := &out[i]; {
		case o.Degraded:
			n[degraded]++
		case o.Duplicate:
			n[duplicates]++
		case o.Ack.Err == nil:
			n[persisted]++
		case isRetry(o.Ack.Err):
			n[retried]++
		default:
			n[failed]++
		}
	}
	for i, c := range n {
		if c > 0 {
			m.events[i].Add(float64(c))
		}
	}
}

func isRetry(err error) bool {
	if !errors.Is(err, broker.ErrRefused) {
		return false
	}
	for _, e := range []error{ErrReserved, ErrUnsettled, ErrOutOfTime, ErrStoreAway, ErrRebuilding} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
