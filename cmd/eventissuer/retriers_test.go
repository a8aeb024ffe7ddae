package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	kindLoose   = "loose"   // written undeduplicated while Redis is away
	kindStrict  = "strict"  // refused then
	kindUnknown = "unknown" // not registered

	lateMost  = 150 // events of a publisher that wait to be sent again; beyond it sends nothing new
	groupMost = 12
)

// retriers publish single events and batches, valid and invalid ones mixed, to one replica after the other, each event
// until it is answered for good and some of them again after that. Some of the connections are cut on the way.
type retriers struct {
	ledger  *ledger
	servers []*server
	seed    uint64
	cuts    atomic.Bool
	away    atomic.Int64 // while Redis is surely away: which time

	acked atomic.Int64

	all     []*retrier
	stop    chan struct{} // nothing new
	abandon chan struct{} // nor what waits
	done    sync.WaitGroup
}

// retrier is one of them.
type retrier struct {
	*retriers
	t       *testing.T
	number  int
	rand    *rand.Rand
	made    int
	late    []*story // sent and not answered for good
	settled []*story // some of those that were
	last    int      // the server that was asked last
}

func newRetriers(t *testing.T, seed uint64, workers int, l *ledger, servers ...*server) *retriers {
	p := &retriers{ledger: l, servers: servers, seed: seed}
	for i := range workers {
		p.all = append(p.all, &retrier{retriers: p, t: t, number: i, rand: rand.New(rand.NewPCG(seed, uint64(i)))})
	}
	t.Cleanup(p.halt)
	return p
}

// begin sets all to work.
func (p *retriers) begin() {
	p.stop, p.abandon = make(chan struct{}), make(chan struct{})
	for _, r := range p.all {
		p.done.Go(func() { r.work(p.stop, p.abandon) })
	}
}

// halt ends the making of new events and waits until all have their final answer, in vain for as long as patience.
func (p *retriers) halt() {
	if p.stop == nil {
		return
	}
	close(p.stop)
	enough := time.AfterFunc(patience, func() { close(p.abandon) })
	p.done.Wait()
	enough.Stop()
	p.stop = nil
}

// more waits until n more answers were persisted or duplicate.
func (p *retriers) more(t *testing.T, n int64) {
	t.Helper()
	want := p.acked.Load() + n
	eventually(t, "publishing goes on", func() bool { return t.Failed() || p.acked.Load() >= want })
}

func (r *retrier) work(stop, abandon <-chan struct{}) {
	for r.t.Context().Err() == nil {
		ending := ended(stop)
		if ending && len(r.late) == 0 || ended(abandon) {
			return
		}
		group := r.group(ending)
		before := len(r.late)
		r.send(group)
		if len(r.late) >= before && (ending || len(r.late) >= lateMost) { // what is being found out takes its time
			select {
			case <-r.t.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// group chooses what to send next.
func (r *retrier) group(ending bool) []*story {
	n := 1
	if r.rand.IntN(3) > 0 {
		n += r.rand.IntN(groupMost)
	}
	var from []*story
	switch draw := r.rand.IntN(8); {
	case ending || len(r.late) >= lateMost || len(r.late) > 0 && draw < 2:
		from = r.late
	case len(r.settled) > 0 && draw == 2:
		from = r.settled
	}
	var group []*story
	if from != nil {
		for _, i := range r.rand.Perm(len(from))[:min(n, len(from))] {
			group = append(group, from[i])
		}
		return group
	}
	for range n {
		group = append(group, r.story())
	}
	if n > 1 && r.rand.IntN(8) == 0 { // the same twice in a batch
		group = append(group, group[r.rand.IntN(n)])
	}
	return group
}

// story makes up an event. Two of different sources have the same id.
func (r *retrier) story() *story {
	s := &story{
		name:    name{fmt.Sprintf("/e2e/%c", 'a'+rune(r.made%2)), fmt.Sprintf("%02d-%06d", r.number, r.made/2)},
		subject: fmt.Sprintf("w%02d-%d", r.number, r.rand.IntN(2)),
		valid:   true,
	}
	r.made++
	kind := kindLoose
	switch draw := r.rand.IntN(20); {
	case draw < 8:
		kind, s.strict = kindStrict, true
	case draw == 18:
		kind, s.valid = kindUnknown, false
	case draw == 19:
		s.valid = false
	}
	s.event = trip(s.name, kind, s.subject, s.valid)
	r.ledger.begin(s)
	return s
}

// send sends a group once, to another server than the last one, and notes what was answered.
func (r *retrier) send(group []*story) {
	if n := len(r.servers); n > 1 {
		r.last = (r.last + 1 + r.rand.IntN(n-1)) % n
	}
	v, cut := r.servers[r.last], noCut
	if r.cuts.Load() && r.rand.IntN(10) == 0 {
		cut = cutting{write: r.rand.IntN(2) == 0, after: r.rand.IntN(400)}
	}
	before := r.away.Load()
	answers, undeduplicated, err := v.publishGroup(r.t.Context(), group, cut)
	away := before > 0 && before == r.away.Load()
	if err != nil {
		r.ledger.note(why(err, cut))
	}
	r.forget(group)
	for i, s := range group {
		final := false
		if err == nil {
			if away {
				r.whileAway(s, answers[i], undeduplicated)
			}
			final = r.take(s, answers[i], undeduplicated)
		}
		if !final {
			r.remember(s)
		} else if len(r.settled) < 200 {
			r.settled = append(r.settled, s)
		} else {
			r.settled[r.rand.IntN(len(r.settled))] = s
		}
	}
}

// forget takes events out of those that wait.
func (r *retrier) forget(group []*story) {
	sent := map[*story]bool{}
	for _, s := range group {
		sent[s] = true
	}
	kept := r.late[:0]
	for _, s := range r.late {
		if !sent[s] {
			kept = append(kept, s)
		}
	}
	r.late = kept
}

// remember has an event wait to be sent again, unless it has been answered for good.
func (r *retrier) remember(s *story) {
	for _, other := range r.late {
		if other == s {
			return
		}
	}
	r.late = append(r.late, s)
}

// take notes one answer, and reports whether it is final.
func (r *retrier) take(s *story, a publishedItem, undeduplicated bool) bool {
	if a.ID != s.name.id || a.Source != s.name.source {
		r.t.Errorf("%s is answered by %+v", s.name, a)
	}
	switch a.Status {
	case "persisted", "duplicate":
		if a.Position == nil || a.Stream != theStream {
			r.t.Errorf("%s is answered by %+v, which does not say where", s.name, a)
			return true
		}
		// The header is the whole answer's: it is not told which of its events were meant.
		loose := undeduplicated && !s.strict && a.Status == "persisted"
		r.ledger.acked(r.t, s, place{a.Position.Partition, a.Position.Offset}, a.Status == "duplicate", loose)
		r.acked.Add(1)
		return true
	case "invalid":
		if len(a.Errors) == 0 {
			r.t.Errorf("%s is invalid, and it is not said why", s.name)
		}
		r.ledger.refused(r.t, s)
		return true
	case "failed":
		if !a.Retryable || !s.valid {
			r.t.Errorf("%s (valid: %v) is answered by %+v", s.name, s.valid, a)
		}
		r.ledger.note("failed: " + a.Errors[0].Message)
		return false
	}
	r.t.Errorf("%s is answered by %+v", s.name, a)
	return true
}

// whileAway checks an answer to a request that was begun and answered while Redis was away.
func (r *retrier) whileAway(s *story, a publishedItem, undeduplicated bool) {
	switch {
	case a.Status == "persisted" && s.strict:
		r.t.Errorf("%s was written while Redis was away, although its type demands to be deduplicated", s.name)
	case a.Status == "persisted" && !undeduplicated:
		r.t.Errorf("%s was written while Redis was away, and the answer does not say that it is not deduplicated", s.name)
	case a.Status == "failed" && s.strict:
		r.ledger.note("strict refused")
	}
}

func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// cutting ends a connection after some bytes of the request or of the answer.
type cutting struct {
	write bool
	after int
}

var noCut = cutting{after: -1}

func why(err error, cut cutting) string {
	switch {
	case cut == noCut && strings.HasPrefix(err.Error(), "answered "):
		return err.Error()
	case cut == noCut:
		return "connection lost"
	case cut.write:
		return "request cut"
	}
	return "answer cut"
}

// cutConn is a connection that ends with a reset when it has carried so many bytes.
type cutConn struct {
	*net.TCPConn
	cutting
	left int
}

func (c *cutConn) take(b []byte, mine bool) (n int, last bool) {
	if !mine || len(b) < c.left {
		return len(b), false
	}
	return c.left, true
}

func (c *cutConn) end() error {
	_ = c.SetLinger(0)
	_ = c.Close()
	return io.ErrUnexpectedEOF
}

// Read is called by one goroutine at a time, as Write is; only one of them counts.
func (c *cutConn) Read(b []byte) (int, error) {
	n, last := c.take(b, !c.write)
	if n == 0 {
		return 0, c.end()
	}
	n, err := c.TCPConn.Read(b[:n])
	if !c.write {
		c.left -= n
	}
	if err == nil && last && c.left == 0 {
		return n, c.end()
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	n, last := c.take(b, c.write)
	n, err := c.TCPConn.Write(b[:n])
	if c.write {
		c.left -= n
	}
	if err == nil && last {
		return n, c.end()
	}
	return n, err
}

type publishedItem struct {
	ID, Source, Status, Stream string
	Position                   *struct {
		Partition int
		Offset    int64
	}
	Errors    []struct{ Pointer, Message string }
	Retryable bool
}

// publishGroup sends events once, a single one by itself, and returns what is answered of each.
func (v *server) publishGroup(ctx context.Context, group []*story, cut cutting) (items []publishedItem, undeduplicated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	mediaType, body := "application/cloudevents+json", group[0].event
	if len(group) > 1 {
		var events [][]byte
		for _, s := range group {
			events = append(events, s.event)
		}
		mediaType = "application/cloudevents-batch+json"
		body = append(append([]byte{'['}, bytes.Join(events, []byte{','})...), ']')
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", mediaType)
	client := v.client
	if cut != noCut {
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &cutConn{TCPConn: conn.(*net.TCPConn), cutting: cut, left: cut.after}, nil
		}}
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is cut
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, false, err
	}
	var answer struct {
		Type    string // of a problem
		Results []publishedItem
	}
	if err := json.Unmarshal(out, &answer); err != nil || len(answer.Results) != len(group) {
		return nil, false, fmt.Errorf("answered %d %s", resp.StatusCode, answer.Type)
	}
	return answer.Results, resp.Header.Get("Eventissuer-Deduplicated") == "false", nil
}
