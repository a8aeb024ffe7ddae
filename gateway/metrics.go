package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the edge's. All labels are bounded: routes are templates, never addresses.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
	shed     prometheus.Counter
	refused  *prometheus.CounterVec
	events   *prometheus.CounterVec
	append   prometheus.Histogram
}

// unmatchedRoute is the route label of requests to no route.
const unmatchedRoute = "unmatched"

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_http_requests_total", Help: "Requests by route, method and status; code is \"hijacked\" where a session took the connection, \"aborted\" where it was cut, \"gone\" where the client went away before it could be answered.",
		}, []string{"route", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "eventissuer_http_request_duration_seconds", Help: "Time from the request's headers to the answer's end; streams are not counted.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "eventissuer_http_requests_in_flight", Help: "Requests whose handlers run.",
		}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_http_panics_total", Help: "Panics that ended a request.",
		}),
		shed: f.NewCounter(prometheus.CounterOpts{
			Name: "eventissuer_http_connections_shed_total", Help: "Connections without a request that were closed to make room for others.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_http_bodies_refused_total", Help: "Request bodies refused before they were read whole, by problem.",
		}, []string{"problem"}),
		events: f.NewCounterVec(prometheus.CounterOpts{
			Name: "eventissuer_publish_events_total", Help: "Published events by what became of them.",
		}, []string{"status"}),
		append: f.NewHistogram(prometheus.HistogramOpts{
			Name: "eventissuer_publish_append_seconds", Help: "Time that the log took to acknowledge the events of one request.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
}
