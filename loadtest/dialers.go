package loadtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/r3labs/sse/v2"
)

// socketDialer reads off a plain or TLS connection with a small buffer for each.
type socketDialer struct {
	target endpoint
	fleet  *fleet
}

func (d *socketDialer) session(ctx context.Context, r *reader, live func()) error {
	conn, err := d.fleet.dial(ctx, r, d.target.address)
	if err != nil {
		return err
	}
	if d.target.tls {
		conn = tls.Client(conn, &tls.Config{ServerName: d.target.url.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	defer func() { _ = conn.Close() }()
	request, err := streamRequest(nil, r.target, d.fleet.header, r.cursor, d.fleet.format)
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	s := &stream{reader: r, format: d.fleet.format}
	s.begin()
	buffer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			var broken error
			r.enter(func(now int64) { broken = s.feed(buffer[:n], now) })
			if errors.Is(broken, errPageEnd) {
				live()
				broken = d.next(ctx, conn, s)
			}
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

// next asks for the next page.
func (d *socketDialer) next(ctx context.Context, conn net.Conn, s *stream) error {
	if !wait(ctx, d.fleet.apart()) {
		return ctx.Err()
	}
	request, err := nextPage(nil, s.reader.target, d.fleet.header, s, d.fleet.wait)
	if err != nil {
		return err
	}
	_, err = conn.Write(request)
	return err
}

// r3labsDialer reads by github.com/r3labs/sse, one connection a session.
type r3labsDialer struct{ fleet *fleet }

// never is the strategy of not connecting again within one call: the loop around it does that.
type never struct{}

func (never) NextBackOff() time.Duration { return -1 }
func (never) Reset()                     {}

func (d *r3labsDialer) session(ctx context.Context, r *reader, live func()) error {
	var answer error
	c := sse.NewClient(r.target, sse.ClientMaxBufferSize(maxLine))
	c.Connection = &http.Client{Transport: d.fleet.transport(ctx, r)}
	c.ReconnectStrategy = never{}
	for name, values := range d.fleet.header {
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
	fleet   *fleet
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
	opt := &websocket.DialOptions{HTTPClient: &http.Client{Transport: d.fleet.transport(ctx, r)}, HTTPHeader: d.fleet.header}
	if d.fleet.protocol != "" {
		opt.Subprotocols = []string{d.fleet.protocol}
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
	if got := conn.Subprotocol(); got != d.fleet.protocol {
		return fmt.Errorf("asked for subprotocol %q, the server chose %q", d.fleet.protocol, got)
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
