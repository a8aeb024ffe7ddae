package session

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
)

// ErrNoGroups tells that this replica serves no subscriptions.
var ErrNoGroups = errors.New("this replica serves no subscriptions")

// share is a session's share of a subscription, as the source of a loop.
type share struct {
	member *group.Member
	codec  deliveryCodec
	taken  []group.Delivery // scratch
	text   []byte           // scratch for a cursor
}

// shareMost is how many deliveries one write carries at most: a slow client is to hold no more than it can be written.
const shareMost = 256

// gather writes what the session is to be told, and then what it was given.
func (s *share) gather(o *output) fanout.Status {
	for _, n := range s.member.Notes() {
		if name, payload := control(n); payload != nil {
			s.tell(o, name, payload)
		}
	}
	if s.member.Ending() != nil {
		return fanout.Ended
	}
	var more bool
	s.taken, more = s.member.Take(s.taken[:0], shareMost, max(1, writeBytes-len(o.buf)))
	size := 0
	for i := range s.taken {
		size += len(s.taken[i].JSON) + deliveryBytes
	}
	o.expect(size)
	for i := range s.taken {
		d := &s.taken[i]
		s.text = s.member.AppendCursor(s.text[:0], d.Seq)
		s.codec.deliver(o, d, s.text)
	}
	s.codec.flush(o)
	clear(s.taken)
	if more {
		return fanout.More
	}
	return fanout.Idle
}

func (s *share) fill(context.Context, *output) (fanout.Status, error) { return fanout.Idle, nil }

// seal has nothing to write.
func (s *share) seal(*output) {}

// park has nothing to do: the member wakes the loop whenever there is something.
func (s *share) park() bool { return true }

func (s *share) unpark() {}

func (s *share) written() {}

func (s *share) tell(o *output, name string, payload any) {
	s.text = s.member.AppendCursor(s.text[:0], s.member.Taken())
	if name == "" {
		s.codec.cursor(o, s.text)
		return
	}
	s.codec.control(o, name, payload, s.text)
}

func (s *share) begin(o *output) { s.tell(o, "", nil) }

func (s *share) ended() ending {
	switch why := s.member.Ending(); {
	case why == nil:
		return ending{"problem", problemInternal, endFailure}
	case why.Deleted():
		return ending{"problem", problemUnsubscribed, endStream}
	case why.Gone():
		return ending{"problem", problemGone, endStream}
	case why.Reconnect():
		return ending{"problem", problemReconnect, endLease}
	}
	return ending{"drain", Drain{RetryAfter: jitter(time.Second).Seconds()}, endDrain}
}

func (s *share) close() { s.member.Leave() }

// control is the control message of a note; the payload is nil where there is none.
func control(n group.Note) (name string, payload any) {
	switch n.Name {
	case "gap":
		return n.Name, Gap{Stream: n.Stream, Partition: n.Partition, From: n.From, To: n.To, Reason: n.Reason}
	case "skipped":
		return n.Name, Skipped{Stream: n.Stream, Partition: n.Partition, Offset: n.Offset, Reason: n.Reason}
	case "stalled", "resumed":
		return n.Name, Health{Stream: n.Stream}
	case "assigned":
		groups := n.Groups
		if groups == nil {
			groups = []string{}
		}
		return n.Name, Assigned{Groups: groups}
	case "waiting":
		return n.Name, Waiting{Reason: n.Reason, Detail: waitingDetail[n.Reason]}
	}
	return n.Name, nil
}

// waitingDetail says what the reasons mean, and what can be done.
var waitingDetail = map[string]string{
	"partitions": "Every partition is with another session. More sessions than partitions are of use where one may fail; to share the work among more, give the streams more partitions, or the subscription the ordering none.",
	"ackTimeout": "This session let events time out, which went to others. It is given more once it acknowledges something.",
	"rebalance":  "The partitions are being shared out among the replicas.",
}

// member opens a session of the subscription.
func (s *Server) member(ctx context.Context, q Request, transport string, notify func()) (*group.Member, error) {
	if s.deps.Groups == nil {
		return nil, ErrNoGroups
	}
	return s.deps.Groups.Open(ctx, q.Subscription, group.Session{Transport: transport, Address: q.Address, Notify: notify})
}

// deliver serves a session of a subscription as an answer without end. It returns as stream does.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, q Request, transport, contentType string, c deliveryCodec) error {
	l := newLoop(s, infoOf(transport, q), q)
	if err := s.admit(&l.entry); err != nil {
		return err
	}
	m, err := s.member(r.Context(), q, transport, l.notify)
	if err != nil {
		s.leave(&l.entry, endFailure)
		return err
	}
	from := &share{member: m, codec: c}
	l.from = from
	setHead(w.Header(), contentType)
	first := firstBlock(transport, c, from.begin)
	hj, ok := w.(http.Hijacker)
	if r.ProtoMajor != 1 || !ok {
		l.serve(r.Context(), newResponseSink(w, s.cfg.Stall), first)
		return nil
	}
	header := w.Header().Clone()
	nc, _, err := hj.Hijack() // what a client sends after its request means nothing here
	if err != nil {
		m.Leave()
		s.leave(&l.entry, endFailure)
		return err
	}
	s.took(&l.entry)
	_ = nc.SetDeadline(time.Time{})
	l.over(r.Context(), nc, header, first)
	return nil
}

// deliverSocket serves a session of a subscription, which is admitted, as a WebSocket.
func (s *Server) deliverSocket(w http.ResponseWriter, r *http.Request, q Request, o SocketOptions, l *loop) error {
	m, err := s.member(r.Context(), q, "websocket", l.notify)
	if err != nil {
		s.leave(&l.entry, endFailure)
		return err
	}
	k := s.acceptLoop(w, r, o, l, false)
	if k == nil {
		m.Leave()
		s.leave(&l.entry, endFailure)
		return nil
	}
	from := &share{member: m}
	if k.batches() {
		from.codec = &batchDeliveries{}
	} else {
		from.codec = eventDeliveries{k.eventCodec()}
	}
	l.from = from
	words := &memberWords{socket: k, id: q.Subscription, share: from, delay: o.Delay, room: make(chan struct{}, 1)}
	if words.delay == nil {
		words.delay = time.ParseDuration
	}
	k.hear = words.hear
	k.serve(l, from.begin)
	return nil
}

// memberWords takes what the client of a subscription's session says. What it says while an answer is awaited is gathered
// into one call.
type memberWords struct {
	// static
	*socket
	id    string // of the subscription
	share *share // belongs to the loop
	delay func(string) (time.Duration, error)
	room  chan struct{} // one place: there is room for words again

	mu    sync.Mutex
	said  []group.Word // bounded by wordsMost; guarded by mu
	going bool         // a goroutine says them; guarded by mu
}

// wordsMost bounds the words that wait, and those of one call.
const wordsMost = 256

const expectedOfMember = `{"ack":"<cursor>"}, {"ack":{"from":"<cursor>","to":"<cursor>"}}, {"nack":"<cursor>","delay":"10s"}, {"nack":{"from":"<cursor>","to":"<cursor>"}} or {"auth":"<token>"}`

// memberMessage is what the client of a subscription's session may send.
type memberMessage struct {
	Ack   *stretch `json:"ack"`
	Nack  *stretch `json:"nack"`
	Delay string   `json:"delay"`
	Final bool     `json:"final"` // as to streams; every acknowledgement is answered once it is durable
	Auth  string   `json:"auth"`
	Query any      `json:"query"`
}

// stretch is of deliveries: one cursor, or from one to another.
type stretch struct{ from, to string }

// UnmarshalJSON implements json.Unmarshaler.
func (s *stretch) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		return decodeStrictly(b, &s.to)
	}
	if b[0] != '{' {
		return errStretch
	}
	var both struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	if err := decodeStrictly(b, &both); err != nil {
		return err
	}
	if both.From == "" || both.To == "" {
		return errStretch
	}
	s.from, s.to = both.From, both.To
	return nil
}

var errStretch = errors.New("give a cursor, or an object of two, from and to: the first and the last that are meant")

// hear takes one message.
func (k *memberWords) hear(b []byte) error {
	var m memberMessage
	if err := decodeStrictly(b, &m); err != nil {
		return unexpected(expectedOfMember, err)
	}
	switch {
	case m.Query != nil:
		return &MessageError{Detail: "a session of a subscription cannot be given another query: its events are shared with other sessions; change the subscription with PATCH, or read the stream itself"}
	case several(m.Ack != nil, m.Nack != nil, m.Auth != ""):
		return unexpected(expectedOfMember, errSeveral)
	case m.Delay != "" && m.Nack == nil:
		return &MessageError{Detail: "delay belongs to a nack"}
	case m.Ack != nil:
		k.say(group.Word{From: m.Ack.from, To: m.Ack.to})
	case m.Nack != nil:
		wait, err := k.delay(m.Delay)
		if m.Delay == "" {
			wait, err = 0, nil
		}
		if err != nil {
			return err
		}
		k.say(group.Word{From: m.Nack.from, To: m.Nack.to, Back: true, Delay: wait})
	case m.Auth != "": // without access control no session expires
	default:
		return &MessageError{Detail: "expected " + expectedOfMember + "; what came has none of these members"}
	}
	return nil
}

// say has a word said, with others that came meanwhile. A client that says more than is answered waits in its connection.
func (k *memberWords) say(w group.Word) {
	k.mu.Lock()
	for len(k.said) >= wordsMost {
		k.mu.Unlock()
		select {
		case <-k.room:
		case <-k.ctx.Done():
			return
		}
		k.mu.Lock()
	}
	k.said = append(k.said, w)
	if !k.going {
		k.going = true
		k.server.loops.Go(k.sayAll)
	}
	k.mu.Unlock()
}

// sayAll says what was gathered until nothing is left.
func (k *memberWords) sayAll() {
	for {
		k.mu.Lock()
		words := k.said
		k.said = nil
		k.going = len(words) > 0
		k.mu.Unlock()
		if len(words) == 0 {
			return
		}
		select {
		case k.room <- struct{}{}:
		default:
		}
		answer, err := k.server.deps.Groups.Say(k.ctx, k.id, words)
		switch {
		case k.ctx.Err() != nil:
		case err != nil:
			k.by.stop("problem", k.problem(err), endMessage)
		case answer.Refused > 0:
			k.by.stop("problem", problemReconnect, endLease)
		default:
			k.await(func(o *output) { k.answer(o, words) })
			continue
		}
		return // what is said from here on has no answer: the session ends
	}
}

// answer tells that words are durable. It belongs to the loop.
func (k *memberWords) answer(o *output, words []group.Word) {
	for _, w := range words {
		name := "acked"
		if w.Back {
			name = "nacked"
		}
		k.share.codec.control(o, name, map[string]string{"cursor": w.To}, nil)
	}
}

// sharePage reads one page of a subscription and has it written. It is as Page for the rest.
func (s *Server) sharePage(ctx context.Context, q Request, write func(context.Context, Page)) error {
	if s.deps.Groups == nil {
		return ErrNoGroups
	}
	e := newPageEntry(q)
	if err := s.admit(&e.entry); err != nil {
		return err
	}
	defer s.leave(&e.entry, endClient)
	reading, cancel := context.WithCancel(ctx)
	var stopping sync.WaitGroup
	stopping.Go(func() {
		select {
		case <-e.stopped:
			cancel()
		case <-reading.Done():
		}
	})
	got, err := s.deps.Groups.Poll(reading, q.Subscription, group.Poll{
		After: q.Turned, Most: q.Limit, MaxBytes: turnBytes, Wait: q.Wait, Address: q.Address,
	})
	cancel()
	stopping.Wait()
	if err != nil && closed(e.stopped) && ctx.Err() == nil {
		if q.Turned == "" {
			return ErrDraining
		}
		got, err = group.Page{Cursor: q.Turned}, nil
	}
	if err != nil {
		return err
	}
	bytes := 0
	for i := range got.Deliveries {
		bytes += len(got.Deliveries[i].JSON) + deliveryBytes
	}
	room := s.pages.take(ctx, bytes)
	if room == 0 {
		return ErrPages
	}
	s.pages.release(room - bytes)
	defer s.pages.release(bytes)
	page := pageOf(got)
	if closed(e.stopped) {
		page.Drain = e.drain
	}
	e.write(ctx, page, write)
	return nil
}

const (
	turnBytes     = 2 << 20 // of one page of a subscription, beside its limit of events; one that is larger goes alone
	deliveryBytes = 256     // what the attributes of a delivery take, about
)

func pageOf(got group.Page) Page {
	page := Page{Cursor: got.Cursor, Events: make([][]byte, 0, len(got.Deliveries))}
	for i := range got.Deliveries {
		d := &got.Deliveries[i]
		page.Events = append(page.Events, appendDelivery(make([]byte, 0, len(d.JSON)+deliveryBytes), d, []byte(got.Cursors[i])))
	}
	for _, n := range got.Notes {
		switch name, payload := control(n); p := payload.(type) {
		case Gap:
			page.Gaps = append(page.Gaps, p)
		case Skipped:
			if len(page.Skipped) < skippedOfPage {
				page.Skipped = append(page.Skipped, p)
			}
		case Health:
			page.stall(name, p)
		case Waiting:
			page.Waiting = &p
		case Assigned:
			page.Waiting = nil
		}
	}
	if got.Closed {
		page.Drain = &Drain{RetryAfter: jitter(time.Second).Seconds()}
	}
	return page
}
