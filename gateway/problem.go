package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/schema"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/session"
)

// problemKind is one entry of the list of everything that can go wrong. Its name never changes: clients decide on it.
type problemKind struct {
	name   string // the last segment of the type URI
	status int
	title  string
	remedy string // what the caller can do, as the page /problems/{name} tells it
}

// The kinds of problems. Each is described at /problems/{name}, the very URI that the answer's type names.
var (
	kindMalformedJSON      = problemKind{"malformed-json", 400, "The body is not well-formed JSON", "Send one JSON value, UTF-8 encoded, as the operation describes it in /openapi.json."}
	kindInvalidBody        = problemKind{"invalid-body", 400, "The body is not what this operation takes", "Compare the body with the operation's schema in /openapi.json; `errors` points at the members that are wrong."}
	kindInvalidEvent       = problemKind{"invalid-event", 400, "The request holds no CloudEvent that can be read", "Send CloudEvents 1.0 in one of the three modes of the HTTP binding; `errors` points at what is wrong."}
	kindInvalidFilter      = problemKind{"invalid-filter", 400, "The filter has a mistake", "Correct the expression at `position`."}
	kindInvalidCursor      = problemKind{"invalid-cursor", 400, "The cursor is not one that this server gave", "Present a cursor exactly as it was given, or leave it out and say where to begin with from=."}
	kindInvalidParameter   = problemKind{"invalid-parameter", 400, "A parameter of the request is wrong", "Correct the parameter that `detail` names."}
	kindBadMessage         = problemKind{"bad-message", 400, "The session does not take this message", "Send one of the messages that `detail` lists, on a session that takes it; /openapi.json and docs/reading.md describe them."}
	kindInvalidUpgrade     = problemKind{"invalid-upgrade", 400, "The WebSocket's handshake is not right", "Open the WebSocket as RFC 6455 says: GET over HTTP/1.1, version 13, with a key of 16 bytes in Base64."}
	kindOriginNotAllowed   = problemKind{"origin-not-allowed", 403, "Pages of this origin may not do this", "Serve the page from the server's own origin, or have the operator add the origin with --cors-origin."}
	kindNotAllowed         = problemKind{"not-allowed-by-kafka", 409, "The Kafka cluster does not allow it", "Ask for what the cluster's policies allow, or have its operators change them; `detail` has its own words."}
	kindNotFound           = problemKind{"not-found", 404, "There is nothing at this address", "See /openapi.json for the addresses there are."}
	kindUnknownStream      = problemKind{"unknown-stream", 404, "There is no such stream", "List the streams with GET /v1/streams, or create this one with POST /v1/streams."}
	kindUnknownEventType   = problemKind{"unknown-event-type", 404, "There is no such event type", "List the event types with GET /v1/event-types, or register this one with POST /v1/event-types."}
	kindUnknownSchema      = problemKind{"unknown-schema", 404, "There is no such version of the schema", "List the versions with GET /v1/event-types/{type}/schemas, or register one with POST to the same address."}
	kindUnknownConsumer    = problemKind{"unknown-consumer", 404, "There is no such consumer", "A consumer begins with the first read that names it (consumer=), or with PUT and reset."}
	kindMethodNotAllowed   = problemKind{"method-not-allowed", 405, "This address does not take the method", "Use one of the methods that the Allow header lists."}
	kindNotAcceptable      = problemKind{"not-acceptable", 406, "None of the asked formats can be given", "Ask for one of the formats that `detail` lists."}
	kindBodyTimeout        = problemKind{"body-timeout", 408, "The body came too slowly", "Send the body at once, or in smaller requests."}
	kindConflict           = problemKind{"conflict", 409, "It conflicts with what is there", "Read what is there, and decide anew."}
	kindIncompatibleSchema = problemKind{"incompatible-schema", 409, "The schema is not compatible with those before it", "Change what `breaks` points at, or register a successor of the event type. What is `undecided` alone may be taken with force=true; a property that old versions left open may be described where the type says allowOpenProperties."}
	kindConsumerTakenOver  = problemKind{"consumer-taken-over", 409, "Another session took over this consumer", "A consumer is one reader: let the other session read, or give each reader a consumer of its own."}
	kindNotCompacted       = problemKind{"not-compacted", 409, "The stream keeps no state by key", "Tombstones only mean something on a stream with compaction."}
	kindNoState            = problemKind{"no-state", 409, "The stream keeps no state", "Read the stream without from=snapshot and overflow=snapshot, or have its owner give it a state: PATCH /v1/streams/{stream} with {\"state\":{}}."}
	kindPreconditionFailed = problemKind{"precondition-failed", 412, "It has changed since it was read", "Read it again, and send the change with the new ETag in If-Match."}
	kindEventTooLarge      = problemKind{"event-too-large", 413, "The event is too large", "Send the payload elsewhere and refer to it from the event, or split it."}
	kindBatchTooLarge      = problemKind{"batch-too-large", 413, "The batch is too large", "Send it in several smaller batches."}
	kindBodyTooLarge       = problemKind{"body-too-large", 413, "The body is too large", "No legitimate body of this operation is as large."}
	kindUnsupportedMedia   = problemKind{"unsupported-media-type", 415, "The content type is not one that this operation takes", "Send one of the content types that `detail` lists."}
	kindUnsupportedCoding  = problemKind{"unsupported-content-coding", 415, "The content coding is not supported", "Send the body as it is, or compressed with gzip or zstd."}
	kindInvalidObject      = problemKind{"invalid-object", 422, "The definition has mistakes", "Correct what `errors` points at."}
	kindTooManySessions    = problemKind{"too-many-sessions", 429, "There are too many connections from this address, or sessions of this subscription", "Close some, or wait as long as Retry-After says."}
	kindOverQuota          = problemKind{"over-quota", 429, "More is published than the event type's quota allows", "Send the events again after the time that Retry-After gives, and no more than the RateLimit headers allow."}
	kindInternal           = problemKind{"internal", 500, "The server made a mistake", "Report the requestId to the operator."}
	kindNotImplemented     = problemKind{"not-implemented", 501, "This is not built yet", "See /openapi.json for what is."}
	kindLogUnavailable     = problemKind{"log-unavailable", 503, "The log cannot be reached", "Try again after the time that Retry-After gives; the same events may be sent again."}
	kindStorageFull        = problemKind{"storage-full", 503, "There is no room on the log's disk", "Nothing was written. Send the same again later; the operator has to make room, and reading goes on meanwhile."}
	kindInDoubt            = problemKind{"in-doubt", 503, "It is not known whether the change was made", "Read it again, then decide."}
	kindOverloaded         = problemKind{"overloaded", 503, "The server has as much to do as it can", "Try again after the time that Retry-After gives."}
	kindNotReady           = problemKind{"not-ready", 503, "The server is starting or stopping", "Try again after the time that Retry-After gives, or at another replica."}
	kindConsumerBusy       = problemKind{"consumer-busy", 503, "Several readers want this consumer at once", "Try again after the time that Retry-After gives."}

	kindReconnect           = problemKind{"reconnect", 409, "What was acknowledged is no longer this session's", "Open the session again: what it was given and had not acknowledged is given again."}
	kindOtherDelivery       = problemKind{"other-delivery", 409, "The subscription's events are delivered in the other way", "A subscription with a sink is sent its events; one without is read by its sessions. Use the operations of its own way, or make another subscription."}
	kindNoSinks             = problemKind{"no-sinks", 501, "This server sends events to no sinks", "Leave out the sink for a subscription that sessions read, or have the operator give the server a key ring."}
	kindUnproven            = problemKind{"unproven", 409, "The endpoint has not proven that it wants the events", "Have the endpoint answer the question of POST …:verify: by the consent of CloudEvents' webhooks, or by the response to the challenge. Nothing else is sent to it before."}
	kindWrongCode           = problemKind{"wrong-code", 403, "The code is not one that was given", "Use the callback address that the endpoint was sent last, as it is. It is good for that sink of the subscription alone."}
	kindAskedTooOften       = problemKind{"asked-too-often", 429, "The endpoint's host has been asked too often lately", "Try again after the time that Retry-After gives."}
	kindAttemptsAway        = problemKind{"attempts-unavailable", 503, "What is kept of attempts cannot be read at present", "Try again after the time that Retry-After gives; deliveries go on meanwhile."}
	kindUnknownSubscription = problemKind{"unknown-subscription", 404, "There is no such subscription", "List the subscriptions with GET /v1/subscriptions, or create one with POST to the same address."}
)

// kinds lists all of them, for the pages that describe them.
func kinds() []problemKind {
	return []problemKind{
		kindMalformedJSON, kindInvalidBody, kindInvalidEvent, kindInvalidFilter, kindInvalidCursor, kindInvalidParameter,
		kindBadMessage, kindInvalidUpgrade, kindOriginNotAllowed, kindNotAllowed, kindNotFound, kindUnknownStream, kindUnknownEventType, kindUnknownSchema,
		kindUnknownConsumer, kindUnknownSubscription, kindMethodNotAllowed, kindNotAcceptable, kindBodyTimeout, kindConflict, kindIncompatibleSchema,
		kindConsumerTakenOver, kindReconnect, kindOtherDelivery, kindUnproven, kindWrongCode, kindAskedTooOften, kindAttemptsAway, kindNotCompacted, kindNoState, kindPreconditionFailed,
		kindEventTooLarge, kindBatchTooLarge, kindBodyTooLarge, kindUnsupportedMedia, kindUnsupportedCoding,
		kindInvalidObject, kindTooManySessions, kindOverQuota, kindInternal, kindNotImplemented, kindNoSinks, kindLogUnavailable, kindStorageFull, kindInDoubt,
		kindOverloaded, kindNotReady, kindConsumerBusy,
	}
}

// problem is an error as the client sees it: RFC 9457, with the request's id. What caused it stays on this side.
type problem struct {
	kind       problemKind
	detail     string        // what was expected, what came, and what to do
	errors     []fieldError  // the single mistakes, where there are several or where they have a place
	position   *int          // where in an expression the mistake is
	comparison *Comparison   // of a schema with those before it
	answer     *group.Answer // what became of what a session said
	retryAfter time.Duration // 0: no Retry-After
	header     http.Header   // more headers of the answer
	cause      error         // logged, never sent
}

// fieldError is one mistake at one place of a JSON document.
type fieldError struct {
	Pointer  string `json:"pointer"` // RFC 6901; "" is the whole document
	Message  string `json:"message"`
	Expected string `json:"expected,omitempty"` // what would be right
	Keyword  string `json:"keyword,omitempty"`  // of the schema that is not met
}

// problemDocument is the problem on the wire.
type problemDocument struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Instance  string       `json:"instance,omitempty"`
	RequestID string       `json:"requestId,omitempty"`
	Errors    []fieldError `json:"errors,omitempty"`
	Position  *int         `json:"position,omitempty"`
	*Comparison
	*group.Answer
}

// newProblem makes a problem. Texts among the arguments are quoted in part where they are long: an answer must not be as
// long as what was sent.
func newProblem(kind problemKind, format string, args ...any) *problem {
	short := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			arg = shortened(v, quotedBytes)
		case error:
			arg = shortened(v.Error(), quotedBytes)
		}
		short[i] = arg
	}
	return &problem{kind: kind, detail: fmt.Sprintf(format, short...)}
}

// quotedBytes is how much of a text an answer repeats; of an expression it is excerptBytes, around the mistake.
const (
	quotedBytes  = 1000
	excerptBytes = 120
)

// shortened cuts text to about limit bytes, between characters.
func shortened(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}

// excerpt gives what is around a position of text.
func excerpt(text string, position int) string {
	if len(text) <= excerptBytes {
		return text
	}
	begin := min(max(0, position-excerptBytes/2), len(text))
	for begin > 0 && begin < len(text) && !utf8.RuneStart(text[begin]) {
		begin--
	}
	cut := shortened(text[begin:], excerptBytes)
	if begin > 0 {
		cut = "…" + cut
	}
	return cut
}

// Error implements error.
func (p *problem) Error() string {
	if p.cause != nil {
		return p.kind.name + ": " + p.detail + ": " + p.cause.Error()
	}
	return p.kind.name + ": " + p.detail
}

// Unwrap gives the cause.
func (p *problem) Unwrap() error { return p.cause }

func (p *problem) because(err error) *problem { p.cause = err; return p }

func (p *problem) retry(after time.Duration) *problem { p.retryAfter = after; return p }

func (p *problem) at(errs ...fieldError) *problem {
	for _, e := range errs {
		e.Pointer, e.Message = shortened(e.Pointer, quotedBytes), shortened(e.Message, quotedBytes)
		p.errors = append(p.errors, e)
	}
	return p
}

func (p *problem) with(key, value string) *problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Add(key, value)
	return p
}

// document gives the problem's form on the wire, as the answer to the request of an id.
func (p *problem) document(id string) problemDocument {
	d := problemDocument{
		Type:     problemPath + p.kind.name,
		Title:    p.kind.title,
		Status:   p.kind.status,
		Detail:   p.detail,
		Errors:   p.errors,
		Position: p.position,

		Comparison: p.comparison,
		Answer:     p.answer,
	}
	if id != "" {
		d.RequestID = id
		d.Instance = session.InstancePrefix + id
	}
	return d
}

// problemPath is where the kinds of problems are described; with a kind's name it is a problem's type.
const problemPath = "/problems/"

// retrySoon is what Retry-After says where nothing better is known.
const retrySoon = 2 * time.Second

// writeProblem answers err as a problem. Every error that a handler meets ends here; errors of the packages below are
// translated by [asProblem]. It must be called before anything of the answer was written.
func writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := asProblem(err)
	if info := infoOf(r.Context()); info != nil {
		info.problem = p
	}
	h := w.Header()
	for key, values := range p.header {
		h[key] = append(h[key], values...)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.retryAfter.Seconds())))))
	}
	h.Del("ETag")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	body, err := json.Marshal(p.document(requestID(r.Context())))
	if err != nil { // strings and numbers always marshal
		body = []byte(`{"type":"` + problemPath + `internal","status":500}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(p.kind.status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
}

// asProblem translates errors of the packages below. What it does not know is a mistake of ours: 500, with the cause
// in the log and not in the answer.
func asProblem(err error) *problem {
	var (
		p        *problem
		evErr    *event.Error
		reqErr   *event.RequestError
		filErr   *filter.Error
		invalid  *catalog.InvalidError
		tooLarge *http.MaxBytesError

		incompatible *catalog.IncompatibleError
		unknownKey   *keyring.UnknownKeyError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &filErr):
		position := filErr.Position
		p = newProblem(kindInvalidFilter, "at position %d of %q: %s", filErr.Position, excerpt(filErr.Expression, filErr.Position), filErr.Message)
		p.position = &position
		if filErr.Pointer != "" {
			p = p.at(fieldError{Pointer: filErr.Pointer, Message: filErr.Message})
		}
		return p.because(err)
	case errors.As(err, &evErr):
		kind := kindInvalidEvent
		if evErr.Malformed {
			kind = kindMalformedJSON
		}
		return newProblem(kind, "%s", evErr.Error()).at(eventErrors(evErr)...)
	case errors.As(err, &reqErr):
		return requestProblem(reqErr)
	case errors.Is(err, cursor.ErrVersion):
		return newProblem(kindInvalidCursor, "the cursor is of a newer format than this server knows: present it to a replica of the version that gave it, or begin with from=").because(err)
	case errors.Is(err, cursor.ErrMalformed):
		return newProblem(kindInvalidCursor, "the cursor is damaged or was never given by this server: present it exactly as it was given, or begin with from=").because(err)
	case errors.As(err, &invalid):
		return newProblem(kindInvalidObject, "%s", strings.TrimPrefix(strings.TrimPrefix(invalid.Error(), "invalid: "), ": ")).at(objectErrors(invalid)...)
	case errors.As(err, &incompatible):
		answer := comparison(incompatible.Comparison)
		p = newProblem(kindIncompatibleSchema, "%s", incompatible.Error())
		if incompatible.Verdict.Outcome == schema.Undecided {
			p.detail += ": with force=true it is registered all the same"
		}
		p.comparison = &answer
		return p
	case errors.Is(err, catalog.ErrExists):
		return newProblem(kindConflict, "%s: change what is there, or choose another name", err)
	case errors.Is(err, catalog.ErrNotPushed):
		return notPushed()
	case errors.Is(err, catalog.ErrPushed):
		return notRead()
	case errors.Is(err, catalog.ErrOrdered), errors.Is(err, catalog.ErrTooMany):
		return newProblem(kindConflict, "%s", err)
	case errors.Is(err, catalog.ErrNoKeys):
		return newProblem(kindNoSinks, "the server has no key ring to keep the subscription's secrets under: leave out the sink, or have the operator give it one")
	case errors.As(err, &unknownKey):
		return newProblem(kindInternal, "a secret of the subscription was sealed with the key %q, which the server does not have: tell the operator", unknownKey.ID).because(err)
	case errors.Is(err, catalog.ErrOldSchema):
		return newProblem(kindConflict, "%s: to go back to it, register it with a difference, such as another title", err)
	case errors.Is(err, catalog.ErrBusy):
		return newProblem(kindOverloaded, "others change the same definition again and again: try again").retry(retrySoon).because(err)
	case errors.Is(err, catalog.ErrInUse):
		return newProblem(kindConflict, "%s: delete them first; or add force=true, which deletes the event types too, and leaves the subscriptions failing", err)
	case errors.Is(err, catalog.ErrKeyOrder):
		return newProblem(kindConflict, "%s: with force=true if that does not matter", err)
	case errors.Is(err, catalog.ErrPreconditionFailed):
		return newProblem(kindPreconditionFailed, "it is no longer what If-Match names: read it again and send the change with the new ETag").because(err)
	case errors.Is(err, table.ErrInDoubt):
		return newProblem(kindInDoubt, "the log has not confirmed the change in time: read it again before you decide").retry(retrySoon).because(err)
	case errors.Is(err, table.ErrNotReady):
		return newProblem(kindNotReady, "definitions are being loaded from the log: try again").retry(retrySoon).because(err)
	case errors.Is(err, table.ErrTooLarge):
		return newProblem(kindBodyTooLarge, "the definition is too large: it may have %d bytes at most", table.MaxBody)
	case errors.Is(err, broker.ErrNotAllowed):
		return newProblem(kindNotAllowed, "the Kafka cluster does not allow it: %s", err).because(err)
	case errors.Is(err, broker.ErrClosed):
		return newProblem(kindNotReady, "the server is stopping: try another replica").retry(retrySoon).because(err)
	case errors.Is(err, broker.ErrFull):
		return storageFull().because(err)
	case errors.Is(err, broker.ErrUnavailable):
		return newProblem(kindLogUnavailable, "the log cannot be reached at the moment: try again").retry(retrySoon).because(err)
	case errors.As(err, &tooLarge):
		return newProblem(kindBodyTooLarge, "the body may have %d bytes at most", tooLarge.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(kindLogUnavailable, "the log did not answer in time: try again").retry(retrySoon).because(err)
	}
	return newProblem(kindInternal, "something went wrong that should not have: tell the operator the requestId").because(err)
}

// storageFull is the answer to what the log has no room for.
func storageFull() *problem {
	return newProblem(kindStorageFull, "there is no room on the log's disk, and nothing was written: the operator has to make some; try again later").retry(retryRoom)
}

// retryRoom is when to come back to a disk that is full: room is made by people, or by retention.
const retryRoom = 30 * time.Second

// requestProblem says why a request holds no events at all.
func requestProblem(err error) *problem {
	detail := err.Error()
	var req *event.RequestError
	if errors.As(err, &req) {
		detail = req.Detail
	}
	switch {
	case errors.Is(err, event.ErrEventSize):
		return newProblem(kindEventTooLarge, "%s", detail)
	case errors.Is(err, event.ErrTooLarge):
		return newProblem(kindBatchTooLarge, "%s", detail)
	case errors.Is(err, event.ErrMediaType):
		return newProblem(kindUnsupportedMedia, "%s", detail)
	}
	return newProblem(kindInvalidEvent, "%s", detail)
}

// left reports whether a problem is only that the client of r went away before it could be answered.
func (p *problem) left(r *http.Request) bool {
	return p != nil && p.kind.status >= 500 && errors.Is(p.cause, context.Canceled) && r.Context().Err() != nil
}

// logProblem writes what the operator needs to know: mistakes of ours and outages, not the callers' mistakes.
func logProblem(log *slog.Logger, info *requestInfo) {
	p := info.problem
	if p == nil || p.kind.status < 500 || p.kind.status == 501 {
		return
	}
	level := slog.LevelWarn
	switch p.kind.name {
	case kindInternal.name:
		level = slog.LevelError
	case kindOverloaded.name, kindNotReady.name:
		level = slog.LevelDebug // told to every client of a storm or a drain; the metrics count them
	}
	attrs := []slog.Attr{
		slog.String("requestId", info.id), slog.String("method", info.method), slog.String("route", info.route),
		slog.String("problem", p.kind.name), slog.String("detail", p.detail),
	}
	if p.cause != nil {
		attrs = append(attrs, slog.Any("error", p.cause))
	}
	log.LogAttrs(context.Background(), level, "request failed", attrs...)
}

// problemPage describes one kind of problem, or all of them, as plain text at the address that the type URI names.
func (g *Gateway) problemPage(w http.ResponseWriter, r *http.Request) {
	name := pathVar(r, "problem")
	all := kinds()
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	var text strings.Builder
	for _, k := range all {
		if name == "" || k.name == name {
			fmt.Fprintf(&text, "%s%s (status %d)\n\n%s.\n%s\n\n", problemPath, k.name, k.status, k.title, k.remedy)
		}
	}
	if text.Len() == 0 {
		writeProblem(w, r, newProblem(kindNotFound, "there is no problem named %q: GET %s lists them", name, strings.TrimSuffix(problemPath, "/")))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "max-age=3600")
	_, _ = w.Write([]byte(text.String()))
}
