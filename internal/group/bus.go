package group

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// bus carries messages between the replicas that have sessions of the same subscriptions, over Redis. A message may be
// lost, and is then made up for: a question is not answered, a delivery is given again.
type bus struct {
	// static
	gs   *Groups
	out  chan outgoing
	soon chan *group   // to be announced now
	work chan struct{} // a place for each message being worked on
	wait chan struct{} // likewise for pages, which may wait for events: they must not hold up acknowledgements

	mu     sync.Mutex
	sub    *redis.PubSub           // guarded by mu; nil: not running
	groups map[string]*group       // whose channels are listened to, by id; guarded by mu
	calls  map[uint64]chan message // questions that are open; guarded by mu
	many   map[uint64]chan message // those that several answer; guarded by mu
	last   uint64                  // guarded by mu
}

type outgoing struct {
	channel string
	message message
	since   time.Time
}

// message is what replicas tell each other. Kind says which fields count.
type message struct {
	Kind    string `json:"kind"`
	From    ID     `json:"from"`
	Call    uint64 `json:"call,omitempty"` // a question, or the one that is answered
	Group   string `json:"group,omitempty"`
	Session ID     `json:"session,omitzero"`
	Error   string `json:"error,omitempty"`

	Words  []stretch `json:"words,omitempty"`
	Answer Answer    `json:"answer,omitzero"`

	Poll *Poll  `json:"poll,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`
	Page *Page  `json:"page,omitempty"`

	Stream    string   `json:"stream,omitempty"`
	Partition int32    `json:"partition,omitempty"`
	Nonce     string   `json:"nonce,omitempty"`
	Offsets   []int64  `json:"offsets,omitempty"`
	Attempts  []int    `json:"attempts,omitempty"` // of each
	Word      stretch  `json:"word,omitzero"`
	Parcels   []parcel `json:"parcels,omitempty"`

	Sessions []announced `json:"sessions,omitempty"`
	Owns     int         `json:"owns,omitempty"` // partitions
	Stats    *Stats      `json:"stats,omitempty"`
}

// parcel is one delivery on its way to a session of another replica.
type parcel struct {
	Offset int64  `json:"o"`
	N      int    `json:"n"`
	Type   string `json:"t"`
	JSON   []byte `json:"e"`
}

// announced is a session as others are told of it.
type announced struct {
	ID     ID  `json:"id"`
	Credit int `json:"credit"`
}

const (
	outgoingMost = 4096
	workMost     = 512
	askTime      = 5 * time.Second
)

func newBus(gs *Groups) *bus {
	return &bus{
		gs: gs, out: make(chan outgoing, outgoingMost), soon: make(chan *group, 64),
		work: make(chan struct{}, workMost), wait: make(chan struct{}, workMost),
		groups: map[string]*group{}, calls: map[uint64]chan message{}, many: map[uint64]chan message{},
	}
}

func (b *bus) replicaChannel(id ID) string { return b.gs.cfg.Prefix + "sub:replica:" + id.String() }

func (b *bus) groupChannel(id string) string { return b.gs.cfg.Prefix + "sub:group:" + id }

// run carries messages until ctx ends, and returns when all that was begun has ended.
func (b *bus) run(ctx context.Context) {
	sub := b.gs.deps.Redis.Subscribe(ctx, b.replicaChannel(b.gs.replica))
	b.mu.Lock()
	b.sub = sub
	var channels []string
	for id := range b.groups {
		channels = append(channels, b.groupChannel(id))
	}
	b.mu.Unlock()
	if len(channels) > 0 {
		_ = sub.Subscribe(ctx, channels...) // an error is of the connection, which is made anew
	}
	var parts sync.WaitGroup
	parts.Go(func() { b.send(ctx) })
	incoming := sub.Channel(redis.WithChannelSize(outgoingMost))
	for open := true; open; {
		select {
		case m, ok := <-incoming:
			if !ok {
				open = false
				break
			}
			b.receive(ctx, &parts, m.Payload)
		case g := <-b.soon:
			b.mu.Lock()
			there := b.groups[g.id] == g
			b.mu.Unlock()
			if there { // else it has ended, and another may have taken its place
				g.announce()
			}
		case <-ctx.Done():
			open = false
		}
	}
	b.mu.Lock()
	b.sub = nil
	b.mu.Unlock()
	_ = sub.Close()
	parts.Wait()
}

// send publishes what is to go out.
func (b *bus) send(ctx context.Context) {
	for {
		select {
		case o := <-b.out:
			if o.message.Kind == "deliver" && time.Since(o.since) > late {
				b.gs.m.lost.Inc() // the process may have stood still, and the partition be another's by now
				continue
			}
			if err := b.publish(context.WithoutCancel(ctx), o.channel, &o.message); err != nil && ctx.Err() == nil { // the last of it, too
				b.gs.m.lost.Inc()
				b.gs.log.Debug("a message to another replica is lost", "kind", o.message.Kind, "error", err)
			}
		case <-ctx.Done():
			b.sendLast()
			return
		}
	}
}

// sendLast publishes what is left, as far as Redis takes it at once. What was to be delivered comes too late.
func (b *bus) sendLast() {
	ctx, cancel := context.WithTimeout(context.Background(), b.gs.cfg.Timeout)
	defer cancel()
	for {
		select {
		case o := <-b.out:
			if o.message.Kind != "deliver" && b.publish(ctx, o.channel, &o.message) != nil {
				return
			}
		default:
			return
		}
	}
}

func (b *bus) publish(ctx context.Context, channel string, m *message) error {
	_, err := b.post(ctx, channel, m)
	return err
}

func (b *bus) post(ctx context.Context, channel string, m *message) (receivers int64, err error) {
	m.From = b.gs.replica
	text, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.gs.cfg.Timeout)
	defer cancel()
	return b.gs.deps.Redis.Publish(ctx, channel, text).Result()
}

// later has a message go out without waiting for it. Where too much waits it is lost.
func (b *bus) later(channel string, m message) {
	select {
	case b.out <- outgoing{channel, m, time.Now()}:
	default:
		b.gs.m.lost.Inc()
	}
}

// follow listens to what is said of a subscription.
func (b *bus) follow(g *group) {
	b.mu.Lock()
	b.groups[g.id] = g
	sub := b.sub
	b.mu.Unlock()
	if sub != nil {
		_ = sub.Subscribe(context.Background(), b.groupChannel(g.id)) // an error is of the connection, which is made anew
	}
}

// leave listens no longer, and says that there are no sessions here.
func (b *bus) leave(g *group) {
	b.mu.Lock()
	delete(b.groups, g.id)
	sub := b.sub
	b.mu.Unlock()
	if sub != nil {
		_ = sub.Unsubscribe(context.Background(), b.groupChannel(g.id))
	}
	b.later(b.groupChannel(g.id), message{Kind: "here", Group: g.id})
}

// announceSoon has the other replicas learn at once of sessions that came or went.
func (b *bus) announceSoon(g *group) {
	select {
	case b.soon <- g:
	default: // the next regular one tells
	}
}

// errNobody tells that the replica that was asked is not there.
var errNobody = errors.New("the replica is not there")

// ask puts a question to another replica, and waits for the answer.
func (b *bus) ask(ctx context.Context, replica ID, m message) (message, error) {
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	m.Call = b.last
	b.calls[m.Call] = answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.calls, m.Call)
		b.mu.Unlock()
	}()
	n, err := b.post(ctx, b.replicaChannel(replica), &m)
	if err != nil {
		return message{}, err
	}
	if _, cluster := b.gs.deps.Redis.(*redis.ClusterClient); n == 0 && !cluster { // a cluster counts those of one node alone
		return message{}, errNobody
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
}

// say has another replica take words for a session of its own.
func (b *bus) say(ctx context.Context, replica ID, id string, session ID, words []stretch) (Answer, error) {
	a, err := b.ask(ctx, replica, message{Kind: "say", Group: id, Session: session, Words: words})
	switch {
	case errors.Is(err, errNobody):
		return Answer{Refused: len(words)}, nil
	case err != nil, a.Error != "":
		return Answer{}, ErrBusy
	}
	return a.Answer, nil
}

// poll has another replica make a page of a session of its own.
func (b *bus) poll(ctx context.Context, at token, id string, p Poll) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Wait+askTime+sayTime)
	defer cancel()
	a, err := b.ask(ctx, at.replica, message{Kind: "poll", Group: id, Session: at.session, Seq: at.seq, Poll: &p})
	switch {
	case errors.Is(err, errNobody):
		return Page{}, ErrReconnect
	case err != nil:
		return Page{}, ErrBusy
	case a.Error != "":
		for _, known := range []error{ErrReconnect, ErrReplaced, ErrUnknown, ErrGone, ErrBusy} {
			if a.Error == known.Error() {
				return Page{}, known
			}
		}
		return Page{}, ErrBusy
	}
	if a.Page == nil {
		return Page{}, ErrBusy
	}
	return *a.Page, nil
}

// receive works on a message.
func (b *bus) receive(ctx context.Context, parts *sync.WaitGroup, text string) {
	var m message
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		b.gs.log.Warn("a message of another replica cannot be read: are they of the same version?", "error", err)
		return
	}
	if m.From == b.gs.replica {
		return
	}
	b.mu.Lock()
	g, answer, several := b.groups[m.Group], b.calls[m.Call], b.many[m.Call]
	b.mu.Unlock()
	switch m.Kind {
	case "answer":
		select {
		case several <- m:
		default:
		}
		if answer != nil {
			answer <- m // it has room for the one that comes
			b.mu.Lock()
			delete(b.calls, m.Call)
			b.mu.Unlock()
		}
	case "here":
		if g != nil {
			g.heard(&m)
		}
	case "deliver":
		if g != nil {
			g.delivered(&m)
		}
	case "say", "poll", "done", "stats":
		places := b.work
		if m.Kind == "poll" {
			places = b.wait
		}
		select {
		case places <- struct{}{}:
		default:
			b.gs.m.lost.Inc()
			return
		}
		parts.Go(func() {
			defer func() { <-places }()
			a := b.answer(ctx, g, &m)
			a.Kind, a.Call = "answer", m.Call
			if err := b.publish(ctx, b.replicaChannel(m.From), &a); err != nil && ctx.Err() == nil {
				b.gs.m.lost.Inc()
			}
		})
	}
}

// answer answers a question.
func (b *bus) answer(ctx context.Context, g *group, m *message) (a message) {
	fail := func(err error) message { return message{Error: err.Error()} }
	switch m.Kind {
	case "say":
		said, err := b.gs.hear(ctx, m.Group, m.Session, m.Words)
		if err != nil {
			return fail(err)
		}
		return message{Answer: said}
	case "poll":
		if m.Poll == nil {
			return fail(ErrBusy)
		}
		page, err := b.gs.pollHere(ctx, m.Group, token{b.gs.replica, m.Session, m.Seq}, *m.Poll)
		if err != nil {
			return fail(err)
		}
		return message{Page: &page}
	case "done":
		if g == nil {
			return message{Answer: Answer{Refused: len(m.Offsets)}}
		}
		said, err := g.hearForeign(ctx, m)
		if err != nil {
			return fail(err)
		}
		return message{Answer: said}
	case "stats":
		if g == nil {
			return message{}
		}
		s := g.stats()
		return message{Stats: &s}
	}
	return fail(ErrBusy)
}
