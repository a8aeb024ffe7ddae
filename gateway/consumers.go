package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
)

// consumerAnswer is a named cursor and how far it is behind.
type consumerAnswer struct {
	Name       string              `json:"name"`
	Stream     string              `json:"stream"`
	Cursor     string              `json:"cursor"`
	Lag        int64               `json:"lag"`
	Partitions []consumerPartition `json:"partitions"`
}

type consumerPartition struct {
	Partition int   `json:"partition"`
	Next      int64 `json:"next"`
	End       int64 `json:"end"`
	Lag       int64 `json:"lag"`
}

// streamOf finds the stream that the address names, and its topic as it is now.
func (g *Gateway) streamOf(ctx context.Context, name string) (catalog.Stream, broker.TopicInfo, error) {
	stream, ok := g.deps.Catalog.Stream(name)
	if !ok {
		return stream, broker.TopicInfo{}, unknownStream(name)
	}
	info, err := g.deps.Log.Describe(ctx, stream.Topic)
	if errors.Is(err, broker.ErrNoTopic) {
		return stream, info, noTopic(name).because(err)
	}
	return stream, info, err
}

func (g *Gateway) getConsumer(w http.ResponseWriter, r *http.Request) {
	name := cursor.Name{Owner: localOwner, Stream: pathVar(r, "stream"), Consumer: pathVar(r, "consumer")}
	stream, info, err := g.streamOf(r.Context(), name.Stream)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	state, err := g.deps.Consumers.Get(r.Context(), name)
	if err != nil {
		writeProblem(w, r, consumerProblem(err, name))
		return
	}
	g.writeConsumer(w, r, name, stream, info, state)
}

// putConsumer saves or resets a named cursor. What it answers is durable.
func (g *Gateway) putConsumer(w http.ResponseWriter, r *http.Request) {
	name := cursor.Name{Owner: localOwner, Stream: pathVar(r, "stream"), Consumer: pathVar(r, "consumer")}
	var in struct {
		Cursor string `json:"cursor"`
		From   string `json:"from"`
		Reset  bool   `json:"reset"`
	}
	if !g.readDocument(w, r, &in) {
		return
	}
	switch {
	case (in.Cursor == "") == (in.From == ""):
		writeProblem(w, r, newProblem(kindInvalidBody, `give either {"cursor":"…"}, or {"from":"oldest","reset":true}`))
		return
	case in.From != "" && !in.Reset:
		writeProblem(w, r, newProblem(kindInvalidBody, `from sets a position without regard to what was read, which is a reset: add "reset":true`).at(fieldError{Pointer: "/reset", Message: "must be true with from"}))
		return
	}
	stream, info, err := g.streamOf(r.Context(), name.Stream)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	epoch := cursor.EpochOf(info.Epoch)
	var at cursor.StreamCursor
	if in.Cursor != "" {
		at, err = presented(in.Cursor, stream.Name)
	} else {
		at = cursor.StreamCursor{Tag: cursor.TagOf(stream.Name), Epoch: epoch}
		at.Next, err = g.resolveFrom(r.Context(), stream.Topic, in.From)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	state, err := g.deps.Consumers.Put(r.Context(), cursor.PutRequest{
		Name: name, Epoch: epoch, Partitions: int(info.Partitions), Cursor: at, Reset: in.Reset,
		Present: func(ctx context.Context) (uint64, error) {
			info, err := g.deps.Log.Describe(ctx, stream.Topic)
			return cursor.EpochOf(info.Epoch), err
		},
		Ends: func(ctx context.Context) ([]int64, error) { return g.resolveFrom(ctx, stream.Topic, "latest") },
	})
	if err != nil {
		writeProblem(w, r, consumerProblem(err, name))
		return
	}
	g.writeConsumer(w, r, name, stream, info, state)
}

func (g *Gateway) deleteConsumer(w http.ResponseWriter, r *http.Request) {
	name := cursor.Name{Owner: localOwner, Stream: pathVar(r, "stream"), Consumer: pathVar(r, "consumer")}
	if err := g.deps.Consumers.Delete(r.Context(), name); err != nil {
		writeProblem(w, r, consumerProblem(err, name))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// presented reads a cursor that a client gives back for a stream.
func presented(token, stream string) (cursor.StreamCursor, error) {
	c, err := cursor.Parse(token)
	if err != nil {
		return cursor.StreamCursor{}, err
	}
	at, ok := c.For(stream)
	if !ok {
		return at, newProblem(kindInvalidCursor, "the cursor is not of stream %q: present one that this stream gave", stream)
	}
	return at, nil
}

// resolveFrom gives the offsets that from= names: "oldest", "latest" or a time, which is compared with the log's own.
func (g *Gateway) resolveFrom(ctx context.Context, topic, from string) ([]int64, error) {
	if from == "oldest" || from == "latest" {
		bounds, err := g.deps.Log.Bounds(ctx, topic)
		if err != nil {
			return nil, err
		}
		next := make([]int64, len(bounds))
		for i, b := range bounds {
			next[i] = b.First
			if from == "latest" {
				next[i] = b.Next
			}
		}
		return next, nil
	}
	t, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return nil, newProblem(kindInvalidParameter, "from is %q: give oldest, latest, or a time such as 2026-01-02T03:04:05Z", from)
	}
	return g.deps.Log.At(ctx, topic, t)
}

// writeConsumer answers a consumer's state, beside the ends of its partitions.
func (g *Gateway) writeConsumer(w http.ResponseWriter, r *http.Request, name cursor.Name, stream catalog.Stream, info broker.TopicInfo, state cursor.State) {
	bounds, err := g.deps.Log.Bounds(r.Context(), stream.Topic)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	next := state.Next
	if state.Epoch != cursor.EpochOf(info.Epoch) {
		next = nil // the topic was made again since: everything in it is still to come
	}
	answer := consumerAnswer{
		Name:   name.Consumer,
		Stream: name.Stream,
		Cursor: string(cursor.AppendOne(nil, cursor.StreamCursor{
			Tag: cursor.TagOf(name.Stream), Epoch: state.Epoch, Next: state.Next, Lease: state.Lease, Cut: state.Cut,
		})),
		Partitions: make([]consumerPartition, len(bounds)),
	}
	for i, b := range bounds {
		p := consumerPartition{Partition: i, Next: b.First, End: b.Next}
		if i < len(next) {
			p.Next = next[i]
		}
		p.Lag = max(0, p.End-max(p.Next, b.First))
		answer.Lag += p.Lag
		answer.Partitions[i] = p
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// consumerProblem translates what cursor.Consumers answers.
func consumerProblem(err error, name cursor.Name) error {
	switch {
	case errors.Is(err, cursor.ErrNotFound):
		return newProblem(kindUnknownConsumer, "there is no consumer %q on stream %q: it begins with the first read that names it, or with a reset", name.Consumer, name.Stream)
	case errors.Is(err, cursor.ErrName):
		return newProblem(kindInvalidParameter, "%q: %s", name.Consumer, err)
	case errors.Is(err, cursor.ErrSuperseded), errors.Is(err, cursor.ErrLost):
		return newProblem(kindConflict, "a later session reads as consumer %q: this cursor is no longer its word", name.Consumer).because(err)
	case errors.Is(err, cursor.ErrEpoch):
		return newProblem(kindNotReady, "stream %q was deleted and made again a moment ago: try again", name.Stream).retry(retrySoon).because(err)
	case errors.Is(err, cursor.ErrBusy):
		return newProblem(kindConsumerBusy, "several readers want consumer %q at once: try again", name.Consumer).retry(retrySoon).because(err)
	case errors.Is(err, cursor.ErrInDoubt):
		return newProblem(kindInDoubt, "the log has not confirmed in time that the position is saved: save it again").retry(retrySoon).because(err)
	}
	return err
}
