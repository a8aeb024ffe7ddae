package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// requestExample is what the document shows that an operation can be sent.
type requestExample struct {
	method, path string // with the path parameters' examples
	media        string
	body         []byte
	creates      string // the address of what it makes; "" where it makes nothing that is prepared
	reads        bool
}

// requestExamples gives all the document has, those that make what the others need at the end.
func requestExamples(t *testing.T, doc *openapi3.T) []requestExample {
	t.Helper()
	var all []requestExample
	for template, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			path, query := template, url.Values{}
			for _, p := range append(append(openapi3.Parameters{}, item.Parameters...), op.Parameters...) {
				switch {
				case p.Value.In == "path" && p.Value.Example == nil:
					t.Errorf("%s %s: {%s} has no example", method, template, p.Value.Name)
				case p.Value.In == "path":
					path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", url.PathEscape(p.Value.Example.(string)))
				case p.Value.In == "query" && p.Value.Example != nil && strings.Contains(template, "{"):
					query.Set(p.Value.Name, p.Value.Example.(string))
				}
			}
			reads := len(op.Tags) == 1 && op.Tags[0] == "read"
			if len(query) > 0 {
				query.Set("from", "oldest")
				all = append(all, requestExample{method: method, path: path + "?" + query.Encode(), reads: reads})
			}
			if op.RequestBody == nil {
				continue
			}
			for media, content := range op.RequestBody.Value.Content {
				for _, value := range valuesOf(content) {
					body, err := json.Marshal(value)
					if err != nil {
						t.Fatal(err)
					}
					example := requestExample{method: method, path: path, media: media, body: body, reads: reads}
					if method == http.MethodPost && template == path { // a collection, perhaps
						var made struct{ Name, Type string }
						_ = json.Unmarshal(body, &made) // a batch of events names nothing
						for deletable, item := range doc.Paths.Map() {
							if strings.HasPrefix(deletable, template+"/{") && strings.Count(deletable, "/") == strings.Count(template, "/")+1 && item.Delete != nil {
								example.creates = template + "/" + url.PathEscape(made.Name+made.Type)
							}
						}
					}
					all = append(all, example)
				}
			}
		}
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if (a.creates == "") != (b.creates == "") {
			return a.creates == ""
		}
		if first := "/v1/streams"; a.creates != "" && (a.path == first) != (b.path == first) {
			return a.path == first // the others need them
		}
		key := func(e requestExample) string { return e.path + "\x00" + e.media + "\x00" + string(e.body) } // events come before their queries
		return key(a) < key(b)
	})
	return all
}

func valuesOf(content *openapi3.MediaType) []any {
	var values []any
	if content.Example != nil {
		values = append(values, content.Example)
	}
	for _, e := range content.Examples {
		values = append(values, e.Value.Value)
	}
	return values
}

// prepareExamples makes what the examples name: every stream, each event type with the stream that it is shown with, and
// the subscriptions, whose addresses the server makes.
func (h *harness) prepareExamples(examples []requestExample) {
	h.t.Helper()
	streams, types := map[string]bool{}, map[string]string{}
	for _, e := range examples {
		var named struct {
			Name, Type, Stream string
			Streams            []string
		}
		_ = json.Unmarshal(e.body, &named)
		for _, s := range append(named.Streams, named.Stream) {
			streams[s] = true
		}
		if strings.HasPrefix(e.path, "/v1/streams/") {
			streams[strings.Split(e.path, "/")[3]] = true
		}
		if named.Stream != "" && named.Type != "" {
			types[named.Type] = named.Stream
		}
	}
	delete(streams, "")
	for s := range streams {
		h.must(h.sendJSON("POST", "/v1/streams", `{"name":"`+s+`","compaction":true}`), http.StatusCreated)
	}
	for name, stream := range types {
		h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"`+name+`","stream":"`+stream+`"}`), http.StatusCreated)
	}
	for i, e := range examples {
		if e.method == http.MethodPost && e.path == "/v1/subscriptions" {
			made := h.must(h.sendJSON(e.method, e.path, string(e.body)), http.StatusCreated)
			examples[i].creates = strings.TrimPrefix(made.header.Get("Location"), h.server.URL)
		}
	}
}

func TestEveryRequestExampleOfTheDocumentWorks(t *testing.T) {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	examples := requestExamples(t, d.doc)
	if len(examples) < 10 {
		t.Fatalf("only %d examples are found", len(examples))
	}
	h := newHarness(t)
	h.prepareExamples(examples)
	for _, e := range examples {
		if e.creates != "" {
			if a := h.send("DELETE", e.creates+"?force=true", ""); a.status != http.StatusNotFound { // shown here alone
				h.must(a, http.StatusNoContent)
			}
		}
		a := h.send(e.method, e.path, string(e.body), "Content-Type: "+e.media)
		if a.status/100 != 2 {
			t.Errorf("%s %s %s answers %d: %s", e.method, e.path, e.body, a.status, a.body)
		}
		if e.reads && string(a.body) == "[]" {
			t.Errorf("%s %s %s finds none of the events that the document shows", e.method, e.path, e.body)
		}
	}
}
