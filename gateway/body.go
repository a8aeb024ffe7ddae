package gateway

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
)

// How far a refused body is read on, so that a client that only reads after it has written sees the answer.
const (
	refusedBodyBytes = 32 << 20
	refusedBodyTime  = 5 * time.Second
)

// readBody reads the whole body, inflated where it came as gzip or zstd. A body of more than limit bytes, compressed or
// inflated, is the problem tooLarge; one that takes longer than the configured time is a 408. On a problem the
// connection is not fit for another request: answer with refuse.
//
// The memory of all bodies being handled is bounded: release must be called when the body is no longer needed.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, limit int64, tooLarge *problem) (body []byte, release func(), err error) {
	if r.ContentLength > limit {
		return nil, nil, tooLarge
	}
	coding, err := codingOf(r)
	if err != nil {
		return nil, nil, err
	}
	declared := r.ContentLength
	if coding != plainCoding {
		declared = -1
	}
	room := g.bodies.take(declared)
	body, err = g.readWhole(w, r, room, coding, limit, tooLarge)
	if err != nil {
		room.free()
		return nil, nil, err
	}
	return body, room.free, nil
}

// readWhole is readBody with the room to read into.
func (g *Gateway) readWhole(w http.ResponseWriter, r *http.Request, room *room, coding coding, limit int64, tooLarge *problem) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(g.config.BodyTimeout))
	expected := int64(4096)
	if r.ContentLength > 0 {
		expected = r.ContentLength + 1
	}
	grow := func(bytes int64) error { return room.grow(r.Context(), bytes) }
	buf, err := readUpTo(r.Body, min(expected, firstRoom), limit, grow)
	switch {
	case errors.Is(err, errBounded):
		return nil, tooLarge
	case !errors.Is(err, io.EOF):
		return nil, g.bodyError(err, tooLarge)
	}
	// The deadline must not outlive a body that is read: it would end what the handler does next. That of a body that is
	// not read whole stays, since net/http reads on before it closes the connection.
	_ = rc.SetReadDeadline(time.Time{})
	switch coding {
	case gzipCoding:
		if buf, err = g.gzip.inflate(r.Context(), buf, limit, room.growNow); err != nil {
			return nil, g.bodyError(err, tooLarge)
		}
	case zstdCoding:
		if buf, err = g.zstd.inflate(buf, limit, grow); err != nil {
			return nil, zstdError(err, tooLarge)
		}
	}
	return buf, nil
}

// readUpTo reads all of src, into a buffer that has the capacity at first and grows by grow's leave. The error is io.EOF
// where that was all, and errBounded where there are more than limit bytes.
func readUpTo(src io.Reader, capacity, limit int64, grow func(bytes int64) error) ([]byte, error) {
	capacity = min(capacity, limit+1)
	if err := grow(capacity); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, capacity)
	for {
		if len(buf) == cap(buf) { // not at the limit, which is one less than the buffer may have
			more := min(int64(cap(buf)), limit+1-int64(cap(buf)))
			if err := grow(more); err != nil {
				return buf, err
			}
			buf = append(make([]byte, 0, int64(cap(buf))+more), buf...)
		}
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return nil, errBounded
		}
		if err != nil {
			return buf, err
		}
	}
}

// bodyError says why a body could not be read.
func (g *Gateway) bodyError(err error, tooLarge *problem) *problem {
	var p *problem
	switch {
	case errors.Is(err, errBounded):
		return tooLarge
	case errors.As(err, &p):
		return p
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newProblem(kindBodyTimeout, "the body did not arrive within %s: send it at once, or in smaller requests", g.config.BodyTimeout).because(err)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return newProblem(kindInvalidBody, "Content-Encoding is gzip, but the body is not: %s", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newProblem(kindInvalidBody, "the body, or the gzip in it, ended before it was complete").because(err)
	}
	return newProblem(kindInvalidBody, "the body could not be read: %s", err).because(err)
}

var errBounded = errors.New("more bytes than allowed")

// refuse answers a request whose body was not read whole. The answer goes out first; then what the client still
// sends is read and thrown away, for a while, because closing a connection with unread bytes resets it, and a reset
// takes the answer away from a client that has not read it yet.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := asProblem(err)
	g.metrics.refused.WithLabelValues(p.kind.name).Inc()
	if r.ProtoMajor != 1 || r.Body == nil || r.Header.Get("Expect") != "" {
		writeProblem(w, r, p) // HTTP/2 resets one stream alone; a client that expects 100 sends nothing before it
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Connection", "close")
	duplex := rc.EnableFullDuplex() == nil
	writeProblem(w, r, p)
	if !duplex || rc.Flush() != nil || p.kind.status == http.StatusRequestTimeout {
		return
	}
	_ = rc.SetReadDeadline(time.Now().Add(min(refusedBodyTime, g.config.BodyTimeout)))
	_, _ = io.CopyN(io.Discard, r.Body, refusedBodyBytes) // whatever ends it, the answer is out
}

// boundBody gives the body of a request a deadline, for the handlers that do not read it: net/http reads on for them,
// before it answers and before it takes the connection's next request, and would wait for a slow client for ever.
func (g *Gateway) boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 && r.ProtoMajor == 1 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.config.BodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// documentBytes bounds the bodies that describe something: streams, event types, queries.
const documentBytes = 1 << 20

// readDocument reads a JSON body into v. Members that v does not have are mistakes: they would be lost silently.
// It answers by itself, and returns false, where the body is not as it should be.
func (g *Gateway) readDocument(w http.ResponseWriter, r *http.Request, v any, mediaTypes ...string) bool {
	if len(mediaTypes) == 0 {
		mediaTypes = []string{"application/json"}
	}
	if err := wantMediaType(r, mediaTypes...); err != nil {
		g.refuse(w, r, err)
		return false
	}
	body, release, err := g.readBody(w, r, documentBytes, newProblem(kindBodyTooLarge, "the body may have %d bytes at most", documentBytes))
	if err != nil {
		g.refuse(w, r, err)
		return false
	}
	defer release()
	if err := decodeDocument(body, v); err != nil {
		writeProblem(w, r, err)
		return false
	}
	return true
}

// wantMediaType checks that the body's type is one of want.
func wantMediaType(r *http.Request, want ...string) error {
	given, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil {
		for _, w := range want {
			if given == w {
				return nil
			}
		}
	}
	return newProblem(kindUnsupportedMedia, "Content-Type is %q: send %s", r.Header.Get("Content-Type"), strings.Join(want, " or "))
}

// decodeDocument reads one JSON value into v, and says where a mistake is.
func decodeDocument(body []byte, v any) error {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			return newProblem(kindMalformedJSON, "there is something after the JSON value, at byte %d: send one value", dec.InputOffset())
		}
		return nil
	}
	var (
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
	)
	switch {
	case len(strings.TrimSpace(string(body))) == 0:
		return newProblem(kindMalformedJSON, "the body is empty: send a JSON object")
	case errors.As(err, &syntax):
		return newProblem(kindMalformedJSON, "at byte %d: %s", syntax.Offset, syntax)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return newProblem(kindMalformedJSON, "the JSON value ends too early, at byte %d", len(body))
	case errors.As(err, &typ):
		pointer := "/" + strings.ReplaceAll(typ.Field, ".", "/")
		return newProblem(kindInvalidBody, "%s must not be a JSON %s", pointer, typ.Value).at(fieldError{Pointer: pointer, Message: "must not be a JSON " + typ.Value})
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return newProblem(kindInvalidBody, "there is no member %q: see the schema in /openapi.json", name).at(fieldError{Pointer: "/" + name, Message: "is not a member of this object"})
	}
	return newProblem(kindInvalidBody, "%s", strings.TrimPrefix(err.Error(), "json: ")).because(err)
}
