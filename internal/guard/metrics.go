package guard

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	failures [kinds]prometheus.Counter
	lookups  [3]prometheus.Counter
	tokens   [2]prometheus.Counter
	evicted  prometheus.Counter
}

const (
	kept = iota
	resolved
	unresolved
)

func newMetrics(r prometheus.Registerer, g *Guard) *metrics {
	f := promauto.With(r)
	m := &metrics{
		evicted: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_outgoing_evicted_total",
			Help: "Clients whose idle connections were closed because of the bound on all of them.",
		}),
	}
	failures := f.NewCounterVec(prometheus.CounterOpts{
		Name: "eventissuer_outgoing_failures_total",
		Help: "Requests to addresses that customers name which had no answer, by kind of failure.",
	}, []string{"kind"})
	for k := Invalid; k < kinds; k++ {
		m.failures[k] = failures.WithLabelValues(k.String())
	}
	lookups := f.NewCounterVec(prometheus.CounterOpts{
		Name: "eventissuer_outgoing_lookups_total",
		Help: "Addresses of names that were needed, by where they came from: kept (or asked for together), resolved, failed.",
	}, []string{"result"})
	for i, name := range []string{"kept", "resolved", "failed"} {
		m.lookups[i] = lookups.WithLabelValues(name)
	}
	tokens := f.NewCounterVec(prometheus.CounterOpts{
		Name: "eventissuer_outgoing_tokens_total",
		Help: "Tokens asked of OAuth2 servers that customers name, by result: granted, failed.",
	}, []string{"result"})
	for i, name := range []string{"granted", "failed"} {
		m.tokens[i] = tokens.WithLabelValues(name)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "eventissuer_outgoing_connections",
		Help: "Connections that are open to addresses that customers name.",
	}, func() float64 {
		g.mu.Lock()
		defer g.mu.Unlock()
		return float64(len(g.open))
	})
	return m
}

func (m *metrics) lookup(hit bool, err error) {
	switch {
	case err != nil:
		m.lookups[unresolved].Inc()
	case hit:
		m.lookups[kept].Inc()
	default:
		m.lookups[resolved].Inc()
	}
}

func (m *metrics) token(err error) {
	if err != nil {
		m.tokens[1].Inc()
	} else {
		m.tokens[0].Inc()
	}
}

func (m *metrics) failed(err error) {
	if e, ok := errors.AsType[*Error](err); ok && e.Kind < kinds && e.Kind > 0 {
		m.failures[e.Kind].Inc()
	}
}
