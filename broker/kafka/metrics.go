package kafka

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	kindTail = "tail"
	kindRead = "read"
)

type metrics struct {
	fetches       *prometheus.CounterVec // by kind
	fetchBytes    *prometheus.CounterVec // by kind
	fetchRecords  *prometheus.CounterVec // by kind
	fetchErrors   *prometheus.CounterVec // by kind
	appends       *prometheus.CounterVec // by result
	appendBytes   prometheus.Counter
	appendSeconds prometheus.Histogram
	gaps          *prometheus.CounterVec // by reason
	describes     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	byKind := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"kind"})
	}
	return &metrics{
		fetches:      byKind("eventissuer_kafka_fetches_total", "Fetch requests answered by Kafka, of tails and of random reads."),
		fetchBytes:   byKind("eventissuer_kafka_fetch_bytes_total", "Bytes of records handed on from fetches: keys and values."),
		fetchRecords: byKind("eventissuer_kafka_fetch_records_total", "Records handed on from fetches."),
		fetchErrors:  byKind("eventissuer_kafka_fetch_errors_total", "Fetches, or partitions of fetches, that failed."),
		appends: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_kafka_appends_total", Help: "Messages appended, by their fate.",
		}, []string{"result"}),
		appendBytes: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_kafka_append_bytes_total", Help: "Bytes of the messages that Kafka acknowledged: keys and values.",
		}),
		appendSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "eventissuer_kafka_append_seconds", Help: "Time from an append to the last of its acknowledgements.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		gaps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_kafka_gaps_total", Help: "Gaps that tails ran into, by reason.",
		}, []string{"reason"}),
		describes: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_kafka_describes_total", Help: "Topics looked up: which life of it is the present one, and its configuration.",
		}),
	}
}

func (m *metrics) appended(began time.Time, ok, failed, bytes int) {
	m.appendSeconds.Observe(time.Since(began).Seconds())
	m.appends.WithLabelValues("ok").Add(float64(ok))
	m.appends.WithLabelValues("failed").Add(float64(failed))
	m.appendBytes.Add(float64(bytes))
}

func (m *metrics) handedOn(kind string, records []broker.Record) {
	n := 0
	for i := range records {
		n += len(records[i].Key) + len(records[i].Value)
	}
	m.fetchRecords.WithLabelValues(kind).Add(float64(len(records)))
	m.fetchBytes.WithLabelValues(kind).Add(float64(n))
}
