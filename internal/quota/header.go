package quota

import (
	"net/http"
	"strconv"
	"time"
)

// The names of the policies, in RateLimit-Policy and RateLimit.
const (
	EventsPolicy = "events"
	BytesPolicy  = "bytes"
)

// SetHeaders tells a client its limits and where it stands with them, as draft-ietf-httpapi-ratelimit-headers-11 has it:
//
//	RateLimit-Policy: "events";q=1000;w=1, "bytes";q=1000000;qu="content-bytes";w=1
//	RateLimit: "events";r=50;t=1, "bytes";r=20000;t=1
//
// Retry-After is the caller's to set; it should not be less than t.
func (d Decision) SetHeaders(h http.Header) {
	var policy, limit []byte
	for _, p := range [...]struct {
		name, unit string
		standing   Standing
	}{{EventsPolicy, "", d.Events}, {BytesPolicy, `;qu="content-bytes"`, d.Bytes}} {
		if p.standing.Limit <= 0 {
			continue
		}
		if policy != nil {
			policy, limit = append(policy, ", "...), append(limit, ", "...)
		}
		policy = append(policy, '"')
		policy = append(policy, p.name...)
		policy = append(policy, `";q=`...)
		policy = strconv.AppendInt(policy, p.standing.Limit, 10)
		policy = append(policy, p.unit...)
		policy = append(policy, ";w=1"...)
		limit = append(limit, '"')
		limit = append(limit, p.name...)
		limit = append(limit, `";r=`...)
		limit = strconv.AppendInt(limit, max(0, p.standing.Remaining), 10)
		limit = append(limit, ";t="...)
		limit = strconv.AppendInt(limit, int64((p.standing.Reset+time.Second-1)/time.Second), 10)
	}
	if policy != nil {
		h.Set("RateLimit-Policy", string(policy))
		h.Set("RateLimit", string(limit))
	}
}
