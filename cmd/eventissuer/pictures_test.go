package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// painter keeps a picture of what is true now: the id of the latest event of each subject that it has been told of. It reads
// over one transport, from any server, and comes back with its last cursor to any whenever the connection ends.
type painter struct {
	name    string
	servers []*server
	read    transport
	query   url.Values
	wants   func(id string) bool

	mu        sync.Mutex
	picture   map[string]string // guarded by mu
	snapshots int               // that were begun; guarded by mu
	drawing   bool              // a snapshot is under way; guarded by mu
	cursor    string            // guarded by mu
	problem   error             // what must not come; guarded by mu
}

func (p *painter) paint(ctx context.Context, draw *rand.Rand) {
	for ctx.Err() == nil {
		p.mu.Lock()
		p.drawing = false
		after := p.cursor
		p.mu.Unlock()
		_ = p.read(ctx, p.servers[draw.IntN(len(p.servers))], p.query, after, p.take) // which ends with every kill
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(20+draw.IntN(100)) * time.Millisecond):
		}
	}
}

func (p *painter) take(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.control {
	case "snapshot":
		p.picture, p.drawing = map[string]string{}, true
		p.snapshots++
	case "live":
		p.drawing = false
	case "removed":
		var gone struct{ Subject string }
		if err := json.Unmarshal(m.payload, &gone); err != nil {
			p.problem = err
		}
		delete(p.picture, gone.Subject)
	case "problem", "skipped":
		p.problem = fmt.Errorf("%s %s", m.control, m.payload)
	}
	for _, id := range m.ids {
		if p.picture[id[:3]] = id; !p.wants(id) {
			p.problem = fmt.Errorf("it was given %s", id)
		}
	}
	if m.cursor != "" {
		p.cursor = m.cursor
	}
	return nil
}

// shows compares the picture with the log's, as far as the painter wants that.
func (p *painter) shows(truth map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.problem != nil {
		return p.problem
	}
	wanted := maps.Clone(truth)
	maps.DeleteFunc(wanted, func(_, id string) bool { return !p.wants(id) })
	if p.drawing || !maps.Equal(p.picture, wanted) {
		return fmt.Errorf("its picture is %v, the log's %v", p.picture, wanted)
	}
	return nil
}

// latestOf reads a topic from the log itself: the id of the latest event of each key.
func latestOf(t *testing.T, cfg kafka.Config, topic string) map[string]string {
	t.Helper()
	latest := map[string]string{}
	eachRecord(t, cfg, topic, func(r broker.Record) {
		if e, err := event.FromRecord(r); err == nil {
			latest[string(r.Key)] = e.ID()
		} else {
			delete(latest, string(r.Key))
		}
	})
	return latest
}

// changer publishes events and tombstones of some subjects, each again until it is acknowledged, through whichever server
// lives.
type changer struct {
	servers  []*server
	subjects int
	serial   atomic.Int64
}

func (c *changer) run(ctx context.Context, t *testing.T, draw *rand.Rand, n int) {
	for range n {
		subject := draw.IntN(c.subjects)
		gone := draw.IntN(8) == 0
		id := eventID(subject, int(c.serial.Add(1)))
		for {
			v := c.servers[draw.IntN(len(c.servers))]
			trying, cancel := context.WithTimeout(ctx, 15*time.Second)
			var err error
			if gone {
				var status int
				if status, _, err = v.try(trying, http.MethodPost, "/v1/events:tombstone", map[string]any{"type": "e2e.a", "key": id[:3]}); err == nil && status != http.StatusOK {
					err = fmt.Errorf("answered %d", status)
				}
			} else {
				_, err = v.publishOne(trying, eventJSON(id, strings.Repeat("p", draw.IntN(300))))
			}
			cancel()
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				t.Errorf("%s was not acknowledged: %v", id, err)
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// Clients that keep a picture, over every transport that stays open, with every event or the latest of each key alone, have
// the log's picture at every quiet moment, whichever replicas were killed meanwhile, and in the middle of whatever.
func TestPicturesAreTheLogsThroughKilledReplicas(t *testing.T) {
	seed := seedOf(t)
	draw := rand.New(rand.NewPCG(seed, 7))
	brokers, prefix := testenv.Kafka(t), testenv.Name("pictures")+"."
	shared := storage{"--kafka-brokers", brokers, "--redis-url", testenv.Redis(t), "--topic-prefix", prefix}
	servers := []*server{startServer(t, shared), startServer(t, shared), startServer(t, shared)}
	servers[0].call(t, http.StatusCreated, http.MethodPost, "/v1/streams", map[string]any{
		"name": theStream, "partitions": 3, "compaction": true, "state": map[string]any{},
	})
	servers[0].call(t, http.StatusCreated, http.MethodPost, "/v1/event-types", map[string]any{"type": "e2e.*", "stream": theStream, "dedupe": "0s"})
	for _, v := range servers {
		eventually(t, "every replica knows the event types", func() bool {
			status, _, err := v.try(t.Context(), http.MethodGet, "/v1/event-types/e2e.*", nil)
			return err == nil && status == http.StatusOK
		})
	}

	ctx, cancel := context.WithCancel(t.Context())
	var painting sync.WaitGroup
	defer painting.Wait()
	defer cancel()
	all := func(string) bool { return true }
	ofTypeA := func(id string) bool { return id[4] == 'a' } // which a subject's events are in turn
	var painters []*painter
	for _, over := range slices.Sorted(maps.Keys(transports)) {
		if over == "poll" {
			continue
		}
		for how, q := range map[string]url.Values{
			"every event": {}, "of one type": {"type": {"e2e.a"}}, "conflated": {"conflate": {"200ms"}},
			"conflated of one type": {"conflate": {"150ms"}, "type": {"e2e.a"}, "overflow": {"snapshot"}},
		} {
			q.Set("from", "snapshot")
			q.Set("heartbeat", "1s")
			p := &painter{name: over + ", " + how, servers: servers, read: transports[over], query: q, wants: all}
			if q.Has("type") {
				p.wants = ofTypeA
			}
			painters = append(painters, p)
			own := rand.New(rand.NewPCG(seed, uint64(len(painters))))
			painting.Go(func() { p.paint(ctx, own) })
		}
	}

	c := &changer{servers: servers, subjects: 40}
	for round := range 4 {
		var changing sync.WaitGroup
		for w := range 4 {
			own := rand.New(rand.NewPCG(seed, uint64(1000+10*round+w)))
			changing.Go(func() { c.run(ctx, t, own, 150) })
		}
		for range 2 {
			time.Sleep(time.Duration(200+draw.IntN(600)) * time.Millisecond)
			victim := servers[draw.IntN(len(servers))]
			victim.kill(t)
			time.Sleep(time.Duration(draw.IntN(500)) * time.Millisecond)
			victim.again(t)
		}
		changing.Wait()
		truth := latestOf(t, kafka.Config{Brokers: strings.Split(brokers, ",")}, prefix+theStream)
		come := func(who string, shows func() error) {
			t.Helper()
			late := time.After(patience)
			for last := shows(); last != nil; last = shows() {
				select {
				case <-late:
					t.Fatalf("round %d, %s: %v", round, who, last)
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
		for _, p := range painters {
			come(p.name, func() error { return p.shows(truth) })
		}
		for i, v := range servers { // a replica that nobody else reads from may be a moment behind
			come(fmt.Sprint("a page of server ", i), func() error {
				if got := pageOfSnapshot(t, v); !maps.Equal(got, truth) {
					return fmt.Errorf("has %v, the log %v", got, truth)
				}
				return nil
			})
		}
	}
	cancel()
	painting.Wait()
	anew := 0
	for _, p := range painters {
		anew += p.snapshots - 1
	}
	t.Logf("%d clients were given %d snapshots beside their first", len(painters), anew)
}

// pageOfSnapshot reads what is true now as one page.
func pageOfSnapshot(t *testing.T, v *server) map[string]string {
	t.Helper()
	var events []struct{ ID, Subject string }
	if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/streams/"+theStream+"/events?from=snapshot", nil), &events); err != nil {
		t.Fatal(err)
	}
	picture := map[string]string{}
	for _, e := range events {
		picture[e.Subject] = e.ID
	}
	return picture
}
