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
	late   bool      // its last answer was none that needs no look
}

type task struct {
	number uint64
	wants  []want
	prove  bool // look behind the fetch
}

type answer struct {
	number   uint64
	worker   int32
	proves   bool // a proof comes behind it
	wants    []want
	parts    []partAnswer
	err      error     // of the whole fetch
	failed   bool      // a part is an error
	moves    bool      // a part brings records, or a step past holes
	sent, at time.Time // when the request was handed over, and when its answer came
}

type partAnswer struct {
	decoded
	code      sarama.KError
	preferred int32 // the replica to read from; -1: no other
}

// hire starts a worker. It ends with ctx, or when its tasks are closed.
func (t *tail) hire(ctx context.Context, id int32, addr string) *worker {
	w := &worker{addr: addr, tasks: make(chan task, 1), idle: true, late: true}
	t.workers[id] = w
	t.work.Go(func() {
		var c *conn
		defer func() {
			if c != nil {
				c.close()
			}
		}()
		used := false            // c was, before
		var behind chan struct{} // closed once nothing is on its way behind a fetch; nil: nothing ever was
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
			a := answer{number: job.number, worker: id, wants: job.wants, sent: time.Now()}
			if c == nil {
				c, a.err = connect(t.log.base, addr)
				used = false
			}
			handed := make(chan struct{})
			if a.err == nil {
				if job.prove && used {
					if behind != nil {
						select {
						case <-behind: // the broker would not come to the fetch before, either
						case <-ctx.Done():
							return
						}
					}
					behind, a.proves = t.lookBehind(ctx, c, a, handed), true
				}
				a = t.fetch(ctx, c, a)
				used = true
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
				close(handed)
			case <-ctx.Done():
				return
			}
		}
	})
	return w
}

// proof is what a look behind a fetch brought.
type proof struct {
	number uint64 // the answer's
	view   *topicView
	err    error
}

// lookBehind has a look at the topic follow the fetch that is sent on c next, and tells what it brought once the answer to that was
// handed over. The first write on c is the fetch's, and whoever writes for it holds c until it is whole: so the look is sent behind
// it, and handled after it. What it returns is closed when the look is over.
func (t *tail) lookBehind(ctx context.Context, c *conn, a answer, handed <-chan struct{}) (over chan struct{}) {
	sent := c.dialer.next()
	over = make(chan struct{})
	t.work.Go(func() {
		<-sent
		answer, err := c.broker.GetMetadata(whatIs(t.topic))
		close(over)
		p := proof{number: a.number, err: err}
		if err == nil {
			p.view, p.err = t.log.cluster.take(t.topic, answer, a.sent)
		}
		select {
		case <-handed:
		case <-ctx.Done():
			return
		}
		select {
		case t.proofs <- p:
		case <-ctx.Done():
		}
	})
	return over
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
