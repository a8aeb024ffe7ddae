package guard

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// nameServer answers over UDP what the zone says at the n-th question for a name, n from 1.
func nameServer(t testing.TB, zone func(name string, n int) []string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		asked := make(map[dnsmessage.Question]int)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			asked[q]++
			answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true}, Questions: m.Questions}
			header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
			addrs := zone(strings.TrimSuffix(q.Name.String(), "."), asked[q])
			if addrs == nil {
				answer.RCode = dnsmessage.RCodeNameError
			}
			for _, text := range addrs {
				a := netip.MustParseAddr(text)
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			packed, err := answer.Pack()
			if err != nil {
				continue
			}
			_, _ = conn.WriteTo(packed, from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestNamesOfRefusedAddressesAreNotDialled(t *testing.T) {
	canary := newCanary(t, ":0")
	zone := map[string][]string{
		"loop.example": {"127.0.0.1"}, "loop6.example": {"::1"}, "zero.example": {"0.0.0.0"}, "zero6.example": {"::"}, "mapped.example": {"::ffff:127.0.0.1"},
		"compatible.example": {"::127.0.0.1"}, "nat64.example": {"64:ff9b::7f00:1"}, "sixtofour.example": {"2002:7f00:1::1"},
		"private.example": {"10.0.0.1", "192.168.1.1", "fd00::1"}, "metadata.example": {"169.254.169.254"}, "azure.example": {"168.63.129.16"},
		"all.example": {"127.0.0.1", "::1", "10.0.0.1", "0.0.0.0"}, "127.0.0.1.nip.example": {"127.0.0.1"}, "xn--127-0-0-1-x.example": {"127.0.0.1"},
		"localtest.example": {"127.0.0.1", "::1"}, "multicast.example": {"224.0.0.1"}, "a.example": {"172.16.0.1"},
	}
	g := newGuard(t, Config{Resolver: nameServer(t, func(name string, _ int) []string { return zone[name] })})
	client := newClient(t, g, webhook.Credential{})
	for name := range zone {
		u := "https://" + name + ":" + canary.port + "/"
		if err := g.CheckURL(u); err != nil {
			t.Errorf("%s: %v", name, err) // a name is not looked up before it is dialled
		}
		_, err := client.Do(t.Context(), Request{URL: u})
		if kindOf(err) != Refused {
			t.Errorf("%s: %v", name, err)
		}
		for _, addrs := range zone[name] {
			if err != nil && !strings.Contains(name, addrs) && strings.Contains(err.Error(), addrs) {
				t.Errorf("%s: the error tells an address: %v", name, err)
			}
		}
	}
	if _, err := client.Do(t.Context(), Request{URL: "https://nowhere.example/"}); kindOf(err) != DNS {
		t.Errorf("a name without addresses: %v", err)
	}
	canary.unvisited(t)
}

// A name that leads to what may be reached and to what may not is dialled at the first alone.
func TestOfMixedAnswersOnlyThePermittedAreDialled(t *testing.T) {
	i := newIdentity(t, tomorrow(), "mixed.example", "dead.example")
	good := secureServer(t, "127.0.0.2:0", i, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	_, port, _ := net.SplitHostPort(good.Listener.Addr().String())
	canary := newCanary(t, "127.0.0.1:"+port)
	g := newGuard(t, Config{
		RootCAs: i.pool(), Allow: prefixes("127.0.0.2/32", "127.0.0.3/32"),
		Resolver: nameServer(t, func(name string, _ int) []string {
			if name == "mixed.example" {
				return []string{"127.0.0.1", "::1", "127.0.0.3", "127.0.0.2", "10.0.0.1"} // nobody listens on 127.0.0.3
			}
			return []string{"127.0.0.1", "127.0.0.3"}
		}),
	})
	client := newClient(t, g, webhook.Credential{})
	resp, err := client.Do(t.Context(), Request{URL: "https://mixed.example:" + port + "/"})
	if err != nil || resp.Status != http.StatusNoContent {
		t.Errorf("%+v, %v", resp, err)
	}
	if _, err := client.Do(t.Context(), Request{URL: "https://dead.example:" + port + "/"}); kindOf(err) != Connect {
		t.Errorf("where only one that is refused listens: %v", err)
	}
	canary.unvisited(t)
}

// What is checked is what is dialled, however often the name server changes its mind.
func TestRebindingLeadsNowhere(t *testing.T) {
	i := newIdentity(t, tomorrow(), "rebind.example")
	good := secureServer(t, "127.0.0.2:0", i, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusNoContent)
	})
	good.Config.SetKeepAlivesEnabled(false)
	_, port, _ := net.SplitHostPort(good.Listener.Addr().String())
	canary := newCanary(t, "127.0.0.1:"+port)
	for name, keep := range map[string]time.Duration{"unkept": -1, "kept": time.Nanosecond} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, Config{
				RootCAs: i.pool(), Allow: prefixes("127.0.0.2/32"), DNSCache: keep,
				Resolver: nameServer(t, func(_ string, n int) []string {
					if n%2 == 1 {
						return []string{"127.0.0.2"}
					}
					return []string{"127.0.0.1"}
				}),
			})
			var reached, refused int
			for range 20 {
				client := newClient(t, g, webhook.Credential{})
				switch _, err := client.Do(t.Context(), Request{URL: "https://rebind.example:" + port + "/"}); {
				case err == nil:
					reached++
				case kindOf(err) == Refused:
					refused++
				default:
					t.Error(err)
				}
			}
			if reached != 10 || refused != 10 {
				t.Errorf("%d requests reached the address that is allowed, and %d were refused", reached, refused)
			}
		})
	}
	canary.unvisited(t)
}

type countingResolver struct {
	mu    sync.Mutex
	asked []string
	delay time.Duration
}

func (r *countingResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	r.asked = append(r.asked, host)
	r.mu.Unlock()
	time.Sleep(r.delay)
	if strings.HasPrefix(host, "missing") {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

func TestNamesAreLookedUpOnceForAllThatWantThemAndKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &countingResolver{delay: time.Second}
		n := newNames(r, 5*time.Second, func(host string) bool { return host == "inside" }, newMetrics(nil, &Guard{}))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if addrs, err := n.lookup(t.Context(), "a.example"); err != nil || len(addrs) != 1 {
					t.Errorf("%v, %v", addrs, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(3 * time.Second) // of the bubble's clock
		for range 3 {
			_, _ = n.lookup(t.Context(), "a.example")
			_, _ = n.lookup(t.Context(), "missing.example")
		}
		if got := strings.Join(r.asked, " "); got != "a.example. missing.example." {
			t.Errorf("looked up: %s", got)
		}
		time.Sleep(3 * time.Second)
		_, _ = n.lookup(t.Context(), "a.example")
		_, _ = n.lookup(t.Context(), "missing.example")
		_, _ = n.lookup(t.Context(), "inside")
		if got := strings.Join(r.asked, " "); got != "a.example. missing.example. a.example. missing.example. inside" {
			t.Errorf("looked up: %s", got)
		}
	})
}

// One caller that gives up does not spoil it for the others.
func TestALookupOutlivesTheCallerThatGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cached[string]
		fetch := func(ctx context.Context) (string, time.Time, error) {
			select {
			case <-ctx.Done():
				return "", time.Time{}, ctx.Err()
			case <-time.After(time.Second):
				return "value", time.Now().Add(time.Minute), nil
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := c.get(ctx, "waiting", fetch); err == nil {
				t.Error("the caller that gave up was given a value")
			}
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				if v, _, err := c.get(t.Context(), "waiting", fetch); v != "value" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestAddressesKeptAreBounded(t *testing.T) {
	n := newNames(fixed{}, time.Minute, func(string) bool { return true }, newMetrics(nil, &Guard{}))
	for i := range maxNames + 100 {
		_, _ = n.lookup(t.Context(), "h"+time.Duration(i).String())
	}
	if len(n.entries) != maxNames {
		t.Errorf("%d names are kept", len(n.entries))
	}
}

func TestFamiliesAreTriedInTurn(t *testing.T) {
	var addrs []netip.Addr
	for _, text := range []string{"2a00::1", "2a00::2", "10.0.0.1", "2a00::3", "8.8.8.8", "2a00::4", "2a00::5", "2a00::6"} {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	var got []string
	for _, a := range alternate(addrs, 443, func(a netip.Addr) bool { return !a.IsPrivate() }) {
		got = append(got, a.Addr().String())
	}
	if want := "2a00::1 8.8.8.8 2a00::2 2a00::3 2a00::4 2a00::5"; strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
}

// Some resolvers give IPv4 as IPv6: the address is what counts.
func TestMappedAnswersAreIPv4(t *testing.T) {
	r := fixed{"a.example.": {"::ffff:127.0.0.1", "::ffff:8.8.8.8", "2606:4700::1111"}}
	addrs, err := newNames(r, time.Minute, func(string) bool { return false }, newMetrics(nil, &Guard{})).lookup(t.Context(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	got := alternate(addrs, 443, newGuard(t, Config{}).openAll.permits)
	want := []netip.AddrPort{netip.MustParseAddrPort("8.8.8.8:443"), netip.MustParseAddrPort("[2606:4700::1111]:443")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
