package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The ways of a GroupConfig's sessions.
const (
	GroupSSE    = "sse"
	GroupNDJSON = "ndjson"
)

// GroupConfig says who takes the events of a subscription of an Event Issuer, and how they acknowledge.
type GroupConfig struct {
	Servers  []string // base URLs of its replicas
	Header   http.Header
	Stream   string
	Types    []string // of the events; default all of the stream
	Name     string   // of the subscription, which is made anew and deleted afterwards; default a random one
	Ordering string   // none or key; default key
	Client   string   // GroupSSE or GroupNDJSON; default GroupNDJSON
	Spread   []int    // sessions on each server; default Sessions, one server after the other
	Sessions int      // default 10

	MaxUncommitted int           // of a session; default 10,000
	AckEvery       int           // events that are acknowledged at once; default 1,000
	AckAfter       time.Duration // or what has come in so long; default 5 ms

	PIDs    []int // processes to measure
	PIDTree bool  // with their descendants
}

func (c *GroupConfig) defaults() error {
	if len(c.Servers) == 0 || c.Stream == "" {
		return errors.New("expected servers and a stream")
	}
	set(&c.Name, "loadtest-"+NewRun())
	set(&c.Ordering, "key")
	set(&c.Client, GroupNDJSON)
	set(&c.Sessions, 10)
	set(&c.MaxUncommitted, 10_000)
	set(&c.AckEvery, 1000)
	set(&c.AckAfter, 5*time.Millisecond)
	if c.Client != GroupSSE && c.Client != GroupNDJSON {
		return fmt.Errorf("client %q: expected %s or %s", c.Client, GroupSSE, GroupNDJSON)
	}
	if c.Spread == nil {
		c.Spread = make([]int, len(c.Servers))
		for i := range c.Sessions {
			c.Spread[i%len(c.Servers)]++
		}
	}
	if len(c.Spread) != len(c.Servers) {
		return fmt.Errorf("sessions are given for %d servers, of %d", len(c.Spread), len(c.Servers))
	}
	for i, s := range c.Servers {
		c.Servers[i] = strings.TrimSuffix(s, "/")
	}
	return nil
}

// call makes a request of JSON and reads the answer into out, unless that is nil.
func (c *GroupConfig) call(ctx context.Context, client *http.Client, method, target string, body, out any) (int, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, in)
	if err != nil {
		return 0, err
	}
	if c.Header != nil {
		req.Header = c.Header.Clone()
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("%s %s: %s: %.300s", method, target, resp.Status, answer)
	}
	if out != nil {
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, err
}

// subscribe makes the subscription, waits until every server knows it, and returns its path.
func (c *GroupConfig) subscribe(ctx context.Context, from string) (path string, err error) {
	var made struct{ ID string }
	subscription := map[string]any{
		"name": c.Name, "streams": []string{c.Stream}, "description": "of a load test",
		"config": map[string]any{"from": from, "ordering": c.Ordering, "maxUncommitted": c.MaxUncommitted, "maxSessions": 1000},
	}
	if len(c.Types) > 0 {
		subscription["types"] = c.Types
	}
	_, err = c.call(ctx, http.DefaultClient, http.MethodPost, c.Servers[0]+"/v1/subscriptions", subscription, &made)
	if err != nil {
		return "", err
	}
	path = "/v1/subscriptions/" + url.PathEscape(made.ID)
	for _, server := range c.Servers {
		for {
			status, err := c.call(ctx, http.DefaultClient, http.MethodGet, server+path, nil, nil)
			if err == nil {
				break
			}
			if status != http.StatusNotFound || !wait(ctx, 10*time.Millisecond) {
				return "", err
			}
		}
	}
	return path, nil
}

// groupStats is what a subscription tells of itself.
type groupStats struct {
	Lag          int64 `json:"lag"`
	Redeliveries int64 `json:"redeliveries"`
}

func (c *GroupConfig) stats(ctx context.Context, path string) (s groupStats, err error) {
	_, err = c.call(ctx, http.DefaultClient, http.MethodGet, c.Servers[0]+path+"/stats", nil, &s)
	return s, err
}

// taker is one session: a goroutine that reads, and one that acknowledges the newest cursor, one request at a time.
type taker struct {
	config *GroupConfig
	server string
	path   string
	client *http.Client
	heard  func(line []byte, now time.Time) // of each event; nil: nobody asks

	newest chan struct{} // one place: there is enough to acknowledge

	mu     sync.Mutex // guards what follows
	cursor []byte     // the newest
	events int64
	taken  int64 // events up to cursor
	acked  int64 // what the server said it took
	posts  int64
	first  time.Time // of an event
	last   time.Time // of an answer
	acks   *hdrhistogram.Histogram
}

func newTaker(c *GroupConfig, server, path string) *taker {
	return &taker{
		config: c, server: server, path: path, newest: make(chan struct{}, 1), acks: newHistogram(),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true, ReadBufferSize: 64 << 10}},
	}
}

// errReconnect says that the session's cursors are no longer good.
var errReconnect = errors.New("the session has to begin anew")

// run takes and acknowledges until ctx ends, or something fails. What was taken last is then not acknowledged.
func (k *taker) run(ctx context.Context) error {
	defer k.client.CloseIdleConnections()
	k.mu.Lock()
	k.taken = k.events // what another session was given is not this one's to acknowledge
	k.mu.Unlock()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var acking sync.WaitGroup
	defer acking.Wait()
	defer stop(nil)
	acking.Go(func() {
		if err := k.acknowledge(ctx); err != nil {
			stop(err)
		}
	})
	err := k.read(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// read reads events until the connection ends.
func (k *taker) read(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.server+k.path+"/events", nil)
	if err != nil {
		return err
	}
	if k.config.Header != nil {
		req.Header = k.config.Header.Clone()
	}
	next := (*groupReader).line
	req.Header.Set("Accept", "application/x-ndjson")
	if k.config.Client == GroupSSE {
		next = (*groupReader).block
		req.Header.Set("Accept", "text/event-stream")
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("a session was answered %s: %s", resp.Status, why)
	}
	r := groupReader{Reader: bufio.NewReaderSize(resp.Body, 256<<10)}
	var cursor []byte
	k.mu.Lock()
	events := k.events
	k.mu.Unlock()
	told := events
	for {
		event, id, err := next(&r)
		if errors.Is(err, io.EOF) {
			err = errors.Join(errReconnect, err)
		}
		if err != nil {
			return fmt.Errorf("a session ended: %w", err)
		}
		if event == nil {
			continue
		}
		if events == 0 {
			k.mu.Lock()
			k.first = time.Now()
			k.mu.Unlock()
		}
		events++
		cursor = append(cursor[:0], id...)
		if k.heard != nil {
			k.heard(event, time.Now())
		}
		if enough := events-told >= int64(k.config.AckEvery); enough || r.Buffered() == 0 {
			k.tell(cursor, events, enough)
			if enough {
				told = events
			}
		}
	}
}

// tell has the newest cursor acknowledged, at once or in time.
func (k *taker) tell(cursor []byte, events int64, enough bool) {
	k.mu.Lock()
	k.cursor, k.events = append(k.cursor[:0], cursor...), events
	k.mu.Unlock()
	if enough {
		select {
		case k.newest <- struct{}{}:
		default:
		}
	}
}

// acknowledge acknowledges the newest cursor whenever there is enough, or it is time.
func (k *taker) acknowledge(ctx context.Context) error {
	tick := time.NewTicker(k.config.AckAfter)
	defer tick.Stop()
	for {
		select {
		case <-k.newest:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		k.mu.Lock()
		cursor, events := string(k.cursor), k.events
		due := events > k.taken
		k.mu.Unlock()
		if !due {
			continue
		}
		var answer struct{ Acknowledged int64 }
		begin := time.Now()
		status, err := k.config.call(ctx, k.client, http.MethodPost, k.server+k.path+"/cursors", map[string]any{"cursors": []string{cursor}}, &answer)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if status == http.StatusConflict {
				err = errors.Join(errReconnect, err)
			}
			return fmt.Errorf("acknowledge: %w", err)
		}
		k.mu.Lock()
		k.taken, k.last = events, time.Now()
		k.acked += answer.Acknowledged
		k.posts++
		_ = k.acks.RecordValue(k.last.Sub(begin).Microseconds()) // more than a minute is not told
		k.mu.Unlock()
	}
}

// groupReader reads what a session brings.
type groupReader struct {
	*bufio.Reader
	id, data []byte // of the block
}

// next reads a line, without its end. It is good until the next is read.
func (r *groupReader) next() ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = bytes.Clone(line)
		var rest []byte
		if rest, err = r.ReadBytes('\n'); len(line)+len(rest) > maxLine {
			return nil, errors.New("a line is longer than 8 MiB")
		}
		line = append(line, rest...)
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

var (
	cursorFirst = []byte(`{"cursor":"`)
	groupNext   = []byte(`","group":"`)
)

// line reads a line of NDJSON: an event and its cursor, or nil for anything else.
func (r *groupReader) line() (event, cursor []byte, err error) {
	line, err := r.next()
	if err != nil {
		return nil, nil, err
	}
	rest, ok := bytes.CutPrefix(line, cursorFirst)
	if !ok {
		return nil, nil, nil
	}
	i := bytes.IndexByte(rest, '"')
	if i < 0 || !bytes.HasPrefix(rest[i:], groupNext) {
		return nil, nil, nil
	}
	return rest[i:], rest[:i], nil
}

// block reads a block of an event stream: an event and its cursor, or nil for anything else.
func (r *groupReader) block() (event, cursor []byte, err error) {
	r.id, r.data = r.id[:0], r.data[:0]
	named := false
	for {
		line, err := r.next()
		if err != nil {
			return nil, nil, err
		}
		switch {
		case len(line) == 0:
			if named || len(r.data) == 0 {
				return nil, nil, nil
			}
			return r.data, r.id, nil
		case bytes.HasPrefix(line, []byte("event:")):
			named = true
		}
		if v, ok := field(line, "id:"); ok {
			r.id = append(r.id, v...)
		} else if v, ok := field(line, "data:"); ok {
			r.data = append(r.data, v...)
		}
	}
}

// unsubscribe deletes the subscription.
func (c *GroupConfig) unsubscribe(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := c.call(ctx, http.DefaultClient, http.MethodDelete, c.Servers[0]+path, nil, nil)
	return err
}
