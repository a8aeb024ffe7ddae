package guard

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const maxURL = 2048

// target is a URL that was checked.
type target struct {
	raw    string
	url    *url.URL
	origin string // scheme, host and port
}

// CheckURL says what is wrong with a URL that is to be sent to: an absolute https URL is expected (http to loopback where
// that is allowed) with a full host name or a public address, without a user's name and without a fragment. What
// addresses a name has is looked at when it is dialled. The error is an [*Error] of the kind Invalid or Refused.
func (g *Guard) CheckURL(raw string) error {
	_, err := g.parse(raw)
	return err
}

func (g *Guard) parse(raw string) (*target, error) {
	if len(raw) > maxURL {
		return nil, fail(Invalid, fmt.Sprintf("a URL of at most %d bytes is expected, and this has %d", maxURL, len(raw)))
	}
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c > '~' || c == '\\' {
			return nil, fail(Invalid, "a URL of ASCII without spaces, control characters and backslashes is expected: write other characters percent-encoded, and names in their xn-- form")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fail(Invalid, "an absolute URL such as https://example.com/events is expected, and this cannot be parsed") // the error has the URL in it
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Host == "":
		return nil, fail(Invalid, "an absolute URL such as https://example.com/events is expected")
	case u.User != nil:
		return nil, fail(Invalid, "a URL without a user's name and password is expected: give these as the credential")
	case strings.Contains(raw, "#"):
		return nil, fail(Invalid, "a URL without a fragment is expected: leave out what begins with #")
	}
	u.Host = strings.ToLower(u.Host)
	if err := checkPort(u); err != nil {
		return nil, err
	}
	if err := g.checkHost(u); err != nil {
		return nil, err
	}
	return &target{raw: raw, url: u, origin: u.Scheme + "://" + u.Host}, nil
}

func checkPort(u *url.URL) error {
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return fail(Invalid, "a port is expected behind the host's colon")
		}
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return fail(Invalid, "a port of 1 to 65535 is expected")
	}
	return nil
}

func (g *Guard) checkHost(u *url.URL) error {
	host, plain := u.Hostname(), u.Scheme == "http"
	if plain && !g.loopback {
		return fail(Invalid, "an https URL is expected")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		// An IPv6 address stands in brackets, and nothing else does.
		if a.Is4() == strings.HasPrefix(u.Host, "[") {
			return fail(Invalid, "an IPv6 address is expected in brackets, an IPv4 address without")
		}
		switch {
		case plain && !a.IsLoopback():
			return fail(Invalid, "an https URL is expected: http goes to loopback addresses alone")
		case !g.policy(plain, host).permits(a):
			return fail(Refused, host+" is "+describe(a)+", which may not be reached from here")
		}
		return nil
	}
	if err := checkName(host); err != nil {
		return err
	}
	switch {
	case isLocalhost(host):
		if !g.loopback {
			return fail(Refused, host+" is this machine, which may not be reached from here")
		}
	case plain:
		return fail(Invalid, "an https URL is expected: http goes to loopback addresses alone")
	case !strings.Contains(host, ".") && !g.hosts.has(host):
		return fail(Invalid, "a full host name such as events.example.com is expected")
	}
	return nil
}

// checkName takes what is a host name to everybody: there are libraries to which 0x7f.1 and 2130706433 are addresses.
func checkName(host string) error {
	if len(host) > 253 {
		return fail(Invalid, "a host name of at most 253 bytes is expected")
	}
	var last string
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return fail(Invalid, "a host name without a full stop at either end is expected, in parts of 1 to 63 bytes")
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fail(Invalid, "a host name of letters, digits and hyphens is expected, or an address: IPv4 as four decimal numbers, IPv6 in brackets and without a zone")
			}
		}
		last = label
	}
	// As in the URL standard of WHATWG, "ends in a number".
	if isNumber(last) {
		return fail(Invalid, "a host name that does not end in a number is expected, or an IPv4 address of four decimal numbers without leading zeros")
	}
	return nil
}

func isNumber(label string) bool {
	if strings.HasPrefix(label, "0x") {
		return strings.Trim(label[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// hostSet are names, and with "*." before them all names below.
type hostSet struct {
	names  map[string]bool
	suffix []string // with the full stop
}

func newHostSet(hosts []string) (hostSet, error) {
	s := hostSet{names: make(map[string]bool)}
	for _, h := range hosts {
		name, below := strings.CutPrefix(strings.ToLower(h), "*.")
		if _, err := netip.ParseAddr(name); err == nil {
			return s, fmt.Errorf("allowed hosts: a name was expected, the address %q came: allow its prefix", h)
		}
		if err := checkName(name); err != nil {
			return s, fmt.Errorf("allowed host %q: %w", h, err)
		}
		if isLocalhost(name) {
			return s, fmt.Errorf("allowed host %q: this machine is not reached by allowing its name: allow loopback", h)
		}
		if below {
			s.suffix = append(s.suffix, "."+name)
		} else {
			s.names[name] = true
		}
	}
	return s, nil
}

func (s hostSet) has(host string) bool {
	if s.names[host] {
		return true
	}
	for _, suffix := range s.suffix {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}
