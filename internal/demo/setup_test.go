package demo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestStreamsThatAreThereAreNotMadeAgain(t *testing.T) {
	defined, made, refused := map[string]bool{}, 0, 0
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if r.Method == http.MethodPost {
			var named struct{ Name string }
			if err := json.NewDecoder(r.Body).Decode(&named); err != nil {
				t.Error(err)
			}
			path += "/" + named.Name
		}
		switch {
		case r.Method == http.MethodPost && defined[path]:
			refused++
			w.WriteHeader(http.StatusConflict)
		case r.Method == http.MethodPost:
			made++
			defined[path] = true
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodGet && !defined[path]:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer gateway.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	d := &Demo{api: &api{base: gateway.URL, client: &http.Client{Transport: transport}}}
	for range 2 {
		if err := d.setUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if made != 2 || refused != 0 {
		t.Errorf("%d streams were made and %d refused in two starts, not 2 and 0", made, refused)
	}
}
