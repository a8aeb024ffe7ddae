package guard

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// BenchmarkDo sends a kilobyte to a receiver in the same process: half of the time is the receiver's.
func BenchmarkDo(b *testing.B) {
	body := bytes.Repeat([]byte("a"), 1024)
	send := func(b *testing.B, client *Client, at string) {
		ctx, cancel := context.WithTimeout(b.Context(), 15*time.Second)
		defer cancel()
		resp, err := client.Do(ctx, Request{URL: at, Body: body, Header: http.Header{
			"Content-Type": {"application/cloudevents+json"}, "Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {"v1,a"},
		}})
		if err != nil || resp.Status != http.StatusNoContent {
			b.Errorf("%+v, %v", resp, err)
		}
	}
	identity := newIdentity(b, tomorrow(), "127.0.0.1")
	for name, at := range map[string]string{
		"lean":  "http://" + leanReceiver(b, 1024),
		"http":  plainServer(b, noContent).URL,
		"https": secureServer(b, "127.0.0.1:0", identity, nil, noContent).URL,
	} {
		for _, clients := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/clients=%d", name, clients), func(b *testing.B) {
				g := newGuard(b, Config{AllowLoopback: true, RootCAs: identity.pool()})
				all := make(chan *Client, max(clients, 64))
				for range clients {
					c := newClient(b, g, webhook.Credential{Type: webhook.AccessToken, Secret: "abc"})
					for range cap(all) / clients {
						all <- c
					}
				}
				b.ReportAllocs()
				b.SetParallelism(16)
				before := processorTime(b)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						c := <-all
						send(b, c, at)
						all <- c
					}
				})
				b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func BenchmarkCheckURL(b *testing.B) {
	g := newGuard(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		if err := g.CheckURL("https://events.example.com/hooks/12345?a=b"); err != nil {
			b.Fatal(err)
		}
	}
}

// processorTime is what the process used until now, which says more than the clock on a machine that others use too.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// leanReceiver answers each request, whose body is of that size, as cheaply as can be: what is left is the sender's.
func leanReceiver(b *testing.B, body int) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var receivers sync.WaitGroup
	receivers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			receivers.Go(func() {
				defer c.Close()
				buf, n := make([]byte, 16<<10), 0
				for {
					more, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					n += more
					if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end >= 0 && n >= end+4+body {
						if _, err := io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
							return
						}
						n = 0
					}
				}
			})
		}
	})
	b.Cleanup(func() {
		_ = l.Close()
		receivers.Wait()
	})
	return l.Addr().String()
}
