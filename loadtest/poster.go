package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// poster sends events by HTTP/1.1 over one kept connection, at a fraction of what net/http's client costs.
type poster struct {
	config *PublishConfig
	target endpoint
	fields string // header fields but Content-Length

	conn   net.Conn
	answer *bufio.Reader
	out    []byte
}

func newPoster(c *PublishConfig) (*poster, error) {
	target, err := resolve(expand(c.URL, 0, 0))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("Host: " + target.url.Host + "\r\nContent-Type: " + c.ContentType + "\r\n")
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		for _, v := range c.Header[name] {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	return &poster{config: c, target: target, fields: b.String()}, nil
}

func (p *poster) send(ctx context.Context, lane int, body []byte, events int) (receipt, error) {
	uri := p.target.url.RequestURI()
	if strings.Contains(p.config.URL, "{") {
		e, err := resolve(expand(p.config.URL, lane, lane))
		if err != nil {
			return receipt{}, err
		}
		uri = e.url.RequestURI()
	}
	p.out = append(p.out[:0], "POST "+uri+" HTTP/1.1\r\n"+p.fields+"Content-Length: "...)
	p.out = strconv.AppendInt(p.out, int64(len(body)), 10)
	p.out = append(append(p.out, "\r\n\r\n"...), body...)

	if p.conn == nil {
		if err := p.dial(ctx); err != nil {
			return receipt{}, err
		}
	}
	// A request that has begun is finished even when the run ends: its event would be in doubt.
	_ = p.conn.SetDeadline(time.Now().Add(p.config.Timeout))
	status, answer, err := p.exchange()
	if err != nil {
		p.hangUp()
		return receipt{}, err
	}
	out := receipt{status: status}
	if status/100 == 2 {
		out.ok, out.duplicates = events, min(events, bytes.Count(answer, []byte(`"duplicate"`)))
	}
	if status == http.StatusMultiStatus {
		out.ok = min(events, out.duplicates+bytes.Count(answer, []byte(`"persisted"`)))
	}
	if out.ok < events {
		return out, fmt.Errorf("%d: %.300s", status, answer)
	}
	return out, nil
}

func (p *poster) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: p.config.Timeout}
	conn, err := d.DialContext(ctx, "tcp", p.target.address)
	if err != nil {
		return err
	}
	if p.target.tls {
		conn = tls.Client(conn, &tls.Config{ServerName: p.target.url.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	p.conn = conn
	if p.answer == nil {
		p.answer = bufio.NewReaderSize(nil, 4<<10)
	}
	p.answer.Reset(conn)
	return nil
}

func (p *poster) exchange() (int, []byte, error) {
	if _, err := p.conn.Write(p.out); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(p.answer, &http.Request{Method: http.MethodPost})
	if err != nil {
		return 0, nil, fmt.Errorf("no answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	const most = 1 << 20
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return 0, nil, fmt.Errorf("half an answer: %w", err)
	}
	if resp.Close || len(answer) == most {
		p.hangUp()
	}
	return resp.StatusCode, answer, nil
}

func (p *poster) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

func (p *poster) Close() error {
	p.hangUp()
	return nil
}
