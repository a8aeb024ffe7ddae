package gateway

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
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a new self-signed certificate for 127.0.0.1, by way of renames as renewal tools do.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestCertificateIsLoadedAgainWhenItsFilesChange(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "first")
	c, err := LoadCertificates(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx, time.Millisecond) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	name := func() string {
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return cert.Subject.CommonName
	}
	if name() != "first" {
		t.Fatalf("the certificate is %s", name())
	}
	// A file that cannot be read keeps the old one.
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, dir, "second")
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for name() != "second" {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the certificate is still %s", name())
		}
	}
}

func TestHTTP2IsSpokenOverTLS(t *testing.T) {
	h := newHarness(t).withTrains()
	certFile, keyFile := writeCertificate(t, t.TempDir(), "server")
	c, err := LoadCertificates(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := h.edge.Server(c)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(listener, "", "") }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.ClientConfig(), ForceAttemptHTTP2: true}}
	defer func() {
		client.CloseIdleConnections()
		if err := Shutdown(context.Background(), server); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	address := "https://" + listener.Addr().String()
	for _, tc := range []struct {
		body   string
		status int
	}{
		{trainEvent("1", ""), http.StatusOK},
		{trainEvent("2", `,"data":"`+strings.Repeat("x", 3<<20)+`"`), http.StatusRequestEntityTooLarge},
		{trainEvent("3", ""), http.StatusOK}, // on the same connection: a refusal ends one stream alone
	} {
		res, err := client.Post(address+"/v1/events", "application/cloudevents+json", strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != tc.status || res.ProtoMajor != 2 {
			t.Errorf("status %d over HTTP/%d, %v: %s", res.StatusCode, res.ProtoMajor, err, body)
		}
		if res.Header.Get("Strict-Transport-Security") == "" {
			t.Error("over TLS, browsers are not told to stay with it")
		}
	}
	writeCertificate(t, filepath.Dir(certFile), "other") // not loaded: nobody watches
	other := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	defer other.CloseIdleConnections()
	if res, err := other.Get(address + "/healthz"); err == nil {
		_ = res.Body.Close()
		t.Error("a client that knows nothing of the certificate trusts it")
	}
}

func TestHeadersAreBounded(t *testing.T) {
	h := newHarness(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 128<<10))
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
	if s := h.edge.Server(nil); s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 || s.WriteTimeout != 0 {
		t.Error("slow headers and idle connections must be bounded, and writes must not be: sessions last")
	}
}
