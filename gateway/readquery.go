package gateway

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/session"
)

// readQuery is what a read asks for, from the parameters of the address or from the body of a query.
type readQuery struct {
	Streams   []string        `json:"streams"`
	After     string          `json:"after"`
	From      string          `json:"from"`
	Consumer  string          `json:"consumer"`
	Autosave  bool            `json:"autosave"`
	Types     []string        `json:"types"`
	Sources   []string        `json:"sources"`
	Subjects  []string        `json:"subjects"`
	Resources []string        `json:"resources"`
	Filter    string          `json:"filter"`
	Filters   json.RawMessage `json:"filters"`
	Limit     *int            `json:"limit"`
	Wait      string          `json:"wait"`
	Heartbeat string          `json:"heartbeat"`
	Flush     string          `json:"flush"`
	Event     string          `json:"event"`
	Conflate  string          `json:"conflate"`
	Overflow  string          `json:"overflow"`
}

// fromURL reads the parameters. An unknown one is a mistake: a filter with a typing error must not be no filter.
func (q *readQuery) fromURL(values url.Values) error {
	for name, all := range values {
		one := all[0]
		switch name {
		case "stream", "type", "source", "subject", "resource":
		default:
			if len(all) > 1 {
				return newProblem(kindInvalidParameter, "%s= is there %d times: give it once", name, len(all))
			}
		}
		var err error
		switch name {
		case "stream":
			q.Streams = all
		case "type":
			q.Types = all
		case "source":
			q.Sources = all
		case "subject":
			q.Subjects = all
		case "resource":
			q.Resources = all
		case "after":
			q.After = one
		case "from":
			q.From = one
		case "consumer":
			q.Consumer = one
		case "filter":
			q.Filter = one
		case "wait":
			q.Wait = one
		case "heartbeat":
			q.Heartbeat = one
		case "flush":
			q.Flush = one
		case "event":
			q.Event = one
		case "conflate":
			q.Conflate = one
		case "overflow":
			q.Overflow = one
		case "autosave":
			if q.Autosave, err = strconv.ParseBool(one); err != nil {
				return newProblem(kindInvalidParameter, "autosave=%s: give true or false", one)
			}
		case "limit":
			n, err := strconv.Atoi(one)
			if err != nil {
				return newProblem(kindInvalidParameter, "limit=%s: give a number from 1 to %d", one, maxPage)
			}
			q.Limit = &n
		default:
			return newProblem(kindInvalidParameter, "there is no parameter %q: a read takes stream, after, from, consumer, autosave, type, source, subject, resource, filter, limit, wait, heartbeat, flush, event, conflate and overflow", name)
		}
	}
	return nil
}

// compile makes the query's filter; nil for everything.
func (q *readQuery) compile() (*filter.Filter, error) {
	f, err := filter.Compile(filter.Query{
		Types: q.Types, Sources: q.Sources, Subjects: q.Subjects, Resources: q.Resources, Filters: q.Filters, SQL: q.Filter,
	})
	var mistake *filter.Error
	if errors.As(err, &mistake) && mistake.Pointer != "" {
		p := asProblem(err)
		p.errors[0].Pointer = "/filters" + mistake.Pointer // the filters are a member of the body
		return nil, p
	}
	return f, err
}

func (q *readQuery) from() (session.From, error) {
	switch q.From {
	case "", "latest":
		return session.From{}, nil
	case "oldest":
		return session.From{Oldest: true}, nil
	case "snapshot":
		return session.From{Snapshot: true}, nil
	}
	// A "+" that was not escaped arrives as a space.
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(q.From, " ", "+", 1))
	if err != nil {
		return session.From{}, newProblem(kindInvalidParameter, "from=%s: give oldest, latest, snapshot, or a time as 2026-11-21T08:00:00Z", q.From)
	}
	if t.Unix() < 0 { // before any log; and the zero time says something else there
		return session.From{Oldest: true}, nil
	}
	return session.From{Time: t}, nil
}

// pace checks how a client wants to be written to.
func (q *readQuery) pace(req *session.Request) error {
	if q.Event != "" && q.Event != "type" {
		return newProblem(kindInvalidParameter, "event=%s: only event=type is known: the SSE event field is then the event's type", q.Event)
	}
	req.Typed = q.Event == "type"
	var err error
	if req.Heartbeat, err = duration("heartbeat", q.Heartbeat, time.Second, 5*time.Minute); err != nil {
		return err
	}
	if req.Flush, err = duration("flush", q.Flush, 0, 10*time.Second); err != nil {
		return err
	}
	if q.Flush != "" && req.Flush == 0 {
		req.Flush = -1
	}
	return nil
}

// picture checks what a client wants of the latest events of keys.
func (q *readQuery) picture(req *session.Request) error {
	if q.Overflow != "" && q.Overflow != "snapshot" {
		return newProblem(kindInvalidParameter, "overflow=%s: only overflow=snapshot is known: a reader that fell behind is then given a fresh snapshot rather than what it missed", q.Overflow)
	}
	req.Renew = q.Overflow != ""
	if req.From.Snapshot && q.Consumer != "" {
		return newProblem(kindInvalidParameter, "from=snapshot does not go with consumer=: a consumer goes on where it was, and a snapshot begins anew. Keep the cursor yourself, or leave from= out")
	}
	var err error
	if req.Conflate, err = duration("conflate", q.Conflate, leastInterval, mostInterval); err != nil {
		return err
	}
	if !req.From.Snapshot && !req.Renew {
		return nil
	}
	for i, state := range req.States {
		if state == (fanout.State{}) {
			return newProblem(kindNoState, "the stream %q keeps no state, so that there are no snapshots of it", req.Streams[i].Name)
		}
	}
	return nil
}

// Between these lies the interval in which a conflated reader is given each key's latest event.
const (
	leastInterval = 100 * time.Millisecond
	mostInterval  = time.Minute
)

// page checks what only a page has, on every transport, and sets it where a page is asked for.
func (q *readQuery) page(req *session.Request, asked bool) error {
	limit := defaultPage
	if q.Limit != nil {
		if limit = *q.Limit; limit < 1 || limit > maxPage {
			return newProblem(kindInvalidParameter, "limit=%d: give a number from 1 to %d", limit, maxPage)
		}
	}
	wait, err := duration("wait", q.Wait, 0, time.Minute)
	if err == nil && asked {
		req.Limit, req.Wait = limit, wait
	}
	return err
}

// inFlight refuses what cannot be changed while a session runs: it would be ignored silently.
func (q *readQuery) inFlight() error {
	for name, given := range map[string]bool{
		"streams": q.Streams != nil, "after": q.After != "", "from": q.From != "", "consumer": q.Consumer != "", "autosave": q.Autosave,
		"conflate": q.Conflate != "", "overflow": q.Overflow != "", "limit": q.Limit != nil, "wait": q.Wait != "", "heartbeat": q.Heartbeat != "", "flush": q.Flush != "", "event": q.Event != "",
	} {
		if given {
			return newProblem(kindInvalidBody, "%s cannot be changed in flight, only types, sources, subjects, resources, filter and filters: open another session", name).
				at(fieldError{Pointer: "/query/" + name, Message: "cannot be changed in flight"})
		}
	}
	return nil
}

// duration reads a parameter such as 15s; "" is 0.
func duration(name, text string, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		if n, nerr := strconv.ParseFloat(text, 64); nerr == nil && n >= 0 && n < 1e6 {
			d, err = time.Duration(n*float64(time.Second)), nil // plain seconds, as HTTP's own headers have them
		}
	}
	if err != nil || d < least || d > most {
		return 0, newProblem(kindInvalidParameter, "%s=%s: give a duration from %s to %s, such as 10s", name, text, shortly(least), shortly(most))
	}
	return d, nil
}

// shortly writes 5m0s as 5m.
func shortly(d time.Duration) string {
	if d > 0 && d%time.Minute == 0 {
		return strings.TrimSuffix(d.String(), "0s")
	}
	return d.String()
}
