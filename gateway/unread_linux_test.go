package gateway

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Thousands that come back at once may all have asked before the first of them is read.
func TestConnectionsThatWaitForTheServerAreNotClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := &connections{most: 8, mostWaiting: 3, taken: func() int { return 0 }, shed: prometheus.NewCounter(prometheus.CounterOpts{Name: "shed_total", Help: "Connections closed."})}
	come := func(says string) *visitor {
		v := visit(t, listener.Addr().String(), false)
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(v, says); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); says != "" && unread(conn) == 0; {
			if time.Now().After(deadline) {
				t.Fatal("what was sent does not come")
			}
			time.Sleep(time.Millisecond)
		}
		c.changed(conn, http.StateNew)
		return v
	}
	shed := func() float64 { return testutil.ToFloat64(c.shed) }
	for range 6 {
		come("GET / HTTP/1.1")
	}
	if shed() != 0 {
		t.Fatalf("%v of those that are not read yet were closed", shed())
	}
	if silent := come(""); !silent.gone(t) || shed() != 1 {
		t.Errorf("the one that says nothing is still open, and %v were closed", shed())
	}
	for range 2 {
		come("GET / HTTP/1.1")
	}
	if shed() != 1 {
		t.Errorf("%v were closed while there was room for all", shed())
	}
	come("GET / HTTP/1.1")
	if shed() != 2 {
		t.Errorf("%v were closed, where all together are one too many", shed())
	}
}
