package guard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

const (
	maxAnswer  = 64 << 10 // of a body, read so that the connection stays good
	keptAnswer = 4 << 10  // of that
)

// Client is the way out of one owner's one credential. It is made by [Guard.Client].
type Client struct {
	// static
	guard      *Guard
	credential *credential

	// guarded by guard.mu
	pool   *pool // nil: nothing is open
	closed bool
}

// Request is what is sent.
type Request struct {
	Method string      // default POST
	URL    string      // as for [Guard.CheckURL]
	Header http.Header // Do's from the call on: the credential is added to it; nil: none
	Body   []byte      // not to be changed any more, also after Do: an answer may come before all of it is sent
}

// Response is what was answered, whatever the status; redirects are not followed.
type Response struct {
	Status    int
	Header    http.Header
	Body      []byte        // the first 4 KiB; nil: none
	Truncated bool          // more than that came, or the body did not come to its end
	Took      time.Duration // with the token, where one had to be had
}

// Close lets requests under way come to their end, and closes the connections. Those sent later fail with [ErrClosed].
func (c *Client) Close() {
	g := c.guard
	g.mu.Lock()
	p := c.pool
	c.closed = true
	if p == nil || p.busy > 0 {
		g.mu.Unlock()
		return
	}
	g.drop(p)
	g.mu.Unlock()
	p.shut()
}

// Do sends the request, with the client's credential, and reads the answer. The error is an [*Error], or [ErrClosed].
// Where an OAuth2 token is answered by 401 another is asked for and the request sent again, once a minute at most.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	began := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.guard.timeout)
		defer cancel()
	}
	resp, err := c.do(ctx, &r)
	if err != nil {
		c.guard.metrics.failed(err)
		return nil, err
	}
	resp.Took = time.Since(began)
	return resp, nil
}

func (c *Client) do(ctx context.Context, r *Request) (*Response, error) {
	p, warm, err := c.guard.acquire(c)
	if err != nil {
		return nil, err
	}
	defer c.guard.release(p)
	t, err := p.target(r.URL)
	if err != nil {
		return nil, err
	}
	if r.Header == nil {
		r.Header = make(http.Header, 4)
	}
	if err := c.credential.authorize(ctx, p, t, r.Header); err != nil {
		return nil, err
	}
	resp, err := p.send(ctx, t, r)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == Reset && warm && ctx.Err() == nil {
		// The transport repeats most of those whose connection had ended while it was idle, but not where writing failed.
		r.Header = maps.Clone(r.Header)
		resp, err = p.send(ctx, t, r)
	}
	if err != nil || resp.Status != http.StatusUnauthorized || !c.credential.refused(r.Header) {
		return resp, err
	}
	r.Header = maps.Clone(r.Header) // the transport may still be reading the one before
	if err := c.credential.authorize(ctx, p, t, r.Header); err != nil {
		return nil, err
	}
	return p.send(ctx, t, r)
}

// target gives the URL checked.
func (p *pool) target(raw string) (*target, error) {
	if t := p.last.Load(); t != nil && t.raw == raw {
		return t, nil
	}
	t, err := p.guard.parse(raw)
	if err != nil {
		return nil, err
	}
	if t.url.Scheme != "https" && p.client.credential.certificate != "" {
		return nil, fail(Invalid, "an https URL is expected, since the credential is a certificate")
	}
	p.last.Store(t)
	return t, nil
}

// payload is a request's body.
type payload struct {
	bytes.Reader
	all []byte
}

func newPayload(all []byte) *payload {
	p := &payload{all: all}
	p.Reset(all)
	return p
}

func (*payload) Close() error { return nil }

// again is what [http.Request].GetBody is to be.
func (p *payload) again() (io.ReadCloser, error) { return newPayload(p.all), nil }

// repeatable is no key: it lets the transport repeat a request whose connection turned out to have ended while it was
// idle, and is not sent.
var repeatable = []string{}

func (p *pool) send(ctx context.Context, t *target, r *Request) (*Response, error) {
	request := http.Request{Method: r.Method, URL: t.url, Header: r.Header}
	if r.Method == "" {
		request.Method = http.MethodPost
	}
	if len(r.Body) > 0 {
		body := newPayload(r.Body)
		request.Body, request.GetBody, request.ContentLength = body, body.again, int64(len(r.Body))
	}
	r.Header["X-Idempotency-Key"] = repeatable
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = p.guard.userAgent
	}
	resp, err := p.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		if errors.Is(err, ErrClosed) {
			return nil, ErrClosed
		}
		return nil, exchangeError(ctx, t.url.Host, err)
	}
	return readAnswer(t, resp)
}

var answers = sync.Pool{New: func() any { return new([keptAnswer]byte) }}

// readAnswer reads the body as far as it is kept and as far as it is worth reading for the connection's sake. A status
// that came stands, whatever becomes of the body.
func readAnswer(t *target, resp *http.Response) (*Response, error) {
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols { // reading it would not end with the context
		return nil, fail(Protocol, t.url.Host+" switched to another protocol, which was not asked for")
	}
	r := &Response{Status: resp.StatusCode, Header: resp.Header}
	if resp.Body == http.NoBody {
		return r, nil
	}
	buf := answers.Get().(*[keptAnswer]byte)
	defer answers.Put(buf)
	var n, read int
	var err error
	for n < keptAnswer && err == nil {
		var more int
		more, err = resp.Body.Read(buf[n:])
		n += more
	}
	if n > 0 {
		r.Body = bytes.Clone(buf[:n])
	}
	for read = n; err == nil && read < maxAnswer; {
		var more int
		more, err = resp.Body.Read(buf[:])
		read += more
	}
	r.Truncated = read > n || !errors.Is(err, io.EOF)
	return r, nil
}
