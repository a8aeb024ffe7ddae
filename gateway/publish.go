package gateway

import (
	"cmp"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
)

// What became of a published event.
const (
	statusPersisted = "persisted"
	statusDuplicate = "duplicate" // it was there already, at the position
	statusInvalid   = "invalid"
	statusFailed    = "failed"
	statusWithheld  = "withheld" // valid, but not written since others are not, as all=true asks
)

// headerDeduplicated tells, as false, that events of the answer were written though it could not be known whether they
// were there already.
const headerDeduplicated = "Eventissuer-Deduplicated"

// headerRequestID is the record header that names the request an event came with.
const headerRequestID = "eventissuer-request-id"

// publishResult is what became of one event.
type publishResult struct {
	ID        string       `json:"id,omitempty"`
	Source    string       `json:"source,omitempty"`
	Status    string       `json:"status"`
	Stream    string       `json:"stream,omitempty"`
	Position  *position    `json:"position,omitempty"`
	Errors    []fieldError `json:"errors,omitempty"`
	Retryable bool         `json:"retryable,omitempty"`

	tooLarge bool     // the log refused it for its size
	full     bool     // not written for want of room on the log's disk
	degraded bool     // written without being deduplicated
	quota    *problem // why it is over its type's quota
}

type position struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// publish answers POST /v1/events: the HTTP binding of CloudEvents in its three modes.
func (g *Gateway) publish(w http.ResponseWriter, r *http.Request) {
	batch := isBatch(r.Header)
	all, err := boolean(r, "all")
	if err == nil {
		err = wantEvents(r.Header)
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	limit, tooLarge := g.config.MaxEventBytes, newProblem(kindEventTooLarge, "an event may have %d bytes at most", g.config.MaxEventBytes)
	if batch {
		limit, tooLarge = g.config.MaxBatchBytes, newProblem(kindBatchTooLarge, "a batch may have %d bytes at most: send it in several", g.config.MaxBatchBytes)
	}
	body, release, err := g.readBody(w, r, limit, tooLarge)
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	defer release()
	items, err := g.readEvents(r.Header, body)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	results := g.appendEvents(w, r, items, all)
	degraded, written := false, false
	var overQuota *problem
	for i := range results {
		g.metrics.events.WithLabelValues(results[i].Status).Inc()
		degraded = degraded || results[i].degraded
		written = written || results[i].quota == nil && results[i].Status != statusWithheld
		overQuota = cmp.Or(overQuota, results[i].quota)
	}
	if degraded {
		w.Header().Set(headerDeduplicated, "false")
	}
	if overQuota != nil && !written { // the quota is all there is to say
		writeProblem(w, r, overQuota)
		return
	}
	if !batch && len(results) == 1 && results[0].tooLarge {
		writeProblem(w, r, newProblem(kindEventTooLarge, "the event is larger than the topic of stream %q takes", results[0].Stream))
		return
	}
	if noRoom(results) {
		writeProblem(w, r, storageFull())
		return
	}
	status := publishStatus(results)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	writeJSON(w, r, status, struct {
		Results []publishResult `json:"results"`
	}{results})
}

// noRoom says that nothing was written for want of room on the log's disk, which is then all there is to say.
func noRoom(results []publishResult) bool {
	return len(results) > 0 && !slices.ContainsFunc(results, func(r publishResult) bool { return !r.full })
}

// readEvents reads the events of a request. A single one whose JSON is broken is a problem of the request; in a batch
// it cannot be, since the batch is then broken itself.
func (g *Gateway) readEvents(h http.Header, body []byte) ([]event.Item, error) {
	items, batch, err := event.ReadRequest(h, body, event.Limits{
		EventBytes:  int(g.config.MaxEventBytes),
		BatchBytes:  int(g.config.MaxBatchBytes),
		BatchEvents: g.config.MaxBatchEvents,
	})
	if errors.Is(err, event.ErrMalformed) && hasMediaPrefix(h, "application/cloudevents") && (!json.Valid(body) || !utf8.Valid(body)) {
		return nil, newProblem(kindMalformedJSON, "%s", requestProblem(err).detail)
	}
	if err != nil {
		return nil, err
	}
	var broken *event.Error
	if !batch && len(items) == 1 && errors.As(items[0].Err, &broken) && broken.Malformed {
		return nil, broken
	}
	return items, nil
}

// isBatch tells a batch from a single event. The batch's media type begins with the single event's: it is tested first.
func isBatch(h http.Header) bool {
	return hasMediaPrefix(h, "application/cloudevents-batch")
}

func hasMediaPrefix(h http.Header, prefix string) bool {
	value := strings.TrimSpace(h.Get("Content-Type"))
	return len(value) >= len(prefix) && strings.EqualFold(value[:len(prefix)], prefix)
}

// wantEvents refuses what is none of the three modes before its body is read.
func wantEvents(h http.Header) error {
	if isBatch(h) || hasMediaPrefix(h, "application/cloudevents") {
		mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
		if err == nil && (mediaType == "application/cloudevents-batch+json" || mediaType == "application/cloudevents+json") {
			return nil
		}
		return newProblem(kindUnsupportedMedia, "Content-Type is %q: of the event formats, only JSON is read (application/cloudevents+json, application/cloudevents-batch+json)", h.Get("Content-Type"))
	}
	if h.Get("ce-specversion") == "" && h.Get("ce-id") == "" && h.Get("ce-type") == "" && h.Get("ce-source") == "" {
		return newProblem(kindUnsupportedMedia, "Content-Type is %q and there are no ce- headers: send application/cloudevents+json, application/cloudevents-batch+json, or binary mode with ce-specversion, ce-id, ce-source and ce-type", h.Get("Content-Type"))
	}
	return nil
}

// publishStatus gives the answer's status for all results together.
func publishStatus(results []publishResult) int {
	count := map[string]int{}
	for i := range results {
		count[results[i].Status]++
	}
	switch len(results) {
	case count[statusPersisted] + count[statusDuplicate]:
		return http.StatusOK
	case count[statusInvalid] + count[statusWithheld]:
		return http.StatusUnprocessableEntity
	case count[statusFailed], count[statusFailed] + count[statusWithheld]:
		return http.StatusServiceUnavailable
	}
	return http.StatusMultiStatus
}

// admitEvents holds each event to its type, and notes of those that may not be written why. whole tells that there is none.
func (g *Gateway) admitEvents(r *http.Request, items []event.Item, results []publishResult) (valid []admitted, whole bool) {
	whole = true
	check := g.admission(r)
	valid = make([]admitted, len(items))
	for i := range items {
		e, res := &items[i].Event, &results[i]
		res.ID, res.Source = e.ID(), e.Source()
		if items[i].Err != nil {
			res.Status, res.Errors = statusInvalid, g.eventMistakes(e, items[i].Err)
			if t, ok := g.deps.Catalog.EventType(e.Type()); ok && t.Personal {
				res.ID, res.Source = "", "" // they may be what is wrong
			}
			whole = false
			continue
		}
		ok, mistakes, err := check.admit(*e)
		switch {
		case err != nil:
			g.log.Error("an event type's rules cannot be applied", "type", ok.eventType.Type, "requestId", requestID(r.Context()), "error", err)
			res.Status, res.Retryable = statusFailed, true
			res.Errors = []fieldError{{Pointer: "/type", Message: "the event type's rules cannot be applied by this server: tell the operator the request's id"}}
			whole = false
		case len(mistakes) > 0:
			res.Status, res.Errors = statusInvalid, mistakes
			whole = false
		default:
			valid[i] = ok
		}
	}
	return valid, whole
}

// eventMistakes tells what is wrong with what is no CloudEvent. Of events that hold personal data nothing is quoted, not
// even a name that no attribute can have.
func (g *Gateway) eventMistakes(e *event.Event, err error) []fieldError {
	mistakes := itemErrors(err)
	if t, ok := g.deps.Catalog.EventType(e.Type()); !ok || !t.Personal {
		return mistakes
	}
	for i := range mistakes {
		m := &mistakes[i]
		if m.Message = "it is not as it should be"; !event.IsCoreAttribute(strings.TrimPrefix(m.Pointer, "/")) {
			m.Pointer, m.Expected = "", ""
		}
	}
	return mistakes
}

// destination finds where events of a type go, or says what to do about it.
func (g *Gateway) destination(name string) (catalog.EventType, catalog.Stream, *fieldError) {
	if catalog.IsReservedType(name) {
		return catalog.EventType{}, catalog.Stream{}, &fieldError{Pointer: "/type", Message: "types that begin with no.eventissuer. are this server's own: readers know its control messages by them", Expected: "a type of your own"}
	}
	eventType, ok := g.deps.Catalog.EventType(name)
	if !ok {
		return eventType, catalog.Stream{}, &fieldError{Pointer: "/type", Message: "the event type " + name + " is not registered", Expected: "a registered type: POST /v1/event-types registers one"}
	}
	stream, ok := g.deps.Catalog.Stream(eventType.Stream)
	if !ok {
		return eventType, stream, &fieldError{Pointer: "/type", Message: "the event type's stream " + eventType.Stream + " is not there", Expected: "a stream that is: POST /v1/streams creates one"}
	}
	return eventType, stream, nil
}

// eventKey gives the key by which a record's partition is chosen: events of one key keep their order.
func eventKey(e *event.Event, keyAttribute string) []byte {
	if v, ok := e.Attribute("partitionkey"); ok {
		return []byte(v.String())
	}
	if keyAttribute == "" {
		keyAttribute = "subject"
	}
	if v, ok := e.Attribute(keyAttribute); ok {
		return []byte(v.String())
	}
	return nil
}

func unknownStream(name string) *problem {
	return newProblem(kindUnknownStream, "there is no stream %q: GET /v1/streams lists those there are", name)
}

func noTopic(stream string) *problem {
	return newProblem(kindUnknownStream, "the topic of stream %q is gone: whoever deleted it has to make it again, or delete the stream", stream)
}

func unknownEventType(name string) *problem {
	return newProblem(kindUnknownEventType, "there is no event type %q: GET /v1/event-types lists those there are", name)
}
