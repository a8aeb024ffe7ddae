package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// errUnpublished ends a command some of whose events were not taken. They have been named by then.
var errUnpublished = errors.New("some events were not published")

// item is one event on its way.
type item struct {
	raw        json.RawMessage
	name       string      // for messages
	unreadable *eventError // why there is no raw
}

// maxBatchBytes bounds a request below what a server takes by default (8 MiB), envelope and all.
const maxBatchBytes = 6 << 20

// sender publishes events in batches, in their order, and counts what became of them.
type sender struct {
	client   *client
	console  *console
	options  publishing
	progress *progress

	pending []item
	bytes   int

	persisted, duplicates, failed int
	shown                         int   // failures named so far
	broken                        error // what ended sending for good
}

func newSender(c *client, o *console, p publishing) *sender {
	p.Batch = max(p.Batch, 1)
	return &sender{client: c, console: o, options: p, progress: newProgress(o)}
}

func (s *sender) add(i item) {
	s.pending = append(s.pending, i)
	s.bytes += len(i.raw)
}

// full says that what is pending should be sent before more is added.
func (s *sender) full() bool { return len(s.pending) >= s.options.Batch || s.bytes >= maxBatchBytes }

// finish sends the rest and sums up. It takes and returns what ended the command early, be it sending itself.
func (s *sender) finish(ctx context.Context, cause error) error {
	err := s.broken
	if err == nil {
		err = s.flush(ctx)
	}
	if cause != nil && !errors.Is(cause, err) {
		err = errors.Join(cause, err)
	}
	s.progress.end()
	sum := fmt.Sprintf("%d persisted", s.persisted)
	if s.duplicates > 0 {
		sum += fmt.Sprintf(", %d duplicates", s.duplicates)
	}
	if s.failed > 0 {
		sum += fmt.Sprintf(", %d NOT published", s.failed)
	}
	if n := len(s.pending); n > 0 {
		sum += fmt.Sprintf(", %d not tried or in doubt", n)
	}
	if cause == nil && err == nil && s.persisted+s.duplicates+s.failed == 0 {
		sum = "nothing was published: the input holds no event"
	}
	s.console.note("%s", sum)
	if err == nil && s.failed > 0 {
		return errUnpublished
	}
	return err
}

// result is what the server says of one event.
type result struct {
	ID        string    `json:"id"`
	Source    string    `json:"source"`
	Status    string    `json:"status"`
	Errors    []mistake `json:"errors"`
	Retryable bool      `json:"retryable"`
}

// flush sends what is pending, and what may pass again, before it returns. A batch that is partly taken is tried again
// only for the rest, so that a key's events may change places where the server failed one of them.
func (s *sender) flush(ctx context.Context) error {
	for attempt := 0; len(s.pending) > 0; attempt++ {
		wait, err := s.try(ctx, attempt < s.options.Retries)
		if err != nil {
			s.broken = err
			return err
		}
		s.progress.show(s.persisted + s.duplicates)
		if len(s.pending) == 0 {
			break
		}
		if wait == 0 {
			wait = backoff(attempt)
		}
		if !clock.Pause(ctx, wait) {
			s.broken = context.Canceled
			return s.broken
		}
	}
	return nil
}

// try sends what is pending once. What stays pending may be tried again, after the time returned if it is not 0.
func (s *sender) try(ctx context.Context, again bool) (time.Duration, error) {
	kind := mediaBatch
	if len(s.pending) == 1 { // the server's word is then about the event, not about a batch
		kind = "application/cloudevents+json"
	}
	a, err := s.client.send(ctx, http.MethodPost, "/v1/events", kind, s.body())
	if err != nil {
		// Before anything was taken, an absent server is told at once; later it may be a restart.
		if again && s.persisted > 0 && !errors.Is(err, context.Canceled) {
			s.progress.end()
			s.console.note("%s; trying again", s.client.ended(err))
			return 0, nil
		}
		return 0, err
	}
	var got struct {
		Results []json.RawMessage `json:"results"`
	}
	if json.Unmarshal(a.body, &got) == nil && len(got.Results) == len(s.pending) {
		return retryAfter(a.header), s.account(got.Results, again)
	}
	no := s.client.problemOf(a.status, a.header, a.body)
	switch {
	case a.status/100 == 2:
		return 0, fmt.Errorf("the answer (%d) does not say what became of %d events: %.200s", a.status, len(s.pending), a.body)
	case again && !no.final() && a.status != http.StatusInternalServerError:
		s.progress.end()
		s.console.note("%s (%d); trying again", no.Title, no.Status)
		return no.after, nil
	case a.status == http.StatusRequestEntityTooLarge && len(s.pending) > 1:
		return 0, s.halve(ctx, again)
	case no.final() && len(s.pending) == 1:
		s.refuse(s.pending[0], no.Error())
		s.clear()
		return 0, nil
	}
	return 0, no
}

// halve sends a batch that is too large in two parts, down to the single event that is.
func (s *sender) halve(ctx context.Context, again bool) error {
	all := s.pending
	for _, part := range [][]item{all[:len(all)/2], all[len(all)/2:]} {
		s.pending = append([]item{}, part...)
		for attempt := 0; len(s.pending) > 0; attempt++ {
			wait, err := s.try(ctx, again && attempt < s.options.Retries)
			if err != nil {
				return err
			}
			if len(s.pending) > 0 && !clock.Pause(ctx, max(wait, backoff(attempt))) {
				return context.Canceled
			}
		}
	}
	s.clear()
	return nil
}

func (s *sender) body() []byte {
	if len(s.pending) == 1 {
		return s.pending[0].raw
	}
	var b bytes.Buffer
	b.Grow(s.bytes + len(s.pending) + 2)
	for i, p := range s.pending {
		b.WriteByte("[,"[min(i, 1)])
		b.Write(p.raw)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func (s *sender) clear() { s.pending, s.bytes = s.pending[:0], 0 }

// account enters the results of a batch; what may pass stays pending if it is to be tried again.
func (s *sender) account(results []json.RawMessage, again bool) error {
	var rest []item
	for i, raw := range results {
		var r result
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("the result %.100s cannot be read: %w", raw, err)
		}
		switch {
		case r.Status == "persisted":
			s.persisted++
		case r.Status == "duplicate":
			s.duplicates++
		case r.Status == "failed" && again:
			rest = append(rest, s.pending[i])
			continue
		default:
			text := r.Status
			for _, m := range r.Errors {
				text += "\n  " + m.String()
			}
			s.refuse(s.pending[i], text)
		}
		if s.options.Results {
			if _, err := fmt.Fprintf(s.console.out, "%s\n", raw); err != nil {
				return err
			}
		}
	}
	if len(rest) > 0 {
		s.progress.end()
		s.console.note("the log did not take %d of %d events; trying them again", len(rest), len(s.pending))
	}
	s.clear()
	for _, i := range rest {
		s.add(i)
	}
	return nil
}

// maxShown bounds how many refused events are named.
const maxShown = 50

// refuse counts and names an event that was not taken.
func (s *sender) refuse(i item, why string) {
	s.failed++
	s.progress.end()
	if s.shown++; s.shown > maxShown {
		if s.shown == maxShown+1 {
			_, _ = fmt.Fprintf(s.console.err, "eventctl: more events were refused; only the first %d are named\n", maxShown)
		}
		return
	}
	var attributes struct{ ID, Source, Type string }
	if i.unreadable != nil {
		_, _ = fmt.Fprintf(s.console.err, "eventctl: %s: %s\n", i.name, why)
		return
	}
	_ = json.Unmarshal(i.raw, &attributes) // for the message only
	_, _ = fmt.Fprintf(s.console.err, "eventctl: %s (id %q, source %q, type %q): %s\n", i.name, attributes.ID, attributes.Source, attributes.Type, why)
}

// backoff is half a second, doubled with each attempt up to 30 s, less up to half of it by jitter.
func backoff(attempt int) time.Duration {
	d := min(500*time.Millisecond<<min(attempt, 10), 30*time.Second)
	return d/2 + rand.N(d/2)
}
