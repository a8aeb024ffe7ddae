package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/eventissuer/eventissuer/internal/catalog"
)

// typeAnswer is an event type as GET shows it: with its latest schema, and where that is.
type typeAnswer struct {
	catalog.EventType
	Schema    json.RawMessage `json:"schema,omitempty"` // left out in lists
	SchemaURL string          `json:"schemaUrl,omitempty"`
}

func (g *Gateway) typeAnswer(r *http.Request, t catalog.EventType, whole bool) typeAnswer {
	answer := typeAnswer{EventType: t}
	if t.LatestVersion == 0 {
		return answer
	}
	answer.SchemaURL = g.schemaURL(r, t.Type, t.LatestVersion)
	if v, ok := g.deps.Catalog.Schema(t.Type, t.LatestVersion); ok && whole {
		answer.Schema = json.RawMessage(v.Text)
	}
	return answer
}

// listEventTypes answers GET /v1/event-types: all of them, or those that the parameters ask for.
func (g *Gateway) listEventTypes(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	stream, owner, audience := query.Get("stream"), query.Get("owner"), query.Get("audience")
	words := strings.Fields(strings.ToLower(query.Get("q")))
	found := []typeAnswer{}
	for _, t := range g.deps.Catalog.EventTypesOf(stream) {
		if owner != "" && t.Owner != owner || audience != "" && string(t.Audience) != audience ||
			!hasWords(words, t.Type, t.Stream, t.Owner, t.Description, t.Documentation) {
			continue
		}
		found = append(found, g.typeAnswer(r, t, false))
	}
	page, err := pageOf(r, found, func(t typeAnswer) string { return t.Type })
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, page)
}

// hasWords reports whether each word, in lower case, is somewhere in what a definition says of itself.
func hasWords(words []string, says ...string) bool {
	if len(words) == 0 {
		return true
	}
	text := strings.ToLower(strings.Join(says, "\n"))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func (g *Gateway) createEventType(w http.ResponseWriter, r *http.Request) {
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw) {
		return
	}
	t, text, err := catalog.DecodeEventType(raw)
	if err == nil {
		t, err = g.editor(r).CreateEventType(r.Context(), t, text)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	g.writeCreatedType(w, r, t)
}

func (g *Gateway) getEventType(w http.ResponseWriter, r *http.Request) {
	name := pathVar(r, "type")
	t, ok := g.deps.Catalog.Registration(name)
	if !ok {
		writeProblem(w, r, unknownEventType(name))
		return
	}
	if notModified(w, r, t.ETag()) {
		return
	}
	writeVersion(w, r, http.StatusOK, t.ETag(), g.typeAnswer(r, t, true))
}

// putEventType replaces a registration, or makes it where there is none and no version was named.
func (g *Gateway) putEventType(w http.ResponseWriter, r *http.Request) {
	name, ifMatch := pathVar(r, "type"), r.Header.Get("If-Match")
	if _, there := g.deps.Catalog.Registration(name); there && strings.TrimSpace(r.Header.Get("If-None-Match")) == "*" {
		g.refuse(w, r, newProblem(kindPreconditionFailed, "there is an event type %q already, and If-None-Match: * asks that there be none", name))
		return
	}
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw) {
		return
	}
	t, text, err := catalog.DecodeEventType(raw)
	if err == nil && t.Type == "" {
		t.Type = name
	}
	if err == nil && t.Type != name {
		err = newProblem(kindInvalidObject, "the body is of event type %q, the address of %q: they must be the same, or the body's left out", t.Type, name).
			at(fieldError{Pointer: "/type", Message: "must be that of the address"})
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	changed, err := g.editor(r).UpdateEventType(r.Context(), t, text, ifMatch)
	if errors.Is(err, catalog.ErrNotFound) && ifMatch == "" {
		if changed, err = g.editor(r).CreateEventType(r.Context(), t, text); err == nil {
			g.writeCreatedType(w, r, changed)
			return
		}
		if errors.Is(err, catalog.ErrExists) { // somebody else was first
			changed, err = g.editor(r).UpdateEventType(r.Context(), t, text, "")
		}
	}
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		writeProblem(w, r, newProblem(kindPreconditionFailed, "there is no event type %q that If-Match could name", name))
	case err != nil:
		writeProblem(w, r, err)
	default:
		writeVersion(w, r, http.StatusOK, changed.ETag(), g.typeAnswer(r, changed, true))
	}
}

func (g *Gateway) writeCreatedType(w http.ResponseWriter, r *http.Request, t catalog.EventType) {
	w.Header().Set("Location", g.link(r, "v1", "event-types", t.Type))
	writeVersion(w, r, http.StatusCreated, t.ETag(), g.typeAnswer(r, t, true))
}

// deleteEventType answers DELETE of a registration: refused while its stream holds events of the type, unless forced.
func (g *Gateway) deleteEventType(w http.ResponseWriter, r *http.Request) {
	name := pathVar(r, "type")
	force, err := boolean(r, "force")
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	t, ok := g.deps.Catalog.Registration(name)
	if !ok {
		writeProblem(w, r, unknownEventType(name))
		return
	}
	if !force {
		if err := g.refuseRetained(r.Context(), t); err != nil {
			writeProblem(w, r, err)
			return
		}
	}
	err = g.editor(r).DeleteEventType(r.Context(), name, r.Header.Get("If-Match"))
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownEventType(name)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
