package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// description is the document as kin-openapi reads it.
type description struct {
	doc    *openapi3.T
	router routers.Router
}

// describe reads the document once for all tests.
var describe = sync.OnceValues(func() (description, error) {
	source, err := openapiDocument(Config{Version: "test"})
	if err != nil {
		return description{}, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(source)
	if err != nil {
		return description{}, err
	}
	router, err := gorillamux.NewRouter(doc)
	return description{doc, router}, err
})

// check holds an answer against the document: status, content type and body. Every answer of every test comes here.
func (h *harness) check(r *http.Request, a answer) {
	h.t.Helper()
	d, err := describe()
	if err != nil {
		h.t.Fatal(err)
	}
	if r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return
	}
	local := r.Clone(r.Context())
	local.URL.Scheme, local.URL.Host = "", ""
	found, vars, err := d.router.FindRoute(local)
	if err != nil {
		if strings.HasPrefix(r.URL.Path, "/v1/") && a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			h.t.Errorf("%s %s is not described, but answers %d", r.Method, r.URL.Path, a.status)
		}
		return
	}
	if a.status == http.StatusForbidden && strings.Contains(string(a.body), kindOriginNotAllowed.name) {
		return // is said once for all, not at each operation
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: local, PathParams: vars, Route: found},
		Status:                 a.status,
		Header:                 a.header,
		Body:                   io.NopCloser(bytes.NewReader(a.body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		h.t.Errorf("%s %s answers %d, which is not as it is described: %v\n%s", r.Method, r.URL.Path, a.status, err, a.body)
	}
}

func TestOpenAPIDocumentHasNoStrayMembers(t *testing.T) {
	// A comma in a YAML text without quotes begins a new member, without a value.
	var doc map[string]any
	if err := yaml.Unmarshal(openapiSource, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(value any, path string)
	walk = func(value any, path string) {
		switch v := value.(type) {
		case map[string]any:
			for key, inner := range v {
				if inner == nil {
					t.Errorf("%s has a member %q without value", path, key)
				}
				walk(inner, path+"/"+key)
			}
		case []any:
			for _, inner := range v {
				walk(inner, path)
			}
		}
	}
	walk(doc, "")
}

func TestOpenAPIDocumentIsValidWithItsExamples(t *testing.T) {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.doc.Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPIDocumentAndRoutesAreTheSame(t *testing.T) {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	var described, routed []string
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	for _, rt := range (&Gateway{}).routes() {
		routed = append(routed, rt.method+" "+rt.path)
	}
	slices.Sort(described)
	slices.Sort(routed)
	if diff := cmp.Diff(routed, described); diff != "" {
		t.Errorf("routes (-) and document (+) differ:\n%s", diff)
	}
}

func TestEveryOperationIsDescribedWhole(t *testing.T) {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Tags) != 1 || op.Responses.Default() == nil {
				t.Errorf("%s lacks an id of its own, a summary, one tag or a default answer", name)
			}
			ids[op.OperationID] = true
			for _, variable := range strings.Split(path, "{")[1:] {
				variable, _, _ = strings.Cut(variable, "}")
				if op.Parameters.GetByInAndName("path", variable) == nil && item.Parameters.GetByInAndName("path", variable) == nil {
					t.Errorf("%s does not describe {%s}", name, variable)
				}
			}
		}
	}
}

func TestWhatAReadTakesIsDescribed(t *testing.T) {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	var taken, described []string
	for field := range reflect.TypeFor[readQuery]().Fields() {
		taken = append(taken, field.Tag.Get("json"))
	}
	for name := range d.doc.Components.Schemas["EventsQuery"].Value.Properties {
		described = append(described, name)
	}
	slices.Sort(taken)
	slices.Sort(described)
	if diff := cmp.Diff(taken, described); diff != "" {
		t.Errorf("what a body takes (-) and what is described (+) differ:\n%s", diff)
	}
	for path, others := range map[string]int{ // beside the members of a body
		"/v1/events":                  -1, // filters
		"/v1/streams/{stream}/events": -2, // and streams
	} {
		parameters := 0
		for _, p := range d.doc.Paths.Value(path).Get.Parameters {
			if p.Value.In != "query" {
				continue
			}
			parameters++
			var q readQuery
			if err := q.fromURL(url.Values{p.Value.Name: {"1"}}); err != nil || reflect.ValueOf(q).IsZero() {
				t.Errorf("%s describes %s, which is not taken: %v", path, p.Value.Name, err)
			}
		}
		if want := len(taken) + others; parameters != want {
			t.Errorf("%s describes %d parameters, and takes %d", path, parameters, want)
		}
	}
}

func TestServedDocumentNamesItsVersionAndAddress(t *testing.T) {
	h := newHarness(t)
	doc, err := openapi3.NewLoader().LoadFromData(h.must(h.send("GET", "/openapi.json", ""), http.StatusOK).body)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != "test" || doc.OpenAPI != "3.1.0" {
		t.Errorf("version %q of OpenAPI %q", doc.Info.Version, doc.OpenAPI)
	}
}
