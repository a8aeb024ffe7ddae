package group

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	groups       prometheus.Gauge
	sessions     prometheus.Gauge
	delivered    prometheus.Counter
	redelivered  prometheus.Counter
	acknowledged prometheus.Counter
	buried       prometheus.Counter
	claims       prometheus.Counter
	lost         prometheus.Counter
	writes       *prometheus.CounterVec
	lag          *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "eventissuer_subscription_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "eventissuer_subscription_" + name, Help: help})
	}
	return &metrics{
		groups:       gauge("groups", "Subscriptions that have sessions on this replica: it is a member of a consumer group for each."),
		sessions:     gauge("sessions", "Sessions of subscriptions on this replica."),
		delivered:    counter("deliveries_total", "Events given to sessions of subscriptions, those given again among them."),
		redelivered:  counter("redeliveries_total", "Events given to sessions of subscriptions again."),
		acknowledged: counter("acknowledged_total", "Events of subscriptions whose acknowledgement, or dead letter, is stored."),
		buried:       counter("dead_letters_total", "Events of subscriptions that became dead letters."),
		claims:       counter("claims_total", "Claims of partitions."),
		lost:         counter("messages_lost_total", "Messages between replicas that could not be sent or taken."),
		writes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_subscription_writes_total", Help: "Writes of positions, by what became of them: stored, refused, unanswered.",
		}, []string{"outcome"}),
		lag: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "eventissuer_subscription_lag_events", Help: "Events between a subscription's positions and the ends of the partitions that this replica owns: the sum over the replicas is the subscription's lag.",
		}, []string{"subscription"}),
	}
}
