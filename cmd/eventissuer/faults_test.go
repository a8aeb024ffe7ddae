package main_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	onDisk "github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// seedVariable repeats a run's draws. What is under way at a kill is the machines' own draw.
const seedVariable = "EVENTISSUER_TEST_SEED"

func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}

// defineTrips makes the stream and its two types, with a schema each, and waits until all replicas hold events to it.
func defineTrips(t *testing.T, partitions int, all ...*server) {
	t.Helper()
	all[0].call(t, http.StatusCreated, http.MethodPost, "/v1/streams", map[string]any{"name": theStream, "partitions": partitions})
	schema := map[string]any{
		"type": "object", "required": []string{"km"}, "additionalProperties": false,
		"properties": map[string]any{"km": map[string]any{"type": "number", "minimum": 0}},
	}
	for _, kind := range []string{kindLoose, kindStrict} {
		all[0].call(t, http.StatusCreated, http.MethodPost, "/v1/event-types", map[string]any{
			"type": "e2e." + kind, "stream": theStream, "schema": schema, "dedupe": "1h", "dedupeRequired": kind == kindStrict,
		})
	}
	for _, v := range all {
		for _, kind := range []string{kindLoose, kindStrict} {
			eventually(t, "every replica knows the event types", func() bool {
				status, _, err := v.try(t.Context(), http.MethodGet, "/v1/event-types/e2e."+kind+"/schemas/1", nil)
				return err == nil && status == http.StatusOK
			})
		}
	}
}

// Publishers that send each event again until it is answered for good, through replicas that are killed, a broker that
// is killed, and connections that are cut, find each event on the log once, where it was said to be. When Redis has
// lost what it held, or is away, there may be more than one of an event, but none is missing, and every answer is true.
func TestRetriesThroughKilledServersLoseNothingAndWriteOnceWhileRedisLives(t *testing.T) {
	t.Parallel() // while it waits for leases the embedded server is tried
	seed := seedOf(t)
	draw := rand.New(rand.NewPCG(seed, 1<<32))
	nodes := testenv.StartKafkaCluster(t, 3, testenv.KafkaOptions{
		HeapMB: 256,
		// An append may take so long to land, and 20 s; --dedupe-lease must be longer.
		Properties: map[string]string{"replica.lag.time.max.ms": "3000"},
	})
	store := testenv.StartRedis(t, testenv.RedisOptions{})
	prefix := testenv.Name("e2e") + "."
	var brokers []string
	for _, n := range nodes {
		brokers = append(brokers, n.Addr())
	}
	shared := storage{
		"--kafka-brokers", strings.Join(brokers, ","), "--redis-url", store.URL(), "--topic-prefix", prefix, "--dedupe-lease", "25s",
	}
	replicas := []*server{startServer(t, shared), startServer(t, shared), startServer(t, shared)}
	defineTrips(t, 6, replicas...)
	read := func() *written { return readByOffset(t, kafka.Config{Brokers: brokers}, prefix+theStream) }

	began := time.Now()
	phase := func(what string) { t.Logf("%5.1fs: %s", time.Since(began).Seconds(), what) }

	l := newLedger()
	p := newRetriers(t, seed, 16, l, replicas...)
	kill := func(v *server) {
		t.Helper()
		v.kill(t)
		p.more(t, 150)
		v.again(t)
	}

	// While Redis lives.
	p.cuts.Store(true)
	p.begin()
	p.more(t, 500)
	order := draw.Perm(len(replicas))
	kill(replicas[order[0]])
	node := nodes[draw.IntN(len(nodes))]
	if err := node.Kill(); err != nil {
		t.Fatal(err)
	}
	p.more(t, 300)
	kill(replicas[order[1]])
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.more(t, 200)
	kill(replicas[order[2]])
	p.more(t, 300)
	phase("killed replicas and a broker")
	p.halt()
	phase("every event has its answer: the leases of the killed have run out")
	lenient := undeduplicated(t, replicas)
	if lenient {
		t.Log("Redis lived and did not answer in time: events of the type that allows it are not wanted once")
	}
	agrees(t, readJournal(t, replicas[0]), read())
	if n := l.holds(t, read(), []int{0}, lenient); n > 0 {
		t.Logf("%d copies while Redis lived", n)
	}
	l.shows(t, map[string]int{
		"persisted": 500, "duplicate": 100, "duplicate at first": 5, "invalid": 50, "answer cut": 5, "request cut": 5, "connection lost": 3,
	})
	if n := sum(t, replicas, "eventissuer_dedupe_settled_total"); n == 0 {
		t.Error("no append of unknown fate was looked for in the log: the kills met none")
	}
	if t.Failed() {
		return
	}

	// Redis loses what it held, and is away.
	l.newEra()
	p.begin()
	p.more(t, 100)
	admin := redis.NewClient(&redis.Options{Addr: store.Addr()})
	defer func() { _ = admin.Close() }() // only orders went over it
	for range 2 {
		if err := admin.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		p.more(t, 300)
	}
	kill(replicas[order[0]])
	if err := store.Kill(); err != nil {
		t.Fatal(err)
	}
	p.away.Store(1)
	p.more(t, 400)
	p.away.Store(0)
	if err := store.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.cuts.Store(false)
	for i, v := range replicas {
		n := 0
		eventually(t, "events are deduplicated again", func() bool {
			n++
			s := &story{name: name{"/e2e/probe", fmt.Sprintf("%d-%d", i, n)}, subject: fmt.Sprint("probe", i), valid: true}
			s.event = trip(s.name, kindLoose, s.subject, true)
			l.begin(s)
			for {
				items, loose, err := v.publishGroup(t.Context(), []*story{s}, noCut)
				if err == nil && p.all[0].take(s, items[0], loose) {
					return !loose
				}
				if t.Context().Err() != nil {
					return false
				}
			}
		})
	}
	phase("flushed and killed Redis")
	p.halt()
	copies := l.holds(t, read(), nil, true)
	t.Logf("%d copies after Redis was flushed and killed", copies)
	l.shows(t, map[string]int{"persisted again": 5, "undeduplicated": 50, "strict refused": 5})

	// Redis is back, and empty: events that are first sent now are written once again.
	l.newEra()
	p.begin()
	p.more(t, 600)
	p.halt()
	l.holds(t, read(), []int{2}, false)
	agrees(t, readJournal(t, replicas[1]), read())
	phase("Redis was back")
}

// The embedded server knows the window from the log when it is started again, whatever it was at when it was killed.
func TestRetriesThroughAKilledEmbeddedServerLoseNothingAndWriteOnce(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	dir := t.TempDir()
	v := startServer(t, storage{"--data-dir", dir, "--topic-prefix", "e2e."})
	defineTrips(t, 3, v)
	l := newLedger()
	p := newRetriers(t, seed, 16, l, v)
	p.cuts.Store(true)
	p.begin()
	for range 4 {
		p.more(t, 600)
		v.kill(t)
		v.again(t)
	}
	p.more(t, 300)
	p.halt()
	journal := readJournal(t, v)
	v.kill(t) // and read what is on the disk

	servers, err := onDisk.Start(t.Context(), onDisk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := readByOffset(t, kafka.Config{Brokers: servers.Brokers()}, "e2e."+theStream)
	agrees(t, journal, w)
	l.holds(t, w, []int{0}, false)
	l.shows(t, map[string]int{
		"persisted": 1000, "duplicate": 200, "duplicate at first": 3, "invalid": 100, "answer cut": 5, "request cut": 5, "connection lost": 3,
	})
}

// readByOffset reads all that a topic holds from the log itself, partition by partition.
func readByOffset(t *testing.T, cfg kafka.Config, topic string) *written {
	t.Helper()
	w := newWritten()
	eachRecord(t, cfg, topic, func(r broker.Record) {
		e, err := event.FromRecord(r)
		if err != nil {
			t.Fatalf("the record at %d of partition %d is no event: %v", r.Offset, r.Partition, err)
		}
		w.add(place{int(r.Partition), r.Offset}, name{e.Source(), e.ID()})
	})
	return w
}

// eachRecord gives every record that a topic holds, read from the log itself, partition by partition.
func eachRecord(t *testing.T, cfg kafka.Config, topic string, each func(broker.Record)) {
	t.Helper()
	log, err := kafka.New(cfg, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bounds, err := log.Bounds(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	for p, b := range bounds {
		for at := b.First; at < b.Next; {
			batch, err := log.Read(ctx, topic, int32(p), at, 1<<20)
			if err != nil || batch.Next <= at {
				t.Fatalf("partition %d, which ends at %d, cannot be read at %d: %v", p, b.Next, at, err)
			}
			for _, r := range batch.Records {
				each(r)
			}
			at = batch.Next
		}
	}
}

// agrees wants what a reader gets from the oldest event on to be what the log holds.
func agrees(t *testing.T, j *journal, w *written) {
	t.Helper()
	n := 0
	for p, records := range j.partitions {
		for _, r := range records {
			n++
			if there := w.at[place{p, r.offset}]; there != (name{r.source, r.id}) {
				t.Fatalf("a reader got %s %s for offset %d of partition %d, where there is %q", r.source, r.id, r.offset, p, there)
			}
		}
	}
	if n != len(w.at) {
		t.Errorf("a reader got %d events, and the log holds %d", n, len(w.at))
	}
}

// undeduplicated tells whether a replica has ever said that Redis did not answer it.
func undeduplicated(t *testing.T, replicas []*server) bool {
	t.Helper()
	for _, v := range replicas {
		log, err := v.Log()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(log, []byte("events are written undeduplicated")) {
			return true
		}
	}
	return false
}

func sum(t *testing.T, all []*server, metric string) (n float64) {
	t.Helper()
	for _, v := range all {
		n += v.metric(t, metric)
	}
	return n
}
