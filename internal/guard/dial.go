package guard

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// headStart is how long an address is tried before the next one is tried beside it (RFC 8305, section 5).
const headStart = 250 * time.Millisecond

// dial opens a connection for the pool to host:port, through the proxy where there is one. The context is not that of a
// request, but ends with the guard.
func (g *Guard) dial(ctx context.Context, p *pool, addr string, plain bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.dialTimeout)
	defer cancel()
	done, err := g.dialing(p, cancel)
	if err != nil {
		return nil, err
	}
	defer done()
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	policy := g.policy(plain, host)
	literal, err := netip.ParseAddr(host)
	isLiteral := err == nil
	if isLiteral && !policy.permits(literal) {
		return nil, fail(Refused, host+" is "+describe(literal)+", which may not be reached from here")
	}
	var raw net.Conn
	switch {
	case g.proxy != nil:
		raw, err = g.proxy.connect(ctx, addr)
	case isLiteral:
		raw, err = policy.dial(ctx, addr, []netip.AddrPort{netip.AddrPortFrom(literal, port)})
	default:
		raw, err = g.dialName(ctx, policy, host, port, addr)
	}
	if err != nil {
		return nil, err
	}
	tracked, err := g.track(p, raw)
	if err != nil || plain {
		return tracked, err
	}
	config := p.tls.Clone()
	config.ServerName = host
	secured := tls.Client(tracked, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = tracked.Close()
		return nil, tlsError(ctx, host, err)
	}
	return secured, nil
}

func splitHostPort(addr string) (string, uint16, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fail(Invalid, "a host and a port are expected")
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fail(Invalid, "a port of 1 to 65535 is expected")
	}
	return host, uint16(port), nil
}

func (g *Guard) dialName(ctx context.Context, policy *policy, host string, port uint16, addr string) (net.Conn, error) {
	var addrs []netip.Addr
	if isLocalhost(host) { // RFC 6761, section 6.3: no server is asked
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else {
		var err error
		if addrs, err = g.names.lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	permitted := alternate(addrs, port, policy.permits)
	if len(permitted) == 0 {
		return nil, fail(Refused, host+" has no address that may be reached from here")
	}
	return policy.dial(ctx, addr, permitted)
}

// dial connects to the first of the addresses that answers. It returns when no try is on its way any more.
func (p *policy) dial(ctx context.Context, to string, addrs []netip.AddrPort) (net.Conn, error) {
	if len(addrs) == 1 {
		c, err := p.dialer.DialContext(ctx, "tcp", addrs[0].String())
		if err != nil {
			return nil, connectError(ctx, to, err)
		}
		return c, nil
	}
	type result struct {
		conn net.Conn
		err  error
	}
	attempts, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(addrs))
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	started, finished := 0, 0
	start := func() {
		a := addrs[started].String()
		started++
		timer.Reset(headStart)
		go func() {
			c, err := p.dialer.DialContext(attempts, "tcp", a)
			results <- result{c, err}
		}()
	}
	var failure error
	for start(); ; {
		select {
		case r := <-results:
			finished++
			if r.err == nil {
				cancel()
				for ; finished < started; finished++ {
					if late := <-results; late.err == nil {
						_ = late.conn.Close()
					}
				}
				return r.conn, nil
			}
			if failure == nil {
				failure = r.err
			}
			switch {
			case started < len(addrs) && ctx.Err() == nil:
				start()
			case finished == started:
				return nil, connectError(ctx, to, failure)
			}
		case <-timer.C:
			if started < len(addrs) && ctx.Err() == nil {
				start()
			}
		}
	}
}
