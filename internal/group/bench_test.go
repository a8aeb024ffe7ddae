package group

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkTenSessionsShare is an event taken and acknowledged, in a group of ten sessions on one replica that work off
// twelve partitions.
func BenchmarkTenSessionsShare(b *testing.B) {
	for _, ordered := range []bool{true, false} {
		b.Run(map[bool]string{true: "by key", false: "unordered"}[ordered], func(b *testing.B) {
			w := newWorld(b, 12, func(s *Subscription) { s.Ordered, s.MaxUncommitted = ordered, 10_000 })
			gs := w.replica()
			var keys []string
			for k := range 5000 {
				keys = append(keys, fmt.Sprintf("/train/%d", k))
			}
			for left := b.N; left > 0; left -= 1000 {
				w.publish(min(left, 1000), keys...)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var (
				sessions sync.WaitGroup
				done     atomic.Int64
				end      = make(chan struct{})
			)
			for range 10 {
				c := w.open(gs)
				sessions.Go(func() {
					for {
						got, _ := c.m.Take(nil, 1000, 1<<20)
						if len(got) == 0 {
							select {
							case <-c.wake:
								continue
							case <-end:
								return
							}
						}
						a, err := gs.Say(b.Context(), subscriptionID, []Word{{To: c.cursor(got[len(got)-1])}})
						if err != nil {
							b.Error(err)
							return
						}
						if done.Add(int64(a.Acknowledged)) >= int64(b.N) {
							close(end)
							return
						}
					}
				})
			}
			sessions.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
