package guard

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// maxProxyAnswer bounds the headers of a proxy's answer.
const maxProxyAnswer = 16 << 10

// proxy is an HTTP proxy that opens connections for CONNECT. Its own address is the operator's to choose: no policy
// applies.
type proxy struct {
	addr, host    string // host:port, and the name alone
	authorization string // the header's line, or ""
	tls           *tls.Config
	names         *names
	policy        *policy
}

func newProxy(u *url.URL, roots tlsRoots, n *names) (*proxy, error) {
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if port == "" || u.Hostname() == "" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("proxy: a URL such as https://user:password@proxy.example.com:3128 was expected, with the scheme http or https and without a path")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	p := &proxy{
		addr: net.JoinHostPort(u.Hostname(), port), host: u.Hostname(),
		names: n, policy: newPolicy([]netip.Prefix{anyIPv4, anyIPv6}, nil, true),
	}
	if a, err := netip.ParseAddr(p.host); err == nil && !p.policy.permits(a) {
		return nil, errors.New("proxy: an address without a zone was expected, and IPv4 not written as IPv6")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		p.authorization = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n"
	}
	if u.Scheme == "https" {
		p.tls = &tls.Config{RootCAs: roots, ServerName: p.host, MinVersion: tls.VersionTLS12}
	}
	return p, nil
}

// connect opens a connection to host:port through the proxy.
func (p *proxy) connect(ctx context.Context, to string) (net.Conn, error) {
	conn, err := p.reach(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ended(ctx, "connecting to the proxy")
		}
		failure := fail(Proxy, "the proxy cannot be reached")
		if e, ok := errors.AsType[*Error](err); ok {
			failure.Reason, failure.cause = failure.Reason+": "+e.Reason, e.cause
		}
		return nil, failure
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = p.ask(conn, to)
	if !stop() || err != nil { // where it could not be stopped the deadline has been, or will be, moved
		_ = conn.Close()
		if ctx.Err() != nil {
			return nil, ended(ctx, "connecting through the proxy to "+to)
		}
		return nil, err
	}
	return conn, nil
}

func (p *proxy) reach(ctx context.Context) (net.Conn, error) {
	_, port, err := splitHostPort(p.addr)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 1)
	if addrs[0], err = netip.ParseAddr(p.host); err != nil {
		if addrs, err = p.names.lookup(ctx, p.host); err != nil {
			return nil, err
		}
	}
	conn, err := p.policy.dial(ctx, p.addr, alternate(addrs, port, p.policy.permits))
	if err != nil || p.tls == nil {
		return conn, err
	}
	secured := tls.Client(conn, p.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, tlsError(ctx, p.host, err)
	}
	return secured, nil
}

// ask sends CONNECT and reads the answer. What the proxy answers is not passed on: it may hold what it was sent.
func (p *proxy) ask(conn net.Conn, to string) error {
	request := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n" + p.authorization + "\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return fail(Proxy, "the proxy ended the connection")
	}
	limited := &io.LimitedReader{R: conn, N: maxProxyAnswer}
	r := bufio.NewReader(limited)
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		switch {
		case limited.N <= 0:
			return fail(Proxy, fmt.Sprintf("the proxy answered with more than %d bytes of headers", maxProxyAnswer))
		case broken(err):
			return fail(Proxy, "the proxy ended the connection without an answer")
		default:
			return fail(Proxy, "what the proxy answered is no HTTP")
		}
	}
	switch {
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return fail(Proxy, "the proxy answered 407: it does not accept the name and password configured, or not this destination")
	case answer.StatusCode != http.StatusOK:
		return fail(Proxy, fmt.Sprintf("the proxy answered %d to CONNECT %s, and 200 was expected", answer.StatusCode, to))
	case r.Buffered() > 0:
		return fail(Proxy, "the proxy sent more than its answer")
	}
	return nil
}
