package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/push"
)

// Of pages of attempts, and of series.
const (
	defaultAttempts = 50
	defaultSeries   = time.Hour
)

// attempted finds the subscription of the address, of which attempts are asked for. It answers by itself, and returns
// false, where there are none.
func (g *Gateway) attempted(w http.ResponseWriter, r *http.Request) (id string, ok bool) {
	s, ok := g.sunk(w, r)
	if ok && g.deps.Attempts == nil {
		g.refuse(w, r, newProblem(kindNoSinks, "this server keeps no attempts"))
		return "", false
	}
	return s.ID, ok
}

// listAttempts answers GET …/attempts, newest first.
func (g *Gateway) listAttempts(w http.ResponseWriter, r *http.Request) {
	id, ok := g.attempted(w, r)
	if !ok {
		return
	}
	q, err := attemptsQuery(r.URL.Query())
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	items, next, err := g.deps.Attempts.Page(r.Context(), id, q)
	if err != nil {
		g.refuseRead(w, r, attemptsProblem(err))
		return
	}
	page := list[push.Attempt]{Items: make([]push.Attempt, len(items)), Next: next}
	for i := range items {
		page.Items[i] = shown(&items[i])
	}
	writeJSON(w, r, http.StatusOK, page)
}

// attemptsQuery reads what attempts are asked for. An unknown parameter is a mistake: a filter with a typing error must
// not be no filter.
func attemptsQuery(values url.Values) (q attempts.Query, err error) {
	q.Limit = defaultAttempts
	for name, all := range values {
		if len(all) > 1 && name != "state" {
			return q, newProblem(kindInvalidParameter, "%s= is there %d times: give it once", name, len(all))
		}
		switch text := all[0]; name {
		case "state":
			for _, state := range all {
				if !slices.Contains(attempts.Outcomes(), attempts.Outcome(state)) {
					return q, newProblem(kindInvalidParameter, "state=%s: give one of %s, and the parameter again for another", state, outcomes())
				}
				q.Outcomes = append(q.Outcomes, attempts.Outcome(state))
			}
		case "event":
			q.Event = text
		case "since":
			q.Since, err = moment(name, text)
		case "until":
			q.Until, err = moment(name, text)
		case "next":
			q.Before = text
		case "limit":
			if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > attempts.MaxPage {
				return q, newProblem(kindInvalidParameter, "limit=%s: give a number from 1 to %d", text, attempts.MaxPage)
			}
		default:
			return q, newProblem(kindInvalidParameter, "there is no parameter %q: attempts are asked for by state, event, since, until, limit and next", name)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

func outcomes() string {
	var names []string
	for _, o := range attempts.Outcomes() {
		names = append(names, string(o))
	}
	return strings.Join(names, ", ")
}

// moment reads a time of the address; "" is none.
func moment(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	// A "+" that was not escaped arrives as a space.
	at, err := time.Parse(time.RFC3339Nano, strings.Replace(text, " ", "+", 1))
	if err != nil {
		return at, newProblem(kindInvalidParameter, "%s=%s: give a time as 2026-11-21T08:00:00Z", name, text)
	}
	return at, nil
}

// attemptsProblem translates what can go wrong with attempts.
func attemptsProblem(err error) error {
	switch {
	case errors.Is(err, attempts.ErrID):
		return newProblem(kindInvalidParameter, "%s", err)
	case errors.Is(err, attempts.ErrUnavailable):
		return newProblem(kindAttemptsAway, "%s", attempts.ErrUnavailable).retry(retrySoon).because(err)
	}
	return err
}

// deliveryPoint is what became of the attempts of a span of time.
type deliveryPoint struct {
	At        time.Time `json:"at"` // where it begins
	Delivered int64     `json:"delivered"`
	Refused   int64     `json:"refused"`
	Failed    int64     `json:"failed"`
	P50       string    `json:"p50,omitempty"` // how long the endpoint took
	P95       string    `json:"p95,omitempty"`
	P99       string    `json:"p99,omitempty"`
}

// listDeliveries answers GET …/deliveries: a series over time.
func (g *Gateway) listDeliveries(w http.ResponseWriter, r *http.Request) {
	id, ok := g.attempted(w, r)
	if !ok {
		return
	}
	since, step := time.Now().Add(-defaultSeries), time.Minute
	for name, all := range r.URL.Query() {
		var err error
		switch {
		case len(all) > 1:
			err = newProblem(kindInvalidParameter, "%s= is there %d times: give it once", name, len(all))
		case name == "since" && all[0] != "":
			since, err = moment(name, all[0])
		case name == "step" && all[0] != "":
			step, err = duration(name, all[0], time.Minute, attempts.SeriesMost)
		case name != "since" && name != "step":
			err = newProblem(kindInvalidParameter, "there is no parameter %q: deliveries are asked for by since and step", name)
		}
		if err != nil {
			writeProblem(w, r, err)
			return
		}
	}
	series, err := g.deps.Attempts.Series(r.Context(), id, since, step)
	if err != nil {
		g.refuseRead(w, r, attemptsProblem(err))
		return
	}
	page := list[deliveryPoint]{Items: make([]deliveryPoint, len(series))}
	for i, p := range series {
		page.Items[i] = deliveryPoint{p.At, p.Delivered, p.Refused, p.Failed, took(p.P50), took(p.P95), took(p.P99)}
	}
	writeJSON(w, r, http.StatusOK, page)
}

// took writes how long something took; "" where nothing did.
func took(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
