package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/dedupe"
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
	status := publishStatus(results)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	writeJSON(w, r, status, struct {
		Results []publishResult `json:"results"`
	}{results})
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

// topicBatch is what goes to one topic, in the order of the request.
type topicBatch struct {
	stream dedupe.Stream
	events []dedupe.Event
	items  []int // which results they are
}

// appendEvents checks each item, appends what is valid, and tells what became of each, in order. With all, nothing is
// appended unless all are valid.
func (g *Gateway) appendEvents(w http.ResponseWriter, r *http.Request, items []event.Item, all bool) []publishResult {
	results := make([]publishResult, len(items))
	valid, whole := g.admitEvents(r, items, results)
	if all && !whole {
		withhold(results)
		return results
	}
	if whole = g.spend(w, r, valid, results); all && !whole {
		withhold(results)
		return results
	}
	batches := batchesOf(r, valid, results)
	if len(batches) == 0 {
		return results
	}
	// Whoever asks may go away: what became of the events is needed all the same, or who comes back with them would have
	// to wait until it can be found out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), g.config.AppendTimeout)
	defer cancel()
	begin := time.Now()
	if twins(batches) {
		for _, b := range batches { // the second is decided after the first's answer
			g.appendBatch(ctx, b, results)
		}
	} else {
		var wg sync.WaitGroup
		for _, b := range batches[1:] {
			wg.Go(func() { g.appendBatch(ctx, b, results) })
		}
		g.appendBatch(ctx, batches[0], results)
		wg.Wait()
	}
	g.metrics.append.Observe(time.Since(begin).Seconds())
	return results
}

// withhold marks all that has no result yet.
func withhold(results []publishResult) {
	for i := range results {
		if results[i].Status == "" {
			results[i].Status = statusWithheld
		}
	}
}

// twins reports whether the same event goes to two topics.
func twins(batches []*topicBatch) bool {
	if len(batches) < 2 {
		return false
	}
	type identity struct{ source, id string }
	in := map[identity]int{}
	for n, b := range batches {
		for i := range b.events {
			who := identity{b.events[i].Source, b.events[i].ID}
			if other, ok := in[who]; ok && other != n {
				return true
			}
			in[who] = n
		}
	}
	return false
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

// batchesOf gathers what may be written by topic.
func batchesOf(r *http.Request, valid []admitted, results []publishResult) (batches []*topicBatch) {
	id := []byte(requestID(r.Context()))
	for i := range valid {
		ok, res := &valid[i], &results[i]
		if res.Status != "" {
			continue
		}
		res.Stream = ok.stream.Name
		m := ok.event.Message(eventKey(&ok.event, ok.eventType.KeyAttribute))
		m.Headers = append(m.Headers, broker.Header{Key: headerRequestID, Value: id})
		b := batchFor(&batches, ok.stream, len(valid)-i) // a request seldom names more than one topic
		b.events = append(b.events, dedupe.Event{
			Source: ok.event.Source(), ID: ok.event.ID(), Window: ok.eventType.DedupeWindow(), Strict: ok.eventType.DedupeRequired, Message: m,
		})
		b.items = append(b.items, i)
	}
	return batches
}

func batchFor(batches *[]*topicBatch, stream catalog.Stream, room int) *topicBatch {
	for _, b := range *batches {
		if b.stream.Topic == stream.Topic {
			return b
		}
	}
	b := &topicBatch{
		stream: dedupe.Stream{Name: stream.Name, Topic: stream.Topic},
		events: make([]dedupe.Event, 0, room), items: make([]int, 0, room),
	}
	*batches = append(*batches, b)
	return b
}

// appendBatch appends b and notes what became of it. It touches only b's own results.
func (g *Gateway) appendBatch(ctx context.Context, b *topicBatch, results []publishResult) {
	outcomes := g.append(ctx, b)
	for j, i := range b.items {
		res, out := &results[i], &outcomes[j]
		res.degraded = out.Degraded
		switch err := out.Ack.Err; {
		case err == nil:
			res.Status, res.Stream, res.Position = statusPersisted, out.Stream, &position{out.Ack.Partition, out.Ack.Offset}
			if out.Duplicate {
				res.Status = statusDuplicate
			}
		case errors.Is(err, broker.ErrTooLarge):
			res.Status, res.tooLarge = statusInvalid, true
			res.Errors = []fieldError{{Pointer: "", Message: "the event is larger than the stream's topic takes"}}
		default:
			res.Status, res.Retryable = statusFailed, true
			res.Errors = []fieldError{{Pointer: "", Message: failure(err)}}
		}
	}
}

// append lets each event in once, or as it comes where nothing is deduplicated.
func (g *Gateway) append(ctx context.Context, b *topicBatch) []dedupe.Outcome {
	if g.deps.Dedupe != nil {
		return g.deps.Dedupe.Append(ctx, b.stream, b.events)
	}
	messages := make([]broker.Message, len(b.events))
	for i := range b.events {
		messages[i] = b.events[i].Message
	}
	outcomes := make([]dedupe.Outcome, len(messages))
	for i, ack := range g.deps.Log.Append(ctx, b.stream.Topic, messages) {
		outcomes[i] = dedupe.Outcome{Ack: ack, Stream: b.stream.Name}
	}
	return outcomes
}

// failure says in the caller's words why an event is not known to be on the log.
func failure(err error) string {
	switch {
	case errors.Is(err, dedupe.ErrReserved):
		return "the same event is being published at this moment, or was and its fate is not known yet: send it again"
	case errors.Is(err, dedupe.ErrUnsettled):
		return "it could not be found out in time whether the event is on the log already: send it again"
	case errors.Is(err, dedupe.ErrStoreAway):
		return "it cannot be known at the moment whether the event is on the log already, and its type demands that: send it again"
	case errors.Is(err, dedupe.ErrRebuilding):
		return "what was published before this server's start is still being read: send it again"
	case errors.Is(err, broker.ErrNoTopic):
		return "the stream's topic is not there: it was deleted, or is just being made"
	case errors.Is(err, broker.ErrRefused):
		return "the log did not take the event: send it again"
	}
	return "the log has not acknowledged the event in time, so it may be there or not: send it again"
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

// tombstone answers POST /v1/events:tombstone.
func (g *Gateway) tombstone(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Type string `json:"type"`
		Key  string `json:"key"`
	}
	if !g.readDocument(w, r, &in) {
		return
	}
	if in.Type == "" || in.Key == "" {
		p := newProblem(kindInvalidBody, `give the event type and the key: {"type":"…","key":"…"}`)
		for name, value := range map[string]string{"/type": in.Type, "/key": in.Key} {
			if value == "" {
				p = p.at(fieldError{Pointer: name, Message: "is missing"})
			}
		}
		writeProblem(w, r, p)
		return
	}
	eventType, ok := g.deps.Catalog.EventType(in.Type)
	if !ok {
		writeProblem(w, r, unknownEventType(in.Type))
		return
	}
	stream, ok := g.deps.Catalog.Stream(eventType.Stream)
	if !ok {
		writeProblem(w, r, unknownStream(eventType.Stream))
		return
	}
	if !stream.Compaction {
		writeProblem(w, r, newProblem(kindNotCompacted, "the stream %q keeps every event until its retention ends: only a stream with compaction knows tombstones", stream.Name))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.config.AppendTimeout)
	defer cancel()
	ack := g.deps.Log.Append(ctx, stream.Topic, []broker.Message{{
		Partition: broker.AnyPartition,
		Key:       []byte(in.Key),
		Headers:   []broker.Header{{Key: headerRequestID, Value: []byte(requestID(ctx))}},
	}})[0]
	switch {
	case errors.Is(ack.Err, broker.ErrTooLarge):
		writeProblem(w, r, newProblem(kindEventTooLarge, "the key is larger than the topic of stream %q takes", stream.Name))
		return
	case errors.Is(ack.Err, broker.ErrNoTopic):
		writeProblem(w, r, noTopic(stream.Name))
		return
	case ack.Err != nil:
		writeProblem(w, r, newProblem(kindLogUnavailable, "the log has not acknowledged the tombstone: send it again").retry(retrySoon).because(ack.Err))
		return
	}
	writeJSON(w, r, http.StatusOK, struct {
		Status   string   `json:"status"`
		Stream   string   `json:"stream"`
		Position position `json:"position"`
	}{statusPersisted, stream.Name, position{ack.Partition, ack.Offset}})
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
