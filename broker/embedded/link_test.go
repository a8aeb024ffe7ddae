package embedded

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

func TestLinkCarriesAllThatIsWritten(t *testing.T) {
	client, server := link(&net.TCPAddr{})
	sent := make([]byte, 5<<20) // more than may be under way
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	var wg sync.WaitGroup
	for _, end := range []net.Conn{client, server} {
		wg.Go(func() {
			draw := rand.New(rand.NewPCG(1, 2))
			for rest := sent; len(rest) > 0; {
				n := min(1+draw.IntN(100_000), len(rest))
				if wrote, err := end.Write(rest[:n]); err != nil || wrote != n {
					t.Errorf("wrote %d of %d: %v", wrote, n, err)
					return
				}
				rest = rest[n:]
			}
		})
		wg.Go(func() {
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(end, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("another text came: %v", err)
			}
		})
	}
	wg.Wait()
	if n := cap(client.(*linkEnd).in.bytes); n > linkKeep {
		t.Errorf("%d bytes are kept for nothing", n)
	}
}

func TestLinkEndsWithEitherEnd(t *testing.T) {
	client, server := link(&net.TCPAddr{})
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		waits <- err
	}()
	time.Sleep(10 * time.Millisecond)
	_ = client.Close()
	if err := <-waits; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read was ended with %v", err)
	}
	if got, err := io.ReadAll(server); err != nil || string(got) != "last words" {
		t.Errorf("the other end read %q, %v", got, err)
	}
	if _, err := server.Write([]byte("hello?")); err == nil {
		t.Error("something was written to nobody")
	}
	if _, err := client.Write([]byte("hello?")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("wrote after the end: %v", err)
	}
}

func TestLinkKeepsDeadlines(t *testing.T) {
	client, server := link(&net.TCPAddr{})
	defer client.Close()
	defer server.Close()
	full := make([]byte, linkMost+1)
	for name, end := range map[string]func() error{
		"read":               func() error { _, err := client.Read(make([]byte, 1)); return err },
		"write without room": func() error { _, err := client.Write(full); return err },
	} {
		_ = client.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if err := end(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that is set while a read waits ends it.
	_ = client.SetDeadline(time.Time{})
	waits := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		waits <- err
	}()
	time.Sleep(10 * time.Millisecond)
	_ = client.SetReadDeadline(time.Now())
	if err := <-waits; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read that waits: %v", err)
	}
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = server.Write([]byte("x")) }()
	if n, err := client.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("after that: %d, %v", n, err)
	}
}
