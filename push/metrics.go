package push

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	attempts       *prometheus.CounterVec
	took           prometheus.Histogram
	events         prometheus.Counter
	endpoints      prometheus.Gauge
	partitions     prometheus.Gauge
	buried         prometheus.Counter
	gaps           *prometheus.CounterVec
	scanned        prometheus.Counter
	rescanned      prometheus.Counter
	recalled       prometheus.Counter
	scansBegun     prometheus.Counter
	statements     prometheus.Counter
	statementBytes prometheus.Counter
	unsaid         prometheus.Counter
	panics         prometheus.Counter

	delivered, refused, failed, gone, cut prometheus.Counter // of attempts, by outcome
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_push_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "eventissuer_push_" + name, Help: help})
	}
	m := &metrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_push_attempts_total", Help: "Requests to endpoints, by what became of them.",
		}, []string{"outcome"}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name: "eventissuer_push_attempt_seconds", Help: "How long endpoints took to answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		events:     counter("delivered_events_total", "Events that endpoints acknowledged."),
		endpoints:  gauge("endpoints", "Endpoints that this replica has sent to lately, or is to."),
		partitions: gauge("partitions", "Partitions that this replica pushes from."),
		buried:     counter("dead_letters_total", "Events whose schedule of attempts has ended, and that were set aside."),
		gaps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_push_gaps_total", Help: "Gaps in the log that were met, by reason.",
		}, []string{"reason"}),
		scanned:        counter("matched_events_total", "Events that were matched with all subscriptions."),
		rescanned:      counter("rescanned_events_total", "Events that were read for subscriptions that were behind."),
		recalled:       counter("recalled_events_total", "Events that were read on the way to those that were to be sent and had left memory."),
		scansBegun:     counter("scans_total", "Scans of the log for subscriptions that were behind."),
		statements:     counter("statements_total", "Statements written of how far subscriptions are."),
		statementBytes: counter("statement_bytes_total", "Bytes of these."),
		panics:         counter("panics_total", "Filters that failed by a mistake of the server."),
		unsaid:         counter("statements_unacknowledged_total", "Statements of which it is not known whether the log has them; they were written again."),
	}
	m.delivered, m.refused, m.failed = m.attempts.WithLabelValues(string(Delivered)), m.attempts.WithLabelValues(string(Refused)), m.attempts.WithLabelValues(string(Failed))
	m.gone, m.cut = m.attempts.WithLabelValues(string(Gone)), m.attempts.WithLabelValues(string(Cut))
	return m
}

func (m *metrics) observe(a *Attempt) {
	switch a.Outcome {
	case Delivered:
		m.delivered.Inc()
		m.events.Add(float64(len(a.Offsets)))
	case Refused:
		m.refused.Inc()
	case Failed:
		m.failed.Inc()
	case Gone:
		m.gone.Inc()
	case Cut:
		m.cut.Inc()
	case Lost:
	}
	if a.Status > 0 {
		m.took.Observe(a.Took.Seconds())
	}
}
