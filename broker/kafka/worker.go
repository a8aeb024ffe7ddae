package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// worker fetches from one broker for one tail, on a connection of its own, one fetch at a time.
type worker struct {
	addr  string
	tasks chan task // closed when the worker is to end

	// owned by the tail
	idle   bool
	proven time.Time // its broker gave records of the topic then or later
}

type task struct{ wants []want }

type answer struct {
	worker   int32
	wants    []want
	parts    []partAnswer
	err      error     // of the whole fetch
	failed   bool      // a part is an error
	sure     bool      // it is of the topic that the tail began with
	moves    bool      // a part brings records, or a step past holes
	sent, at time.Time // when the request was handed over, and when its answer came
}

// parted gives what an answer brought of partitions that could be read, and of those that could not.
func (a answer) parted() (good, failed answer) {
	if !a.failed {
		return a, answer{}
	}
	good, failed = a, a
	good.wants, good.parts, failed.wants, failed.parts = nil, nil, nil, nil
	for i := range a.parts { // one for each that was wanted, in order
		to := &good
		if a.parts[i].code != sarama.ErrNoError {
			to = &failed
		}
		to.wants, to.parts = append(to.wants, a.wants[i]), append(to.parts, a.parts[i])
	}
	return good, failed
}

type partAnswer struct {
	decoded
	code      sarama.KError
	preferred int32 // the replica to read from; -1: no other
}

// hire starts a worker. It ends with ctx, or when its tasks are closed.
func (t *tail) hire(ctx context.Context, id int32, addr string) *worker {
	w := &worker{addr: addr, tasks: make(chan task, 1), idle: true}
	t.workers[id] = w
	t.work.Go(func() {
		var c *conn
		var byID bool // c's fetches are
		defer func() {
			if c != nil {
				c.close()
			}
		}()
		for {
			var job task
			var ok bool
			select {
			case job, ok = <-w.tasks:
			case <-ctx.Done():
			}
			if !ok {
				return
			}
			a := answer{worker: id, wants: job.wants, sent: time.Now()}
			if c == nil {
				if c, a.err = connectByID(t.log.base, addr); a.err == nil {
					byID, a.err = c.fetchesByID(ctx, t.topic, t.epoch)
				}
			}
			if a.err == nil {
				a.sure = byID
				a = t.fetch(ctx, c, a)
			}
			if c != nil && (c.broken || a.err != nil) {
				c.close()
				c = nil
			}
			if a.at.IsZero() {
				a.at = time.Now()
			}
			select {
			case t.answer <- a:
			case <-ctx.Done():
				return
			}
		}
	})
	return w
}

func (t *tail) fetch(ctx context.Context, c *conn, a answer) answer {
	blocks, err := t.log.fetch(ctx, c, kindTail, t.topic, a.wants, longPoll)
	a.at = time.Now()
	if err != nil {
		a.err = err
		return a
	}
	a.parts = make([]partAnswer, 0, len(blocks))
	for _, w := range a.wants {
		block := blocks[w.partition]
		if block == nil && len(blocks) == 0 {
			continue
		}
		if block == nil {
			a.err = fmt.Errorf("%w: %s gave no answer for partition %d", broker.ErrUnavailable, c.addr, w.partition)
			return a
		}
		p := partAnswer{code: block.Err, preferred: block.PreferredReadReplica}
		if block.Err == sarama.ErrNoError {
			p.decoded = decode(block, w.partition, w.offset)
			p.own() // the response has other partitions, too
			a.moves = a.moves || p.Next > w.offset
		} else {
			p.decoded = decoded{Batch: broker.Batch{Partition: w.partition, Next: w.offset}}
			a.failed = true
		}
		a.parts = append(a.parts, p)
	}
	return a
}
