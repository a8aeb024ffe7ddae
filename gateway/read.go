package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/session"
)

const (
	mediaBatch  = "application/cloudevents-batch+json"
	mediaSSE    = "text/event-stream"
	mediaNDJSON = "application/x-ndjson"
)

// read answers GET …/events and POST …/events:query in every transport.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request) {
	if g.deps.Sessions == nil {
		writeProblem(w, r, newProblem(kindNotReady, "this replica serves no sessions").retry(retrySoon))
		return
	}
	var q readQuery
	if r.Method == http.MethodPost {
		values := r.URL.Query()
		after := values.Get("after")
		if len(values["after"]) > 1 || len(values) > 1 || len(values) == 1 && !values.Has("after") {
			g.refuse(w, r, newProblem(kindInvalidParameter, "a query that is sent as a body takes no parameter in the address but one after=, which is a link's: give the others in the body"))
			return
		}
		if !g.readDocument(w, r, &q, "application/json") {
			return
		}
		if after != "" {
			q.After = after // it is of a later page than the body's
		}
	} else if err := q.fromURL(r.URL.Query()); err != nil {
		writeProblem(w, r, err)
		return
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		q.After = id
	}
	media, err := transport(r)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	req, err := g.readRequest(r, &q)
	if err == nil {
		err = q.page(&req, media == mediaBatch)
	}
	if err != nil {
		writeProblem(w, r, g.readProblem(err))
		return
	}
	g.serveSession(w, r, media, req)
}

// serveSession serves what was asked for on a transport.
func (g *Gateway) serveSession(w http.ResponseWriter, r *http.Request, media string, req session.Request) {
	var err error
	switch media {
	case "websocket":
		if !g.originAllowed(r) {
			err = newProblem(kindOriginNotAllowed, "a page of %q may not open a WebSocket here: serve it from the server's own origin, or start the server with --cors-origin", r.Header.Get("Origin"))
			break
		}
		if err = handshake(r); err != nil {
			break
		}
		err = g.deps.Sessions.WebSocket(w, r, req, session.SocketOptions{
			OriginPatterns: []string{"*"}, // decided above, by the one list
			Query: func(body json.RawMessage) (*filter.Filter, error) {
				var q readQuery
				if err := decodeDocument(body, &q); err != nil {
					return nil, err
				}
				if err := q.inFlight(); err != nil {
					return nil, err
				}
				return q.compile()
			},
			Delay:   nackDelay,
			Problem: func(err error) session.Problem { return g.socketProblem(err, req.RequestID) },
		})
	case mediaSSE:
		if err = g.deps.Sessions.SSE(w, r, req); err != nil {
			g.refuseSSE(w, r, err)
			return
		}
	case mediaNDJSON:
		err = g.deps.Sessions.NDJSON(w, r, req)
	default:
		g.readPage(w, r, req)
		return
	}
	if err != nil {
		g.refuseRead(w, r, err)
	}
}

// handshake checks what a WebSocket begins with, so that a mistake there is a problem like every other.
func handshake(r *http.Request) error {
	h := r.Header
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(h.Get("Sec-WebSocket-Key")))
	switch {
	case r.Method != http.MethodGet:
		return newProblem(kindInvalidUpgrade, "a WebSocket is opened with GET, not %s: what a query has in its body is sent as a message, {\"query\":…}", r.Method)
	case r.ProtoMajor != 1 || !r.ProtoAtLeast(1, 1):
		return newProblem(kindInvalidUpgrade, "a WebSocket is opened over HTTP/1.1, not %s", r.Proto)
	case !hasToken(h.Values("Connection"), "upgrade"):
		return newProblem(kindInvalidUpgrade, "Connection is %q: send Connection: Upgrade; a proxy in between may have taken it away", h.Get("Connection"))
	case h.Get("Sec-WebSocket-Version") != "13":
		return newProblem(kindInvalidUpgrade, "Sec-WebSocket-Version is %q: send 13", h.Get("Sec-WebSocket-Version")).with("Sec-WebSocket-Version", "13")
	case len(h.Values("Sec-WebSocket-Key")) != 1 || err != nil || len(key) != 16:
		return newProblem(kindInvalidUpgrade, "Sec-WebSocket-Key must be there once, with 16 bytes in Base64")
	}
	// Taking the connection without a subprotocol would give a client messages in a form that it did not ask for.
	asked := h.Values("Sec-WebSocket-Protocol")
	if len(asked) > 0 && !hasToken(asked, session.SubprotocolEvents) && !hasToken(asked, session.SubprotocolBatch) {
		return newProblem(kindInvalidUpgrade, "Sec-WebSocket-Protocol is %q: ask for %s or %s, or for none, which is %s",
			strings.Join(asked, ", "), session.SubprotocolEvents, session.SubprotocolBatch, session.SubprotocolEvents)
	}
	return nil
}

// hasToken tells whether a header that lists tokens has one, in any case.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// transport reads which transport is asked for.
func transport(r *http.Request) (string, error) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return "websocket", nil
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		return mediaBatch, nil
	}
	best, bestQ := "", 0.0
	for _, part := range strings.Split(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if text, ok := params["q"]; ok {
			if weight, err = strconv.ParseFloat(text, 64); err != nil {
				weight = 0
			}
		}
		switch name {
		case "*/*", "application/*", "application/json", mediaBatch:
			name = mediaBatch
		case mediaSSE, mediaNDJSON:
		default:
			continue
		}
		if weight > bestQ {
			best, bestQ = name, weight
		}
	}
	if best == "" {
		return "", newProblem(kindNotAcceptable, "Accept %q is none of %s (one page), %s, %s: ask for one of them, or upgrade to a WebSocket", accept, mediaBatch, mediaSSE, mediaNDJSON)
	}
	return best, nil
}

// readRequest checks a query and finds its streams.
func (g *Gateway) readRequest(r *http.Request, q *readQuery) (session.Request, error) {
	req := session.Request{
		Consumer: q.Consumer, Autosave: q.Autosave, Gzip: acceptsGzip(r.Header), Owner: localOwner,
		Address: g.clientAddr(r).String(), RequestID: requestID(r.Context()),
	}
	var err error
	if req.Streams, req.States, err = g.streamsOf(r, q); err != nil {
		return req, err
	}
	if req.Filter, err = q.compile(); err != nil {
		return req, err
	}
	if q.After != "" {
		c, err := cursor.Parse(q.After)
		if err != nil {
			return req, err
		}
		req.After = &c
	}
	if req.From, err = q.from(); err != nil {
		return req, err
	}
	if q.Consumer != "" {
		if err := (cursor.Name{Consumer: q.Consumer}).Check(); err != nil {
			return req, err
		}
	}
	if q.Autosave && q.Consumer == "" {
		return req, newProblem(kindInvalidParameter, "autosave needs consumer=<name>: it is the consumer that is saved")
	}
	if err := q.picture(&req); err != nil {
		return req, err
	}
	err = q.pace(&req)
	return req, err
}

// localOwner owns everything while there is no access control.
const localOwner = "local"

// streamsOf finds what is to be read: the stream of the address, those that are named, or those of the types.
func (g *Gateway) streamsOf(r *http.Request, q *readQuery) (streams []fanout.Stream, states []fanout.State, err error) {
	names := q.Streams
	if name := pathVar(r, "stream"); name != "" {
		if len(names) > 0 {
			return nil, nil, newProblem(kindInvalidParameter, "the address names the stream: read several with /v1/events?stream=a&stream=b")
		}
		names = []string{name}
	}
	if len(names) == 0 && len(q.Types) > 0 {
		for _, t := range g.deps.Catalog.EventTypes() {
			for _, want := range q.Types {
				if t.Meets(want) {
					names = append(names, t.Stream)
				}
			}
		}
		if len(names) == 0 {
			return nil, nil, newProblem(kindUnknownEventType, "no event type matches %s: GET /v1/event-types lists them", strings.Join(q.Types, ", "))
		}
	}
	if len(names) == 0 {
		return nil, nil, newProblem(kindInvalidParameter, "say what to read: stream=<name> (repeatable) or type=<event type>; GET /v1/streams lists the streams")
	}
	seen := map[string]bool{}
	sort.Strings(names)
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		st, ok := g.deps.Catalog.Stream(name)
		if !ok {
			return nil, nil, unknownStream(name)
		}
		streams = append(streams, fanout.Stream{Name: st.Name, Topic: st.Topic, Wrap: string(st.Wrap)})
		states = append(states, stateOf(st))
	}
	if len(streams) > cursor.MaxStreams {
		return nil, nil, newProblem(kindInvalidParameter, "%d streams on one connection are too many: at most %d", len(streams), cursor.MaxStreams)
	}
	return streams, states, nil
}

// stateOf is what is kept of a stream for snapshots.
func stateOf(s catalog.Stream) fanout.State {
	if s.State == nil {
		return fanout.State{}
	}
	return fanout.State{Window: time.Duration(s.State.Window), MaxKeys: s.State.MaxKeys, MaxBytes: int64(s.State.MaxBytes)}
}

// headerReason bounds why a record was skipped in a header, of which proxies take little: its whole is in the poison view.
const headerReason = 160

// readPage answers one page.
func (g *Gateway) readPage(w http.ResponseWriter, r *http.Request, req session.Request) {
	err := g.deps.Sessions.Page(r.Context(), req, func(ctx context.Context, page session.Page) { g.writePage(ctx, w, r, page) })
	if err != nil {
		g.refuseRead(w, r, err)
	}
}

// writePage writes a page until ctx ends. The events are written as they are held: a copy of them would be as large.
func (g *Gateway) writePage(ctx context.Context, w http.ResponseWriter, r *http.Request, page session.Page) {
	size := len("[]\n") + max(0, len(page.Events)-1)
	for _, e := range page.Events {
		size += len(e)
	}
	h := w.Header()
	h.Set("Content-Type", mediaBatch)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Length", strconv.Itoa(size))
	h.Set("Cursor", page.Cursor)
	h.Set("Link", "<"+g.nextPage(r, page.Cursor)+`>; rel="next"`)
	for _, gap := range page.Gaps {
		h.Add("Gap", headerJSON(gap))
	}
	for _, s := range page.Skipped {
		if len(s.Reason) > headerReason {
			s.Reason = strings.ToValidUTF8(s.Reason[:headerReason], "") + "..."
		}
		h.Add("Skipped", headerJSON(s))
	}
	for _, s := range page.Stalled {
		h.Add("Stalled", headerJSON(s))
	}
	if page.Waiting != nil {
		h.Set("Waiting", headerJSON(page.Waiting))
	}
	if page.Drain != nil {
		h.Set("Drain", headerJSON(page.Drain))
	}
	for _, s := range page.Snapshots {
		h.Add("Snapshot", headerJSON(s))
	}
	for _, gone := range page.Removed {
		h.Add("Removed", headerJSON(gone))
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(answerTime)) // a client that does not read holds nothing for ever
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = rc.SetWriteDeadline(time.Unix(1, 0))
		close(stopped)
	})
	defer func() {
		if !stop() {
			<-stopped // or it would fall on the connection's next answer
		}
		_ = rc.SetWriteDeadline(time.Time{})
	}()
	before := "["
	for _, e := range page.Events {
		if _, err := io.WriteString(w, before); err != nil {
			return // a client that has gone needs no answer
		}
		if _, err := w.Write(e); err != nil {
			return
		}
		before = ","
	}
	if len(page.Events) == 0 {
		before = "[]\n"
	} else {
		before = "]\n"
	}
	_, _ = io.WriteString(w, before)
}

// headerJSON encodes v for a header's value, in ASCII.
func headerJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	var out strings.Builder
	for _, c := range string(b) {
		if c < 0x7f {
			out.WriteRune(c)
		} else {
			out.WriteByte('?')
		}
	}
	return out.String()
}

// nextPage links to the page that follows. A query that came as a body is not repeated in an address: the link is to be
// followed with the same body, whose own cursor that of the address goes before.
func (g *Gateway) nextPage(r *http.Request, at string) string {
	values := r.URL.Query()
	if values.Get("from") != "snapshot" { // the cursor goes before that, but it says what its client has
		values.Del("from")
	}
	values.Del("ticket")
	values.Set("after", at)
	return g.link(r, strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")...) + "?" + values.Encode()
}

// refuseSSE answers an SSE request that could not be served. A browser's EventSource gives up for good on any status
// but 200, so what may pass is told in band, and only what is final by a status.
func (g *Gateway) refuseSSE(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, cursor.ErrSuperseded) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	p := g.readProblem(err)
	if p.kind.status < 500 && p.kind.status != http.StatusTooManyRequests {
		writeProblem(w, r, p)
		return
	}
	after := max(p.retryAfter, time.Second)
	if errors.Is(err, session.ErrDraining) || errors.Is(err, group.ErrClosed) {
		session.Refuse(w, after, "drain", session.Drain{RetryAfter: after.Seconds()})
		return
	}
	if info := infoOf(r.Context()); info != nil {
		info.problem = p
	}
	session.Refuse(w, after, "problem", p.document(requestID(r.Context())))
}

// socketProblem translates what a WebSocket's messages are refused with.
func (g *Gateway) socketProblem(err error, request string) session.Problem {
	p := g.readProblem(err)
	var message *session.MessageError
	if errors.As(err, &message) {
		p = newProblem(kindBadMessage, "%s", message.Detail)
	}
	d := p.document(request)
	told := session.Problem{
		Type: d.Type, Title: d.Title, Status: d.Status, Detail: d.Detail, Instance: d.Instance, RequestID: d.RequestID, Position: d.Position,
	}
	for _, e := range d.Errors {
		told.Errors = append(told.Errors, session.Mistake{Pointer: e.Pointer, Message: e.Message, Expected: e.Expected})
	}
	return told
}

// refuseRead answers a read that could not be served on any other transport.
func (g *Gateway) refuseRead(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, cursor.ErrSuperseded) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Context().Err() != nil {
		return // nobody is there
	}
	writeProblem(w, r, g.readProblem(err))
}

// retryFull is when a session that was not admitted may try again.
const retryFull = 10 * time.Second

// readProblem translates what can go wrong with a read.
func (g *Gateway) readProblem(err error) *problem {
	var (
		limit *session.LimitError
		full  *group.LimitError
	)
	switch {
	case errors.As(err, &full) && full.Scope == "subscription":
		return newProblem(kindTooManySessions, "%s: end some, or raise it", err).retry(retryFull)
	case errors.As(err, &full):
		return newProblem(kindOverloaded, "%s: come back later, or to another replica", err).retry(retryFull)
	case errors.Is(err, group.ErrUnknown):
		return newProblem(kindUnknownSubscription, "the subscription was deleted, or this version of the server cannot read its filter: GET …/subscriptions/{id} tells")
	case errors.Is(err, group.ErrGone):
		return newProblem(kindUnknownStream, "%s: they were deleted", err)
	case errors.Is(err, group.ErrCursor):
		return newProblem(kindInvalidCursor, "%s: present it exactly as it was given, to the subscription that gave it", strings.ReplaceAll(err.Error(), "\n", ": "))
	case errors.Is(err, group.ErrReconnect):
		return reconnect()
	case errors.Is(err, group.ErrReplaced):
		return newProblem(kindConflict, "%s", err)
	case errors.Is(err, group.ErrBusy):
		return newProblem(kindLogUnavailable, "%s: try again; what is not stored comes again", err).retry(retrySoon)
	case errors.Is(err, group.ErrClosed):
		return newProblem(kindNotReady, "%s: come back, and reach another", err).retry(retrySoon)
	case errors.Is(err, session.ErrNoGroups):
		return newProblem(kindNotReady, "%s", err).retry(retrySoon)
	case errors.As(err, &limit) && limit.Scope == "address":
		return newProblem(kindTooManySessions, "there are %d connections from this address already: close some", limit.Limit).retry(limit.After)
	case errors.As(err, &limit):
		return newProblem(kindOverloaded, "this replica has %d sessions, as many as it takes: come back later, or to another replica", limit.Limit).retry(limit.After)
	case errors.Is(err, session.ErrPages):
		return newProblem(kindOverloaded, "%s: come back later, or to another replica", err).retry(retrySoon)
	case errors.Is(err, session.ErrBehind), errors.Is(err, cursor.ErrEpoch):
		return newProblem(kindNotReady, "the stream was deleted and made again a moment ago: try again").retry(retrySoon).because(err)
	case errors.Is(err, cursor.ErrName):
		return newProblem(kindInvalidParameter, "consumer: %s", cursor.ErrName)
	case errors.Is(err, fanout.ErrNoState):
		return newProblem(kindNoState, "the stream keeps no state any more: its definition was changed")
	case errors.Is(err, session.ErrDraining), errors.Is(err, fanout.ErrClosed):
		return newProblem(kindNotReady, "this replica is going away: come back, and reach another").retry(retrySoon)
	case errors.Is(err, session.ErrOtherStream):
		return newProblem(kindInvalidCursor, "the cursor is of another stream than those asked for: present it to the stream that gave it, or begin with from=")
	case errors.Is(err, broker.ErrNoTopic), errors.Is(err, fanout.ErrGone):
		return newProblem(kindUnknownStream, "the stream's topic is gone: it was deleted")
	case errors.Is(err, cursor.ErrBusy):
		return newProblem(kindConsumerBusy, "others take this consumer over at the same time: try again").retry(retrySoon)
	case errors.Is(err, cursor.ErrInDoubt), errors.Is(err, table.ErrNotReady), errors.Is(err, table.ErrInDoubt):
		return newProblem(kindLogUnavailable, "the consumer could not be opened in time: try again").retry(retrySoon).because(err)
	case errors.Is(err, http.ErrHijacked):
		return newProblem(kindInternal, "the connection is gone").because(err)
	}
	return asProblem(err)
}
