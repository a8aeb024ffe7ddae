package loadtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/r3labs/sse/v2"
)

// socketDialer reads SSE off a plain or TLS connection with a small buffer for each.
type socketDialer struct {
	target  endpoint
	sources []string
	header  http.Header
}

func (d *socketDialer) session(ctx context.Context, r *reader, live func()) error {
	conn, err := netDialer(d.sources, r.index).DialContext(ctx, "tcp", d.target.address)
	if err != nil {
		return err
	}
	if d.target.tls {
		conn = tls.Client(conn, &tls.Config{ServerName: d.target.url.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	defer func() { _ = conn.Close() }()
	request, err := streamRequest(nil, r.target, d.header, r.cursor)
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	s := &stream{reader: r}
	s.begin()
	buffer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			var broken error
			r.enter(func(now int64) { broken = s.feed(buffer[:n], now) })
			if broken != nil {
				return broken
			}
			if r.headed {
				live()
			}
		}
		if err != nil {
			return err
		}
	}
}

// transport makes an HTTP transport whose connections come from reader i's source address.
func transport(sources []string, i int) *http.Transport {
	return &http.Transport{
		DialContext:         netDialer(sources, i).DialContext,
		TLSHandshakeTimeout: 30 * time.Second,
		DisableKeepAlives:   true,
	}
}

// r3labsDialer reads by github.com/r3labs/sse, one connection a session.
type r3labsDialer struct {
	target  endpoint
	sources []string
	header  http.Header
}

// never is the strategy of not connecting again within one call: the loop around it does that.
type never struct{}

func (never) NextBackOff() time.Duration { return -1 }
func (never) Reset()                     {}

func (d *r3labsDialer) session(ctx context.Context, r *reader, live func()) error {
	var answer error
	c := sse.NewClient(r.target, sse.ClientMaxBufferSize(maxLine))
	c.Connection = &http.Client{Transport: transport(d.sources, r.index)}
	c.ReconnectStrategy = never{}
	for name, values := range d.header {
		c.Headers[name] = strings.Join(values, ", ")
	}
	if len(r.cursor) > 0 {
		c.LastEventID.Store(bytes.Clone(r.cursor))
	}
	c.ResponseValidator = func(_ *sse.Client, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			defer func() { _ = resp.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
			answer = &rejection{status: resp.StatusCode, line: resp.Status + ": " + string(body)}
			return answer
		}
		r.enter(r.head)
		live()
		return nil
	}
	err := c.SubscribeRawWithContext(ctx, func(m *sse.Event) {
		r.enter(func(now int64) {
			r.received(len(m.Data)+len(m.ID), now)
			r.block(m.ID, now)
			switch {
			case len(m.Event) > 0 && string(m.Event) != "message":
				r.tally.controls[string(m.Event)]++
				r.data(m.Data, now)
			case len(m.Data) > 0 && !r.data(m.Data, now):
				r.tally.foreign++
			}
		})
	})
	if answer != nil {
		return answer
	}
	return err
}

// websocketDialer reads by github.com/coder/websocket, and resumes with after=.
type websocketDialer struct {
	target   endpoint
	sources  []string
	header   http.Header
	protocol string

	buffers sync.Pool // of *bytes.Buffer: most connections are idle most of the time
}

// maxMessage bounds a WebSocket message: an event of 1 MiB in its envelope, or a batch of them.
const maxMessage = 16 << 20

func (d *websocketDialer) session(ctx context.Context, r *reader, live func()) error {
	target := r.target
	if len(r.cursor) > 0 {
		u, err := url.Parse(target)
		if err != nil {
			return err
		}
		q := u.Query()
		q.Set("after", string(r.cursor))
		q.Del("from")
		u.RawQuery = q.Encode()
		target = u.String()
	}
	opt := &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport(d.sources, r.index)}, HTTPHeader: d.header}
	if d.protocol != "" {
		opt.Subprotocols = []string{d.protocol}
	}
	conn, resp, err := websocket.Dial(ctx, target, opt) //nolint:bodyclose // Dial has read it: its caller never closes it
	if err != nil {
		if resp != nil {
			var body []byte
			if resp.Body != nil {
				body, _ = io.ReadAll(io.LimitReader(resp.Body, 300))
			}
			return &rejection{status: resp.StatusCode, line: resp.Status + ": " + string(body)}
		}
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	if got := conn.Subprotocol(); got != d.protocol {
		return fmt.Errorf("asked for subprotocol %q, the server chose %q", d.protocol, got)
	}
	conn.SetReadLimit(maxMessage)
	r.enter(r.head)
	live()
	for {
		if err := d.message(ctx, conn, r); err != nil {
			return err
		}
	}
}

func (d *websocketDialer) message(ctx context.Context, conn *websocket.Conn, r *reader) error {
	_, body, err := conn.Reader(ctx)
	if err != nil {
		return err
	}
	b, _ := d.buffers.Get().(*bytes.Buffer)
	if b == nil {
		b = new(bytes.Buffer)
	}
	defer d.buffers.Put(b)
	b.Reset()
	if _, err := b.ReadFrom(body); err != nil {
		return err
	}
	p := b.Bytes()
	r.enter(func(now int64) {
		r.received(len(p), now)
		r.block(cursorIn(p), now)
		if r.data(p, now) {
			return
		}
		if name := controlIn(p); name != "" {
			r.tally.controls[name]++
		} else {
			r.tally.foreign++
		}
	})
	return nil
}
