package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

// client keeps a number of readers connected.
type client interface {
	// run connects every reader, keeps it connected, and blocks until ctx is done, when it closes them all.
	run(ctx context.Context) error
	// drop closes a share of the connections at once; each reader comes back with its cursor once it was away for so long. It
	// may return before they are closed: then all.storms has grown.
	drop(share float64, away time.Duration)
}

// fleet is the readers of a run and how they connect.
type fleet struct {
	readers []*reader
	tallies []*tally // the readers' shards: reader i has tallies[i % len]
	all     *gauges

	header   http.Header
	dials    int     // connections being opened at once
	ramp     float64 // connections begun in a second; 0: as many as dials allows
	sources  []string
	protocol string // WebSocket subprotocol, or ""
	format   format
	wait     time.Duration // that the server is asked to wait for a page's first event
	every    time.Duration // from one page to asking for the next
	slow     *Slowness     // nil: they are not
	lifetime time.Duration // of a connection, about; 0: without end
}

// chosen says whether a storm of a share of all readers takes the one of that number: every so many of them.
func chosen(number int, share float64) bool {
	return int(float64(number+1)*share+1e-9) > int(float64(number)*share+1e-9)
}

// Names of the clients that a run can be made with.
const (
	ClientEpoll     = "epoll"     // one loop over raw sockets; Linux and http:// only
	ClientGoroutine = "goroutine" // a goroutine for each connection; any system, also https://
	ClientR3labs    = "r3labs"    // SSE: github.com/r3labs/sse, a client as others use it
	ClientWebSocket = "websocket" // WebSocket: github.com/coder/websocket
)

func (f *fleet) client(name string, target endpoint) (client, error) {
	switch name {
	case ClientEpoll:
		if target.tls {
			return nil, errors.New("client epoll speaks no TLS: choose --client goroutine for https://")
		}
		return newPoller(f, target)
	case ClientGoroutine:
		return newSessions(f, &socketDialer{target: target, fleet: f}), nil
	case ClientR3labs:
		return newSessions(f, &r3labsDialer{fleet: f}), nil
	case ClientWebSocket:
		return newSessions(f, &websocketDialer{fleet: f}), nil
	}
	return nil, fmt.Errorf("client %q: expected %s, %s, %s or %s", name, ClientEpoll, ClientGoroutine, ClientR3labs, ClientWebSocket)
}

// dial opens a connection of a reader for as long as ctx: from its source address, and reading as slowly as it does.
func (f *fleet) dial(ctx context.Context, r *reader, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 30 * time.Second}
	if len(f.sources) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(f.sources[r.number%len(f.sources)])}
	}
	if f.slow != nil {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			return errors.Join(c.Control(func(fd uintptr) { err = setBuffer(fd, f.slow.Buffer) }), err)
		}
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil || f.slow == nil {
		return conn, err
	}
	return &slowConn{Conn: conn, ctx: ctx, slow: newSlow(f.slow, r.number), all: f.all}, nil
}

// transport makes an HTTP transport whose connections are a reader's, for as long as session.
func (f *fleet) transport(session context.Context, r *reader) *http.Transport {
	return &http.Transport{
		DialContext:         func(_ context.Context, _, address string) (net.Conn, error) { return f.dial(session, r, address) },
		TLSHandshakeTimeout: 30 * time.Second,
		DisableKeepAlives:   true,
	}
}
