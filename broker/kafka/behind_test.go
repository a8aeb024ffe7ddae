package kafka_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

// A look that a broker handled before the fetch shows nothing: what it says must have been true after the records were found.
func TestALookFollowsEachFetchThatWaitsAndNeverLeadsIt(t *testing.T) {
	for name, c := range map[string]struct {
		config kafka.Config
		unit   string // what a poll is, to the broker
	}{
		"in order":            {kafka.Config{InOrder: true}, "FM"},
		"in any order":        {kafka.Config{}, "F"},
		"deletions are known": {kafka.Config{InOrder: true, Deletions: func() uint64 { return 0 }}, "F"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fakeCluster(t, kfake.NumBrokers(1))
			c.config.Brokers, c.config.MetadataEvery = cluster.ListenAddrs(), time.Hour
			log := open(t, c.config)
			epoch := makeTopic(t, log, "there", 1)
			other := open(t, kafka.Config{Brokers: cluster.ListenAddrs(), MetadataEvery: time.Hour})
			appendOne(t, other, "there", broker.Message{Value: []byte("0")})
			w := newWatcher()
			tail(t, log, "there", epoch, 1, w)
			w.await(t, "the first record", func() bool { return len(w.records) == 1 })
			time.Sleep(600 * time.Millisecond) // the first poll on a connection has none behind it

			var mu sync.Mutex
			var asked strings.Builder
			for key, letter := range map[kmsg.Key]string{kmsg.Fetch: "F", kmsg.Metadata: "M"} {
				cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					mu.Lock()
					defer mu.Unlock()
					asked.WriteString(letter)
					return nil, nil, false
				})
			}
			for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
				mu.Lock()
				got := asked.String()
				mu.Unlock()
				if polls := strings.Count(got, "F"); polls > 4 {
					got = got[strings.Index(got, "F"):]
					if want := strings.Repeat(c.unit, polls); !strings.HasPrefix(want, got) {
						t.Errorf("asked %s, want %s", got, want)
					}
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("asked only %s", got)
				}
			}
			appendOne(t, other, "there", broker.Message{Value: []byte("1")})
			w.await(t, "a record after a pause", func() bool { return len(w.records) == 2 })
		})
	}
}
