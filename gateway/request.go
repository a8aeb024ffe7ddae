package gateway

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gorilla/mux"
)

// requestInfo is what the edge knows of one request. It is made by observe and written by the handler's goroutine alone.
type requestInfo struct {
	id      string
	method  string // bounded: a label
	route   string // the route's template, bounded: a label
	stream  bool   // a route whose answers may go on for ever
	hot     bool   // logged at debug level only
	problem *problem
}

type infoKey struct{}

func infoOf(ctx context.Context) *requestInfo {
	info, _ := ctx.Value(infoKey{}).(*requestInfo)
	return info
}

// requestID gives the id under which the request of ctx is logged and answered, or "" outside a request.
func requestID(ctx context.Context) string {
	if info := infoOf(ctx); info != nil {
		return info.id
	}
	return ""
}

// requestIDHeader carries the request's id on requests and answers.
const requestIDHeader = "X-Request-Id"

// acceptedRequestID tells whether an id that came with a request may go into logs and record headers as it is.
func acceptedRequestID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func newRequestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// observe gives every request its id, its entry in the log and the metrics, and ends a panic with the one request in
// which it happened.
func (g *Gateway) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := &requestInfo{id: r.Header.Get(requestIDHeader), method: methodLabel(r.Method), route: unmatchedRoute}
		if !acceptedRequestID(info.id) {
			info.id = newRequestID()
		}
		w.Header().Set(requestIDHeader, info.id)
		rec := &recorder{ResponseWriter: w}
		r = r.WithContext(context.WithValue(r.Context(), infoKey{}, info))
		begin := time.Now()
		g.metrics.inFlight.Inc()
		defer func() {
			g.metrics.inFlight.Dec()
			panicked := recover()
			if panicked != nil {
				g.endPanic(rec, r, info, panicked)
			}
			rec.aborted = panicked != nil && !rec.recovered
			g.finish(rec, r, info, time.Since(begin))
			if panicked != nil && !rec.recovered {
				// Something of an answer may be out already: only cutting the connection tells the client that it is not whole.
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// endPanic logs and counts a panic and answers 500 where nothing was written yet.
func (g *Gateway) endPanic(rec *recorder, r *http.Request, info *requestInfo, panicked any) {
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return
	}
	g.metrics.panics.Inc()
	g.log.Error("panic in a request", "requestId", info.id, "method", info.method, "route", info.route,
		"panic", panicked, "stack", string(debug.Stack()))
	if rec.status == 0 && !rec.hijacked {
		rec.recovered = true
		rec.Header().Set("Connection", "close")
		writeProblem(rec, r, newProblem(kindInternal, "something went wrong that should not have: tell the operator the requestId"))
		info.problem = nil // it is logged already
	}
}

// finish writes the metrics and the log entry of a request. Query strings are never logged: they may name persons.
func (g *Gateway) finish(rec *recorder, r *http.Request, info *requestInfo, took time.Duration) {
	code := "hijacked"
	switch {
	case rec.aborted:
		code = "aborted"
	case info.problem.left(r):
		code, info.problem = "gone", nil
	case !rec.hijacked:
		code = strconv.Itoa(max(rec.status, http.StatusOK)) // net/http answers 200 where the handler says nothing
	}
	g.metrics.requests.WithLabelValues(info.route, info.method, code).Inc()
	if !info.stream {
		g.metrics.duration.WithLabelValues(info.route, info.method).Observe(took.Seconds())
	}
	logProblem(g.log, info)
	level := slog.LevelInfo
	if info.hot || r.Method == http.MethodGet || r.Method == http.MethodHead {
		level = slog.LevelDebug
	}
	if !g.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("requestId", info.id), slog.String("method", info.method), slog.String("route", info.route),
		slog.String("status", code), slog.Int64("bytes", rec.written), slog.Duration("took", took),
		slog.String("client", g.clientAddr(r).String()),
	}
	if info.problem != nil {
		attrs = append(attrs, slog.String("problem", info.problem.kind.name))
	}
	g.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// methodLabel bounds the values of the method label.
func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

// recorder notes what became of an answer.
type recorder struct {
	http.ResponseWriter
	status    int
	written   int64
	hijacked  bool
	recovered bool // the answer is the one to a panic
	aborted   bool // the answer was cut
}

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(b)
	rec.written += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (rec *recorder) Flush() {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	_ = http.NewResponseController(rec.ResponseWriter).Flush() // a connection that is gone shows at the next write
}

// Hijack implements http.Hijacker.
func (rec *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(rec.ResponseWriter).Hijack()
	rec.hijacked = err == nil
	return conn, rw, err
}

// Unwrap serves http.ResponseController.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// pathVar gives a variable of the route's template, unescaped. Routes match the escaped path, so that a name may hold
// a slash.
func pathVar(r *http.Request, name string) string {
	raw := mux.Vars(r)[name]
	if value, err := url.PathUnescape(raw); err == nil {
		return value
	}
	return raw
}
