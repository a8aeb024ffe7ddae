package loadtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// party is somebody that events are to reach, as a run counts: a group of readers, the sessions of a subscription, or webhooks.
type party struct {
	name, transport, client, target string

	wanted   int // connections, sessions or subscriptions
	expected func(sequences []sequence) uint64
}

// SessionsConfig is a subscription of an Event Issuer that is made for the run, and the sessions that share its events and
// acknowledge them. An event that comes again is a duplicate; order is counted where the subscription keeps it.
type SessionsConfig struct {
	Name  string
	Of    string      // as ReaderConfig has it
	Group GroupConfig // its Stream, Servers and Sessions
}

// WebhooksConfig is webhooks that are made for the run, and the endpoints that they are sent to, in a process of their own.
type WebhooksConfig struct {
	Name string
	Of   string        // as ReaderConfig has it
	Hook WebhookConfig // without Publish, OwnLane, Backlog and Outage, and what concerns the window
}

// beside is a party that is no group of readers. It implements asker.
type beside interface {
	asker
	// start returns once events may be sent. end undoes it, whatever came of it.
	start(ctx context.Context) error
	party() party
}

// setupTime bounds how long it may take to make a subscription, and to delete it.
const setupTime = time.Minute

// sessionsParty is the sessions of one subscription: one reader, as it were, with many mouths.
type sessionsParty struct {
	config *SessionsConfig
	lanes  laneRange
	reader *reader
	path   string

	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	failed string // guarded by mu
}

func newSessionsParty(c *SessionsConfig, run string, lanes laneRange) (*sessionsParty, error) {
	if err := c.Group.defaults(); err != nil {
		return nil, err
	}
	r := &reader{tally: newTally(), all: &gauges{}, marks: newMarker(run), ledger: newLedger(lanes.First, lanes.Count, false)}
	return &sessionsParty{config: c, lanes: lanes, reader: r, stop: func() {}}, nil
}

func (p *sessionsParty) party() party {
	return party{
		name: p.config.Name, transport: "subscription", client: p.config.Group.Client, target: p.config.Group.Stream, wanted: p.sessions(),
		expected: func(sequences []sequence) uint64 { return surely(sequences, p.lanes) },
	}
}

func (p *sessionsParty) sessions() int {
	n := 0
	for _, s := range p.config.Group.Spread {
		n += s
	}
	return n
}

func (p *sessionsParty) start(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	var err error
	if p.path, err = p.config.Group.subscribe(limited, "latest"); err != nil {
		return fmt.Errorf("sessions %s: %w", p.config.Name, err)
	}
	running, stop := context.WithCancel(context.Background())
	p.stop = stop
	for _, k := range p.config.Group.takers(p.path) {
		k.heard = func(event []byte, _ time.Time) {
			p.reader.enter(func(now int64) {
				p.reader.received(len(event), now)
				if !p.reader.data(event, now) {
					p.reader.tally.foreign++
				}
			})
		}
		p.running.Go(func() { p.keep(running, k) })
		p.reader.all.live.Add(1)
	}
	return nil
}

// keep has a session take until ctx ends.
func (p *sessionsParty) keep(ctx context.Context, k *taker) {
	defer p.reader.all.live.Add(-1)
	for {
		err := k.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errReconnect) {
			p.mu.Lock()
			p.failed = fmt.Sprintf("sessions %s: %v", p.config.Name, err)
			p.mu.Unlock()
			return
		}
		p.reader.all.reconnects.Add(1)
		if !wait(ctx, 50*time.Millisecond) { // a server that refuses is not hammered
			return
		}
	}
}

// ask implements asker.
func (p *sessionsParty) ask(o crewOrder) (crewAnswer, error) {
	a := p.reader.all
	if o.From != 0 {
		a.from.Store(o.From)
	}
	if o.To != 0 {
		a.to.Store(o.To)
	}
	state := groupState{Live: int(a.live.Load()), Reconnects: a.reconnects.Load(), Deliveries: a.deliveries.Load(), LastAt: a.lastAt.Load()}
	if o.Recent {
		recent := newHistogram()
		state.Content = p.reader.tally.takeRecent(recent)
		if p.config.Group.Ordering == "none" {
			state.Content.Disordered = 0 // which was not promised
		}
		var err error
		if state.Recent, err = encodeHistogram(recent); err != nil {
			return crewAnswer{}, err
		}
	}
	if o.Sequences != nil {
		p.stop()
		p.running.Wait()
		t := p.reader.tally
		if p.config.Group.Ordering == "none" {
			t.late = 0 // which was not promised
		}
		w, err := t.wire()
		if err != nil {
			return crewAnswer{}, err
		}
		state.Result = &groupResult{Tally: w, Lost: p.reader.ledger.lost(unwire(o.Sequences))}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return crewAnswer{Groups: []groupState{state}, Failed: p.failed}, nil
}

// end implements asker.
func (p *sessionsParty) end() error {
	p.stop()
	p.running.Wait()
	if p.path == "" {
		return nil
	}
	return p.config.Group.unsubscribe(context.Background(), p.path)
}

// webhooksParty is webhooks, and what takes them.
type webhooksParty struct {
	config *WebhooksConfig
	lanes  laneRange
	run    *webhookRun
}

func newWebhooksParty(c *WebhooksConfig, number int, run string, lanes laneRange) (*webhooksParty, error) {
	c.Hook.Run = run
	if err := c.Hook.defaults(); err != nil {
		return nil, err
	}
	api := &GroupConfig{Servers: []string{c.Hook.Server}, Header: c.Hook.Header}
	return &webhooksParty{config: c, lanes: lanes, run: &webhookRun{config: &c.Hook, api: api, name: strconv.Itoa(number)}}, nil
}

func (p *webhooksParty) party() party {
	h := &p.config.Hook
	return party{
		name: p.config.Name, transport: "webhook", client: h.Mode, target: h.Stream, wanted: h.Subscriptions,
		expected: func(sequences []sequence) uint64 {
			n := uint64(0)
			for i := range h.Subscriptions {
				if h.answers(i) {
					n += surely(sequences, p.lanes)
				}
			}
			return n
		},
	}
}

func (p *webhooksParty) start(ctx context.Context) error {
	h := &p.config.Hook
	secrets := make([]string, h.Subscriptions)
	for i := range secrets {
		secrets[i] = webhook.NewSecret().Text()
	}
	var err error
	p.run.receiver, err = startReceiver(h.Receiver, receiverSetup{
		Run: h.Run, Endpoints: h.Endpoints, Hang: h.Hang, Fail: h.Fail, Delay: h.Delay, First: p.lanes.First, Lanes: p.lanes.Count,
		Verify: h.Verify, Secrets: secrets,
	})
	if err == nil {
		err = p.run.subscribe(ctx, secrets)
	}
	if err != nil {
		return fmt.Errorf("webhooks %s: %w", p.config.Name, err)
	}
	return nil
}

// ask implements asker.
func (p *webhooksParty) ask(o crewOrder) (crewAnswer, error) {
	got, err := p.run.receiver.ask(receiverOrder{From: o.From, To: o.To, Recent: o.Recent, Sequences: o.Sequences})
	if err != nil {
		return crewAnswer{}, err
	}
	state := p.run.state(got)
	if o.Sequences == nil {
		return crewAnswer{Groups: []groupState{state}}, nil
	}
	t := newTally()
	if err := mergeEncoded(t.latency, got.Histogram); err != nil {
		return crewAnswer{}, err
	}
	t.deliveries, t.inWindow, t.foreign = got.Events, got.Window, got.Foreign
	t.duplicates, t.late, t.unexpected = state.Content.Duplicates, state.Content.Disordered, state.Content.Unexpected
	t.controls = controls(got.Refused, got.Hung, got.Forged, got.Malformed)
	state.Result = &groupResult{Lost: got.Lost}
	state.Result.Tally, err = t.wire()
	return crewAnswer{Groups: []groupState{state}}, err
}

// end implements asker. The endpoints are there for as long as the subscriptions.
func (p *webhooksParty) end() error {
	err := p.run.remove(context.Background())
	if p.run.receiver != nil {
		err = errors.Join(err, p.run.receiver.end())
	}
	return err
}

// surely is how many events of some lanes were published without doubt.
func surely(sequences []sequence, lanes laneRange) uint64 {
	var n uint64
	for _, s := range sequences[lanes.First : lanes.First+lanes.Count] {
		n += s.end - uint64(len(s.doubts))
	}
	return n
}
