package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// controls reads until the first cursor block or event and returns what came before it.
func (c *client) controls() (all []got, at got) {
	c.t.Helper()
	for {
		g := c.must()
		if g.Control == "" {
			return all, g
		}
		all = append(all, g)
	}
}

func token(epoch uint64, next ...int64) string {
	return string(cursor.AppendOne(nil, cursor.StreamCursor{Tag: cursor.TagOf("a"), Epoch: epoch, Next: next}))
}

func TestNoCursorFromBehindAGapIsGivenBeforeAllOfItIsTold(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 4)
	r := s.replica(Config{}, false)
	for _, as := range transports {
		for i, query := range []string{"stream=a", "stream=a&consumer=me"} {
			if i > 0 {
				query += strings.TrimPrefix(as, "websocket:")
			}
			c := r.connect(t, as, query+"&after="+token(12345, 900, 901))
			gaps, begin := c.controls()
			c.close()
			if len(gaps) != 2 || begin.Cursor == "" {
				t.Fatalf("%s %s: %+v came before %+v", as, query, gaps, begin)
			}
			c = r.connect(t, as, query+"&after="+gaps[0].Cursor) // cut between them
			again, _ := c.controls()
			c.close()
			if len(again) != 2 || again[0].Control != "gap" || as != "websocket:"+SubprotocolEvents && again[1].Data != gaps[1].Data {
				t.Errorf("%s %s: a client that was cut between two gaps is told %+v", as, query, again)
			}
			c = r.connect(t, as, query+"&after="+again[1].Cursor)
			if more, _ := c.controls(); len(more) != 0 {
				t.Errorf("%s %s: a client that was told is told again: %+v", as, query, more)
			}
			c.close()
		}
	}
}

func TestGapsOfSeveralStreamsAreEachToldBeforeTheirCursor(t *testing.T) {
	s := newSite(t, "a", "b")
	s.publish("a", 0, 4)
	s.publish("b", 0, 4)
	r := s.replica(Config{}, false)
	old := string(cursor.Append(nil, cursor.Cursor{Streams: []cursor.StreamCursor{
		{Tag: cursor.TagOf("a"), Epoch: 1, Next: []int64{9, 9}}, {Tag: cursor.TagOf("b"), Epoch: 2, Next: []int64{9, 9}},
	}}))
	for _, as := range transports {
		c := r.connect(t, as, "stream=a&stream=b&after="+old)
		gaps, _ := c.controls()
		c.close()
		if len(gaps) != 4 {
			t.Fatalf("%s: %+v", as, gaps)
		}
		for i, left := range []int{4, 2, 2, 0} {
			c := r.connect(t, as, "stream=a&stream=b&after="+gaps[i].Cursor)
			if again, _ := c.controls(); len(again) != left {
				t.Errorf("%s: coming back after gap %d, %d gaps are told, want %d", as, i, len(again), left)
			}
			c.close()
		}
	}
}

// reset sends a named consumer somewhere.
func (r *replica) reset(t *testing.T, name string, next ...int64) {
	t.Helper()
	info, err := r.deps.Log.Describe(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	epoch := cursor.EpochOf(info.Epoch)
	_, err = r.deps.Consumers.Put(t.Context(), cursor.PutRequest{
		Name: cursor.Name{Owner: "local", Stream: "a", Consumer: name}, Epoch: epoch, Partitions: len(next), Reset: true,
		Cursor: cursor.StreamCursor{Epoch: epoch, Next: next},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *client) finalAck(t *testing.T, at string) {
	t.Helper()
	if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"ack":"`+at+`","final":true}`)); err != nil {
		t.Fatal(err)
	}
	for {
		switch g := c.must(); g.Control {
		case "acked":
			return
		case "":
		default:
			t.Fatalf("told %+v", g)
		}
	}
}

func TestAConsumerWhoseLogLostItsEndLosesNothingThatCameAfter(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 6)
	r := s.replica(Config{}, false)
	r.reset(t, "me", 1000, 3) // where it stood in a log that ends at 3 now
	c := r.connect(t, "websocket:"+SubprotocolBatch, "stream=a&consumer=me")
	gaps, _ := c.controls()
	if len(gaps) != 1 || !strings.Contains(gaps[0].Data, `"from":1000,"to":3,"reason":"truncated"`) {
		t.Fatalf("told %+v", gaps)
	}
	s.publish("a", 6, 10)
	_, at := c.ids(4)
	for at == "" {
		at = c.must().Cursor
	}
	c.finalAck(t, at)
	c.close()
	s.publish("a", 10, 12)
	again := r.connect(t, "ndjson", "stream=a&consumer=me")
	rest, _ := again.ids(2)
	if diff := cmp.Diff(between(10, 12), rest); diff != "" {
		t.Error(diff)
	}
	again.close()
}

// tapped is a log whose tails can be told that a partition lost its end.
type tapped struct {
	broker.Log
	tails chan *tap
}

type tap struct {
	broker.TailHandler
	mu sync.Mutex // a handler's methods are called one at a time
}

func (l tapped) Tail(ctx context.Context, topic string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	t := &tap{TailHandler: h}
	if topic == "a" {
		l.tails <- t
	}
	return l.Log.Tail(ctx, topic, epoch, from, t)
}

func (t *tap) Records(b broker.Batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.TailHandler.Records(b)
}

func (t *tap) Gap(g broker.Gap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.TailHandler.Gap(g)
}

func TestAnEndLostUnderASessionSinksItsConsumer(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 10)
	log := tapped{s.log, make(chan *tap, 10)}
	s.log = log
	r := s.replica(Config{}, false)
	c := r.connect(t, "websocket:"+SubprotocolBatch, "stream=a&consumer=me&from=oldest")
	_, at := c.ids(10)
	for at == "" {
		at = c.must().Cursor
	}
	c.finalAck(t, at)
	(<-log.tails).Gap(broker.Gap{Partition: 0, From: 5, To: 3, Reason: broker.GapTruncated})
	g := c.must()
	if g.Control != "gap" || !strings.Contains(g.Data, `"from":5,"to":3,"reason":"truncated"`) || g.Cursor == "" {
		t.Fatalf("told %+v", g)
	}
	c.finalAck(t, at) // of before: it says nothing any more
	c.close()
	again := r.connect(t, "ndjson", "stream=a&consumer=me")
	if begin, err := cursor.Parse(again.must().Cursor); err != nil || begin.Streams[0].Cut != 1 || begin.Streams[0].Next[0] != 3 || begin.Streams[0].Next[1] != 5 {
		t.Errorf("comes back to %+v: %v", begin, err)
	}
	again.close()
}

func TestWhatIsAcknowledgedInAnAddedPartitionDoesNotComeAgain(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	c := r.connect(t, "websocket:"+SubprotocolBatch, "stream=a&consumer=me")
	c.must()
	three := int32(3)
	if err := s.log.Change(t.Context(), "a", broker.TopicChange{Partitions: &three}); err != nil {
		t.Fatal(err)
	}
	var messages []broker.Message
	for i := range 5 {
		messages = append(messages, broker.Message{Partition: 2, Value: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t"}`, i)})
	}
	for _, a := range s.log.Append(t.Context(), "a", messages) {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	_, at := c.ids(5)
	for at == "" {
		at = c.must().Cursor
	}
	c.finalAck(t, at)
	c.close()
	s.publish("a", 6, 7)
	again := r.connect(t, "ndjson", "stream=a&consumer=me")
	if g := again.must(); g.ID != "" || g.Control != "" {
		t.Fatalf("begins with %+v", g)
	}
	if g := again.must(); g.ID != "6" {
		t.Errorf("then comes %+v", g)
	}
	again.close()
}

func TestAStreamThatACursorSaysNothingOfBeginsAtItsOldestEvent(t *testing.T) {
	s := newSite(t, "a", "b", "c")
	s.publish("a", 0, 4)
	r := s.replica(Config{}, false)
	c := r.connect(t, "sse", "stream=a&from=oldest")
	_, at := c.ids(4)
	c.close()
	s.publish("b", 4, 8) // while the client is away
	for i, as := range transports {
		c := r.connect(t, as, fmt.Sprintf("stream=a&stream=b&after=%s", at))
		got, _ := c.ids(4)
		if diff := cmp.Diff(between(4, 8), got); diff != "" {
			t.Errorf("%s: %s", as, diff)
		}
		c.close()
		name := fmt.Sprintf("consumer=n%d", i)
		c = r.connect(t, as, "stream=a&"+name)
		own := c.must().Cursor
		c.close()
		c = r.connect(t, as, fmt.Sprintf("stream=a&stream=b&%s&after=%s", name, own))
		if got, _ := c.ids(4); cmp.Diff(between(4, 8), got) != "" {
			t.Errorf("%s of a consumer: %v", as, got)
		}
		c.close()
		c = r.connect(t, as, "stream=a&stream=c&consumer=m"+name[len("consumer=n"):])
		c.must()
		c.close()
		s.publish("b", 8, 12)
		c = r.connect(t, as, "stream=a&stream=b&stream=c&consumer=m"+name[len("consumer=n"):]) // by name alone
		if got, _ := c.ids(8); len(got[0])+len(got[1]) != 8 {
			t.Errorf("%s of a consumer by name: %v", as, got)
		}
		c.close()
		s.truncate("b")
		s.publish("b", 4, 8)
	}
}

func TestAPageOfSeveralStreamsTellsThatOneIsGone(t *testing.T) {
	s := newSite(t, "a", "b")
	r := s.replica(Config{}, false)
	failed := make(chan error, 1)
	q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}, {Name: "b", Topic: "b"}}, Limit: 3}
	if _, err := r.page(t.Context(), q); err != nil { // the hubs run now
		t.Fatal(err)
	}
	q.Wait = 20 * time.Second
	go func() {
		_, err := r.page(context.Background(), q)
		failed <- err
	}()
	for r.Count() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.log.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, fanout.ErrGone) && !errors.Is(err, broker.ErrNoTopic) {
		t.Errorf("the page ended with %v", err)
	}
}

func TestALongPollTellsWhyItGivesNothing(t *testing.T) {
	s := newSite(t, "a")
	log := tapped{s.log, make(chan *tap, 10)}
	s.log = log
	r := s.replica(Config{}, false)
	q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}, Limit: 3, Wait: 300 * time.Millisecond}
	if page, err := r.page(t.Context(), q); err != nil || page.Stalled != nil || page.Drain != nil {
		t.Fatalf("%+v %v", page, err)
	}
	tail := <-log.tails
	tail.Health(errors.New("no broker answers"))
	page, err := r.page(t.Context(), q)
	if diff := cmp.Diff([]Health{{Stream: "a"}}, page.Stalled); diff != "" || err != nil {
		t.Errorf("while the log cannot be reached: %s %v", diff, err)
	}
	q.Wait = 20 * time.Second
	pages := make(chan Page, 1)
	go func() {
		page, err := r.page(context.Background(), q)
		if err != nil {
			t.Error(err)
		}
		pages <- page
	}()
	for r.Count() == 0 {
		time.Sleep(time.Millisecond)
	}
	tail.Health(nil)
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if page := <-pages; page.Drain == nil || page.Drain.RetryAfter <= 0 || page.Cursor == "" {
		t.Errorf("at a drain: %+v", page)
	}
}

func TestEveryControlMessageOfALineCarriesItsCursor(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 4)
	log := tapped{s.log, make(chan *tap, 10)}
	s.log = log
	r := s.replica(Config{}, false)
	c := r.connect(t, "ndjson", "stream=a")
	c.must()
	tail := <-log.tails
	for _, tell := range []struct {
		name string
		do   func()
	}{
		{"stalled", func() { tail.Health(errors.New("no broker answers")) }},
		{"resumed", func() { tail.Health(nil) }},
		{"gap", func() { tail.Gap(broker.Gap{Partition: 0, From: 2, To: 1, Reason: broker.GapTruncated}) }},
	} {
		tell.do()
		if g := c.must(); g.Control != tell.name || g.Cursor == "" {
			t.Errorf("%s: told %+v", tell.name, g)
		}
	}
	c.close()
}
