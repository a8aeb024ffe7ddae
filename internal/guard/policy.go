package guard

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

var (
	// What [ssrf] does not refuse by itself: Azure's metadata and DNS server has a public address, and 6bone's addresses
	// (RFC 3701) are public by their prefix alone.
	deniedBesides = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("3ffe::/16")}

	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

	// private are the addresses that allowed hosts may have: RFC 1918, RFC 6598, RFC 4193.
	private = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
	}
	// metadata lie within what is private, and are never what a name is allowed for.
	metadata = []netip.Prefix{
		netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
		netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
		netip.MustParsePrefix("fd20:ce::254/128"),   // Google
	}

	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	anyIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	anyIPv6 = netip.MustParsePrefix("::/0")
)

// policy says which addresses may be dialled, and dials them.
type policy struct {
	deny     []netip.Prefix // before all else
	guardian *ssrf.Guardian
	dialer   net.Dialer
}

// newPolicy makes a policy that refuses what is not public. deny goes before allow, and allow before what is refused
// anyway. only says that nothing else than allow may be dialled.
func newPolicy(allow, deny []netip.Prefix, only bool) *policy {
	refused := deniedBesides
	if only {
		refused = []netip.Prefix{anyIPv4, anyIPv6}
	}
	var allow4, allow6, deny4, deny6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			allow4 = append(allow4, p)
		} else {
			allow6 = append(allow6, p)
		}
	}
	for _, p := range refused {
		if p.Addr().Is4() {
			deny4 = append(deny4, p)
		} else {
			deny6 = append(deny6, p)
		}
	}
	p := &policy{
		deny: deny,
		guardian: ssrf.New(ssrf.WithAnyPort(),
			ssrf.WithAllowedV4Prefixes(allow4...), ssrf.WithAllowedV6Prefixes(allow6...),
			ssrf.WithDeniedV4Prefixes(deny4...), ssrf.WithDeniedV6Prefixes(deny6...)),
	}
	p.dialer = net.Dialer{Control: p.control, FallbackDelay: -1, KeepAliveConfig: keepAlive}
	return p
}

// keepAlive finds peers that vanished within a minute and a half.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4}

// permits reports whether the address may be dialled. One with a zone, or IPv4 written as IPv6, never is.
func (p *policy) permits(a netip.Addr) bool {
	for _, d := range p.deny {
		if d.Contains(a) {
			return false
		}
	}
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return false
	}
	if nat64.Contains(a) {
		// Where it is allowed at all, what lies behind it has to be public too.
		b := a.As16()
		if !p.permits(netip.AddrFrom4([4]byte(b[12:]))) {
			return false
		}
	}
	return p.guardian.SafeAddr(a) == nil
}

// control is the dialer's last word, at the socket that is about to connect.
func (p *policy) control(network, address string, c syscall.RawConn) error {
	if err := p.guardian.Safe(network, address, c); err != nil {
		return fail(Refused, "the address is not one that may be reached")
	}
	if ap, err := netip.ParseAddrPort(address); err != nil || !p.permits(ap.Addr()) {
		return fail(Refused, "the address is not one that may be reached")
	}
	return nil
}

// describe says what an address is that is refused.
func describe(a netip.Addr) string {
	switch u := a.Unmap(); {
	case a.Zone() != "":
		return "an address with a zone"
	case a.Is4In6():
		return "an IPv4 address written as IPv6"
	case u.IsLoopback():
		return "a loopback address"
	case u.IsUnspecified():
		return "the unspecified address"
	case u.IsPrivate():
		return "a private address"
	case u.IsLinkLocalUnicast():
		return "a link-local address"
	case u.IsMulticast():
		return "a multicast address"
	default:
		return "an address of special purpose"
	}
}

// checkPrefixes refuses prefixes that would not do what they say.
func checkPrefixes(what string, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		switch {
		case !p.IsValid():
			return fmt.Errorf("%s: a prefix such as 10.0.0.0/8 was expected, %v came", what, p)
		case p.Addr().Is4In6():
			return fmt.Errorf("%s: %v is IPv4 written as IPv6: write it as IPv4", what, p)
		case p != p.Masked():
			return fmt.Errorf("%s: %v has bits set behind its length: write %v", what, p, p.Masked())
		}
	}
	return nil
}
