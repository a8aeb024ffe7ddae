package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxNames     = 4096
	maxAddresses = 6 // of one name that are tried
	keepFailures = time.Second
)

// Resolver finds the addresses of names; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// names are the addresses of hosts, kept for a short while.
type names struct {
	// static
	resolver Resolver
	keep     time.Duration
	relative func(host string) bool // whether the machine's search list applies
	metrics  *metrics

	mu      sync.Mutex
	entries map[string]*cached[[]netip.Addr] // guarded by mu
}

func newNames(r Resolver, keep time.Duration, relative func(string) bool, m *metrics) *names {
	return &names{resolver: r, keep: keep, relative: relative, metrics: m, entries: make(map[string]*cached[[]netip.Addr])}
}

// lookup gives all addresses of the host, at least one. The slice is shared.
func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	e := n.entries[host]
	if e == nil {
		if len(n.entries) >= maxNames {
			for other := range n.entries { // any: what is in use comes back
				delete(n.entries, other)
				break
			}
		}
		e = new(cached[[]netip.Addr])
		n.entries[host] = e
	}
	n.mu.Unlock()
	addrs, hit, err := e.get(ctx, "looking up "+host, func(ctx context.Context) ([]netip.Addr, time.Time, error) {
		addrs, err := n.resolve(ctx, host)
		if err != nil {
			return nil, time.Now().Add(min(n.keep, keepFailures)), err
		}
		return addrs, time.Now().Add(n.keep), nil
	})
	n.metrics.lookup(hit, err)
	return addrs, err
}

func (n *names) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	name := host
	if !n.relative(host) {
		name += "." // customers name hosts of the internet's, not those of this machine's domain
	}
	addrs, err := n.resolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ended(ctx, "looking up "+host)
		}
		if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
			return nil, fail(DNS, "there is no host "+host)
		}
		return nil, fail(DNS, "the name servers of "+host+" do not answer")
	}
	if len(addrs) == 0 {
		return nil, fail(DNS, host+" has no address")
	}
	out := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		out[i] = a.Unmap() // the resolver gives IPv4 either way
	}
	return out, nil
}

// alternate gives the addresses that are permitted in the order in which they are tried: as they came, but the families
// in turn, so that one that leads nowhere costs one try (RFC 8305, section 4).
func alternate(addrs []netip.Addr, port uint16, permits func(netip.Addr) bool) []netip.AddrPort {
	var families [2][]netip.AddrPort
	for _, a := range addrs {
		if permits(a) {
			i := 0
			if a.Is4() != addrs[0].Is4() {
				i = 1
			}
			families[i] = append(families[i], netip.AddrPortFrom(a, port))
		}
	}
	var out []netip.AddrPort
	for i := 0; len(out) < maxAddresses && (i < len(families[0]) || i < len(families[1])); i++ {
		for _, f := range families {
			if i < len(f) && len(out) < maxAddresses {
				out = append(out, f[i])
			}
		}
	}
	return out
}
