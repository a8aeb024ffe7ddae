package guard

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// identity is a certificate, its own authority, and its key.
type identity struct {
	tls         tls.Certificate
	leaf        *x509.Certificate
	certificate string // PEM
	key         string // PEM
}

func newIdentity(t testing.TB, notAfter time.Time, names ...string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return identity{
		tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, leaf: leaf,
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
	}
}

func (i identity) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.leaf)
	return p
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

func newGuard(t testing.TB, c Config) *Guard {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func newClient(t testing.TB, g *Guard, c webhook.Credential) *Client {
	t.Helper()
	client, err := g.Client("owner", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// plainServer is an HTTP server on loopback.
func plainServer(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// secureServer is an HTTPS server at the address, "127.0.0.1:0" say.
func secureServer(t testing.TB, addr string, i identity, config *tls.Config, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	if config == nil {
		config = new(tls.Config)
	}
	config.Certificates = []tls.Certificate{i.tls}
	s.TLS = config
	s.EnableHTTP2 = true
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// scripted answers each connection, which is closed after it, by the script.
func scripted(t testing.TB, script func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			script(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// canary notices whoever connects to this machine.
type canary struct {
	listener net.Listener
	port     string
	first    chan string // the first peer's address
	visits   atomic.Int64
	done     chan struct{}
}

func newCanary(t testing.TB, addr string) *canary {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{listener: l, first: make(chan string, 1), done: make(chan struct{})}
	_, c.port, _ = net.SplitHostPort(l.Addr().String())
	go func() {
		defer close(c.done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if c.visits.Add(1) == 1 {
				c.first <- conn.RemoteAddr().String()
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-c.done
	})
	return c
}

// unvisited holds that nobody connected: the first who does is the test itself.
func (c *canary) unvisited(t testing.TB) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", c.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, want, _ := net.SplitHostPort(conn.LocalAddr().String())
	if _, got, _ := net.SplitHostPort(<-c.first); got != want {
		t.Errorf("somebody connected to the canary %d times", c.visits.Load()-1)
	}
}

// kindOf gives an error's kind; 0: it is none of the guard's.
func kindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return 0
}

// fixed is a resolver of fixed answers.
type fixed map[string][]string

func (f fixed) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	texts, ok := f[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	addrs := make([]netip.Addr, len(texts))
	for i, text := range texts {
		addrs[i] = netip.MustParseAddr(text)
	}
	return addrs, nil
}

// stuck tells that a name is looked up, and waits for the context.
type stuck chan struct{}

func (s stuck) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	close(s)
	<-ctx.Done()
	return nil, ctx.Err()
}
