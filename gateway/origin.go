package gateway

import (
	"net/http"
	"net/url"
	"strings"
)

// originAllowed tells whether the page that made r may read the answer and open WebSockets. Requests without Origin
// come from no page. The list is --cors-origin; the server's own origin is always on it.
func (g *Gateway) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || g.origins["*"] || g.origins[strings.ToLower(origin)] {
		return true
	}
	return g.sameOrigin(r, origin)
}

func (g *Gateway) sameOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // "null" among others
	}
	if strings.EqualFold(u.Host, r.Host) && (!g.config.Loopback || isLoopback(u.Hostname())) {
		return true
	}
	if g.config.Loopback && g.config.PublicURL == nil && !g.fromTrustedProxy(r) {
		return false
	}
	base, err := url.Parse(g.baseURL(r))
	return err == nil && strings.EqualFold(u.Host, base.Host) && strings.EqualFold(u.Scheme, base.Scheme)
}

func isLoopback(host string) bool {
	addr, ok := parseHost(host)
	return ok && addr.IsLoopback() || strings.EqualFold(host, "localhost")
}

// exposedHeaders are those of our answers' headers that pages of other origins may read.
const exposedHeaders = "Cursor, Drain, ETag, Gap, Link, Location, Removed, Retry-After, Skipped, Snapshot, Stalled, Waiting, " + requestIDHeader

// guardOrigins applies the list of origins: to what pages of other origins may read (CORS), and to what they may do.
// A write from a page of a foreign origin is refused even where the browser would send it without asking: without
// access control, being able to reach the server is all that a page would need.
func (g *Gateway) guardOrigins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		h := w.Header()
		if len(g.origins) > 0 {
			h.Add("Vary", "Origin")
		}
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		allowed := g.originAllowed(r)
		if allowed && !g.sameOrigin(r, origin) {
			if g.origins["*"] {
				h.Set("Access-Control-Allow-Origin", "*")
			} else {
				h.Set("Access-Control-Allow-Origin", origin)
			}
			h.Set("Access-Control-Expose-Headers", exposedHeaders)
		}
		preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
		switch {
		case preflight && allowed:
			h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
			// What is asked for is given: the headers of CloudEvents' binary mode (ce-…) are an open set.
			if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && len(asked) <= 2048 {
				h.Set("Access-Control-Allow-Headers", asked)
				h.Add("Vary", "Access-Control-Request-Headers")
			}
			h.Set("Access-Control-Max-Age", "600")
		case !allowed && !safeMethod(r.Method):
			writeProblem(w, r, newProblem(kindOriginNotAllowed, "a page of %q may not use this server: serve it from the server's own origin, or start the server with --cors-origin=%s", origin, origin))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func safeMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// secure sets the headers that keep browsers from doing more with an answer than was meant.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
