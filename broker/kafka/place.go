package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	endsAge   = 5 * time.Second  // after which ends in use are asked for again, in the background
	endsStale = 60 * time.Second // after which they are asked for before they are used: whoever looks for a record reads on from them
)

// ends are the ends of a topic's partitions at some time. They are replaced, never changed.
type ends struct {
	epoch broker.Epoch
	asked time.Time
	next  []int64
}

// endsKept keeps the ends of the topics that Place was asked for.
type endsKept struct {
	murmur2 sarama.Partitioner // for what has a key alone, so that it may be shared
	turn    atomic.Uint32      // spreads what has no key

	mu       sync.Mutex // guards what follows
	topics   map[string]*ends
	renewing map[string]bool
}

func newEndsKept() *endsKept {
	return &endsKept{murmur2: sarama.NewMurmur2Partitioner(""), topics: make(map[string]*ends), renewing: make(map[string]bool)}
}

func (k *endsKept) of(topic string) *ends {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.topics[topic]
}

func (k *endsKept) keep(topic string, e *ends) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topics[topic] = e
}

// claim reports whether the caller is the one to ask for a topic's ends in the background; then it calls done.
func (k *endsKept) claim(topic string) (done func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.renewing[topic] {
		return nil, false
	}
	k.renewing[topic] = true
	return func() {
		k.mu.Lock()
		delete(k.renewing, topic)
		k.mu.Unlock()
	}, true
}

// Place implements broker.Placer.
func (l *Log) Place(ctx context.Context, topic string, msgs []broker.Message) (broker.Epoch, []int64, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return broker.Epoch{}, nil, err
	}
	defer end()
	view, err := l.viewToWrite(ctx, topic)
	if err != nil {
		return broker.Epoch{}, nil, err
	}
	e, err := l.endsOf(ctx, topic, view)
	if err != nil {
		return broker.Epoch{}, nil, err
	}
	if err := l.place(msgs, view); err != nil {
		return broker.Epoch{}, nil, err
	}
	next := e.next
	if n := len(view.partitions); len(next) < n { // the topic has grown
		next = append(make([]int64, 0, n), next...)[:n]
	}
	return view.epoch, next, nil
}

// endsOf returns ends of the life of the topic that view shows.
func (l *Log) endsOf(ctx context.Context, topic string, view *topicView) (*ends, error) {
	e := l.ends.of(topic)
	switch {
	case e != nil && e.epoch != view.epoch:
		// It was made again. A leader that has not heard of it yet would tell the end of the old life: begin at 0, and
		// ask when it has had the time.
		e = &ends{epoch: view.epoch, asked: time.Now()}
		l.ends.keep(topic, e)
		return e, nil
	case e != nil && time.Since(e.asked) <= endsAge:
		return e, nil
	case e != nil && time.Since(e.asked) <= endsStale:
		l.renewEnds(topic)
		return e, nil
	}
	fresh, err := l.askEnds(ctx, topic)
	switch {
	case err == nil && fresh.epoch == view.epoch:
		return fresh, nil
	case err == nil:
		return &ends{epoch: view.epoch}, nil
	case e != nil && ctx.Err() == nil:
		return e, nil // they are old, and as true as ever
	}
	return nil, err
}

// askEnds asks the leaders. The topic is looked at before and after, since they are asked by its name.
func (l *Log) askEnds(ctx context.Context, topic string) (*ends, error) {
	before, err := l.fresh(ctx, topic)
	if err != nil {
		return nil, err
	}
	e := &ends{epoch: before.epoch, asked: before.asked, next: make([]int64, len(before.partitions))}
	err = eachPartition(ctx, len(e.next), func(ctx context.Context, p int32) (err error) {
		e.next[p], err = l.offset(ctx, topic, p, sarama.OffsetNewest)
		return err
	})
	if err != nil {
		return nil, err
	}
	after, err := l.cluster.look(ctx, topic)
	if err != nil {
		return nil, err
	}
	if after.epoch != e.epoch {
		e = &ends{epoch: after.epoch, asked: after.asked}
	}
	l.ends.keep(topic, e)
	return e, nil
}

// renewEnds asks for a topic's ends in the background, once at a time.
func (l *Log) renewEnds(topic string) {
	if done, ok := l.ends.claim(topic); ok {
		l.background(done, func(ctx context.Context) {
			_, _ = l.askEnds(ctx, topic) // what it learns is kept; if it fails the next Place asks again
		})
	}
}

// place chooses partitions as the producer does.
func (l *Log) place(msgs []broker.Message, view *topicView) error {
	n := int32(len(view.partitions))
	if n == 0 {
		return fmt.Errorf("%w: the topic has no partitions yet", broker.ErrUnavailable)
	}
	keyless := broker.AnyPartition
	var pm sarama.ProducerMessage
	for i := range msgs {
		m := &msgs[i]
		switch {
		case m.Partition >= 0:
		case m.Key == nil:
			if keyless < 0 {
				keyless = l.anyLed(view)
			}
			m.Partition = keyless
		default:
			pm.Key = sarama.ByteEncoder(m.Key)
			p, err := l.ends.murmur2.Partition(&pm, n)
			if err != nil {
				return fmt.Errorf("choose a partition: %w", err)
			}
			m.Partition = p
		}
	}
	return nil
}

// anyLed takes partitions in turn, and those without a leader only where all are.
func (l *Log) anyLed(view *topicView) int32 {
	n := uint32(len(view.partitions))
	first := l.ends.turn.Add(1) % n
	for i := range n {
		p := int32((first + i) % n)
		if _, err := view.leaderOf(p); err == nil {
			return p
		}
	}
	return int32(first)
}

// End implements broker.Placer.
func (l *Log) End(ctx context.Context, topic string, partition int32) (int64, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return 0, err
	}
	defer end()
	return l.logEnd(ctx, topic, partition)
}
