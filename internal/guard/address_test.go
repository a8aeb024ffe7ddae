package guard

import (
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

var quiet = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)

// refusedHosts are hosts that lead somewhere else than to the internet, spelt in every way that some library takes.
var refusedHosts = []string{
	// loopback, and its spellings
	"127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0X7F000001", "0x7f.0.0.1", "0x7f.1",
	"0177.0.0.1", "0177.1", "017700000001", "127.0.0.01", "127.0.0.1.", "127.000.000.001", "127.0.0.1.nip.io.127", "[::1]", "[0:0:0:0:0:0:0:1]",
	"[::0001]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]", "[::7f00:1]", "[::1%25lo]", "[::1%25eth0]", "[fe80::1%25lo]",
	"localhost", "LOCALHOST", "LocalHost", "localhost.", "sub.localhost", "localhost.localdomain.",
	"[127.0.0.1]", "::1", "127.0.0.1%00.example.com", "127%2e0.0.1", "%31%32%37.0.0.1", "127。0。0。1", "１２７.0.0.1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "xn--", "127.0.0.1\t", "127.0.0.1\x00",
	"bücher.example", "ｌｏｃａｌｈｏｓｔ",
	// the unspecified address leads here too
	"0.0.0.0", "0", "0.1.2.3", "00.0.0.0", "[::]", "[::0]", "[::ffff:0.0.0.0]", "0x0",
	// private and shared
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.255", "100.100.100.200",
	"[fc00::1]", "[fd00::1]", "[fdff:ffff::1]", "[::ffff:10.0.0.1]", "[::10.0.0.1]", "012.0.0.1", "167772161",
	// link-local and metadata
	"169.254.169.254", "169.254.0.1", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "[fe80::1]", "[febf::1]", "[fec0::1]", "[feff::1]",
	"[::ffff:169.254.169.254]", "[fd00:ec2::254]", "[fd20:ce::254]", "168.63.129.16", "[::ffff:168.63.129.16]", "192.0.0.192",
	// addresses within addresses
	"[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::808:808]", "[64:ff9b:1::7f00:1]", "[64:ff9b:1:ffff::1]",
	"[2002:7f00:1::]", "[2002:7f00:0001::1]", "[2002:a00:1::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[2001::1]", "[::ffff:0:127.0.0.1]", "[::ffff:0:0]",
	// documentation, benchmarks, protocol assignments, reserved
	"192.0.0.1", "192.0.0.8", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1", "192.31.196.1", "192.52.193.1", "192.175.48.1",
	"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "[2001:db8::1]", "[3fff::1]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[3ffe::1]", "[5f00::1]",
	"[100::1]", "[ff02::1]", "[ff0e::1]", "[ff01::1]", "[4000::1]", "[2620:4f:8000::1]", "[0100::]",
	// names that are none of the internet's, and what is no name
	"kafka", "redis", "metadata", "-", "a..example.com", ".example.com", "example.com.", "exa mple.com", "example.com\\@127.0.0.1", "host.123", "1.2.3.4.5", "1.2.3", "256.1.1.1",
}

// refusedURLs are URLs that say one host and mean another, or what is not sent to at all. PORT is the canary's.
var refusedURLs = []string{
	"https://good.example@127.0.0.1:PORT/", "https://127.0.0.1:PORT@good.example/", "https://good.example:443@127.0.0.1:PORT/", "https://good.example%40127.0.0.1:PORT/",
	"https://127.0.0.1:PORT\\@good.example/", "https://good.example\\@127.0.0.1:PORT/", "https://good.example#@127.0.0.1:PORT/", "https://127.0.0.1:PORT#good.example",
	"https://good.example/#", "https:127.0.0.1:PORT", "https:/127.0.0.1:PORT/", "https:///127.0.0.1:PORT/", "//127.0.0.1:PORT/", "127.0.0.1:PORT", "https://", "", "/", "https://:PORT/",
	"http://127.0.0.1:PORT/", "http://good.example/", "http://[::1]:PORT/", "HTTP://127.0.0.1:PORT/", "ws://127.0.0.1:PORT/", "gopher://127.0.0.1:PORT/", "file:///etc/passwd", "ftp://127.0.0.1:PORT/",
	"unix:///var/run/docker.sock", "javascript:alert(1)", "data:,x", "https://good.example:0/", "https://good.example:/", "https://good.example:65536/", "https://good.example:-1/",
	"https://good.example:0443/", "https://good.example:44 3/", "https://good.example:http/", "https://good.example\r\nX: y/", "https://good.example/\r\nX: y", " https://good.example/",
	"https://good.example/ü", "https://[::1]PORT/", "https://[::1/", "https://::1]:PORT/", "https://[v1.x]:PORT/", "https://[]:PORT/", "https://good.example/" + strings.Repeat("a", 2048),
	"https://" + strings.Repeat("a", 64) + ".example/", "https://" + strings.Repeat("a.", 130) + "example/",
}

// Neither the check nor a request lets any of them through, and nothing connects.
func TestNoSpellingOfARefusedAddressGetsThrough(t *testing.T) {
	canary := newCanary(t, ":0")
	guards := map[string]*Guard{
		"by default":          newGuard(t, Config{Resolver: fixed{}}),
		"with a host allowed": newGuard(t, Config{Resolver: fixed{}, AllowHosts: []string{"*.internal.example", "allowed"}}),
		"with a prefix":       newGuard(t, Config{Resolver: fixed{}, Allow: []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16"), netip.MustParsePrefix("fd99::/16")}}),
	}
	var urls []string
	for _, h := range refusedHosts {
		urls = append(urls, "https://"+h+":"+canary.port+"/", "http://"+h+":"+canary.port+"/")
	}
	for _, u := range refusedURLs {
		urls = append(urls, strings.ReplaceAll(u, "PORT", canary.port))
	}
	for name, g := range guards {
		client := newClient(t, g, webhook.Credential{})
		for _, u := range urls {
			if kind := kindOf(g.CheckURL(u)); kind != Invalid && kind != Refused {
				t.Errorf("%s: the check of %q gives %v", name, u, kind)
			}
			_, err := client.Do(t.Context(), Request{URL: u})
			if kind := kindOf(err); kind != Invalid && kind != Refused {
				t.Errorf("%s: the request to %q gives %v", name, u, err)
			}
			if _, err := g.Client("owner", webhook.Credential{Type: webhook.OAuth2, TokenURL: u, ClientID: "id", Secret: "secret"}); err == nil {
				t.Errorf("%s: %q is taken as a token endpoint", name, u)
			}
		}
	}
	canary.unvisited(t)
	t.Logf("%d URLs", len(urls))
}

// The dialer's own check knows what a URL's check would have refused, should that be passed by.
func TestTheSocketIsCheckedWhateverTheURLSaid(t *testing.T) {
	g := newGuard(t, Config{})
	for _, h := range refusedHosts {
		a, err := netip.ParseAddr(strings.Trim(strings.ReplaceAll(h, "%25", "%"), "[]"))
		if err != nil {
			continue
		}
		for _, p := range []*policy{g.openAll, g.openPlain} {
			if p == g.openPlain && a.IsLoopback() && a.Zone() == "" {
				continue
			}
			if p.permits(a) {
				t.Errorf("%v is permitted", a)
			}
			network := "tcp6"
			if a.Is4() {
				network = "tcp4"
			}
			if err := p.control(network, netip.AddrPortFrom(a, 443).String(), nil); kindOf(err) != Refused {
				t.Errorf("%v: the dialer's control gives %v", a, err)
			}
		}
	}
	for network, address := range map[string]string{"udp4": "8.8.8.8:53", "unix": "/var/run/docker.sock", "tcp4": "example.com:443", "tcp6": ""} {
		if err := g.openAll.control(network, address, nil); kindOf(err) != Refused {
			t.Errorf("%s %s: %v", network, address, err)
		}
	}
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, p := range texts {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestWhatIsPublicOrAllowedIsPermitted(t *testing.T) {
	for name, test := range map[string]struct {
		config      Config
		plain       bool
		host        string
		yes, refuse []string
	}{
		"public": {
			yes: []string{
				"8.8.8.8", "1.1.1.1", "93.184.216.34", "11.0.0.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "169.253.1.1", "192.0.1.1",
				"198.17.255.255", "198.20.0.1", "223.255.255.255", "126.255.255.255", "128.0.0.1", "168.63.129.15", "168.63.129.17",
				"2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "2003::1", "2400::1", "2001:200::1", "2620:4f:7fff::1",
			},
		},
		"an allowed prefix": {
			config: Config{Allow: prefixes("10.1.0.0/16", "fd12::/16", "127.0.0.5/32", "169.254.169.254/32", "168.63.129.16/32")},
			yes:    []string{"10.1.2.3", "fd12::1", "127.0.0.5", "169.254.169.254", "168.63.129.16", "8.8.8.8"},
			refuse: []string{"10.2.0.1", "fd13::1", "127.0.0.1", "169.254.169.253", "::ffff:10.1.2.3", "fd12::1%eth0"},
		},
		"loopback": {
			config: Config{AllowLoopback: true},
			yes:    []string{"127.0.0.1", "127.9.9.9", "::1", "8.8.8.8"},
			refuse: []string{"0.0.0.0", "::", "10.0.0.1", "::ffff:127.0.0.1", "::1%lo", "64:ff9b::7f00:1", "169.254.169.254"},
		},
		"loopback by http": {
			config: Config{AllowLoopback: true, Allow: prefixes("10.0.0.0/8")}, plain: true,
			yes:    []string{"127.0.0.1", "127.9.9.9", "::1"},
			refuse: []string{"8.8.8.8", "10.0.0.1", "2606:4700::1111", "0.0.0.0", "::"},
		},
		"an allowed host": {
			config: Config{AllowHosts: []string{"Collector.Example", "*.corp.example"}}, host: "a.corp.example",
			yes:    []string{"10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "8.8.8.8"},
			refuse: []string{"127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1", "192.0.2.1", "224.0.0.1"},
		},
		"another host": {
			config: Config{AllowHosts: []string{"collector.example", "*.corp.example"}}, host: "evilcorp.example",
			yes: []string{"8.8.8.8"}, refuse: []string{"10.1.2.3", "fd12::1"},
		},
		"a denied prefix": {
			config: Config{Deny: prefixes("8.8.8.0/24", "2606:4700::/32", "10.1.1.0/24"), Allow: prefixes("10.1.0.0/16"), AllowHosts: []string{"h.example"}}, host: "h.example",
			yes: []string{"8.8.4.4", "10.1.2.3"}, refuse: []string{"8.8.8.8", "2606:4700::1111", "10.1.1.1"},
		},
		"NAT64, of what is public": {
			config: Config{Allow: prefixes("64:ff9b::/96")},
			yes:    []string{"64:ff9b::808:808"}, refuse: []string{"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110", "64:ff9b:1::808:808"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			policy := newGuard(t, test.config).policy(test.plain, test.host)
			for _, a := range test.yes {
				if !policy.permits(netip.MustParseAddr(a)) {
					t.Errorf("%s is refused", a)
				}
			}
			for _, a := range test.refuse {
				if policy.permits(netip.MustParseAddr(a)) {
					t.Errorf("%s is permitted", a)
				}
			}
		})
	}
}

func TestURLsThatAreTaken(t *testing.T) {
	public := newGuard(t, Config{AllowHosts: []string{"kafka-events"}})
	local := newGuard(t, Config{AllowLoopback: true, Allow: prefixes("10.0.0.0/8")})
	for _, test := range []struct {
		guard *Guard
		url   string
	}{
		{public, "https://example.com"},
		{public, "https://EXAMPLE.com:8443/a/b?c=d&e=%20f"},
		{public, "https://under_score.xn--bcher-kva.example/"},
		{public, "https://8.8.8.8/"},
		{public, "https://[2606:4700::1111]:443/"},
		{public, "https://1e100.net/"},
		{public, "https://kafka-events/"},
		{public, "https://example.com/?redirect=https://user@127.0.0.1/"},
		{local, "https://127.0.0.1:8443/"},
		{local, "http://127.0.0.1/"},
		{local, "http://[::1]:8080/"},
		{local, "http://localhost:8080/"},
		{local, "http://a.localhost:8080/"},
		{local, "https://10.1.2.3/"},
	} {
		if err := test.guard.CheckURL(test.url); err != nil {
			t.Errorf("%s: %v", test.url, err)
		}
	}
	for _, u := range []string{"http://10.1.2.3/", "http://example.com/", "http://8.8.8.8/", "https://192.168.0.1/", "http://0.0.0.0/", "http://[::ffff:127.0.0.1]/", "https://127.1/"} {
		if err := local.CheckURL(u); err == nil {
			t.Errorf("%s is taken", u)
		}
	}
}

func TestAConfigurationThatWouldNotDoWhatItSaysIsRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"no prefix":             {Allow: []netip.Prefix{{}}},
		"bits behind":           {Allow: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 8)}},
		"IPv4 as IPv6":          {Deny: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		"an address as a host":  {AllowHosts: []string{"10.0.0.1"}},
		"this machine":          {AllowHosts: []string{"localhost"}},
		"a host with a port":    {AllowHosts: []string{"example.com:443"}},
		"all hosts":             {AllowHosts: []string{"*."}},
		"a negative limit":      {MaxIdle: -1},
		"a proxy of SOCKS":      {Proxy: parsed(t, "socks5://127.0.0.1:1080")},
		"a proxy with a path":   {Proxy: parsed(t, "http://127.0.0.1:1080/x")},
		"a proxy without host":  {Proxy: parsed(t, "http://:1080")},
		"a proxy with a zone":   {Proxy: parsed(t, "http://[fe80::1%25lo]:3128")},
		"a proxy with a secret": {Proxy: parsed(t, "ftp://user:hunter2@proxy.example")},
	} {
		g, err := New(c)
		if err == nil {
			g.Close()
			t.Errorf("%s: taken", name)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func parsed(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Whatever is taken has a host that means the same to everybody, and is none that is refused.
func FuzzCheckURL(f *testing.F) {
	for _, h := range refusedHosts {
		f.Add("https://" + h + "/")
	}
	for _, u := range refusedURLs {
		f.Add(u)
	}
	f.Add("https://EXAMPLE.com:8443/a/b?c=d&e=%20f")
	f.Add("https://[2606:4700::1111]:443/")
	g, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(g.Close)
	f.Fuzz(func(t *testing.T, raw string) {
		target, err := g.parse(raw)
		if err != nil {
			if kind := kindOf(err); kind != Invalid && kind != Refused {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		authority, _, _ := strings.Cut(strings.ToLower(raw[len("https://"):]), "/")
		authority, _, _ = strings.Cut(authority, "?")
		if !strings.EqualFold(raw[:len("https://")], "https://") || target.url.Host != authority || strings.ContainsAny(raw, "#\\") || strings.Contains(authority, "@") {
			t.Errorf("%q is taken, as the host %q", raw, target.url.Host)
		}
		host := target.url.Hostname()
		if a, err := netip.ParseAddr(host); err == nil {
			if !g.openAll.permits(a) {
				t.Errorf("%q is taken", raw)
			}
		} else if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || last[0] >= '0' && last[0] <= '9' && isNumber(last) || !strings.Contains(host, ".") {
			t.Errorf("%q is taken, as the host %q", raw, host)
		}
	})
}
