package loadtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestATypeOfAnotherStreamIsRefusedBeforeAnythingIsMeasured(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/streams", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	mux.HandleFunc("POST /v1/event-types", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) })
	mux.HandleFunc("GET /v1/event-types/a.type", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"type":"a.type","stream":"other"}`)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	_, _, err := Prepare(t.Context(), PrepareConfig{Server: server.URL, Stream: "mine", Type: "a.type"})
	if err == nil || !strings.Contains(err.Error(), "stream other") {
		t.Errorf("got %v", err)
	}
	if _, _, err := Prepare(t.Context(), PrepareConfig{Server: server.URL, Stream: "other", Type: "a.type"}); err != nil {
		t.Error(err)
	}
}
