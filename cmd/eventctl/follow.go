package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/r3labs/sse/v2"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// follower reads an event stream over any number of connections as if it were one.
type follower struct {
	client   *client
	console  *console
	path     string
	query    []byte // an events:query body to be posted there; nil: the path says all
	maxEvent int
	idle     time.Duration
	// event is given each event, with its cursor. It may take its time: meanwhile nothing is read. An error ends it all.
	event func(ctx context.Context, cursor string, event []byte) error
	// told is given each control message but problems, beside what is noted of it; nil: nobody wants them.
	told func(name string, data []byte) error
	keep *keeper

	cursor string        // of the last block that was read whole and, if it was an event, taken
	left   int           // events until the end; 0: no end
	retry  time.Duration // what the server asked for last; 0: nothing
	final  error         // why not to come back
	done   bool          // the count is reached
}

// refusedError is the server's wish that the reader stays away.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// run follows until ctx is done (which is no error: a tail has no end of its own), the count is reached, or the server refuses for good.
func (f *follower) run(ctx context.Context) error {
	err := f.follow(ctx)
	if file := (*fileError)(nil); errors.As(err, &file) {
		return err // of keeping the cursor
	}
	if f.final != nil {
		f.keep.lost = true // a server that refuses the reader takes no cursor of it
	}
	// What was printed is kept even when the interrupt has come.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, f.keep.keep(last, f.cursor))
}

func (f *follower) follow(ctx context.Context) error {
	for failures := 0; ; {
		blocks, err := f.connect(ctx)
		if f.done || f.final != nil || ctx.Err() != nil {
			return f.final
		}
		if blocks > 0 {
			failures = 0
		}
		wait := f.pause(failures, err)
		failures++
		f.console.note("%s; coming back in %s", f.client.ended(err), wait.Round(10*time.Millisecond))
		if !clock.Pause(ctx, wait) {
			return nil
		}
	}
}

// ended says in one line why a connection ended.
func (c *client) ended(err error) string {
	var no *problem
	switch {
	case err == nil:
		return "the server closed the connection"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody answers at " + c.base + " at the moment"
	case errors.As(err, &no):
		return fmt.Sprintf("%s (%d)", no.Title, no.Status)
	}
	return err.Error()
}

// pause is how long to stay away. The server's word (Retry-After, or retry: after a connection that worked) goes before
// a backoff of ours, and both are spread so that many readers do not come back at once.
func (f *follower) pause(failures int, err error) time.Duration {
	var no *problem
	if errors.As(err, &no) && no.after > 0 {
		return no.after + rand.N(no.after/4+1)
	}
	if failures == 0 && f.retry > 0 {
		return f.retry
	}
	return max(backoff(failures), f.retry)
}

// connect reads one connection to its end, and says how many whole blocks it had. Clean or not, its end is no reason to stop.
func (f *follower) connect(ctx context.Context) (blocks int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := &guardedBody{idle: f.idle, cancel: cancel, cutMark: "eventctl-cut-" + strconv.FormatUint(rand.Uint64(), 36)}
	c := sse.NewClient(f.client.base+f.path, sse.ClientMaxBufferSize(f.maxEvent))
	c.Connection = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		body.watch()
		if f.query != nil {
			r = posting(r, f.query)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && resp.StatusCode == http.StatusOK {
			body.body, resp.Body = resp.Body, body
		}
		return resp, err
	})}
	c.ReconnectStrategy = once{}
	for name, values := range f.client.header {
		c.Headers[name] = strings.Join(values, ", ")
	}
	if f.cursor != "" {
		c.LastEventID.Store([]byte(f.cursor))
	}
	var answer error
	c.ResponseValidator = func(_ *sse.Client, resp *http.Response) error {
		if answer = f.client.streaming(resp, "text/event-stream"); answer != nil {
			_ = resp.Body.Close()
			if final(answer) {
				f.final = answer
			}
		}
		return answer
	}
	var printing error
	err = c.SubscribeRawWithContext(ctx, func(m *sse.Event) {
		if string(m.Event) == body.cutMark || printing != nil || f.done || f.final != nil {
			return
		}
		blocks++
		body.busy.Store(true)
		printing = f.block(ctx, m)
		body.rest()
		if printing != nil || f.done || f.final != nil {
			cancel(nil)
		}
	})
	body.unwatch()
	switch {
	case printing != nil:
		f.final = printing
	case answer != nil:
		err = answer
	case errors.Is(err, bufio.ErrTooLong):
		f.final = fmt.Errorf("an event is larger than %d bytes: raise --max-event", f.maxEvent)
	case errors.Is(context.Cause(ctx), errIdle):
		err = errIdle
	case err != nil:
		err = f.client.unreachable(err)
	}
	return blocks, err
}

// streaming tells a stream of a media type from any other answer, which is an error: of the server or of the address.
func (c *client) streaming(resp *http.Response, kind string) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if got, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); got != kind {
			return &refusedError{fmt.Sprintf("the answer is %q and no event stream: does --server lead to an Event Issuer?", resp.Header.Get("Content-Type"))}
		}
		return nil
	case http.StatusNoContent:
		return &refusedError{"the server asks this reader to stop (204): another one has taken over its consumer"}
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return c.problemOf(resp.StatusCode, resp.Header, body)
}

// final tells whether an answer to opening a stream leaves no reason to come back.
func final(answer error) bool {
	var (
		no      *problem
		refused *refusedError
	)
	return errors.As(answer, &refused) || errors.As(answer, &no) && no.final() && !no.reconnect()
}

// block takes one whole block of the stream.
func (f *follower) block(ctx context.Context, m *sse.Event) error {
	if len(m.Retry) > 0 {
		if n, err := strconv.Atoi(string(m.Retry)); err == nil && n >= 0 {
			f.retry = min(time.Duration(n)*time.Millisecond, time.Hour)
		}
	}
	id := string(m.ID) // the last one known, where the block has none
	switch {
	case len(m.Event) > 0 && string(m.Event) != "message":
		f.control(string(m.Event), m.Data)
		if f.told != nil {
			if err := f.told(string(m.Event), m.Data); err != nil {
				return err
			}
		}
	case len(m.Data) > 0:
		if err := f.event(ctx, id, m.Data); err != nil {
			return err
		}
		if f.left > 0 {
			f.left--
			f.done = f.left == 0
		}
	}
	if id != "" {
		f.cursor = id
	}
	return f.keep.moved(ctx, f.cursor)
}

// control tells what the server says besides events.
func (f *follower) control(name string, data []byte) {
	if name != "problem" {
		f.console.tell(name, data)
		return
	}
	no := f.client.problemIn(data)
	if no.final() {
		f.final = no
		return
	}
	f.console.note("%v", no)
}

// tell notes a control message.
func (c *console) tell(name string, data []byte) {
	var payload struct {
		Stream, Reason, Detail string
		Partition              int
		From, To, Offset       json.Number
		Groups                 []string
		Keys, Dropped          int
		Subject                string
	}
	_ = json.Unmarshal(data, &payload) // a payload in another form is shown as it is
	switch name {
	case "gap":
		c.note("GAP in stream %s, partition %d: what was from %s up to %s is gone (%s)", payload.Stream, payload.Partition, payload.From, payload.To, payload.Reason)
	case "snapshot":
		missing := ""
		if payload.Dropped > 0 {
			missing = fmt.Sprintf("; the server has let %d go for want of room", payload.Dropped)
		}
		c.note("what is true now in stream %s: the latest events of %d keys%s", payload.Stream, payload.Keys, missing)
	case "live":
		c.note("that is all of stream %s; from here on what changes", payload.Stream)
	case "removed":
		c.note("gone from stream %s: %s (%s)", payload.Stream, payload.Subject, payload.Reason)
	case "drain":
		c.note("the server is going away; coming back at the next one")
	case "waiting":
		c.note("waiting (%s): %s", payload.Reason, cmp.Or(payload.Detail, "there is nothing for this session at the moment"))
	case "assigned":
		c.note("fed from %s", cmp.Or(strings.Join(payload.Groups, ", "), "nothing at the moment"))
	default:
		c.note("%s %s", name, data)
	}
}

// problemIn reads a problem that came in band.
func (c *client) problemIn(data []byte) *problem {
	no := &problem{}
	if json.Unmarshal(data, no) != nil || no.Title == "" {
		no = &problem{Title: "the server ended the session", Detail: string(data)}
	}
	no.remedy = c.remedyOf(no.Type)
	return no
}

// once is the strategy of connecting once a call: coming back is follow's part.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 }
func (once) Reset()                     {}

// posting makes a POST of the SSE client's request, which knows no other method than GET.
func posting(r *http.Request, body []byte) *http.Request {
	r = r.Clone(r.Context())
	r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// errIdle ends a connection on which even heartbeats stay away.
var errIdle = errors.New("nothing was heard from the server for too long")

// guardedBody reads a stream's body, and mends two things on the way to the SSE client: a connection on which nothing
// comes any more is ended, and a block that the end of the connection cuts off gets a mark, since the client hands it
// out as if it were whole: half a cursor is no cursor, and half an event no event.
type guardedBody struct {
	body    io.ReadCloser
	idle    time.Duration
	cancel  context.CancelCauseFunc
	cutMark string

	timer atomic.Pointer[time.Timer]
	busy  atomic.Bool // what was read is being worked on: that nothing more is read is no silence of the server's
	tail  [2]byte     // the last two bytes, without carriage returns
	any   bool
	mark  []byte // still to be handed out
	end   error  // what the body ended with
}

// watch starts the clock; each byte that comes sets it back.
func (b *guardedBody) watch() {
	if b.idle > 0 {
		b.timer.Store(time.AfterFunc(b.idle, func() {
			if !b.busy.Load() {
				b.cancel(errIdle)
			}
		}))
	}
}

// rest says that what was read has been worked on.
func (b *guardedBody) rest() {
	b.busy.Store(false)
	if t := b.timer.Load(); t != nil {
		t.Reset(b.idle)
	}
}

func (b *guardedBody) unwatch() {
	if t := b.timer.Load(); t != nil {
		t.Stop()
	}
}

// Read implements io.Reader.
func (b *guardedBody) Read(p []byte) (int, error) {
	if b.end == nil {
		n, err := b.body.Read(p)
		if n > 0 {
			if t := b.timer.Load(); t != nil {
				t.Reset(b.idle)
			}
			b.remember(p[:n])
		}
		if err == nil {
			return n, nil
		}
		b.end = err
		if b.any && b.tail != [2]byte{'\n', '\n'} {
			mark := "event: " + b.cutMark + "\n\n"
			if b.tail[1] != '\n' {
				mark = "\n" + mark
			}
			b.mark = []byte(mark)
		}
		if n > 0 {
			return n, nil
		}
	}
	if len(b.mark) > 0 {
		n := copy(p, b.mark)
		b.mark = b.mark[n:]
		return n, nil
	}
	return 0, b.end
}

func (b *guardedBody) remember(p []byte) {
	b.any = true
	for _, c := range p[max(0, len(p)-4):] {
		if c != '\r' {
			b.tail[0], b.tail[1] = b.tail[1], c
		}
	}
}

// Close implements io.Closer.
func (b *guardedBody) Close() error { return b.body.Close() }
