package loadtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// feed is a small server of one stream, with faults to be found: POST /pub appends, GET /sub streams what comes after
// the cursor (Last-Event-ID, else after=, else what is new), each entry with its number as the cursor.
type feed struct {
	*httptest.Server

	// fault maps the n-th event (from 0) to what readers get in its place.
	fault func(n int, text string) []string
	delay time.Duration
	plain bool   // no chunks: the body ends with the connection
	eol   string // line break of the stream

	mu      sync.Mutex
	entries []string      // guarded by mu; what readers get, in order
	events  int           // guarded by mu
	more    chan struct{} // guarded by mu; closed when entries grow
	hangUps chan struct{} // guarded by mu; closed when everybody is to be cut off
	opened  int           // guarded by mu
	resumed int           // guarded by mu; such with a cursor
	paths   map[string]int
	bodies  []string
	refuse  func(n int) int // status for the n-th event, 0 to take it
}

func newFeed(t *testing.T, set func(f *feed)) *feed {
	t.Helper()
	f := &feed{more: make(chan struct{}), hangUps: make(chan struct{}), eol: "\n", paths: map[string]int{}}
	if set != nil {
		set(f)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pub", f.publish)
	mux.HandleFunc("GET /sub", f.subscribe)
	mux.HandleFunc("GET /ws", f.websocket)
	mux.HandleFunc("GET /lines", f.lines)
	mux.HandleFunc("GET /pages", f.pages)
	mux.HandleFunc("GET /gone", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such stream", http.StatusNotFound) })
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *feed) publish(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.events
	f.events++
	f.bodies = append(f.bodies, string(body))
	if f.refuse != nil {
		if status := f.refuse(n); status != 0 {
			http.Error(w, "not now", status)
			return
		}
	}
	got := []string{string(body)}
	if f.fault != nil {
		got = f.fault(n, string(body))
	}
	f.entries = append(f.entries, got...)
	close(f.more)
	f.more = make(chan struct{})
	_, _ = io.WriteString(w, `{"results":[{"status":"persisted"}]}`)
}

// begin says where a reader begins, and when it is cut off.
func (f *feed) begin(r *http.Request) (int, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	f.paths[r.URL.RequestURI()]++
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = r.URL.Query().Get("after")
	}
	if n, err := strconv.Atoi(cursor); err == nil {
		f.resumed++
		return n, f.hangUps
	}
	return len(f.entries), f.hangUps
}

// cut ends every connection.
func (f *feed) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.hangUps)
	f.hangUps = make(chan struct{})
}

// next waits for what comes after position n.
func (f *feed) next(r *http.Request, n int, hangUps <-chan struct{}) ([]string, bool) {
	for {
		f.mu.Lock()
		entries, more := f.entries[n:], f.more
		f.mu.Unlock()
		if len(entries) > 0 {
			if f.delay > 0 {
				time.Sleep(f.delay) // the latency that the client must find
			}
			return entries, true
		}
		select {
		case <-more:
		case <-hangUps:
			return nil, false
		case <-r.Context().Done():
			return nil, false
		}
	}
}

func (f *feed) subscribe(w http.ResponseWriter, r *http.Request) {
	at, hangUps := f.begin(r)
	out, flush := io.Writer(w), http.NewResponseController(w).Flush
	w.Header().Set("Content-Type", "text/event-stream")
	if f.plain {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer func() { _ = conn.Close() }()
		out, flush = buf, buf.Flush
		_, _ = io.WriteString(buf, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
		// The request's context no longer notices the peer: a read does.
		ended := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, conn); close(ended) }()
		defer func() { _ = conn.Close(); <-ended }()
		ctx, stop := contextUntil(r, ended)
		defer stop()
		r = r.WithContext(ctx)
	}
	_, _ = fmt.Fprintf(out, "id: %d%sretry: 20%s%s", at, f.eol, f.eol, f.eol)
	if flush() != nil {
		return
	}
	for {
		entries, ok := f.next(r, at, hangUps)
		if !ok {
			return
		}
		for _, e := range entries {
			at++
			_, _ = fmt.Fprintf(out, "id: %d%sdata: %s%s%s", at, f.eol, e, f.eol, f.eol)
		}
		if flush() != nil {
			return
		}
	}
}

func (f *feed) websocket(w http.ResponseWriter, r *http.Request) {
	at, hangUps := f.begin(r)
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"eventissuer.v1"}})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	ctx := c.CloseRead(r.Context())
	r = r.WithContext(ctx)
	message := fmt.Sprintf(`{"cursor":"%d"}`, at)
	for c.Write(ctx, websocket.MessageText, []byte(message)) == nil {
		entries, ok := f.next(r, at, hangUps)
		if !ok {
			return
		}
		at += len(entries)
		message = fmt.Sprintf(`{"cursor":"%d","events":[%s]}`, at, strings.Join(entries, ","))
	}
}

// lines streams NDJSON.
func (f *feed) lines(w http.ResponseWriter, r *http.Request) {
	at, hangUps := f.begin(r)
	flush := http.NewResponseController(w).Flush
	_, _ = fmt.Fprintf(w, `{"cursor":"%d"}`+"\n", at)
	for flush() == nil {
		entries, ok := f.next(r, at, hangUps)
		if !ok {
			return
		}
		for _, e := range entries {
			at++
			_, _ = fmt.Fprintf(w, `{"cursor":"%d","event":%s}`+"\n", at, e)
		}
	}
}

// pages answers a page: at once, or with wait= once it has an event.
func (f *feed) pages(w http.ResponseWriter, r *http.Request) {
	at, hangUps := f.begin(r)
	f.mu.Lock()
	entries := f.entries[at:]
	f.mu.Unlock()
	if len(entries) == 0 && r.URL.Query().Has("wait") {
		var ok bool
		if entries, ok = f.next(r, at, hangUps); !ok {
			panic(http.ErrAbortHandler)
		}
	}
	entries = entries[:min(len(entries), 100)]
	at += len(entries)
	w.Header().Set("Cursor", strconv.Itoa(at))
	q := r.URL.Query()
	q.Set("after", strconv.Itoa(at))
	if at%3 != 0 { // a client may go by the cursor alone
		w.Header().Set("Link", "<"+f.URL+"/pages?"+q.Encode()+`>; rel="next"`)
	}
	if at%2 == 0 {
		_ = http.NewResponseController(w).Flush() // in chunks
	}
	_, _ = io.WriteString(w, "["+strings.Join(entries, ",")+"]\n")
}
