package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// apply delivers an answer that is known to be of this topic.
func (t *tail) apply(ctx context.Context, a answer) {
	for _, w := range a.wants {
		t.parts[w.partition].busy = false
	}
	if a.err != nil {
		for _, w := range a.wants {
			p := t.parts[w.partition]
			p.replica = -1
			t.fail(ctx, p, a.err)
		}
		return
	}
	for i := range a.parts {
		if ctx.Err() != nil {
			return
		}
		t.deliver(ctx, &a.parts[i])
	}
}

// deliver takes one partition's part of an answer.
func (t *tail) deliver(ctx context.Context, a *partAnswer) {
	p := t.parts[a.Partition]
	if a.code == sarama.ErrOffsetOutOfRange {
		t.check(ctx, p)
		return
	}
	if a.code != sarama.ErrNoError {
		t.log.metrics.fetchErrors.WithLabelValues(kindTail).Inc()
		p.replica = -1
		t.fail(ctx, p, fmt.Errorf("%w: fetch from partition %d: %w", broker.ErrUnavailable, p.id, spelled(a.code)))
		return
	}
	p.failures = 0
	t.well(p.name())
	if a.preferred >= 0 && a.preferred != p.source() {
		if _, ok := t.brokers[a.preferred]; ok {
			p.replica, p.preferred = a.preferred, time.Now()
		}
	}
	if a.Next == p.next && a.End > p.next {
		// Its next batch is larger than its share, and a broker gives only one such in an answer. That nothing came is
		// never taken for a hole: holes are stepped past by the batches around them.
		p.starved, p.maxBytes = true, int32(min(int(p.maxBytes)*2, fetchMost))
		return
	}
	p.starved, p.maxBytes = false, int32(t.log.cfg.FetchBytes)
	if a.Next <= p.next {
		return
	}
	p.next = a.Next
	t.log.metrics.handedOn(kindTail, a.Records)
	t.h.Records(a.Batch)
}

// spelled gives an error of Kafka's with words that sarama does not have for it.
func spelled(code sarama.KError) error {
	switch code {
	case 100:
		return fmt.Errorf("the broker does not know the topic's id, as one that was deleted or is new (%d)", int16(code))
	case 103:
		return fmt.Errorf("the partition on the broker is of another topic of this name (%d)", int16(code))
	}
	return code
}

// fail lets a partition wait, longer each time, and finds its leader anew.
func (t *tail) fail(ctx context.Context, p *tailPart, err error) {
	p.notBefore = time.Now().Add(min(retryAfter<<min(p.failures, 8), retryMost))
	p.failures++
	if p.failures > 1 { // the first is as likely a leader that moved, or a connection that was idle too long
		t.ill(p.name(), err)
	}
	t.look(ctx)
}

// check finds out on which side of the log an offset lies. Kafka has one error for both.
func (t *tail) check(ctx context.Context, p *tailPart) {
	p.busy = true
	t.work.Go(func() {
		limited, cancel := context.WithTimeout(ctx, t.log.cfg.RequestTimeout)
		defer cancel()
		b, err := t.log.bounds(limited, t.topic, p.id)
		select {
		case t.ranges <- ranged{p, time.Now(), b, err}:
		case <-ctx.Done():
		}
	})
}

func (t *tail) checked(ctx context.Context, r ranged) {
	t.hold(ctx, r.at, func(ctx context.Context) {
		p := r.part
		p.busy = false
		switch {
		case r.err != nil:
			t.fail(ctx, p, r.err)
			return
		case p.next >= r.bounds.First && p.next <= r.bounds.Next:
			// A replica that lags was asked, or the end has come by now.
			p.replica = -1
			p.notBefore = time.Now().Add(min(retryAfter<<min(p.failures, 8), retryMost))
			p.failures++
			return
		}
		gap := (&broker.RangeError{Partition: p.id, Offset: p.next, Bounds: r.bounds}).Gap()
		p.next, p.failures = gap.To, 0
		t.well(p.name())
		t.log.metrics.gaps.WithLabelValues(string(gap.Reason)).Inc()
		t.h.Gap(gap)
	})
}

// ill and well tell the handler when trouble begins and when the last of it is over.
func (t *tail) ill(what string, err error) {
	first := len(t.problems) == 0
	t.problems[what] = err
	if first {
		t.log.log.Warn("tail in trouble", "topic", t.topic, "error", err)
		t.h.Health(err)
	}
}

func (t *tail) well(what string) {
	if _, ok := t.problems[what]; !ok {
		return
	}
	delete(t.problems, what)
	if len(t.problems) == 0 {
		t.log.log.Info("tail well again", "topic", t.topic)
		t.h.Health(nil)
	}
}
