package gateway

import (
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/internal/quota"
)

// spending is what one request publishes of one type.
type spending struct {
	typ           string
	limit         quota.Limit
	events, bytes int64
}

// spend takes what the valid events use from their types' quotas, and notes of those that are over theirs why. It reports
// whether none is.
func (g *Gateway) spend(w http.ResponseWriter, r *http.Request, valid []admitted, results []publishResult) bool {
	var all []spending // a request seldom has more than one type with a quota
	for i := range valid {
		t := &valid[i].eventType
		if t.Quota == nil || g.deps.Quotas == nil {
			continue
		}
		at := -1
		for j := range all {
			if all[j].typ == t.Type {
				at = j
			}
		}
		if at < 0 {
			at = len(all)
			all = append(all, spending{typ: t.Type, limit: quota.Limit{Events: t.Quota.EventsPerSecond, Bytes: t.Quota.BytesPerSecond}})
		}
		all[at].events++
		all[at].bytes += int64(len(valid[i].event.JSON()))
	}
	whole := true
	for _, s := range all {
		d := g.deps.Quotas.Take(r.Context(), localOwner+"/"+s.typ, s.limit, int(s.events), s.bytes)
		if whole { // what is told is where the request met its limit, else the last
			d.SetHeaders(w.Header())
		}
		if d.Allowed {
			continue
		}
		whole = false
		p := overQuota(s, d)
		for i := range valid {
			if valid[i].eventType.Type == s.typ && valid[i].eventType.Quota != nil && results[i].Status == "" {
				results[i].Status, results[i].Retryable, results[i].quota = statusFailed, !d.Never, p
				results[i].Errors = []fieldError{{Pointer: "/type", Keyword: "quota", Message: p.detail}}
			}
		}
	}
	return whole
}

func overQuota(s spending, d quota.Decision) *problem {
	if d.Never {
		return newProblem(kindOverQuota, "%d events of %d bytes in one request are more than the quota of event type %q ever allows at once (%d events/s, %d bytes/s; 0: no bound): send them in several", s.events, s.bytes, s.typ, s.limit.Events, s.limit.Bytes)
	}
	after := max(d.RetryAfter, time.Second)
	return newProblem(kindOverQuota, "the quota of event type %q is used up (%d events/s, %d bytes/s; 0: no bound): send the events again after %v", s.typ, s.limit.Events, s.limit.Bytes, after).retry(after)
}
