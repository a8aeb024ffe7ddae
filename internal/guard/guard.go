package guard

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Config says what may be reached and what it may cost.
type Config struct {
	Allow []netip.Prefix // reachable though not public
	Deny  []netip.Prefix // not reachable though public or allowed, such as the operator's own networks and a NAT64 prefix of theirs

	// AllowHosts are names that may have private addresses (RFC 1918, RFC 6598, RFC 4193); "*." before one stands for all
	// names below it. Whoever has power over their addresses is trusted. They are looked up with the machine's search list.
	AllowHosts []string

	AllowLoopback bool // 127.0.0.0/8 and ::1, and http: to these

	Proxy *url.URL // goes before every connection; http or https, with name and password; nil: none

	RootCAs *x509.CertPool // nil: the system's

	MaxIdle        int           // idle connections of all clients, of about 20 KB each; default 2,000
	MaxIdlePerHost int           // idle connections of one client to one host; default 64
	IdleTimeout    time.Duration // default 1 min
	DialTimeout    time.Duration // for looking up, connecting and TLS together; default 10 s
	Timeout        time.Duration // of requests whose context has no deadline; default 1 min
	DNSCache       time.Duration // how long addresses are kept; default 5 s; negative: not at all

	UserAgent string   // default "eventissuer"
	Resolver  Resolver // default: Go's own resolver
	Tokens    TokenSource
	Metrics   prometheus.Registerer // nil: none
}

// Guard sends what its clients send. It is made by [New].
type Guard struct {
	// static
	openAll        *policy // what anybody may name
	openHosts      *policy // what the allowed hosts may have
	openPlain      *policy // what http may reach
	loopback       bool
	hosts          hostSet
	names          *names
	proxy          *proxy
	roots          tlsRoots
	maxIdle        int
	maxIdlePerHost int
	idleTimeout    time.Duration
	dialTimeout    time.Duration
	timeout        time.Duration
	userAgent      []string // as a header has it
	tokens         TokenSource
	metrics        *metrics

	dials sync.WaitGroup

	mu      sync.Mutex
	closed  bool                // guarded by mu
	idle    int                 // connections, and pools that have none; guarded by mu
	unused  poolList            // guarded by mu
	open    map[*conn]struct{}  // guarded by mu
	cancels map[*dialing]func() // of the dials under way; guarded by mu
}

type (
	tlsRoots = *x509.CertPool
	dialing  struct{ pool *pool }
)

// New makes a guard. It is to be closed.
func New(c Config) (*Guard, error) {
	for what, prefixes := range map[string][]netip.Prefix{"allowed prefixes": c.Allow, "denied prefixes": c.Deny} {
		if err := checkPrefixes(what, prefixes); err != nil {
			return nil, err
		}
	}
	if c.MaxIdle < 0 || c.MaxIdlePerHost < 0 || c.IdleTimeout < 0 || c.DialTimeout < 0 || c.Timeout < 0 {
		return nil, errors.New("guard: limits of at least 0 were expected, where 0 stands for the default")
	}
	hosts, err := newHostSet(c.AllowHosts)
	if err != nil {
		return nil, err
	}
	if c.Resolver == nil {
		c.Resolver = &net.Resolver{PreferGo: true}
	}
	allow := append([]netip.Prefix(nil), c.Allow...)
	if c.AllowLoopback {
		allow = append(allow, loopback...)
	}
	g := &Guard{
		openAll:        newPolicy(allow, c.Deny, false),
		openHosts:      newPolicy(append(allow[:len(allow):len(allow)], private...), append(metadata[:len(metadata):len(metadata)], c.Deny...), false),
		openPlain:      newPolicy(loopback, c.Deny, true),
		loopback:       c.AllowLoopback,
		hosts:          hosts,
		roots:          c.RootCAs,
		maxIdle:        orDefault(c.MaxIdle, 2000),
		maxIdlePerHost: orDefault(c.MaxIdlePerHost, 64),
		idleTimeout:    orDefault(c.IdleTimeout, time.Minute),
		dialTimeout:    orDefault(c.DialTimeout, 10*time.Second),
		timeout:        orDefault(c.Timeout, time.Minute),
		userAgent:      []string{orDefault(c.UserAgent, "eventissuer")},
		tokens:         c.Tokens,
		open:           make(map[*conn]struct{}),
		cancels:        make(map[*dialing]func()),
	}
	g.metrics = newMetrics(c.Metrics, g)
	keep := max(orDefault(c.DNSCache, 5*time.Second), 0)
	g.names = newNames(c.Resolver, keep, hosts.has, g.metrics)
	if c.Proxy != nil {
		ours := newNames(c.Resolver, keep, func(string) bool { return true }, g.metrics)
		if g.proxy, err = newProxy(c.Proxy, c.RootCAs, ours); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// policy gives what decides on the addresses of a host.
func (g *Guard) policy(plain bool, host string) *policy {
	switch {
	case plain:
		return g.openPlain
	case g.hosts.has(host):
		return g.openHosts
	default:
		return g.openAll
	}
}

// Client makes the way out of one owner's one credential, which has to be one that [webhook.Credential.Check] finds
// nothing wrong with; else, and where a token's URL is not one that is sent to, an [*Error] says so. It costs nothing
// while it is not used.
func (g *Guard) Client(owner string, c webhook.Credential) (*Client, error) {
	prepared, err := g.prepare(owner, c)
	if err != nil {
		return nil, err
	}
	return &Client{guard: g, credential: prepared}, nil
}

// dialing says that a connection is being opened, until the function that it gives is called.
func (g *Guard) dialing(p *pool, cancel context.CancelFunc) (done func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || p.dropped {
		return nil, ErrClosed
	}
	d := &dialing{p}
	g.cancels[d] = cancel
	g.dials.Add(1)
	return func() {
		g.mu.Lock()
		delete(g.cancels, d)
		g.mu.Unlock()
		g.dials.Done()
	}, nil
}

// Close closes every client and connection: requests under way fail. It waits for connections that are being opened.
func (g *Guard) Close() {
	g.mu.Lock()
	g.closed = true
	var unused []*pool
	for p := g.unused.oldest(); p != nil; p = g.unused.oldest() {
		g.drop(p)
		unused = append(unused, p)
	}
	open := slices.Collect(maps.Keys(g.open))
	for _, cancel := range g.cancels {
		cancel()
	}
	g.mu.Unlock()
	for _, p := range unused {
		p.shut()
	}
	for _, c := range open {
		_ = c.Close()
	}
	g.dials.Wait()
}
