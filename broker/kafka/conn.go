package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// conn is one connection to one broker, used by one goroutine at a time. A broker serves the requests of a connection
// one after the other, which is why nothing that must be quick shares one with a long poll.
type conn struct {
	addr   string
	broker *sarama.Broker
	dialer *dialer
	broken bool
}

// dialer keeps hold of the socket that sarama asked for: closing it is the only way to end a request that sarama is
// waiting for.
type dialer struct {
	dials
	ids    *byID       // nil: none; it gets its connection by the dial
	secure bool        // with ids: over TLS
	tls    *tls.Config // nil: Go's defaults

	mu      sync.Mutex // guards what follows
	socket  net.Conn
	cancel  context.CancelFunc // ends a dial under way
	aborted bool
}

// Dial implements the proxy dialer interface that sarama takes.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	socket, err := d.connect(network, addr)
	if err != nil || d.ids == nil {
		return socket, err
	}
	if d.secure {
		if socket, err = d.secured(socket, addr); err != nil {
			return nil, err
		}
	}
	d.ids.stand(socket)
	return d.ids, nil
}

func (d *dialer) connect(network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	d.mu.Lock()
	if d.aborted {
		d.mu.Unlock()
		return nil, net.ErrClosed
	}
	d.cancel = cancel
	d.mu.Unlock()

	socket, err := d.dials.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aborted {
		_ = socket.Close()
		return nil, net.ErrClosed
	}
	d.socket = socket
	return socket, nil
}

// secured does what sarama would do itself with a socket that nothing of ours stands upon.
func (d *dialer) secured(socket net.Conn, addr string) (net.Conn, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.tls != nil {
		cfg = d.tls.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	over := tls.Client(socket, cfg)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = socket.Close()
		return nil, err
	}
	return over, nil
}

func (d *dialer) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aborted = true
	if d.cancel != nil {
		d.cancel()
	}
	if d.socket != nil {
		_ = d.socket.Close()
	}
}

// connect begins to connect to addr; the first request waits for the end of it.
func connect(base *sarama.Config, addr string) (*conn, error) {
	return open(*base, addr, &dialer{dials: base.Net.Proxy.Dialer.(dials)})
}

// connectByID begins to connect to addr, where fetches can be by a topic's id.
func connectByID(base *sarama.Config, addr string) (*conn, error) {
	cfg := *base
	d := &dialer{dials: base.Net.Proxy.Dialer.(dials), ids: newByID()}
	if cfg.Net.TLS.Enable {
		d.secure, d.tls = true, cfg.Net.TLS.Config
		cfg.Net.TLS.Enable, cfg.Net.TLS.Config = false, nil
	}
	return open(cfg, addr, d)
}

func open(cfg sarama.Config, addr string, d *dialer) (*conn, error) {
	cfg.Net.Proxy.Dialer = d
	c := &conn{addr: addr, broker: sarama.NewBroker(addr), dialer: d}
	if err := c.broker.Open(&cfg); err != nil {
		return nil, fmt.Errorf("%w: connect to %s: %w", broker.ErrUnavailable, addr, err)
	}
	return c, nil
}

func (c *conn) close() {
	c.dialer.abort() // so that Close does not wait for a dial or an answer
	_ = c.broker.Close()
}

// call makes one request on c. When ctx ends first the connection is broken off.
func call[T any](ctx context.Context, c *conn, request func(*sarama.Broker) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	stop := context.AfterFunc(ctx, c.dialer.abort)
	answer, err := request(c.broker)
	if !stop() {
		c.broken = true
		if err != nil {
			return none, ctx.Err()
		}
	}
	if err == nil {
		return answer, nil
	}
	var code sarama.KError
	if errors.As(err, &code) && code != sarama.ErrSASLAuthenticationFailed {
		return none, err
	}
	c.broken = true
	return none, fmt.Errorf("%w: %s: %w", broker.ErrUnavailable, c.addr, err)
}

// pool keeps a few connections to each broker.
type pool struct {
	base  *sarama.Config
	limit int // per broker

	mu     sync.Mutex // guards what follows
	hosts  map[string]*host
	closed bool
}

type host struct {
	slots chan struct{}
	idle  []*conn
}

func newPool(base *sarama.Config, limit int) *pool {
	return &pool{base: base, limit: limit, hosts: make(map[string]*host)}
}

// do runs use with a connection to addr of its own, waiting for one to come free.
func (p *pool) do(ctx context.Context, addr string, use func(*conn) error) error {
	p.mu.Lock()
	h := p.hosts[addr]
	if h == nil {
		h = &host{slots: make(chan struct{}, p.limit)}
		p.hosts[addr] = h
	}
	p.mu.Unlock()

	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.slots }()

	for {
		c, used, err := p.take(h, addr)
		if err != nil {
			return err
		}
		err = use(c)
		again := used && c.broken && ctx.Err() == nil
		p.give(h, c) // where c is broken this drops all that are idle
		if !again {
			return err
		}
		// Brokers close connections that were idle for long: that says nothing about the broker.
	}
}

func (p *pool) take(h *host, addr string) (c *conn, used bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, broker.ErrClosed
	}
	if n := len(h.idle); n > 0 {
		c := h.idle[n-1]
		h.idle = h.idle[:n-1]
		p.mu.Unlock()
		return c, true, nil
	}
	p.mu.Unlock()
	c, err = connect(p.base, addr)
	return c, false, err
}

func (p *pool) give(h *host, c *conn) {
	var drop []*conn
	p.mu.Lock()
	if c.broken || p.closed {
		// What is idle was opened before this one broke, and is likely as dead: a broker that restarted breaks them all.
		drop = append(h.idle, c)
		h.idle = nil
	} else {
		h.idle = append(h.idle, c)
	}
	p.mu.Unlock()
	for _, c := range drop {
		c.close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var drop []*conn
	for _, h := range p.hosts {
		drop = append(drop, h.idle...)
		h.idle = nil
	}
	p.mu.Unlock()
	for _, c := range drop {
		c.close()
	}
}
