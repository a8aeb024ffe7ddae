package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
)

// mergePatch is the media type of RFC 7396.
const mergePatch = "application/merge-patch+json"

// streamAnswer is a stream as GET shows it: with its ends, and what is published to it.
type streamAnswer struct {
	catalog.Stream
	Oldest     string   `json:"oldest,omitempty"`
	Newest     string   `json:"newest,omitempty"`
	EventTypes []string `json:"eventTypes,omitempty"`
}

func (g *Gateway) listStreams(w http.ResponseWriter, r *http.Request) {
	page, err := pageOf(r, g.deps.Catalog.Streams(), func(s catalog.Stream) string { return s.Name })
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, page)
}

func (g *Gateway) createStream(w http.ResponseWriter, r *http.Request) {
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw) {
		return
	}
	s, err := catalog.DecodeStream(raw)
	if err == nil {
		s, err = g.editor(r).CreateStream(r.Context(), s)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	w.Header().Set("Location", g.link(r, "v1", "streams", s.Name))
	writeVersion(w, r, http.StatusCreated, s.ETag(), s)
}

func (g *Gateway) getStream(w http.ResponseWriter, r *http.Request) {
	stream, info, err := g.streamOf(r.Context(), pathVar(r, "stream"))
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	answer := streamAnswer{Stream: stream}
	if answer.Oldest, answer.Newest, err = g.ends(r.Context(), stream, info); err != nil {
		writeProblem(w, r, err)
		return
	}
	for _, t := range g.deps.Catalog.EventTypesOf(stream.Name) {
		answer.EventTypes = append(answer.EventTypes, t.Type)
	}
	writeVersion(w, r, http.StatusOK, stream.ETag(), answer)
}

// ends gives the cursors of a stream's oldest event and of its end.
func (g *Gateway) ends(ctx context.Context, stream catalog.Stream, info broker.TopicInfo) (oldest, newest string, err error) {
	bounds, err := g.deps.Log.Bounds(ctx, stream.Topic)
	if err != nil {
		return "", "", err
	}
	first, next := make([]int64, len(bounds)), make([]int64, len(bounds))
	for i, b := range bounds {
		first[i], next[i] = b.First, b.Next
	}
	at := cursor.StreamCursor{Tag: cursor.TagOf(stream.Name), Epoch: cursor.EpochOf(info.Epoch), Next: first}
	oldest = string(cursor.AppendOne(nil, at))
	at.Next = next
	return oldest, string(cursor.AppendOne(nil, at)), nil
}

func (g *Gateway) changeStream(w http.ResponseWriter, r *http.Request) {
	force, err := boolean(r, "force")
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw, mergePatch, "application/json") {
		return
	}
	name := pathVar(r, "stream")
	patch, err := catalog.DecodeStreamPatch(raw)
	var s catalog.Stream
	if err == nil {
		s, err = g.editor(r).UpdateStream(r.Context(), name, patch, r.Header.Get("If-Match"), force)
	}
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		err = unknownStream(name)
	case errors.Is(err, broker.ErrNoTopic):
		err = noTopic(name).because(err)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeVersion(w, r, http.StatusOK, s.ETag(), s)
}

func (g *Gateway) deleteStream(w http.ResponseWriter, r *http.Request) {
	force, err := boolean(r, "force")
	name := pathVar(r, "stream")
	if err == nil {
		err = g.editor(r).DeleteStream(r.Context(), name, r.Header.Get("If-Match"), force)
	}
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownStream(name)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// editor changes definitions in the name of who asks.
func (g *Gateway) editor(r *http.Request) catalog.Editor {
	return g.deps.Catalog.As(catalog.Actor{Name: localOwner, RequestID: requestID(r.Context()), Base: g.baseURL(r)})
}

// writeVersion answers a definition with its entity tag.
func writeVersion(w http.ResponseWriter, r *http.Request, status int, tag string, v any) {
	w.Header().Set("ETag", tag)
	writeJSON(w, r, status, v)
}

// boolean reads a parameter that is true or false; absent is false.
func boolean(r *http.Request, name string) (bool, error) {
	switch value := r.URL.Query().Get(name); value {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, newProblem(kindInvalidParameter, "%s=%s: give true or false", name, value)
	}
}
