package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// client keeps a number of readers connected.
type client interface {
	// run connects every reader, keeps it connected, and blocks until ctx is done, when it closes them all.
	run(ctx context.Context) error
	// drop closes every connection at once; each reader comes back immediately, with its cursor.
	drop()
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
}

// Names of the clients that a run can be made with.
const (
	ClientEpoll     = "epoll"     // SSE: one loop over raw sockets; Linux and http:// only
	ClientGoroutine = "goroutine" // SSE: a goroutine for each connection; any system, also https://
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
		return newSessions(f, &socketDialer{target: target, sources: f.sources, header: f.header}), nil
	case ClientR3labs:
		return newSessions(f, &r3labsDialer{target: target, sources: f.sources, header: f.header}), nil
	case ClientWebSocket:
		return newSessions(f, &websocketDialer{target: target, sources: f.sources, header: f.header, protocol: f.protocol}), nil
	}
	return nil, fmt.Errorf("client %q: expected %s, %s, %s or %s", name, ClientEpoll, ClientGoroutine, ClientR3labs, ClientWebSocket)
}
