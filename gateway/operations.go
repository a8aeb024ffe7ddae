package gateway

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/session"
)

// healthz tells that the process lives. It asks nothing of anybody: a log that is away is no reason to be killed.
func (g *Gateway) healthz(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz tells whether this replica takes requests, and what is missing if not.
func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) {
	checks := []Check{}
	if g.deps.Ready != nil {
		checks = g.deps.Ready()
	}
	status, word := http.StatusOK, "ready"
	for _, c := range checks {
		if !c.Ready {
			status, word = http.StatusServiceUnavailable, "not ready"
		}
	}
	writeJSON(w, r, status, struct {
		Status string  `json:"status"`
		Checks []Check `json:"checks"`
	}{word, checks})
}

func (g *Gateway) metricsPage(w http.ResponseWriter, r *http.Request) {
	if g.deps.Gatherer == nil {
		writeProblem(w, r, newProblem(kindNotFound, "this server has no metrics"))
		return
	}
	promhttp.HandlerFor(g.deps.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}).ServeHTTP(w, r)
}

// listSessions describes this replica's sessions: not more than limit, and the number of all.
func (g *Gateway) listSessions(w http.ResponseWriter, r *http.Request) {
	limit, err := pageLimit(r)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	answer := struct {
		Total int            `json:"total"`
		Items []session.Info `json:"items"`
	}{Items: []session.Info{}}
	if g.deps.Sessions != nil {
		answer.Total, answer.Items = g.deps.Sessions.Count(), g.deps.Sessions.List(limit)
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// drain sends this replica's sessions away; the process stays.
func (g *Gateway) drain(w http.ResponseWriter, r *http.Request) {
	if g.deps.Drain == nil {
		writeProblem(w, r, newProblem(kindNotImplemented, "this server has no sessions to send away"))
		return
	}
	g.deps.Drain()
	writeJSON(w, r, http.StatusAccepted, map[string]string{"status": "draining"})
}

// listAudit answers GET /v1/admin/audit: who changed which definition when, newest first.
func (g *Gateway) listAudit(w http.ResponseWriter, r *http.Request) {
	if g.deps.Audit == nil {
		writeProblem(w, r, newProblem(kindNotImplemented, "this server keeps no audit"))
		return
	}
	limit, err := pageLimit(r)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	before := int64(-1)
	if token := r.URL.Query().Get("next"); token != "" {
		if before, err = strconv.ParseInt(token, 10, 64); err != nil || before < 0 {
			writeProblem(w, r, newProblem(kindInvalidParameter, "next= is not a token of this list: give it back as it came, or leave it out"))
			return
		}
	}
	entries, next, err := g.deps.Audit.Page(r.Context(), before, limit)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	answer := list[catalog.Entry]{Items: entries}
	if answer.Items == nil {
		answer.Items = []catalog.Entry{}
	}
	if next > 0 {
		answer.Next = strconv.FormatInt(next, 10)
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// undrain takes sessions again after a drain.
func (g *Gateway) undrain(w http.ResponseWriter, r *http.Request) {
	switch {
	case g.deps.Undrain == nil:
		writeProblem(w, r, newProblem(kindNotImplemented, "this server has no sessions to send away"))
	case !g.deps.Undrain():
		writeProblem(w, r, newProblem(kindConflict, "the server is stopping, which cannot be taken back: start it again"))
	default:
		writeJSON(w, r, http.StatusOK, map[string]string{"status": "serving"})
	}
}
