package attempts

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	kept    prometheus.Counter
	waiting prometheus.Gauge
	dropped *prometheus.CounterVec

	// Of dropped, by reason.
	overflow, rate, refused, unreferred, uncounted prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		kept: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_attempts_kept_total", Help: "Attempts that the log has acknowledged.",
		}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "eventissuer_attempts_waiting_bytes", Help: "Attempts in memory that are to be written to the log.",
		}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_attempts_dropped_total",
			Help: "What of attempts was dropped: there was no room to wait (overflow), the subscription had too many in a second (rate), " +
				"the log did not take it (refused), its reference was not kept (reference), it was not counted (count).",
		}, []string{"reason"}),
	}
	m.overflow, m.rate, m.refused = m.dropped.WithLabelValues("overflow"), m.dropped.WithLabelValues("rate"), m.dropped.WithLabelValues("refused")
	m.unreferred, m.uncounted = m.dropped.WithLabelValues("reference"), m.dropped.WithLabelValues("count")
	return m
}
