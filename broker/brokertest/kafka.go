package brokertest

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

// producer is a plain client of the broker, as other writers of a topic use. set changes its configuration.
func (s *suite) producer(t *testing.T, set func(*sarama.Config)) sarama.SyncProducer {
	t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Metadata.AllowAutoTopicCreation = false
	set(c)
	p, err := sarama.NewSyncProducer(power[Kafka](t, s).Brokers(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func (s *suite) transactional(t *testing.T) sarama.SyncProducer {
	id := s.name("writer")
	return s.producer(t, func(c *sarama.Config) {
		c.Producer.Idempotent = true
		c.Producer.Transaction.ID = id
		c.Net.MaxOpenRequests = 1
	})
}

// send writes to partition 0.
func send(t *testing.T, p sarama.SyncProducer, topic string, values ...string) {
	t.Helper()
	var msgs []*sarama.ProducerMessage
	for _, v := range values {
		msgs = append(msgs, &sarama.ProducerMessage{Topic: topic, Partition: 0, Value: sarama.StringEncoder(v)})
	}
	if err := p.SendMessages(msgs); err != nil {
		t.Fatal(err)
	}
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func values(records []broker.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Value))
	}
	return all
}

// isWithin reports whether some are among all, in their order.
func isWithin(some, all []string) bool {
	for _, v := range all {
		if len(some) > 0 && some[0] == v {
			some = some[1:]
		}
	}
	return len(some) == 0
}

func (s *suite) transactions(t *testing.T) {
	power[Kafka](t, s)
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	live := follow(t, log, topic, epoch, []int64{0})
	p, q := s.transactional(t), s.transactional(t)

	try(t, p.BeginTxn())
	send(t, p, topic, "committed 1", "committed 2")
	try(t, p.CommitTxn())
	try(t, p.BeginTxn())
	send(t, p, topic, "aborted 1")
	try(t, q.BeginTxn())
	send(t, q, topic, "committed beside 1") // between the records of a transaction that aborts
	send(t, p, topic, "aborted 2")
	try(t, p.AbortTxn())
	put(t, log, topic, broker.Message{Value: []byte("plain")})
	try(t, q.CommitTxn())
	try(t, p.BeginTxn())
	send(t, p, topic, "committed 3") // by the producer that aborted before
	try(t, p.CommitTxn())
	try(t, p.BeginTxn())
	send(t, p, topic, "aborted 3")
	try(t, p.AbortTxn())

	want := []string{"committed 1", "committed 2", "committed beside 1", "plain", "committed 3"}
	end := int64(8 + 5) // records and markers
	live.await("the end", func() bool { return live.next[0] == end })
	if diff := cmp.Diff(want, values(live.awaitRecords(len(want)))); diff != "" {
		t.Errorf("the tail's records:\n%s", diff)
	}
	if gaps := live.toldGaps(); len(gaps) > 0 {
		t.Errorf("holes were told as gaps: %v", gaps)
	}
	for _, maxBytes := range []int{1, 1 << 20} {
		if diff := cmp.Diff(want, values(readAll(t, log, topic, 0, 0, maxBytes))); diff != "" {
			t.Errorf("read with %d bytes:\n%s", maxBytes, diff)
		}
	}
	// From every offset, holes included, one reads what lies above it.
	all := readAll(t, log, topic, 0, 0, 1<<20)
	for from := range end {
		n := 0
		for _, r := range all {
			if r.Offset >= from {
				n++
			}
		}
		if got := readAll(t, log, topic, 0, from, 1<<20); len(got) != n {
			t.Errorf("from %d: %v, want %d records", from, values(got), n)
		}
	}
	bounds, err := log.Bounds(within(t), topic)
	if diff := cmp.Diff([]broker.Bounds{{Next: end}}, bounds); err != nil || diff != "" {
		t.Errorf("bounds: %v\n%s", err, diff)
	}
}

func (s *suite) openTransaction(t *testing.T) {
	power[Kafka](t, s)
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	live := follow(t, log, topic, epoch, []int64{0})
	p := s.transactional(t)
	put(t, log, topic, broker.Message{Value: []byte("before")})
	try(t, p.BeginTxn())
	send(t, p, topic, "inside")
	put(t, log, topic, broker.Message{Value: []byte("after")})
	live.awaitRecords(1)
	if got := readAll(t, log, topic, 0, 0, 1<<20); len(got) != 1 {
		t.Errorf("an open transaction lets %v through", values(got))
	}
	bounds, err := log.Bounds(within(t), topic)
	if diff := cmp.Diff([]broker.Bounds{{Next: 1}}, bounds); err != nil || diff != "" {
		t.Errorf("bounds: %v\n%s", err, diff)
	}
	try(t, p.CommitTxn())
	if diff := cmp.Diff([]string{"before", "inside", "after"}, values(live.awaitRecords(3))); diff != "" {
		t.Errorf("after the commit:\n%s", diff)
	}
}

func (s *suite) compressed(t *testing.T) {
	power[Kafka](t, s)
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	var want []string
	for codec := sarama.CompressionNone; codec <= sarama.CompressionZSTD; codec++ {
		p := s.producer(t, func(c *sarama.Config) { c.Producer.Compression = codec })
		var batch []string
		for i := range 50 {
			batch = append(batch, fmt.Sprintf("%v %d: %0200d", codec, i, i))
		}
		send(t, p, topic, batch...)
		want = append(want, batch...)
	}
	if diff := cmp.Diff(want, values(readAll(t, log, topic, 0, 0, 1<<20))); diff != "" {
		t.Errorf("read:\n%s", diff)
	}
	f := follow(t, log, topic, epoch, []int64{60})
	if diff := cmp.Diff(want[60:], values(f.awaitRecords(len(want)-60))); diff != "" {
		t.Errorf("tail from the middle of a batch:\n%s", diff)
	}
}

// keyed writes rounds of the same keys, each record a batch of its own, or all of a round one batch.
func keyed(t *testing.T, log broker.Log, topic string, rounds, keys int) {
	t.Helper()
	for round := range rounds {
		var msgs []broker.Message
		for k := range keys {
			msgs = append(msgs, broker.Message{Key: strconv.AppendInt(nil, int64(k), 10), Value: fmt.Appendf(nil, "%d of round %d", k, round)})
		}
		put(t, log, topic, msgs...)
	}
}

func (s *suite) compaction(t *testing.T) {
	compactor := power[Compactor](t, s)
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1, Compaction: true})
	keyed(t, log, topic, 5, 10)
	compactor.Compact(t, topic)
	bounds, err := log.Bounds(within(t), topic)
	try(t, err)
	records := readAll(t, log, topic, 0, bounds[0].First, 1<<20)
	if len(records) >= 50 || len(records) < 10 {
		t.Fatalf("compaction left %d of 50 records", len(records))
	}
	// Kafka leaves the log's start where it was; the embedded broker lets it follow the first record.
	f := follow(t, log, topic, epoch, []int64{bounds[0].First})
	f.await("the end", func() bool { return f.next[0] == bounds[0].Next })
	// The compactor may have come by once more since the first look: then less is left.
	again := readAll(t, log, topic, 0, bounds[0].First, 1<<20)
	f.mu.Lock()
	got := values(f.records)
	f.mu.Unlock()
	if !isWithin(got, values(records)) || !isWithin(values(again), got) {
		t.Errorf("tail and read differ: read %q, followed %q, read %q", values(records), got, values(again))
	}
	if gaps := f.toldGaps(); len(gaps) > 0 {
		t.Errorf("holes were told as gaps: %v", gaps)
	}
	for from := bounds[0].First; from < bounds[0].Next; from++ {
		b, err := log.Read(within(t), topic, 0, from, 1)
		var outside *broker.RangeError
		if errors.As(err, &outside) || err == nil && b.Next <= from {
			t.Fatalf("read from the hole at %d: next %d, %v", from, b.Next, err)
		}
		try(t, err)
	}
}

// Compaction may leave the log's last offsets without a record. A reader reaches its end all the same.
func (s *suite) compactedEnd(t *testing.T) {
	compactor := power[Compactor](t, s)
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1, Compaction: true})
	keyed(t, log, topic, 3, 4)
	var tombstones []broker.Message
	for k := range 4 {
		tombstones = append(tombstones, broker.Message{Key: strconv.AppendInt(nil, int64(k), 10)})
	}
	put(t, log, topic, tombstones...)
	compactor.Compact(t, topic)
	bounds, err := log.Bounds(within(t), topic)
	try(t, err)
	readAll(t, log, topic, 0, bounds[0].First, 1<<20) // fails where it stands still
	f := follow(t, log, topic, epoch, []int64{bounds[0].First})
	f.await("the end", func() bool { return f.next[0] == bounds[0].Next })
	put(t, log, topic, broker.Message{Key: []byte("new"), Value: []byte("new")})
	f.await("a new record", func() bool { return len(f.records) > 0 && string(f.records[len(f.records)-1].Value) == "new" })
}
