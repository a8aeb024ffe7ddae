package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
)

// route is one operation.
type route struct {
	method  string
	path    string
	handler http.HandlerFunc
	kind    routeKind
}

// routeKind says how an operation is treated around its handler.
type routeKind int

const (
	ordinary  routeKind = iota
	hotPath             // logged at debug level: it happens for every event
	streaming           // its answer may go on for ever: no write deadline, no duration
)

// routes is the whole API.
func (g *Gateway) routes() []route {
	return []route{
		// Publish.
		{"POST", "/v1/events", g.publish, hotPath},
		{"POST", "/v1/events:tombstone", g.tombstone, ordinary},

		// Read.
		{"GET", "/v1/events", g.read, streaming},
		{"POST", "/v1/events:query", g.read, streaming},
		{"GET", "/v1/streams/{stream}/events", g.read, streaming},
		{"POST", "/v1/streams/{stream}/events:query", g.read, streaming},

		// Streams, event types, consumers.
		{"GET", "/v1/streams", g.listStreams, ordinary},
		{"POST", "/v1/streams", g.createStream, ordinary},
		{"GET", "/v1/streams/{stream}", g.getStream, ordinary},
		{"PATCH", "/v1/streams/{stream}", g.changeStream, ordinary},
		{"DELETE", "/v1/streams/{stream}", g.deleteStream, ordinary},
		{"GET", "/v1/streams/{stream}/poison", g.poison, ordinary},
		{"GET", "/v1/streams/{stream}/consumers/{consumer}", g.getConsumer, ordinary},
		{"PUT", "/v1/streams/{stream}/consumers/{consumer}", g.putConsumer, hotPath},
		{"DELETE", "/v1/streams/{stream}/consumers/{consumer}", g.deleteConsumer, ordinary},
		{"GET", "/v1/event-types", g.listEventTypes, ordinary},
		{"POST", "/v1/event-types", g.createEventType, ordinary},
		{"GET", "/v1/event-types/{type}", g.getEventType, ordinary},
		{"PUT", "/v1/event-types/{type}", g.putEventType, ordinary},
		{"DELETE", "/v1/event-types/{type}", g.deleteEventType, ordinary},
		{"GET", "/v1/event-types/{type}/schemas", g.listSchemas, ordinary},
		{"POST", "/v1/event-types/{type}/schemas", g.registerSchema, ordinary},
		{"POST", "/v1/event-types/{type}/schemas:check", g.checkSchema, ordinary},
		{"GET", "/v1/event-types/{type}/schemas/{version}", g.getSchema, ordinary},

		// Subscriptions.
		{"GET", "/v1/subscriptions", g.listSubscriptions, ordinary},
		{"POST", "/v1/subscriptions", g.createSubscription, ordinary},
		{"GET", "/v1/subscriptions/{id}", g.getSubscription, ordinary},
		{"PUT", "/v1/subscriptions/{id}", g.putSubscription, ordinary},
		{"PATCH", "/v1/subscriptions/{id}", g.patchSubscription, ordinary},
		{"DELETE", "/v1/subscriptions/{id}", g.deleteSubscription, ordinary},
		{"GET", "/v1/subscriptions/{id}/events", g.readSubscription, streaming},
		{"POST", "/v1/subscriptions/{id}/cursors", g.putCursors, hotPath},
		{"GET", "/v1/subscriptions/{id}/stats", g.getSubscriptionStats, ordinary},
		{"GET", "/v1/subscriptions/{id}/dead-letters", g.listDeadLetters, ordinary},
		{"POST", "/v1/subscriptions/{id}/dead-letters:redeliver", g.redeliver, ordinary},
		{"GET", "/v1/subscriptions/{id}/attempts", g.listAttempts, ordinary},
		{"GET", "/v1/subscriptions/{id}/deliveries", g.listDeliveries, ordinary},
		{"POST", "/v1/subscriptions/{id}:reset", g.resetSubscription, ordinary},
		{"POST", "/v1/subscriptions/{id}:pause", g.pauseSubscription, ordinary},
		{"POST", "/v1/subscriptions/{id}:resume", g.resumeSubscription, ordinary},
		{"POST", "/v1/subscriptions/{id}:rotate-secret", g.rotateSecret, ordinary},
		{"POST", "/v1/subscriptions/{id}:replay", g.replaySubscription, ordinary},
		{"POST", "/v1/subscriptions/{id}:verify", g.verifySubscription, ordinary},
		{"POST", "/v1/subscriptions/{id}:test", g.testSubscription, ordinary},
		{"GET", "/v1/subscriptions/{id}:consent", g.consent, ordinary},
		{"POST", "/v1/subscriptions/{id}:consent", g.consent, ordinary},

		// Operations.
		{"GET", "/healthz", g.healthz, hotPath},
		{"GET", "/readyz", g.readyz, hotPath},
		{"GET", "/metrics", g.metricsPage, hotPath},
		{"GET", "/v1/admin/sessions", g.listSessions, ordinary},
		{"POST", "/v1/admin/drain", g.drain, ordinary},
		{"GET", "/v1/admin/audit", g.listAudit, ordinary},
		{"DELETE", "/v1/admin/drain", g.undrain, ordinary},

		// Documents.
		{"GET", "/openapi.json", g.openapiPage, ordinary},
		{"GET", "/asyncapi.json", g.asyncapiPage, ordinary},
		{"GET", "/.well-known/jwks.json", g.jwks, ordinary},
		{"GET", "/problems", g.problemPage, ordinary},
		{"GET", "/problems/{problem}", g.problemPage, ordinary},
	}
}

// router gathers the routes by path: each path answers OPTIONS, HEAD where it has GET, and 405 with Allow.
func (g *Gateway) router() http.Handler {
	m := mux.NewRouter().UseEncodedPath().SkipClean(true)
	byPath := map[string][]route{}
	var paths []string
	for _, rt := range g.routes() {
		if byPath[rt.path] == nil {
			paths = append(paths, rt.path)
		}
		byPath[rt.path] = append(byPath[rt.path], rt)
	}
	for _, path := range paths {
		// An id has no colon, so that {id} and {id}:verb are two addresses.
		m.Path(strings.ReplaceAll(path, "{id}", "{id:[^/:]+}")).Handler(g.resource(path, byPath[path]))
	}
	notFound := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.refuse(w, r, newProblem(kindNotFound, "there is nothing at this address: /openapi.json lists what there is"))
	})
	m.NotFoundHandler = notFound
	if g.deps.Page != nil {
		m.PathPrefix("/").Handler(g.page(notFound))
	}
	return m
}

// resource serves one path.
func (g *Gateway) resource(path string, routes []route) http.Handler {
	byMethod := map[string]route{}
	allow := []string{"OPTIONS"}
	for _, rt := range routes {
		byMethod[rt.method] = rt
		allow = append(allow, rt.method)
		if rt.method == "GET" {
			byMethod["HEAD"] = rt
			allow = append(allow, "HEAD")
		}
	}
	slices.Sort(allow)
	allowed := strings.Join(allow, ", ")
	needsCatalog := strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/v1/admin/")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoOf(r.Context())
		info.route = path
		rt, ok := byMethod[r.Method]
		// What cannot be read would be left out silently: a filter too.
		_, malformed := url.ParseQuery(r.URL.RawQuery)
		switch {
		case ok && malformed != nil:
			g.refuse(w, r, newProblem(kindInvalidParameter, "the address's query cannot be read: write a percent sign as %%25, a semicolon as %%3B, and every other byte that has a meaning there likewise"))
		case ok && needsCatalog && !g.loaded():
			g.refuse(w, r, newProblem(kindNotReady, "streams and event types are still being loaded from the log: try again").retry(retrySoon))
		case ok:
			info.hot, info.stream = rt.kind == hotPath, rt.kind == streaming
			if info.stream {
				if r.Method == http.MethodHead {
					r = headOfPage(r)
				}
				rt.handler(w, r)
				return
			}
			boundWrites(w, rt.handler, r)
		case r.Method == http.MethodOptions:
			w.Header().Set("Allow", allowed)
			w.WriteHeader(http.StatusNoContent)
		default:
			g.refuse(w, r, newProblem(kindMethodNotAllowed, "%s takes %s", path, allowed).with("Allow", allowed))
		}
	})
}

// loaded tells whether definitions can be looked up. Before that nothing would be found, and a publisher would be told
// that its event type is not registered.
func (g *Gateway) loaded() bool {
	select {
	case <-g.deps.Catalog.Ready():
		return true
	default:
		return false
	}
}

// headOfPage makes a HEAD of an address that can stream ask for one page at once: no other answer has an end.
func headOfPage(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Method = http.MethodGet // the answer's body is left out by the server, which knows the method
	r.Header.Set("Accept", "application/cloudevents-batch+json")
	r.Header.Del("Upgrade")
	query := r.URL.Query()
	query.Del("wait")
	query.Del("consumer") // looking must not take a consumer over
	r.URL.RawQuery = query.Encode()
	return r
}

// answerTime is how long an answer that has an end may take to be written, so that a client that does not read holds
// nothing for ever.
const answerTime = time.Minute

func boundWrites(w http.ResponseWriter, next http.HandlerFunc, r *http.Request) {
	rc := http.NewResponseController(w)
	if rc.SetWriteDeadline(time.Now().Add(answerTime)) == nil {
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	}
	next(w, r)
}

// page serves the page under every address that is not the API's.
func (g *Gateway) page(notFound http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			notFound.ServeHTTP(w, r)
			return
		}
		info := infoOf(r.Context())
		info.route = "page"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			writeProblem(w, r, newProblem(kindMethodNotAllowed, "the page is only read").with("Allow", "GET, HEAD"))
			return
		}
		pages := &pageWriter{ResponseWriter: w}
		boundWrites(pages, g.deps.Page.ServeHTTP, r)
		if pages.missing {
			notFound.ServeHTTP(w, r)
		}
	})
}

// pageWriter holds a page's own 404 back: what is not there is told as everywhere else.
type pageWriter struct {
	http.ResponseWriter
	missing bool
}

// WriteHeader implements http.ResponseWriter.
func (w *pageWriter) WriteHeader(status int) {
	if w.missing = status == http.StatusNotFound; !w.missing {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (w *pageWriter) Write(b []byte) (int, error) {
	if w.missing {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (w *pageWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
