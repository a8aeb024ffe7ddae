package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Server gives an HTTP server for the edge, ready to serve a listener. Headers are bounded in size and time, and idle
// connections in time; all connections are bounded in number. There is no write time-out for all: sessions write as long as they last, and every other
// answer has a deadline of its own. With certificates it speaks HTTP/2 too, by ALPN.
func (g *Gateway) Server(certificates *Certificates) *http.Server {
	all := &connections{most: g.config.MaxConnections, mostWaiting: g.config.MaxWaiting, taken: g.takenOver, shed: g.metrics.shed}
	s := &http.Server{
		ConnState:         all.changed,
		Handler:           g.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // a binary event's attributes, or a cursor over many streams, are far less
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 250,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     time.Minute, // a peer that takes no byte that long is stalled
		},
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // handshakes that failed, and the like
	}
	if certificates != nil {
		s.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: certificates.get,
			NextProtos:     []string{"h2", "http/1.1"},
		}
	}
	return s
}

// takenOver is how many connections sessions have taken over.
func (g *Gateway) takenOver() int {
	if g.deps.Sessions == nil {
		return 0
	}
	return g.deps.Sessions.Connections()
}

// Shutdown closes the listeners of s and waits until every request has its answer; what still runs when ctx ends is cut.
func Shutdown(ctx context.Context, s *http.Server) error {
	if err := s.Shutdown(ctx); err != nil {
		return s.Close()
	}
	return nil
}
