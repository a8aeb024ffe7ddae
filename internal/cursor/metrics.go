package cursor

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	opens *prometheus.CounterVec
	lost  *prometheus.CounterVec
	saves *prometheus.CounterVec
	hints *prometheus.CounterVec
	held  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		opens: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_consumer_sessions_total",
			Help: "Sessions of named consumers asked for, by outcome: opened, superseded, busy, in_doubt, failed.",
		}, []string{"outcome"}),
		lost: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_consumer_leases_lost_total",
			Help: "Leases lost by this replica's sessions, by what took them: superseded, reset, deleted, in_doubt, truncated, recreated.",
		}, []string{"by"}),
		saves: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_consumer_saves_total",
			Help: "Saves of a position, by outcome: saved, rejected, in_doubt, failed.",
		}, []string{"outcome"}),
		hints: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_consumer_hints_total",
			Help: "Hints of positions in Redis: those written, and the failures of a batch or a read.",
		}, []string{"outcome"}),
		held: f.NewGauge(prometheus.GaugeOpts{
			Name: "eventissuer_consumer_leases_held",
			Help: "Leases that this replica's sessions hold.",
		}),
	}
}

func (m *metrics) opened(err error) {
	outcome := "failed"
	switch {
	case err == nil:
		outcome = "opened"
	case errors.Is(err, ErrSuperseded):
		outcome = "superseded"
	case errors.Is(err, ErrBusy):
		outcome = "busy"
	case errors.Is(err, ErrInDoubt):
		outcome = "in_doubt"
	}
	m.opens.WithLabelValues(outcome).Inc()
}

func lostBy(reason error) string {
	switch {
	case errors.Is(reason, ErrReset):
		return "reset"
	case errors.Is(reason, ErrDeleted):
		return "deleted"
	case errors.Is(reason, ErrInDoubt):
		return "in_doubt"
	case errors.Is(reason, ErrTruncated):
		return "truncated"
	case errors.Is(reason, ErrEpoch):
		return "recreated"
	}
	return "superseded"
}
