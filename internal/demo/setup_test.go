package demo

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
)

// registry is a gateway that knows definitions by their path, and how each of them was changed.
type registry struct {
	defined map[string]map[string]any
	made    int
	refused int
	patched int
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, given := r.URL.Path, map[string]any{}
	if body, _ := io.ReadAll(r.Body); len(body) > 0 {
		if err := json.Unmarshal(body, &given); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	if r.Method == http.MethodPost {
		path += "/" + given["name"].(string)
	}
	known := g.defined[path]
	switch {
	case r.Method == http.MethodPost && known != nil:
		g.refused++
		w.WriteHeader(http.StatusConflict)
	case r.Method == http.MethodPost:
		g.made++
		g.defined[path] = given
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		g.defined[path] = given
	case known == nil:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/merge-patch+json":
		g.patched++
		maps.Copy(known, given)
	case r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(known)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// setUpTwice is two starts of the demo at such a gateway.
func setUpTwice(t *testing.T, g *registry) {
	t.Helper()
	gateway := httptest.NewServer(g)
	defer gateway.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	d := &Demo{api: &api{base: gateway.URL, client: &http.Client{Transport: transport}}}
	for range 2 {
		if err := d.setUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStreamsThatAreThereAreNotMadeAgain(t *testing.T) {
	g := &registry{defined: map[string]map[string]any{}}
	setUpTwice(t, g)
	if g.made != 2 || g.refused != 0 || g.patched != 0 {
		t.Errorf("%d streams were made, %d refused and %d changed in two starts, not 2, 0 and 0", g.made, g.refused, g.patched)
	}
	if g.defined["/v1/streams/"+PositionStream]["state"] == nil || g.defined["/v1/streams/"+MovementStream]["state"] != nil {
		t.Errorf("positions keep state and movements do not, not %v", g.defined)
	}
}

func TestPositionsOfAnEarlierVersionAreGivenAState(t *testing.T) {
	positions := map[string]any{"name": PositionStream, "retention": "1h"}
	g := &registry{defined: map[string]map[string]any{
		"/v1/streams/" + PositionStream: positions, "/v1/streams/" + MovementStream: {"name": MovementStream},
	}}
	setUpTwice(t, g)
	if state, _ := positions["state"].(map[string]any); state["window"] != "90s" || positions["retention"] != "1h" || g.patched != 1 || g.made != 0 {
		t.Errorf("after %d changes and %d new streams the positions are %v", g.patched, g.made, positions)
	}
}

func TestAStateThatSomebodyHasChangedStaysAsItIs(t *testing.T) {
	g := &registry{defined: map[string]map[string]any{
		"/v1/streams/" + PositionStream: {"name": PositionStream, "state": map[string]any{"window": "5m"}},
	}}
	setUpTwice(t, g)
	if g.patched != 0 {
		t.Errorf("it was changed %d times", g.patched)
	}
}
