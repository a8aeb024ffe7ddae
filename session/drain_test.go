package session

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/broker"
)

func TestAPeerThatDoesNotReadHoldsUpNoDrain(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{Stall: time.Hour}, false)
	nc, err := net.Dial("tcp", r.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := fmt.Fprint(nc, "GET /?as=sse&stream=a HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	c := r.connect(t, "sse", "stream=a")
	c.must()
	for r.Count() < 2 {
		time.Sleep(time.Millisecond)
	}
	pad := strings.Repeat("x", 500_000)
	const n = 40 // far beyond what a socket's buffers hold
	for i := range n {
		for _, a := range s.log.Append(t.Context(), "a", []broker.Message{{Partition: 0, Value: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":%q}`, 2*i, pad)}}) {
			if a.Err != nil {
				t.Fatal(a.Err)
			}
		}
		c.ids(1)
	}
	if written := testutil.ToFloat64(r.m.bytes); written > 2*n*500_000 {
		t.Fatalf("%v bytes were written: the peer is not stalled", written)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		t.Error(err)
	}
}
