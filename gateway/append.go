package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/dedupe"
	"github.com/eventissuer/eventissuer/internal/event"
)

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
			res.Status, res.Retryable, res.full = statusFailed, true, errors.Is(err, broker.ErrFull)
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
	case errors.Is(err, broker.ErrFull):
		return "there is no room on the log's disk: send the event again once the operator has made some"
	case errors.Is(err, broker.ErrRefused):
		return "the log did not take the event: send it again"
	}
	return "the log has not acknowledged the event in time, so it may be there or not: send it again"
}
