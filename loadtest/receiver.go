package loadtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// receiverSetup tells a receiver what it is to be. Times are in nanoseconds.
type receiverSetup struct {
	Run       string        `json:"run"`
	Endpoints int           `json:"endpoints"` // a port each
	Hang      int           `json:"hang"`      // so many endpoints, the first ones, never answer a message
	Fail      float64       `json:"fail"`      // share of the messages that are answered 503
	Delay     time.Duration `json:"delay"`     // before each answer
	First     int           `json:"first"`     // lane
	Lanes     int           `json:"lanes"`     // that there are from it on
	OwnLane   bool          `json:"ownLane"`   // subscription i is sent lane First + i modulo Lanes alone
	Verify    float64       `json:"verify"`    // share of the messages whose signatures are verified
	Secrets   []string      `json:"secrets"`   // of each subscription; number i posts to /i at endpoint i modulo Endpoints
}

// receiverOrder is what a receiver is asked. Each is answered by one line, a receiverReport.
type receiverOrder struct {
	From int64 `json:"from,omitempty"` // the window begins, Unix nanoseconds
	To   int64 `json:"to,omitempty"`   // it ends
	Down *bool `json:"down,omitempty"` // from now on all messages are answered 503, or no longer
	// Recent has the answer hold the histogram of what came since it was last asked for.
	Recent bool `json:"recent,omitempty"`
	// Sequences are what was published; then the answer tells what is lost, and after what time the rest came.
	Sequences []wireSequence `json:"sequences,omitempty"`
}

type wireSequence struct {
	End    uint64   `json:"end"`
	Doubts []uint64 `json:"doubts,omitempty"`
}

// receiverReport is what has come so far. Only the endpoints that answer count, but for Hung.
type receiverReport struct {
	Addresses []string `json:"addresses,omitempty"` // of the endpoints, in the first line alone

	Events   uint64 `json:"events"`   // once each
	Window   uint64 `json:"window"`   // of those, such that came within the window
	Requests uint64 `json:"requests"` // messages that were taken
	Last     int64  `json:"last"`     // when the last new one did

	Consents    uint64 `json:"consents"` // OPTIONS that were answered
	Connections uint64 `json:"connections"`
	Refused     uint64 `json:"refused"` // messages that were answered 503
	Hung        uint64 `json:"hung"`    // messages that are not answered
	Malformed   uint64 `json:"malformed"`
	LastFault   string `json:"lastFault,omitempty"`

	Repeated   uint64 `json:"repeated"`
	Disordered uint64 `json:"disordered"`
	Unexpected uint64 `json:"unexpected"`
	Foreign    uint64 `json:"foreign"`
	Lost       uint64 `json:"lost"`

	Verified uint64 `json:"verified"`
	Forged   uint64 `json:"forged"` // of those, such whose signature is wrong

	Histogram []byte `json:"histogram,omitempty"` // of the window's latencies
	Recent    []byte `json:"recentHistogram,omitempty"`
}

// Receive is the process that endpoints are in during a run of Webhooks, which starts it: it reads what it is to be from
// in, a JSON object, and then what it is asked, each on a line, and answers on out. It ends when in does.
//
// It speaks as much of HTTP/1.1 as a sender of webhooks needs, and takes little of the processor: connections are kept,
// bodies have a Content-Length, and answers are empty.
func Receive(in io.Reader, out io.Writer) error {
	lines := json.NewDecoder(bufio.NewReader(in))
	answers := json.NewEncoder(out)
	var setup receiverSetup
	if err := lines.Decode(&setup); err != nil {
		return fmt.Errorf("expected what to be as JSON on standard input ('loadtest webhook' says it): %w", err)
	}
	r, err := newReceiver(setup)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer func() {
		stop()
		r.close()
	}()
	addresses, err := r.listen(ctx)
	if err != nil {
		return err
	}
	if err := answers.Encode(receiverReport{Addresses: addresses}); err != nil {
		return err
	}
	for {
		var order receiverOrder
		switch err := lines.Decode(&order); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read what is asked: %w", err)
		}
		if order.From != 0 {
			r.window.from.Store(order.From)
		}
		if order.To != 0 {
			r.window.to.Store(order.To)
		}
		if order.Down != nil {
			r.down.Store(*order.Down)
		}
		answer, err := r.report(order)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

// receiver is the endpoints of all subscriptions.
type receiver struct {
	setup     receiverSetup
	marks     marker
	boxes     []*mailbox
	tallies   [16]mailTally // mailbox i counts in tallies[i % len]
	window    gauges        // from and to alone
	every     uint64        // one of so many messages is verified; 0: none
	listeners []net.Listener
	running   sync.WaitGroup

	down                                             atomic.Bool
	last                                             atomic.Int64
	requests, consents, connections                  atomic.Uint64
	refused, hung, malformed, verified, forged, turn atomic.Uint64
	fault                                            atomic.Pointer[string]
}

// mailbox is where one subscription's messages arrive.
type mailbox struct {
	secret webhook.Secret
	tally  *mailTally

	mu     sync.Mutex
	ledger ledger // guarded by mu
}

// mailTally counts what arrived in some mailboxes.
type mailTally struct {
	mu      sync.Mutex
	counts  mailCounts              // guarded by mu
	latency *hdrhistogram.Histogram // of events that were due in the window; guarded by mu
	recent  *hdrhistogram.Histogram // of those that came since it was last asked for; guarded by mu
}

// mailCounts are of all of the run, but for window.
type mailCounts struct{ events, window, late, duplicates, unexpected, foreign uint64 }

func (c *mailCounts) add(o mailCounts) {
	c.events += o.events
	c.window += o.window
	c.late += o.late
	c.duplicates += o.duplicates
	c.unexpected += o.unexpected
	c.foreign += o.foreign
}

func newReceiver(s receiverSetup) (*receiver, error) {
	if s.Endpoints < 1 || s.Lanes < 1 || len(s.Secrets) == 0 {
		return nil, fmt.Errorf("expected endpoints, lanes and secrets, got %d, %d and %d", s.Endpoints, s.Lanes, len(s.Secrets))
	}
	r := &receiver{setup: s, marks: newMarker(s.Run)}
	if s.Verify > 0 {
		r.every = uint64(max(1, math.Round(1/s.Verify)))
	}
	for i := range r.tallies {
		r.tallies[i].latency, r.tallies[i].recent = newHistogram(), newHistogram()
	}
	for i, text := range s.Secrets {
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("subscription %d: %w", i, err)
		}
		book := newLedger(s.First, s.Lanes, false)
		if s.OwnLane {
			book = newLedger(s.First+i%s.Lanes, 1, false)
		}
		r.boxes = append(r.boxes, &mailbox{secret: secret, tally: &r.tallies[i%len(r.tallies)], ledger: book})
	}
	return r, nil
}

// listen opens the ports, and serves them until ctx is done.
func (r *receiver) listen(ctx context.Context) (addresses []string, err error) {
	var config net.ListenConfig
	for i := range r.setup.Endpoints {
		l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("endpoint %d: %w", i, err)
		}
		r.listeners = append(r.listeners, l)
		addresses = append(addresses, l.Addr().String())
	}
	for i, l := range r.listeners {
		r.running.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return // closed
				}
				r.connections.Add(1)
				r.running.Go(func() { r.serve(ctx, conn, i < r.setup.Hang) })
			}
		})
	}
	return addresses, nil
}

// close returns once no connection is served any more. Their context is done.
func (r *receiver) close() {
	for _, l := range r.listeners {
		_ = l.Close()
	}
	r.running.Wait()
}

// take enters a message's events in the account of subscription i. It is false for a subscription that there is not.
func (r *receiver) take(i int, q *request) bool {
	if i < 0 || i >= len(r.boxes) {
		return false
	}
	box, now := r.boxes[i], time.Now()
	if r.every > 0 && r.turn.Add(1)%r.every == 0 {
		r.verified.Add(1)
		if err := webhook.Verify(q.signed(), q.body, []webhook.Secret{box.secret}, nil, now, 5*time.Minute); err != nil {
			r.forged.Add(1)
			r.note(err)
		}
	}
	r.requests.Add(1)
	events, fresh := 0, false
	box.mu.Lock()
	box.tally.mu.Lock()
	t := &box.tally.counts
	in := r.window.in(now.UnixNano())
	for rest := q.body; ; events++ {
		m, after, ok := r.marks.next(rest)
		if !ok {
			break
		}
		rest = after
		switch box.ledger.see(m) {
		case unexpected:
			t.unexpected++
			continue
		case duplicate:
			t.duplicates++
			continue
		case late:
			t.late++
		case arrived:
		}
		t.events++
		fresh = true
		if in {
			t.window++
		}
		record(box.tally.recent, now.UnixNano()-m.sent)
		if r.window.in(m.sent) {
			record(box.tally.latency, now.UnixNano()-m.sent)
		}
	}
	if events == 0 {
		t.foreign++
	}
	box.tally.mu.Unlock()
	box.mu.Unlock()
	if fresh {
		r.last.Store(now.UnixNano())
	}
	return true
}

func (r *receiver) note(err error) {
	text := err.Error()
	r.fault.Store(&text)
}

// report tells what has come. With sequences it tells after what time, and what has not, too.
func (r *receiver) report(order receiverOrder) (receiverReport, error) {
	var all mailCounts
	for i := range r.tallies {
		t := &r.tallies[i]
		t.mu.Lock()
		all.add(t.counts)
		t.mu.Unlock()
	}
	out := receiverReport{
		Events: all.events, Window: all.window, Requests: r.requests.Load(), Last: r.last.Load(),
		Consents: r.consents.Load(), Connections: r.connections.Load(), Refused: r.refused.Load(), Hung: r.hung.Load(),
		Malformed: r.malformed.Load(), Repeated: all.duplicates, Disordered: all.late, Unexpected: all.unexpected, Foreign: all.foreign,
		Verified: r.verified.Load(), Forged: r.forged.Load(),
	}
	if fault := r.fault.Load(); fault != nil {
		out.LastFault = *fault
	}
	var err error
	if order.Recent {
		recent := newHistogram()
		for i := range r.tallies {
			t := &r.tallies[i]
			t.mu.Lock()
			recent.Merge(t.recent)
			t.recent.Reset()
			t.mu.Unlock()
		}
		if out.Recent, err = encodeHistogram(recent); err != nil {
			return out, err
		}
	}
	if order.Sequences == nil {
		return out, nil
	}
	latency := newHistogram()
	for i := range r.tallies {
		t := &r.tallies[i]
		t.mu.Lock()
		latency.Merge(t.latency)
		t.mu.Unlock()
	}
	if out.Histogram, err = encodeHistogram(latency); err != nil {
		return out, err
	}
	sent := unwire(order.Sequences)
	for i, box := range r.boxes {
		if i%r.setup.Endpoints < r.setup.Hang {
			continue
		}
		box.mu.Lock()
		out.Lost += box.ledger.lost(sent)
		box.mu.Unlock()
	}
	return out, nil
}
