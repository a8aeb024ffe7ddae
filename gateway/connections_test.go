package gateway

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// visitor is a connection by hand.
type visitor struct {
	net.Conn

	in *bufio.Reader
}

func visit(t *testing.T, addr string, secure bool) *visitor {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &visitor{conn, bufio.NewReader(conn)}
}

// ask sends a request and gives the answer's status; 0 where the connection is closed.
func (v *visitor) ask(t *testing.T, path string) int {
	t.Helper()
	if _, err := io.WriteString(v, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0
	}
	resp, err := http.ReadResponse(v.in, nil)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("neither an answer nor the end of the connection")
		}
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// gone says that the server has closed the connection.
func (v *visitor) gone(t *testing.T) bool {
	t.Helper()
	_, err := v.in.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection is still open")
	}
	return err != nil
}

// limited serves with limits. Requests for /slow are answered once release is called, and at the end of the test.
func limited(t *testing.T, secure bool, c Config) (addr string, g *Gateway, release func()) {
	t.Helper()
	g = &Gateway{config: c, log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry())}
	slow := make(chan struct{})
	release = sync.OnceFunc(func() { close(slow) })
	g.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).Flush()
			<-slow
			_, _ = io.WriteString(w, "done")
		}
	})
	var certificates *Certificates
	if secure {
		certFile, keyFile := writeCertificate(t, t.TempDir(), "limits")
		var err error
		if certificates, err = LoadCertificates(certFile, keyFile, g.log); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := g.Server(certificates)
	ended := make(chan error, 1)
	go func() {
		if secure {
			ended <- s.ServeTLS(listener, "", "")
		} else {
			ended <- s.Serve(listener)
		}
	}()
	t.Cleanup(func() {
		release()
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return listener.Addr().String(), g, release
}

func TestConnectionsThatSayNothingKeepNobodyOut(t *testing.T) {
	for name, c := range map[string]Config{"by those that wait": {MaxWaiting: 10}, "by all": {MaxConnections: 10}} {
		for _, secure := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				addr, g, _ := limited(t, secure, c)
				var silent []*visitor
				for range 30 {
					silent = append(silent, visit(t, addr, false))
				}
				if status := visit(t, addr, secure).ask(t, "/"); status != http.StatusOK {
					t.Errorf("who asks at once is answered %d beside %d that say nothing", status, len(silent))
				}
				for _, v := range silent[:20] {
					if !v.gone(t) {
						t.Error("one of the oldest that say nothing is answered")
					}
				}
				if shed := testutil.ToFloat64(g.metrics.shed); shed != 21 {
					t.Errorf("%v connections were closed, want as many as are over the limit, 21", shed)
				}
			})
		}
	}
}

func TestRequestsUnderWayAreNotClosedForOthers(t *testing.T) {
	addr, _, release := limited(t, false, Config{MaxConnections: 3, MaxWaiting: 3})
	var busy []io.ReadCloser
	for range 3 {
		v := visit(t, addr, false)
		if _, err := io.WriteString(v, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(v.in, nil) // the handler runs
		if err != nil {
			t.Fatal(err)
		}
		busy = append(busy, resp.Body)
	}
	if over := visit(t, addr, false); !over.gone(t) {
		t.Error("one more is taken")
	}
	release()
	for i, body := range busy {
		if all, err := io.ReadAll(body); err != nil || string(all) != "done" {
			t.Errorf("request %d was cut after %q: %v", i, all, err)
		}
		_ = body.Close()
	}
}

func TestKeptConnectionsMakeRoomForNewOnes(t *testing.T) {
	addr, _, _ := limited(t, false, Config{MaxWaiting: 2})
	kept := visit(t, addr, false)
	if kept.ask(t, "/") != http.StatusOK {
		t.Fatal("not answered")
	}
	for range 5 {
		if v := visit(t, addr, false); v.ask(t, "/") != http.StatusOK {
			t.Error("a new connection is not answered")
		}
	}
	if !kept.gone(t) {
		t.Error("the one that was kept for its next request the longest is still open")
	}
}
