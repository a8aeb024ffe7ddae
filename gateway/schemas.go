package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/schema"
)

const schemaMedia = "application/schema+json"

// schemaAnswer describes a version of a schema, without its text.
type schemaAnswer struct {
	Version int           `json:"version"`
	Digest  string        `json:"digest"`
	Draft   string        `json:"draft,omitempty"`
	URL     string        `json:"url"`
	Bytes   int           `json:"bytes"`
	Created catalog.Stamp `json:"created,omitzero"`
	Forced  bool          `json:"forced,omitempty"` // its compatibility was undecided
}

func (g *Gateway) schemaAnswer(r *http.Request, v catalog.SchemaVersion) schemaAnswer {
	answer := schemaAnswer{
		Version: v.Version, Digest: v.Digest, URL: g.schemaURL(r, v.Type, v.Version), Bytes: len(v.Text), Created: v.Created, Forced: v.Forced,
	}
	if s, err := g.deps.Catalog.Compiled(v); err == nil {
		answer.Draft = s.Draft()
	}
	return answer
}

// schemaURL is a version's address, fit for an event's dataschema.
func (g *Gateway) schemaURL(r *http.Request, typ string, version int) string {
	return g.baseURL(r) + catalog.SchemaPath(typ, version)
}

// listSchemas answers GET …/schemas: the versions, oldest first.
func (g *Gateway) listSchemas(w http.ResponseWriter, r *http.Request) {
	name := pathVar(r, "type")
	if _, ok := g.deps.Catalog.Registration(name); !ok {
		writeProblem(w, r, unknownEventType(name))
		return
	}
	answer := list[schemaAnswer]{Items: []schemaAnswer{}}
	for _, v := range g.deps.Catalog.Schemas(name) {
		answer.Items = append(answer.Items, g.schemaAnswer(r, v))
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// getSchema answers GET …/schemas/{version}: the text as it was registered. A number's never changes; that of a type that
// is deleted is there still, since events name it.
func (g *Gateway) getSchema(w http.ResponseWriter, r *http.Request) {
	name, which := pathVar(r, "type"), pathVar(r, "version")
	v, ok := catalog.SchemaVersion{}, false
	if which == "latest" {
		v, ok = g.deps.Catalog.LatestSchema(name)
	} else {
		n, err := strconv.Atoi(which)
		if err != nil || n < 1 {
			writeProblem(w, r, newProblem(kindInvalidParameter, "schemas/%s: give the number of a version, from 1, or latest", which))
			return
		}
		v, ok = g.deps.Catalog.Schema(name, n)
	}
	if !ok {
		writeProblem(w, r, newProblem(kindUnknownSchema, "event type %q has no schema %s: GET /v1/event-types/{type}/schemas lists those it has", name, which))
		return
	}
	h := w.Header()
	h.Set("Schema-Version", strconv.Itoa(v.Version))
	if which == "latest" {
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Location", catalog.SchemaPath(name, v.Version))
	} else {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	tag := `"` + v.Digest + "-" + strconv.Itoa(v.Version) + `"`
	if notModified(w, r, tag) {
		return
	}
	h.Set("ETag", tag)
	h.Set("Content-Type", schemaMedia)
	h.Set("Content-Length", strconv.Itoa(len(v.Text)))
	_, _ = w.Write([]byte(v.Text)) // a client that has gone needs no answer
}

// registerSchema answers POST …/schemas, whose body is the schema itself.
func (g *Gateway) registerSchema(w http.ResponseWriter, r *http.Request) {
	force, err := boolean(r, "force")
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	name := pathVar(r, "type")
	text, release, ok := g.readSchema(w, r)
	if !ok {
		return
	}
	defer release()
	v, made, err := g.editor(r).RegisterSchema(r.Context(), name, text, r.Header.Get("If-Match"), force)
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownEventType(name)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	answer, status := g.schemaAnswer(r, v), http.StatusOK
	if made {
		status = http.StatusCreated
	}
	w.Header().Set("Location", answer.URL)
	writeJSON(w, r, status, answer)
}

// readSchema reads a body that is a schema, byte for byte. It answers by itself where it is none.
func (g *Gateway) readSchema(w http.ResponseWriter, r *http.Request) (text []byte, release func(), ok bool) {
	err := wantMediaType(r, schemaMedia, "application/json")
	if err == nil {
		text, release, err = g.readBody(w, r, documentBytes, newProblem(kindBodyTooLarge, "the body may have %d bytes at most", documentBytes))
	}
	if err != nil {
		g.refuse(w, r, err)
		return nil, nil, false
	}
	var any any
	if err := decodeDocument(text, &any); err != nil {
		release()
		writeProblem(w, r, err)
		return nil, nil, false
	}
	return text, release, true
}

// Comparison is what became of comparing a schema with those before it, as it is told.
type Comparison struct {
	Compatible   bool           `json:"compatible"`
	Verdict      schema.Outcome `json:"verdict"`
	Mode         schema.Mode    `json:"mode"`
	ComparedWith []int          `json:"comparedWith"`
	EqualTo      int            `json:"equalTo,omitempty"`
	Breaks       []schemaBreak  `json:"breaks,omitempty"`    // proven, each by an example
	Undecided    []schemaBreak  `json:"undecided,omitempty"` // neither proven nor disproven
}

// schemaBreak is one difference between two versions of a schema.
type schemaBreak struct {
	Rule          string          `json:"rule"`
	Direction     schema.Mode     `json:"direction"`
	Path          string          `json:"path"` // in the data
	SchemaPath    string          `json:"schemaPath"`
	OldSchemaPath string          `json:"oldSchemaPath"`
	Old           string          `json:"old,omitempty"`
	New           string          `json:"new,omitempty"`
	Message       string          `json:"message"`
	Version       int             `json:"version"`           // the older one
	Example       json.RawMessage `json:"example,omitempty"` // data that is valid under one of them alone
}

func comparison(c catalog.Comparison) Comparison {
	answer := Comparison{
		Compatible: c.Verdict.Outcome == schema.Compatible, Verdict: c.Verdict.Outcome, Mode: c.Mode, ComparedWith: c.With, EqualTo: c.EqualTo,
	}
	if answer.ComparedWith == nil {
		answer.ComparedWith = []int{}
	}
	for _, b := range c.Verdict.Breaks {
		told := schemaBreak{
			Rule: b.Rule, Direction: b.Direction, Path: b.Path, SchemaPath: b.NewPointer, OldSchemaPath: b.OldPointer,
			Old: b.Old, New: b.New, Message: b.Message, Version: b.Version, Example: b.Witness,
		}
		if b.Witness == nil {
			answer.Undecided = append(answer.Undecided, told)
		} else {
			answer.Breaks = append(answer.Breaks, told)
		}
	}
	return answer
}

// checkSchema answers POST …/schemas:check: what registering the schema would meet, without writing anything.
func (g *Gateway) checkSchema(w http.ResponseWriter, r *http.Request) {
	name := pathVar(r, "type")
	text, release, ok := g.readSchema(w, r)
	if !ok {
		return
	}
	defer release()
	c, err := g.editor(r).CheckSchema(name, text)
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownEventType(name)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, comparison(c))
}
