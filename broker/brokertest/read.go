package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

func (s *suite) tailOrder(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 3})
	f := follow(t, log, topic, epoch, []int64{0, 0, 0})
	const rounds, each = 20, 30
	for round := range rounds {
		var msgs []broker.Message
		for p := range int32(3) {
			msgs = append(msgs, numbered(p, round*each, each)...)
		}
		put(t, log, topic, msgs...)
	}
	next := make([]int, 3)
	for _, r := range f.awaitRecords(rounds * each * 3) {
		if want := strconv.Itoa(next[r.Partition]); string(r.Value) != want || r.Offset != int64(next[r.Partition]) {
			t.Fatalf("partition %d at %d: %q, want %q", r.Partition, r.Offset, r.Value, want)
		}
		next[r.Partition]++
	}
	if diff := cmp.Diff([]int64{rounds * each, rounds * each, rounds * each}, f.position(3)); diff != "" {
		t.Errorf("position:\n%s", diff)
	}
	if gaps := f.toldGaps(); len(gaps) > 0 {
		t.Errorf("gaps were told: %v", gaps)
	}
}

func (s *suite) resumeByOffset(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	at := []int64{0, 0}
	seen := make(map[string]int)
	for round := range 4 {
		put(t, log, topic, append(numbered(0, round*50, 50), numbered(1, 1000+round*50, 50)...)...)
		f := follow(t, log, topic, epoch, at)
		for _, r := range f.awaitRecords(100) {
			seen[string(r.Value)]++
		}
		if err := f.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("a tail that was stopped ended with %v", err)
		}
		at = f.position(2)
	}
	if len(seen) != 400 {
		t.Errorf("saw %d of 400 records", len(seen))
	}
	for value, n := range seen {
		if n != 1 {
			t.Errorf("saw %s %d times", value, n)
		}
	}
	// In the middle of what was written as one batch, too.
	f := follow(t, log, topic, epoch, []int64{7, 200})
	for i, r := range f.awaitRecords(193) {
		if want := int64(7 + i); r.Partition != 0 || r.Offset != want {
			t.Fatalf("got %d/%d, want 0/%d", r.Partition, r.Offset, want)
		}
	}
}

func (s *suite) resumeByTime(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	var last time.Time
	for i := range 6 {
		ack := put(t, log, topic, broker.Message{Partition: 0, Value: strconv.AppendInt(nil, int64(i), 10)})[0]
		// Times are those of the log, in milliseconds: go on once the next record is sure to have a later one.
		for last = readAll(t, log, topic, 0, ack.Offset, 1<<20)[0].Timestamp; time.Since(last) < 3*time.Millisecond; {
			<-time.After(time.Millisecond)
		}
	}
	records := readAll(t, log, topic, 0, 0, 1<<20)
	for i, r := range records {
		for _, c := range []struct {
			at   time.Time
			want int64
		}{{r.Timestamp, r.Offset}, {r.Timestamp.Add(time.Millisecond), r.Offset + 1}, {r.Timestamp.Add(time.Nanosecond), r.Offset + 1}} {
			got, err := log.At(within(t), topic, c.at)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int64{c.want, 0}, got); diff != "" {
				t.Errorf("record %d, at its time + %v:\n%s", i, c.at.Sub(r.Timestamp), diff)
			}
		}
	}
	if got, err := log.At(within(t), topic, time.Time{}); err != nil || got[0] != 0 {
		t.Errorf("at the beginning of time: %v, %v", got, err)
	}
}

func (s *suite) timesPastTheEnd(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	put(t, log, topic, numbered(0, 0, 5)...)
	at, err := log.At(within(t), topic, time.Now().Add(time.Hour))
	if diff := cmp.Diff([]int64{5, 0}, at); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	f := follow(t, log, topic, epoch, at)
	put(t, log, topic, append(numbered(0, 5, 1), numbered(1, 6, 1)...)...)
	f.awaitRecords(2)
}

func (s *suite) readThrough(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	for i := range 20 {
		put(t, log, topic, numbered(0, i*10, 10)...)
	}
	for _, maxBytes := range []int{1, 300, 4 << 10, 1 << 20} {
		for i, r := range readAll(t, log, topic, 0, 3, maxBytes) {
			if r.Offset != int64(3+i) || string(r.Value) != strconv.Itoa(3+i) {
				t.Fatalf("with %d bytes: record %d is %q at %d", maxBytes, i, r.Value, r.Offset)
			}
		}
	}
	b, err := log.Read(within(t), topic, 0, 200, 1<<20)
	want := broker.Batch{Next: 200, End: 200}
	if diff := cmp.Diff(want, b); err != nil || diff != "" {
		t.Errorf("at the end: %v\n%s", err, diff)
	}
}

func (s *suite) retention(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	put(t, log, topic, append(numbered(0, 0, 20), numbered(1, 0, 5)...)...)
	if err := log.Truncate(within(t), topic, 0, 12); err != nil {
		t.Fatal(err)
	}
	bounds, err := log.Bounds(within(t), topic)
	if diff := cmp.Diff([]broker.Bounds{{First: 12, Next: 20}, {Next: 5}}, bounds); err != nil || diff != "" {
		t.Errorf("bounds: %v\n%s", err, diff)
	}
	_, err = log.Read(within(t), topic, 0, 3, 1<<20)
	var outside *broker.RangeError
	if !errors.As(err, &outside) {
		t.Fatalf("read below the start: %v, want a RangeError", err)
	}
	want := broker.Gap{Partition: 0, From: 3, To: 12, Reason: broker.GapRetention}
	if diff := cmp.Diff(want, outside.Gap()); diff != "" {
		t.Errorf("the read's gap:\n%s", diff)
	}
	f := follow(t, log, topic, epoch, []int64{3, 0})
	f.awaitRecords(8 + 5)
	if diff := cmp.Diff([]broker.Gap{want}, f.toldGaps()); diff != "" {
		t.Errorf("the tail's gaps:\n%s", diff)
	}
	// A tail that has passed what is deleted has no gap.
	if err := log.Truncate(within(t), topic, 0, 20); err != nil {
		t.Fatal(err)
	}
	put(t, log, topic, numbered(0, 20, 1)...)
	f.awaitRecords(8 + 5 + 1)
	if n := len(f.toldGaps()); n != 1 {
		t.Errorf("%d gaps were told, want 1", n)
	}
}

func (s *suite) beyondTheEnd(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	put(t, log, topic, numbered(0, 0, 5)...)
	_, err := log.Read(within(t), topic, 0, 9, 1<<20)
	var outside *broker.RangeError
	if !errors.As(err, &outside) {
		t.Fatalf("read beyond the end: %v, want a RangeError", err)
	}
	want := broker.Gap{From: 9, To: 5, Reason: broker.GapTruncated}
	if diff := cmp.Diff(want, outside.Gap()); diff != "" {
		t.Errorf("the read's gap:\n%s", diff)
	}
	f := follow(t, log, topic, epoch, []int64{9})
	f.await("the gap", func() bool { return len(f.gaps) == 1 })
	if diff := cmp.Diff(want, f.toldGaps()[0]); diff != "" {
		t.Errorf("the tail's gap:\n%s", diff)
	}
	put(t, log, topic, numbered(0, 5, 1)...)
	if r := f.awaitRecords(1)[0]; r.Offset != 5 {
		t.Errorf("went on at %d, want 5", r.Offset)
	}
}

// A poll of an idle topic takes half a second, and a broker answers one connection's requests in turn. So if a publish
// shared a connection with a poll, no publish would be answered without a poll having been answered first.
func (s *suite) publishBesideLongPoll(t *testing.T) {
	counter := power[FetchCounter](t, s)
	log := s.open(t)
	idle, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	busy, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	put(t, log, busy, numbered(0, 0, 1)...)
	follow(t, log, idle, epoch, []int64{0, 0})
	const rounds = 6
	beside := 0
	for range rounds {
		// Right after an answer the next poll is on its way.
		for at := counter.Fetches("tail"); counter.Fetches("tail") < at+1; {
			<-time.After(time.Millisecond)
		}
		before := counter.Fetches("tail")
		put(t, log, busy, numbered(0, 1, 1)...)
		if counter.Fetches("tail") == before {
			beside++
		}
	}
	if beside < rounds/2 {
		t.Errorf("only %d of %d publishes were answered before the poll beside them", beside, rounds)
	}
}

func (s *suite) growth(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	put(t, log, topic, numbered(0, 0, 3)...)
	f := follow(t, log, topic, epoch, []int64{3})
	three := int32(3)
	if err := log.Change(within(t), topic, broker.TopicChange{Partitions: &three}); err != nil {
		t.Fatal(err)
	}
	// Written before the tail can know of the partition: it is read from its start all the same.
	put(t, log, topic, broker.Message{Partition: 2, Value: []byte("new")})
	f.await("the new partitions", func() bool { return f.parts == 3 })
	if r := f.awaitRecords(1)[0]; r.Partition != 2 || r.Offset != 0 {
		t.Errorf("got %d/%d, want 2/0", r.Partition, r.Offset)
	}
	one := int32(1)
	if err := log.Change(within(t), topic, broker.TopicChange{Partitions: &one}); err == nil {
		t.Error("a topic shrank")
	}
	// A tail that knows fewer partitions than there are is told of them at once.
	g := follow(t, log, topic, epoch, []int64{0})
	g.awaitRecords(4)
	g.await("the partitions", func() bool { return g.parts == 3 })
	if got := fmt.Sprint(g.position(3)); got != "[3 0 1]" {
		t.Errorf("position %s", got)
	}
}
