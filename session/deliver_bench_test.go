package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// BenchmarkDeliver tells what an event costs from the log to the sockets of its sessions, of which shards drive very many:
// they share one socket whose other end counts, since descriptors would run out. "one of N" are sessions with a filter of their
// own, of which each event is for one.
//
//	go test ./session -run - -bench Deliver -benchtime 20000x
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("one of %d", n), func(b *testing.B) {
			benchmarkDeliver(b, n, func(i int) *filter.Filter {
				f, err := filter.Compile(filter.Query{Subjects: []string{fmt.Sprintf("/train/%d", i)}})
				if err != nil {
					b.Fatal(err)
				}
				return f
			}, 1, bySSE)
		})
	}
	for name, to := range map[string]bearer{"": bySSE, " by WebSocket": byWebSocket(false), " by WebSocket, compressed": byWebSocket(true)} {
		b.Run("all of 1000"+name, func(b *testing.B) { benchmarkDeliver(b, 1_000, func(int) *filter.Filter { return nil }, 1_000, to) })
	}
}

// bearer is a transport: how a connection is made to speak it, and how many events are in what is written at once.
type bearer struct {
	take   func(*Server, *conn)
	events func(written []byte) int
}

var bySSE = bearer{
	take:   func(_ *Server, c *conn) { c.feed.codec = sseCodec{} },
	events: func(b []byte) int { return bytes.Count(b, []byte("\ndata: ")) },
}

func byWebSocket(zip bool) bearer {
	return bearer{
		take: func(s *Server, c *conn) {
			c.feed.codec = &eventCodec{source: "/bench", id: controlIDs()}
			c.frames = &frames{Conn: deaf{}, conn: c, byShard: true, cancel: func() {}}
			if zip {
				c.frames.framer = framer{zip: s.zip, takeover: true}
			}
		},
		events: func(b []byte) (n int) {
			for ; len(b) > 0; n++ {
				size := 2 + int(b[1])
				if b[1] == 126 {
					size = 4 + int(binary.BigEndian.Uint16(b[2:]))
				}
				b = b[size:]
			}
			return n
		},
	}
}

// benchmarkDeliver publishes to n sessions, each event for so many of them.
func benchmarkDeliver(b *testing.B, n int, filterOf func(int) *filter.Filter, each int, by bearer) {
	log := fanouttest.NewLog(4)
	s, err := New(Config{MaxSessions: n, MaxPerAddress: n, Heartbeat: time.Hour, Flush: -1})
	if err != nil {
		b.Fatal(err)
	}
	hubs, err := fanout.New(fanout.Config{Log: log, Shards: s.Shards()})
	if err != nil {
		b.Fatal(err)
	}
	s.Use(Deps{Hubs: hubs, Log: log})
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = hubs.Run(ctx) })
	running.Go(func() { _ = s.Run(ctx) })
	sink := newCountingSink(b, by.events)
	defer running.Wait()
	defer cancel()
	before := heap()
	for i := range n {
		q := Request{Streams: []fanout.Stream{{Name: "s", Topic: "s"}}, Filter: filterOf(i), Flush: -1, Heartbeat: time.Hour}
		c, at := s.newConn(infoOf("sse", q), q)
		if err := s.admit(&c.entry); err != nil {
			b.Fatal(err)
		}
		if c.feed, err = s.prepare(ctx, q, at, c, func() {}); err != nil {
			b.Fatal(err)
		}
		by.take(s, c)
		c.net, c.fd = deaf{fd: sink.fd}, sink.fd
		c.shard.start(c)
	}
	pad := strings.Repeat("x", 250)
	serial := 0
	publish := func() {
		subject := fmt.Sprintf("/train/%d", serial*7919%n)
		log.Put(serial%4, broker.Record{Timestamp: time.Now(), Value: fmt.Appendf(nil,
			`{"specversion":"1.0","id":"%09d","source":"/positions","type":"train.position.v1","subject":%q,"data":{"pad":"%s"}}`, serial, subject, pad)})
		serial++
	}
	ahead := max(1, 100/each) // events under way
	settle := func(under int) {
		for serial-int(sink.events.Load())/each > under {
			time.Sleep(20 * time.Microsecond)
		}
	}
	for range 200 { // what grows once
		publish()
		settle(0)
	}
	held := heap() - before
	var from, to runtime.MemStats
	runtime.ReadMemStats(&from)
	began, bytes := cpuTime(b), sink.bytes.Load()
	for b.Loop() {
		publish()
		settle(ahead)
	}
	settle(0)
	took := cpuTime(b) - began
	runtime.ReadMemStats(&to)
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "cpu-ns/event")
	b.ReportMetric(float64(to.Mallocs-from.Mallocs)/float64(b.N)/float64(each), "allocs/delivery")
	b.ReportMetric(float64(sink.bytes.Load()-bytes)/float64(b.N)/float64(each), "B/delivery")
	b.ReportMetric(float64(held)/float64(n), "B/session")
}

// deaf is a connection that nothing is to be done with beside writing to its descriptor.
type deaf struct {
	net.Conn
	fd int
}

func (d deaf) Write(b []byte) (int, error)    { return unix.Write(d.fd, b) }
func (deaf) Close() error                     { return nil }
func (deaf) SetWriteDeadline(time.Time) error { return nil }

// countingSink is a socket whose other end counts the events that come, and throws them away.
type countingSink struct {
	fd     int // blocking
	events atomic.Int64
	bytes  atomic.Int64
}

func newCountingSink(b *testing.B, events func([]byte) int) *countingSink {
	b.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	for _, fd := range pair {
		for _, size := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, size, 4<<20)
		}
	}
	sink := &countingSink{fd: pair[0]}
	from := os.NewFile(uintptr(pair[1]), "sink")
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 4*writeBytes)
		for {
			n, err := from.Read(buffer)
			if n <= 0 || err != nil {
				return
			}
			sink.events.Add(int64(events(buffer[:n])))
			sink.bytes.Add(int64(n))
		}
	})
	b.Cleanup(func() {
		_ = unix.Close(pair[0]) // the other end reads to its end
		reading.Wait()
		_ = from.Close()
	})
	return sink
}
