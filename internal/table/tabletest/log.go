// Package tabletest is a log in memory for tests of what is kept in tables: a fake of the wire, not of the table. It
// keeps the contract of package broker, and can be slow, lose messages and acknowledgements, append late and twice.
//
// It is made to run in a testing/synctest bubble, where its delays cost nothing and order everything.
package tabletest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// Log is the log itself. Its own methods never fail by chance; see View.
type Log struct {
	mu      sync.Mutex
	topics  map[string]*topic
	epochs  byte
	changed chan struct{} // closed at every change
}

type topic struct {
	info       broker.TopicInfo
	partitions []*partition
}

type partition struct {
	first int64
	all   []broker.Record // from offset 0 on, what was truncated too, for the tests' own account
	gone  map[int64]bool  // what compaction took
}

// between gives what can be read of [from, to).
func (p *partition) between(from, to int64) []broker.Record {
	records := make([]broker.Record, 0, to-from)
	for o := from; o < to; o++ {
		if !p.gone[o] {
			records = append(records, p.all[o])
		}
	}
	return records
}

// New returns an empty log.
func New() *Log {
	return &Log{topics: map[string]*topic{}, changed: make(chan struct{})}
}

// Faults says what goes wrong on the way to the log, as shares of all appends.
type Faults struct {
	Delay time.Duration // upper bound of each operation's random delay
	Lose  float64       // never appended, fate not told
	Late  float64       // appended after the fate was said to be in doubt
	Twice float64       // appended twice
	Mute  float64       // appended, but the acknowledgement is lost
}

// View is the log as one process sees it.
type View struct {
	*Log
	mu     sync.Mutex
	rnd    *rand.Rand
	faults Faults
}

// View returns the log behind faults, drawn from seed.
func (l *Log) View(seed uint64, f Faults) *View {
	return &View{Log: l, rnd: rand.New(rand.NewPCG(seed, 1)), faults: f}
}

// Set changes the faults: a large delay is a process that is paused.
func (v *View) Set(f Faults) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faults = f
}

func (v *View) chance() (Faults, float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.faults, v.rnd.Float64()
}

func (v *View) some(d time.Duration) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d <= 0 {
		return 0
	}
	return time.Duration(v.rnd.Int64N(int64(d)))
}

// wait delays an operation.
func (v *View) wait(ctx context.Context) error {
	f, _ := v.chance()
	return sleep(ctx, v.some(f.Delay))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Append implements broker.Appender, message by message.
func (v *View) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	acks := make([]broker.Ack, len(msgs))
	for i := range msgs {
		acks[i] = v.append(ctx, topic, msgs[i:i+1])
	}
	return acks
}

func (v *View) append(ctx context.Context, topic string, msg []broker.Message) broker.Ack {
	f, x := v.chance()
	if err := v.wait(ctx); err != nil {
		// Given up on, and yet some of these are on their way.
		if x < 0.5 {
			time.AfterFunc(v.some(f.Delay), func() { v.Log.Append(context.Background(), topic, msg) })
		}
		return broker.Ack{Err: err}
	}
	doubt := broker.Ack{Err: broker.ErrUnavailable}
	switch {
	case x < f.Lose:
		_ = v.wait(ctx)
		return doubt
	case x < f.Lose+f.Late:
		time.AfterFunc(v.some(10*f.Delay), func() { v.Log.Append(context.Background(), topic, msg) })
		return doubt
	case x < f.Lose+f.Late+f.Twice:
		ack := v.Log.Append(ctx, topic, msg)[0]
		time.AfterFunc(v.some(5*f.Delay), func() { v.Log.Append(context.Background(), topic, msg) })
		return ack
	}
	ack := v.Log.Append(ctx, topic, msg)[0]
	if err := v.wait(ctx); err != nil || x > 1-f.Mute {
		return doubt
	}
	return ack
}

// Read implements broker.Reader.
func (v *View) Read(ctx context.Context, topic string, p int32, offset int64, maxBytes int) (broker.Batch, error) {
	if err := v.wait(ctx); err != nil {
		return broker.Batch{}, err
	}
	return v.Log.Read(ctx, topic, p, offset, 1+int(v.some(time.Duration(maxBytes))))
}

// Members implements broker.Groups.
func (l *Log) Members(context.Context, string) (int, error) { return 0, errors.ErrUnsupported }

// CommittedOffsets implements broker.Groups.
func (l *Log) CommittedOffsets(context.Context, string, string) ([]broker.Commit, error) {
	return nil, errors.ErrUnsupported
}

// DeleteGroup implements broker.Groups.
func (l *Log) DeleteGroup(context.Context, string) error { return errors.ErrUnsupported }

// Bounds implements broker.Offsets.
func (v *View) Bounds(ctx context.Context, topic string) ([]broker.Bounds, error) {
	if err := v.wait(ctx); err != nil {
		return nil, err
	}
	return v.Log.Bounds(ctx, topic)
}

// Truncate implements broker.Offsets.
func (v *View) Truncate(ctx context.Context, topic string, p int32, offset int64) error {
	f, x := v.chance()
	if x < f.Late { // done later, by somebody who has long been told otherwise
		time.AfterFunc(v.some(20*f.Delay), func() { _ = v.Log.Truncate(context.Background(), topic, p, offset) })
		return broker.ErrUnavailable
	}
	if err := v.wait(ctx); err != nil {
		return err
	}
	return v.Log.Truncate(ctx, topic, p, offset)
}

// Tail implements broker.Tailer.
func (v *View) Tail(ctx context.Context, topic string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	return v.Log.tail(ctx, topic, epoch, from, h, v.wait)
}

// Create implements broker.Admin.
func (v *View) Create(ctx context.Context, name string, c broker.TopicConfig) error {
	if err := v.wait(ctx); err != nil {
		return err
	}
	return v.Log.Create(ctx, name, c)
}

// Describe implements broker.Admin.
func (v *View) Describe(ctx context.Context, name string) (broker.TopicInfo, error) {
	if err := v.wait(ctx); err != nil {
		return broker.TopicInfo{}, err
	}
	return v.Log.Describe(ctx, name)
}

// Present implements broker.Prover.
func (v *View) Present(ctx context.Context, name string) (broker.Epoch, error) {
	info, err := v.Describe(ctx, name)
	return info.Epoch, err
}

// Delete implements broker.Admin.
func (v *View) Delete(ctx context.Context, name string) error {
	if err := v.wait(ctx); err != nil {
		return err
	}
	return v.Log.Delete(ctx, name)
}

// change wakes the tails. l.mu is held.
func (l *Log) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) find(name string, p int32) (*partition, error) {
	t := l.topics[name]
	if t == nil {
		return nil, broker.ErrNoTopic
	}
	if p < 0 || int(p) >= len(t.partitions) {
		return nil, broker.ErrNoPartition
	}
	return t.partitions[p], nil
}

func (p *partition) end() int64 { return int64(len(p.all)) }

func (p *partition) bounds() broker.Bounds { return broker.Bounds{First: p.first, Next: p.end()} }

// Append implements broker.Appender. Messages name their partition.
func (l *Log) Append(_ context.Context, topic string, msgs []broker.Message) []broker.Ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	acks := make([]broker.Ack, len(msgs))
	for i, m := range msgs {
		p, err := l.find(topic, m.Partition)
		if err != nil {
			acks[i].Err = errors.Join(broker.ErrRefused, err)
			continue
		}
		acks[i] = broker.Ack{Partition: m.Partition, Offset: p.end()}
		p.all = append(p.all, broker.Record{
			Partition: m.Partition, Offset: p.end(), Key: m.Key, Value: m.Value, Headers: m.Headers, Timestamp: time.Now(),
		})
	}
	l.change()
	return acks
}

// Read implements broker.Reader; a record counts as one byte, so that tests cut fetches where they like.
func (l *Log) Read(_ context.Context, topic string, partition int32, offset int64, maxBytes int) (broker.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.find(topic, partition)
	if err != nil {
		return broker.Batch{}, err
	}
	if offset < p.first || offset > p.end() {
		return broker.Batch{}, &broker.RangeError{Partition: partition, Offset: offset, Bounds: p.bounds()}
	}
	next := min(offset+int64(max(maxBytes, 1)), p.end())
	return broker.Batch{
		Partition: partition, Records: p.between(offset, next), Next: next, Start: p.first, End: p.end(),
	}, nil
}

// Tail implements broker.Tailer.
func (l *Log) Tail(ctx context.Context, topic string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	return l.tail(ctx, topic, epoch, from, h, func(ctx context.Context) error { return ctx.Err() })
}

func (l *Log) tail(ctx context.Context, name string, epoch broker.Epoch, from []int64, h broker.TailHandler, wait func(context.Context) error) error {
	next := slices.Clone(from)
	for {
		l.mu.Lock()
		t, changed := l.topics[name], l.changed
		switch {
		case t == nil:
			l.mu.Unlock()
			return broker.ErrNoTopic
		case epoch != (broker.Epoch{}) && t.info.Epoch != epoch:
			l.mu.Unlock()
			return broker.ErrRecreated
		}
		var gaps []broker.Gap
		var batches []broker.Batch
		for i, p := range t.partitions {
			if i >= len(next) {
				next = append(next, 0)
			}
			if next[i] < p.first || next[i] > p.end() {
				g := (&broker.RangeError{Partition: int32(i), Offset: next[i], Bounds: p.bounds()}).Gap()
				gaps = append(gaps, g)
				next[i] = g.To
			}
			if next[i] < p.end() {
				to := min(next[i]+3, p.end())
				batches = append(batches, broker.Batch{
					Partition: int32(i), Records: p.between(next[i], to), Next: to, Start: p.first, End: p.end(),
				})
				next[i] = to
			}
		}
		l.mu.Unlock()
		for _, g := range gaps {
			h.Gap(g)
		}
		for _, b := range batches {
			if err := wait(ctx); err != nil {
				return err
			}
			h.Records(b)
		}
		if len(gaps)+len(batches) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Join implements broker.Joiner: tables belong to no group.
func (l *Log) Join(context.Context, string, []string, func(context.Context, broker.Claim)) error {
	return errors.ErrUnsupported
}

// Bounds implements broker.Offsets.
func (l *Log) Bounds(_ context.Context, topic string) ([]broker.Bounds, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return nil, broker.ErrNoTopic
	}
	var all []broker.Bounds
	for _, p := range t.partitions {
		all = append(all, p.bounds())
	}
	return all, nil
}

// At implements broker.Offsets.
func (l *Log) At(context.Context, string, time.Time) ([]int64, error) {
	return nil, errors.ErrUnsupported
}

// Truncate implements broker.Offsets.
func (l *Log) Truncate(_ context.Context, topic string, partition int32, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.find(topic, partition)
	if err != nil {
		return err
	}
	p.first = max(p.first, min(offset, p.end()))
	l.change()
	return nil
}

// LoseEnd takes away all records of a partition from offset on: a crash of the broker.
func (l *Log) LoseEnd(topic string, partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.topics[topic].partitions[partition]
	p.all = p.all[:offset]
	l.change()
}

// Compact takes away of a topic what a later record of the same key replaces, and tombstones before which nothing of their
// key is left: each of them where want says so.
func (l *Log) Compact(topic string, want func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return
	}
	for _, p := range t.partitions {
		last, earlier := map[string]int64{}, map[string]int{}
		for o := p.first; o < p.end(); o++ {
			if !p.gone[o] {
				last[string(p.all[o].Key)] = o
			}
		}
		for o := p.first; o < p.end(); o++ {
			if p.gone[o] {
				continue
			}
			key := string(p.all[o].Key)
			superseded := last[key] > o
			settled := p.all[o].Value == nil && earlier[key] == 0
			if (superseded || settled) && want() {
				if p.gone == nil {
					p.gone = map[int64]bool{}
				}
				p.gone[o] = true
				continue
			}
			earlier[key]++
		}
	}
}

// Records returns every record that was ever in a partition, truncated ones too.
func (l *Log) Records(topic string, partition int32) []broker.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.find(topic, partition)
	if err != nil {
		return nil
	}
	return slices.Clone(p.all)
}

// Topics returns the names of all topics.
func (l *Log) Topics() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.topics))
}

// Create implements broker.Admin.
func (l *Log) Create(_ context.Context, name string, c broker.TopicConfig) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics[name] != nil {
		return broker.ErrTopicExists
	}
	for other := range l.topics {
		if plain(other) == plain(name) {
			return fmt.Errorf("%w: %s collides with %s", broker.ErrTopicName, name, other)
		}
	}
	l.epochs++
	t := &topic{info: broker.TopicInfo{TopicConfig: c, Epoch: broker.Epoch{l.epochs}}}
	t.info.Partitions = max(c.Partitions, 1)
	if c.Retention == 0 {
		t.info.Retention = 168 * time.Hour
	}
	for range t.info.Partitions {
		t.partitions = append(t.partitions, &partition{})
	}
	l.topics[name] = t
	l.change()
	return nil
}

// plain is a topic's name as Kafka's metrics have it: two topics must not share one.
func plain(topic string) string { return strings.ReplaceAll(topic, ".", "_") }

// Describe implements broker.Admin.
func (l *Log) Describe(_ context.Context, name string) (broker.TopicInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[name]; t != nil {
		return t.info, nil
	}
	return broker.TopicInfo{}, broker.ErrNoTopic
}

// Present implements broker.Prover.
func (l *Log) Present(ctx context.Context, name string) (broker.Epoch, error) {
	info, err := l.Describe(ctx, name)
	return info.Epoch, err
}

// Change implements broker.Admin.
func (l *Log) Change(_ context.Context, name string, c broker.TopicChange) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[name]
	if t == nil {
		return broker.ErrNoTopic
	}
	if c.Partitions != nil {
		for len(t.partitions) < int(*c.Partitions) {
			t.partitions = append(t.partitions, &partition{})
		}
		t.info.Partitions = int32(len(t.partitions))
	}
	if c.Retention != nil {
		t.info.Retention = *c.Retention
	}
	if c.RetentionBytes != nil {
		t.info.RetentionBytes = *c.RetentionBytes
	}
	l.change()
	return nil
}

// Delete implements broker.Admin.
func (l *Log) Delete(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics[name] == nil {
		return broker.ErrNoTopic
	}
	delete(l.topics, name)
	l.change()
	return nil
}

// Close implements broker.Log.
func (l *Log) Close() error { return nil }
