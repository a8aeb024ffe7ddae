package session

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// faulty fails on every heartbeat.
type faulty struct {
	sseCodec
	calls *atomic.Int32
}

func (c faulty) cursor(o *output, text []byte) {
	if c.calls.Add(1) > 1 {
		panic("a mistake")
	}
	c.sseCodec.cursor(o, text)
}

func TestAPanicEndsTheOneSessionItIsIn(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{Heartbeat: 50 * time.Millisecond}, false)
	other := r.connect(t, "sse", "stream=a")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}}
		if err := r.stream(w, req, q, "sse", "text/event-stream", faulty{calls: new(atomic.Int32)}); err != nil {
			t.Error(err)
		}
	}))
	defer web.Close()
	resp, err := http.Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	s.publish("a", 0, 1)
	other.ids(1)
}
