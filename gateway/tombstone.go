package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/eventissuer/eventissuer/broker"
)

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
	case errors.Is(ack.Err, broker.ErrFull):
		writeProblem(w, r, ack.Err)
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
