package table

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	writes    *prometheus.CounterVec
	applied   prometheus.Counter
	rejected  prometheus.Counter
	foreign   prometheus.Counter
	loads     prometheus.Counter
	mended    prometheus.Counter
	snapshots *prometheus.CounterVec
	loading   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, topic string) *metrics {
	if r != nil {
		r = prometheus.WrapRegistererWith(prometheus.Labels{"table": topic}, r)
	}
	f := promauto.With(r)
	return &metrics{
		writes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_table_writes_total",
			Help: "Writes made through this replica, by outcome: accepted, rejected, in_doubt, refused.",
		}, []string{"outcome"}),
		applied: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_table_applied_total",
			Help: "Writes applied by this replica, whoever made them.",
		}),
		rejected: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_table_rejected_total",
			Help: "Writes in the log that named another version than the current one.",
		}),
		foreign: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_table_foreign_records_total",
			Help: "Records in the table's topics that are no writes or no whole parts of a snapshot.",
		}),
		loads: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_table_loads_total",
			Help: "Loads of a partition from its snapshots and log.",
		}),
		mended: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_table_mended_offsets_total",
			Help: "Offsets refilled because the log had lost its end below a snapshot.",
		}),
		snapshots: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_table_snapshots_total",
			Help: "Snapshots that this replica wrote, by outcome: whole, failed.",
		}, []string{"outcome"}),
		loading: f.NewGauge(prometheus.GaugeOpts{
			Name: "eventissuer_table_loading",
			Help: "Partitions that are being loaded at the moment; writes to them are refused.",
		}),
	}
}
