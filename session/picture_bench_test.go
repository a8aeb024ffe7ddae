package session

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
)

// BenchmarkConflated tells what a second of 5,000 events on 1,000 keys costs 10,000 readers of all of them: processor time
// without sockets, which is taken of the whole process, and memory a reader. What is gathered is thrown away.
//
//	go test ./session -run - -bench Conflated -benchtime 5x
func BenchmarkConflated(b *testing.B) {
	const readers, rate, keys, step = 10_000, 5_000, 1_000, 10 * time.Millisecond
	for name, q := range map[string]Request{
		"nobody": {}, "every event": {}, "conflate=1s": {Conflate: time.Second}, "snapshot and conflate=1s": {Conflate: time.Second, From: From{Snapshot: true}},
	} {
		b.Run(name, func(b *testing.B) {
			n := readers
			if name == "nobody" {
				n = 1
			}
			log := fanouttest.NewLog(4)
			hubs, err := fanout.New(fanout.Config{Log: log})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = hubs.Run(ctx) })
			defer running.Wait()
			defer cancel()
			s := &Server{deps: Deps{Hubs: hubs, Log: log}, logger: slog.New(slog.DiscardHandler), m: newMetrics(nil)}
			pad := strings.Repeat("x", 190)
			serial := 0
			publish := func(n int) {
				for range n {
					k := serial % keys
					serial++
					key := fmt.Sprintf("/train/%04d", k)
					log.Put(k%4, broker.Record{Key: []byte(key), Timestamp: time.Now(), Value: fmt.Appendf(nil,
						`{"specversion":"1.0","id":"%09d","source":"/positions","type":"train.position.v1","subject":%q,"data":{"pad":"%s"}}`, serial, key, pad)})
				}
			}
			publish(keys)
			q.Streams = []fanout.Stream{{Name: "s", Topic: "s"}}
			q.States = []fanout.State{{Window: -1, MaxKeys: 100_000, MaxBytes: 256 << 20}}
			before := heap()
			feeds := make([]feed, n)
			var o output
			var entries []*fanout.Entry
			bytes := 0
			gather := func(f *feed) {
				f.unpark()
				for {
					o.reset()
					status := f.gather(&o, &entries, writeBytes)
					bytes += o.size()
					if status == fanout.Behind {
						if _, err := f.fill(ctx, &o, &entries, writeBytes); err != nil {
							b.Fatal(err)
						}
					} else if status == fanout.Idle && f.park() {
						return
					}
				}
			}
			for i := range feeds {
				if feeds[i], err = s.prepare(ctx, q, 0, nil, func() {}); err != nil {
					b.Fatal(err)
				}
				feeds[i].codec = sseCodec{}
				gather(&feeds[i])
			}
			held := heap() - before
			hub := feeds[0].parts[0].reader.Hub()
			began := cpuTime(b)
			bytes = 0
			for b.Loop() {
				for range time.Second / step {
					next := time.Now().Add(step)
					publish(rate * int(step) / int(time.Second))
					for end := int64(0); end < int64(serial); {
						end = 0
						for _, o := range hub.Latest() {
							end += o
						}
					}
					if q.Conflate == 0 {
						for i := range feeds {
							gather(&feeds[i])
						}
					}
					time.Sleep(time.Until(next))
				}
				for i := range feeds {
					gather(&feeds[i])
				}
			}
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N)/1e6, "cpu-ms/s")
			b.ReportMetric(float64(bytes)/float64(b.N)/1e6, "MB/s")
			b.ReportMetric(float64(held)/float64(n), "B/reader")
			b.ReportMetric(0, "ns/op")
			for i := range feeds {
				feeds[i].unpark()
				feeds[i].close()
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
