package gateway

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// clientAddr gives the address of the client behind r, for limits per address and for the log. Forwarding headers
// are believed from trusted proxies only, and read from the nearest proxy outwards, so that what a client wrote into
// them itself never counts. The zero Addr means unknown.
func (g *Gateway) clientAddr(r *http.Request) netip.Addr {
	peer, ok := parseHost(r.RemoteAddr)
	if !ok || !g.trusted(peer) {
		return peer
	}
	addr := peer
	hops := forwardedFor(r.Header)
	for i := len(hops) - 1; i >= 0; i-- {
		hop, ok := parseHost(hops[i])
		if !ok { // "unknown" or an obfuscated name (RFC 7239, section 6): nothing beyond it can be trusted
			return addr
		}
		addr = hop
		if !g.trusted(hop) {
			return hop
		}
	}
	return addr
}

func (g *Gateway) trusted(addr netip.Addr) bool {
	for _, p := range g.config.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// fromTrustedProxy tells whether r's forwarding headers may be believed.
func (g *Gateway) fromTrustedProxy(r *http.Request) bool {
	peer, ok := parseHost(r.RemoteAddr)
	return ok && g.trusted(peer)
}

// forwardedFor lists the hops of Forwarded (RFC 7239), or of X-Forwarded-For where that is absent, outermost first.
func forwardedFor(h http.Header) []string {
	var hops []string
	if values := h.Values("Forwarded"); len(values) > 0 {
		for _, element := range strings.Split(strings.Join(values, ","), ",") {
			hops = append(hops, forwardedParameter(element, "for"))
		}
		return hops
	}
	for _, value := range h.Values("X-Forwarded-For") {
		hops = append(hops, strings.Split(value, ",")...)
	}
	return hops
}

func forwardedParameter(element, name string) string {
	for _, pair := range strings.Split(element, ";") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if ok && strings.EqualFold(key, name) {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseHost reads an address with or without port and brackets. IPv4 in IPv6 becomes IPv4, and zones are dropped.
func parseHost(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return addr.Unmap().WithZone(""), true
}

// baseURL gives the address under which the client of r reaches this server, without a slash at the end: --public-url,
// else what a trusted proxy says, else the request's own host. All links in answers begin with it.
func (g *Gateway) baseURL(r *http.Request) string {
	if g.config.PublicURL != nil {
		return strings.TrimSuffix(g.config.PublicURL.String(), "/")
	}
	u := url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if g.fromTrustedProxy(r) {
		proto, host := r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host")
		if first, _, _ := strings.Cut(r.Header.Get("Forwarded"), ","); first != "" {
			proto, host = forwardedParameter(first, "proto"), forwardedParameter(first, "host")
		}
		if proto == "http" || proto == "https" {
			u.Scheme = proto
		}
		if host != "" && !strings.ContainsAny(host, "/\\?#@ ,") {
			u.Host = host
		}
	}
	return u.String()
}
