package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// client speaks to one Event Issuer.
type client struct {
	base   string // without a slash at the end
	header http.Header
	http   *http.Client
}

func newClient(server string, headers []string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &usageError{fmt.Sprintf("--server %q: expected an address as http://127.0.0.1:8080", server)}
	}
	c := &client{base: strings.TrimSuffix(server, "/"), header: http.Header{}, http: &http.Client{}}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, &usageError{fmt.Sprintf("--header %q: expected 'Name: value'", h)}
		}
		c.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return c, nil
}

// maxAnswer bounds what is read of an answer: a page of definitions, or the results of a batch of events.
const maxAnswer = 16 << 20

// answer is a response that has been read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request is a request with the header fields of every request.
func (c *client) request(ctx context.Context, method, path, accept string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header = c.header.Clone()
	req.Header.Set("Accept", accept)
	return req, nil
}

// send makes a request and reads its answer, of whatever status. An error is only that there was none.
func (c *client) send(ctx context.Context, method, path, contentType string, body []byte) (*answer, error) {
	req, err := c.request(ctx, method, path, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.unreachable(err)
	}
	return &answer{resp.StatusCode, resp.Header, got}, nil
}

// do is send for what succeeds with 2xx only; anything else is a *problem.
func (c *client) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var raw []byte
	contentType := ""
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, err
		}
		contentType = "application/json"
	}
	a, err := c.send(ctx, method, path, contentType, raw)
	if err != nil {
		return nil, err
	}
	if a.status/100 != 2 {
		return nil, c.problemOf(a.status, a.header, a.body)
	}
	return a.body, nil
}

// unreachable says what can be done about an answer that did not come.
func (c *client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nobody answers at %s: is the server running there? Give its address with --server or EVENTCTL_SERVER (%w)", c.base, err)
	}
	return fmt.Errorf("no answer from %s: %w", c.base, err)
}

// problem is an error answer: RFC 9457, or what could be made of another one.
type problem struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail"`
	RequestID string    `json:"requestId"`
	Errors    []mistake `json:"errors"`
	Position  *int      `json:"position"`
	verdict
	after  time.Duration // Retry-After; 0: none
	remedy string
}

// mistake is one place of a document that is wrong.
type mistake struct {
	Pointer  string `json:"pointer"`
	Message  string `json:"message"`
	Expected string `json:"expected"`
}

func (m mistake) String() string {
	s := m.Message
	if m.Pointer != "" {
		s = m.Pointer + ": " + s
	}
	if m.Expected != "" {
		s += " (expected " + m.Expected + ")"
	}
	return s
}

func (c *client) problemOf(status int, header http.Header, body []byte) *problem {
	p := &problem{}
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if kind != "application/problem+json" || json.Unmarshal(body, p) != nil || p.Title == "" {
		text := strings.TrimSpace(string(body[:min(len(body), 500)]))
		*p = problem{Title: http.StatusText(status), Detail: text}
		p.remedy = "this is not an answer of an Event Issuer: does --server lead to one, without a proxy that answers itself?"
	} else {
		p.remedy = c.remedyOf(p.Type)
	}
	p.Status = status
	p.after = retryAfter(header)
	if p.RequestID == "" {
		p.RequestID = header.Get("X-Request-Id")
	}
	return p
}

// retryAfter reads the header in seconds; other forms count as absent.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}

// remedies say what to do here about a kind of problem; what is not in the list is explained by the server's own page.
var remedies = map[string]string{ //nolint:gochecknoglobals // a constant table
	"unknown-stream":       "see 'eventctl streams list', or make it: 'eventctl streams create NAME'",
	"unknown-event-type":   "see 'eventctl types list', or register it: 'eventctl types register TYPE --stream STREAM'",
	"unknown-schema":       "see 'eventctl schemas list TYPE'",
	"incompatible-schema":  "change what breaks, or register a successor of the event type; 'eventctl schemas check' tells the same without writing",
	"unknown-consumer":     "a consumer begins with the first read that names it ('eventctl tail STREAM --consumer NAME') or with 'eventctl consumers reset'",
	"invalid-cursor":       "give a cursor exactly as it was printed, or begin with --from oldest, latest or a time; delete the file if it came from --cursor-file",
	"invalid-filter":       "correct --filter; CloudEvents SQL, for instance: --filter \"subject LIKE '/train/%'\"",
	"unknown-subscription": "see 'eventctl subscriptions list'",
	"unproven":             "have the endpoint answer what 'eventctl subscriptions verify' asks it",
	"precondition-failed":  "somebody changed it meanwhile: look at it again, then decide",
	"log-unavailable":      "try again; publishing the same events again is safe",
	"not-ready":            "the server is starting or stopping: try again in a moment",
	"overloaded":           "try again in a moment",
	"no-state":             "leave out --snapshot and --overflow-snapshot, or give the stream a state: PATCH it with {\"state\":{}}, or in its file for 'eventctl types apply'",
	"internal":             "tell the operator the request's id",
}

func (c *client) remedyOf(kind string) string {
	name := kind[strings.LastIndexByte(kind, '/')+1:]
	if r, ok := remedies[name]; ok {
		return r
	}
	if strings.HasPrefix(kind, "/") {
		return "see " + c.base + kind
	}
	if strings.HasPrefix(kind, "http") {
		return "see " + kind
	}
	return ""
}

// Error tells the problem over several lines: what, why, where, what to do.
func (p *problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d)", p.Title, p.Status)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for _, m := range p.Errors {
		b.WriteString("\n  " + m.String())
	}
	if p.Verdict != "" {
		if _, rest, ok := strings.Cut(p.verdict.String(), "\n"); ok {
			b.WriteString("\n" + rest)
		}
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		if p.after > 0 {
			fmt.Fprintf(&b, "\n  the server asks to wait %s", p.after)
		}
	}
	if p.remedy != "" {
		b.WriteString("\n  what to do: " + p.remedy)
	}
	if p.RequestID != "" {
		b.WriteString("\n  request " + p.RequestID)
	}
	return b.String()
}

// final says that the same request will meet the same answer.
func (p *problem) final() bool {
	return p.Status/100 == 4 && p.Status != http.StatusTooManyRequests && p.Status != http.StatusRequestTimeout
}

// reconnect says that the session that a request speaks of is no longer there, or no longer has what it had: opening
// another one helps.
func (p *problem) reconnect() bool { return strings.HasSuffix(p.Type, "/reconnect") }
