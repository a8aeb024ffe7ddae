package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/event"
)

// BenchmarkPublish is what the server does for a request: everything but HTTP itself, on the embedded log.
func BenchmarkPublish(b *testing.B) {
	h := newHarness(b, withDedupe(b, nil))
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"trains","partitions":4}`), http.StatusCreated)
	const data = `"train":"1714","line":"L1","latitude":59.91102,"longitude":10.7528,"speed":48,"bearing":63,"delaySeconds":35`
	const schema = `{"type":"object","required":["train","line","latitude","longitude","speed"],"properties":{"train":{"type":"string","pattern":"^[0-9]{1,6}$"},` +
		`"line":{"type":"string","minLength":1},"latitude":{"type":"number","minimum":57,"maximum":72},"longitude":{"type":"number","minimum":4,"maximum":32},` +
		`"speed":{"type":"integer","minimum":0,"maximum":300},"bearing":{"type":"integer"},"delaySeconds":{"type":"integer"},"pad":{"type":"string"}},"additionalProperties":false}`
	kinds := []string{"plain", "validated", "once"}
	for i, members := range []string{`"dedupe":"0s"`, `"dedupe":"0s","schema":` + schema, `"dedupe":"24h","schema":` + schema} {
		h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"`+kinds[i]+`","stream":"trains",`+members+`}`), http.StatusCreated)
	}
	id := 0
	for _, size := range []int{300, 1000, 4000} {
		for _, kind := range kinds {
			one := func() string {
				id++
				e := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/bench","type":%q,"subject":"/train/%d","data":{%s,"pad":"`, id, kind, id%100, data)
				return e + strings.Repeat("x", max(0, size-len(e)-3)) + `"}}`
			}
			for _, batch := range []int{1, 100} {
				b.Run(fmt.Sprintf("%s/%dB/batch=%d", kind, size, batch), func(b *testing.B) {
					b.ReportAllocs()
					b.SetBytes(int64(size * batch))
					for b.Loop() {
						b.StopTimer()
						body, mediaType := one(), "application/cloudevents+json"
						if batch > 1 {
							events := make([]string, batch)
							for i := range events {
								events[i] = one()
							}
							body, mediaType = "["+strings.Join(events, ",")+"]", "application/cloudevents-batch+json"
						}
						r := httptest.NewRequest(http.MethodPost, "/v1/events", strings.NewReader(body))
						r.Header.Set("Content-Type", mediaType)
						w := httptest.NewRecorder()
						b.StartTimer()
						h.edge.Handler().ServeHTTP(w, r)
						if w.Code != http.StatusOK {
							b.Fatal(w.Code, w.Body)
						}
					}
				})
			}
		}
	}
}

// BenchmarkAdmit is what holding an event to its type costs, without the log.
func BenchmarkAdmit(b *testing.B) {
	h := newHarness(b, withAddress)
	h.withSchema(`,"sources":["/trains"],"promote":{"line":"/line"}`)
	e, err := event.Parse([]byte(withData("1", `{"lat":60.5,"line":"L1"}`)))
	if err != nil {
		b.Fatal(err)
	}
	check := h.edge.admission(httptest.NewRequest(http.MethodPost, "/v1/events", http.NoBody))
	b.ReportAllocs()
	for b.Loop() {
		if _, mistakes, err := check.admit(e); err != nil || mistakes != nil {
			b.Fatal(mistakes, err)
		}
	}
}
