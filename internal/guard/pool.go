package guard

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHeaders = 64 << 10
	// What a connection of HTTP/2 may hold that nobody has read yet.
	maxStreamBuffer     = 64 << 10
	maxConnectionBuffer = 256 << 10
	sessionsKept        = 4 // TLS sessions of a client
)

// pool is what a client holds while it is in use: its transport, with connections and TLS sessions.
type pool struct {
	// static
	guard     *Guard
	client    *Client
	transport *http.Transport
	tls       *tls.Config

	last atomic.Pointer[target] // what was sent to last: nearly always what is sent to next

	// guarded by guard.mu
	open    map[*conn]struct{}
	busy    int  // requests under way
	counted int  // what of guard.idle is this pool's
	dropped bool // the client has it no more
	// in the list of those without a request under way
	older, newer *pool
}

// newPool is slow where the client has a certificate.
func (g *Guard) newPool(c *Client) (*pool, error) {
	p := &pool{guard: g, client: c, open: make(map[*conn]struct{})}
	p.tls = &tls.Config{
		RootCAs:            g.roots,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept),
	}
	if c.credential.certificate != "" {
		certificate, err := tls.X509KeyPair([]byte(c.credential.certificate), []byte(c.credential.key))
		if err != nil {
			return nil, fail(Credential, "the client's certificate and key cannot be read")
		}
		p.tls.Certificates = []tls.Certificate{certificate}
	}
	p.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return g.dial(ctx, p, addr, true)
		},
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return g.dial(ctx, p, addr, false)
		},
		ForceAttemptHTTP2:      true, // else a transport with dialers of its own speaks HTTP/1.1 alone
		DisableCompression:     true,
		MaxIdleConns:           2 * g.maxIdlePerHost, // the endpoint and what gives its tokens
		MaxIdleConnsPerHost:    g.maxIdlePerHost,
		IdleConnTimeout:        g.idleTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     maxStreamBuffer,
			MaxReceiveBufferPerConnection: maxConnectionBuffer,
			SendPingTimeout:               30 * time.Second,
			PingTimeout:                   15 * time.Second,
		},
	}
	return p, nil
}

// acquire gives the client's pool, made where there is none, for one request, and whether it has connections. It is given
// back by release.
func (g *Guard) acquire(c *Client) (p *pool, warm bool, err error) {
	var made *pool
	for {
		g.mu.Lock()
		if g.closed || c.closed {
			g.mu.Unlock()
			return nil, false, ErrClosed
		}
		if c.pool == nil {
			c.pool = made
		}
		if p = c.pool; p != nil {
			if p.busy == 0 {
				g.unused.remove(p)
			}
			p.busy++
			g.count(p)
			warm = len(p.open) > 0
			g.mu.Unlock()
			return p, warm, nil
		}
		g.mu.Unlock()
		if made, err = g.newPool(c); err != nil {
			return nil, false, err
		}
	}
}

// release gives the pool back; it may then be what gives way to others.
func (g *Guard) release(p *pool) {
	g.mu.Lock()
	p.busy--
	if p.busy == 0 {
		g.unused.add(p)
		if p.client.closed || g.closed {
			g.drop(p)
			g.mu.Unlock()
			p.shut()
			return
		}
	}
	g.count(p)
	if g.idle <= g.maxIdle {
		g.mu.Unlock()
		return
	}
	victims := g.shrink()
	g.mu.Unlock()
	for _, v := range victims {
		v.shut()
	}
}

// shrink drops the pools unused for longest until no more is idle than may be. The caller holds the lock, here and in
// count and drop, and then closes what they hold.
func (g *Guard) shrink() (victims []*pool) {
	for g.idle > g.maxIdle {
		p := g.unused.oldest()
		if p == nil {
			break
		}
		g.drop(p)
		g.metrics.evicted.Inc()
		victims = append(victims, p)
	}
	return victims
}

// count brings the sum of what is idle up to date. A pool without connections counts as one: it holds memory too.
func (g *Guard) count(p *pool) {
	n := 0
	if !p.dropped {
		if n = max(len(p.open)-p.busy, 0); p.busy == 0 {
			n = max(n, 1)
		}
	}
	g.idle += n - p.counted
	p.counted = n
}

// drop takes from its client a pool that has no request under way.
func (g *Guard) drop(p *pool) {
	g.unused.remove(p)
	p.dropped = true
	p.client.pool = nil
	g.count(p)
}

// shut closes what a pool holds that was dropped. The transport closes what it takes for idle, which with HTTP/2 may not
// yet be all.
func (p *pool) shut() {
	p.transport.CloseIdleConnections()
	p.guard.mu.Lock()
	left := slices.Collect(maps.Keys(p.open))
	p.guard.mu.Unlock()
	for _, c := range left {
		_ = c.Close()
	}
}

// conn is a connection that its pool counts.
type conn struct {
	net.Conn
	pool *pool
	once sync.Once
}

// track counts the connection as the pool's. It is closed where the pool has been dropped meanwhile.
func (g *Guard) track(p *pool, raw net.Conn) (net.Conn, error) {
	c := &conn{Conn: raw, pool: p}
	g.mu.Lock()
	if p.dropped || g.closed {
		g.mu.Unlock()
		_ = raw.Close()
		return nil, ErrClosed
	}
	g.open[c] = struct{}{}
	p.open[c] = struct{}{}
	g.count(p)
	victims := g.shrink()
	g.mu.Unlock()
	for _, v := range victims {
		v.shut()
	}
	return c, nil
}

func (c *conn) Close() error {
	c.once.Do(func() {
		g := c.pool.guard
		g.mu.Lock()
		delete(g.open, c)
		delete(c.pool.open, c)
		g.count(c.pool)
		g.mu.Unlock()
	})
	return c.Conn.Close()
}

// poolList holds pools in the order in which they were added. The zero value is an empty list.
type poolList struct{ first, last *pool }

func (l *poolList) oldest() *pool { return l.first }

func (l *poolList) add(p *pool) {
	p.older, p.newer = l.last, nil
	if l.last != nil {
		l.last.newer = p
	} else {
		l.first = p
	}
	l.last = p
}

// remove does nothing to a pool that is not in the list.
func (l *poolList) remove(p *pool) {
	if p.older == nil && l.first != p {
		return
	}
	if p.older != nil {
		p.older.newer = p.newer
	} else {
		l.first = p.newer
	}
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		l.last = p.older
	}
	p.older, p.newer = nil, nil
}
