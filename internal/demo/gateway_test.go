package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// published is an event as a reader sees it.
type published struct {
	raw                       json.RawMessage
	ID, Source, Type, Subject string
	Line, Operator            string
	Time                      time.Time
	Data                      publishedData
	stream                    string
	logged                    time.Time
}

type publishedData struct {
	Train, To, At, Next, Expected, ServiceDate, Station string
	Sequence                                            int64
	Latitude, Longitude                                 float64
	Speed, Bearing, DelaySeconds, NextCall, Call        int
	Final                                               bool
}

// fakeGateway keeps what is published, in memory, and is reached without a network, so that it lives on fake time.
type fakeGateway struct {
	log      []published
	requests []time.Time // of publishing
	// break, when set, is asked before each request to publish: an answer instead of the usual one, or an error.
	breakdown func(n int, events []json.RawMessage) (*http.Response, error)
	keep      bool // what is broken down is kept all the same: only the answer is lost
}

func (g *fakeGateway) RoundTrip(r *http.Request) (*http.Response, error) {
	body := []byte{}
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	switch {
	case r.Method == "PUT" && strings.HasPrefix(r.URL.Path, "/v1/event-types/"):
		return answer(200, "{}"), nil
	case r.Method == "POST" && r.URL.Path == "/v1/streams":
		return answer(409, `{"title":"it exists"}`), nil
	case r.Method == "POST" && r.URL.Path == "/v1/events":
		return g.publish(r, body)
	case r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/events"):
		return g.page(r), nil
	}
	return answer(404, `{"title":"nothing here"}`), nil
}

func (g *fakeGateway) publish(r *http.Request, body []byte) (*http.Response, error) {
	if got := r.Header.Get("Content-Type"); got != "application/cloudevents-batch+json" {
		return answer(415, `{"title":"content type `+got+`"}`), nil
	}
	g.requests = append(g.requests, time.Now())
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, err
	}
	if g.breakdown != nil {
		res, err := g.breakdown(len(g.requests), events)
		if res != nil || err != nil {
			if g.keep {
				g.append(events...)
			}
			return res, err
		}
	}
	g.append(events...)
	return answer(200, results(len(events), "persisted")), nil
}

func (g *fakeGateway) append(events ...json.RawMessage) {
	for _, raw := range events {
		e := published{raw: raw, logged: time.Now(), stream: MovementStream}
		if err := json.Unmarshal(raw, &e); err != nil {
			panic(err)
		}
		if e.Type == PositionType {
			e.stream = PositionStream
		}
		g.log = append(g.log, e)
	}
}

func (g *fakeGateway) page(r *http.Request) *http.Response {
	stream := strings.Split(r.URL.Path, "/")[3]
	at, _ := strconv.Atoi(r.URL.Query().Get("after"))
	from, _ := time.Parse(time.RFC3339, r.URL.Query().Get("from"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	page := []json.RawMessage{}
	for ; at < len(g.log) && len(page) < limit; at++ {
		if e := g.log[at]; e.stream == stream && !e.logged.Before(from) {
			page = append(page, e.raw)
		}
	}
	b, _ := json.Marshal(page)
	res := answer(200, string(b))
	res.Header.Set("Cursor", strconv.Itoa(at))
	return res
}

func answer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader([]byte(body))),
	}
}

func results(n int, status string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"status":%q}`, status)
	}
	return `{"results":[` + strings.Join(items, ",") + `]}`
}

var errAway = errors.New("connection refused")

func newDemo(t *testing.T, g *fakeGateway, start string) *Demo {
	t.Helper()
	d, err := New(Config{
		BaseURL: "http://gateway/", HTTPClient: &http.Client{Transport: g}, Start: start,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
