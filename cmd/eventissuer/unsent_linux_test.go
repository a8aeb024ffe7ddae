package main

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A client that reads nothing is given what its own kernel takes, and little more: what is written after that waits.
func TestASlowConnectionHoldsLittleThatIsUnsent(t *testing.T) {
	var lc net.ListenConfig
	inner, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := shallow{inner}
	defer listener.Close()
	var d net.Dialer
	client, err := d.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("the connection is a %T: a session that is to be driven without a goroutine needs its socket", conn)
	}
	taken := 0
	for piece := make([]byte, 16<<10); taken < 16<<20; {
		if err := conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Write(piece)
		taken += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if taken > 512<<10 {
		t.Errorf("%d KiB were taken from a client that reads nothing", taken>>10)
	}
	t.Logf("%d KiB were taken", taken>>10)
}
