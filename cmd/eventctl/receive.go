package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"
)

// Bounds of what a session was given and is not begun with. Beyond them, nothing is read from the connection.
const (
	maxQueued      = 1000
	maxQueuedBytes = 64 << 20
)

// maxEnvelope bounds what a line has besides its event.
const maxEnvelope = 64 << 10

// delivery is an event that a session was given.
type delivery struct {
	Cursor  string          `json:"cursor"`
	Group   string          `json:"group"`
	Attempt int             `json:"attempt"`
	Event   json.RawMessage `json:"event"`
	line    []byte          // as it came
}

// String names the event for messages.
func (d delivery) String() string {
	var event struct{ ID, Source string }
	_ = json.Unmarshal(d.Event, &event) // for the message only
	return fmt.Sprintf("event %q of %q (%s, attempt %d)", event.ID, event.Source, d.Group, d.Attempt)
}

// receiver reads one connection ahead of what is done with the deliveries, so that heartbeats and notices are heard
// while commands run.
type receiver struct {
	worker     *worker
	deliveries chan delivery
	queued     *semaphore.Weighted // bytes
	ended      chan struct{}       // closed when run has returned

	received // owned by run
}

// received is what a connection brought besides deliveries.
type received struct {
	lines   int
	drained bool
	wait    time.Duration // when drained: how long to stay away
	final   error         // why not to come back
	err     error         // why it ended; nil: the server closed it
}

func newReceiver(w *worker) *receiver {
	return &receiver{
		worker: w, deliveries: make(chan delivery, maxQueued), queued: semaphore.NewWeighted(maxQueuedBytes), ended: make(chan struct{}),
	}
}

// next waits for a delivery. False: none is to be taken, since there are no more, ctx is done, or the server takes no
// more acknowledgements.
func (r *receiver) next(ctx context.Context, acks *acknowledger) (delivery, bool) {
	if !acks.room(ctx) {
		return delivery{}, false
	}
	select {
	case <-ctx.Done():
	case <-acks.over:
	case d, ok := <-r.deliveries:
		if ok {
			r.queued.Release(weight(d.line))
		}
		return d, ok && ctx.Err() == nil
	}
	return delivery{}, false
}

func weight(line []byte) int64 { return min(int64(len(line)), maxQueuedBytes) }

// lost tells whether the connection has ended.
func (r *receiver) lost() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// run reads until the connection ends.
func (r *receiver) run(ctx context.Context, body io.Reader) {
	defer close(r.deliveries)
	defer close(r.ended)
	lines := bufio.NewReaderSize(body, 64<<10)
	for {
		line, err := readLine(lines, r.worker.maxEvent+maxEnvelope)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF): // what it may have cut off is no line
			return
		case errors.Is(err, bufio.ErrTooLong):
			r.final = fmt.Errorf("an event is larger than %d bytes: raise --max-event", r.worker.maxEvent)
			return
		case errors.Is(context.Cause(ctx), errIdle):
			r.err = errIdle
			return
		default:
			r.err = r.worker.client.unreachable(err)
			return
		}
		r.lines++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if r.err = r.take(ctx, line); r.err != nil {
			return
		}
	}
}

// readLine reads a line into memory of its own.
func readLine(from *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := from.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, bufio.ErrTooLong
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// take queues a delivery and heeds anything else. An error ends the session.
func (r *receiver) take(ctx context.Context, line []byte) error {
	d := delivery{line: line}
	if err := json.Unmarshal(line, &d); err != nil {
		return fmt.Errorf("expected lines of JSON objects, got %.100q", line)
	}
	if d.Event == nil {
		return r.control(line)
	}
	if d.Cursor == "" {
		return errors.New("an event came without a cursor to acknowledge it by: is this a subscription's address?")
	}
	if err := r.queued.Acquire(ctx, weight(line)); err != nil {
		return err
	}
	select {
	case r.deliveries <- d:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// control heeds what the server says besides events, and tells it.
func (r *receiver) control(line []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return err
	}
	for name, payload := range members {
		switch name {
		case "cursor":
		case "problem":
			no := r.worker.client.problemIn(payload)
			if final(no) {
				r.final = no
			} else {
				r.worker.console.note("%v", no)
			}
			return no
		case "drain":
			var drain struct {
				RetryAfter float64 `json:"retryAfter"` // seconds
			}
			_ = json.Unmarshal(payload, &drain) // without a number, come back at once
			r.drained, r.wait = true, time.Duration(min(max(drain.RetryAfter, 0), 3600)*float64(time.Second))
			r.worker.console.tell(name, payload)
		default:
			r.worker.console.tell(name, payload)
		}
	}
	return nil
}
