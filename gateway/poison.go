package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/session"
)

// What one look for poison may cost.
const (
	poisonScans  = 2               // at once, on this replica
	poisonBytes  = 32 << 20        // read of the log
	poisonTime   = 2 * time.Second // until it answers with what it has
	poisonFetch  = 1 << 20         // bytes of one fetch
	poisonSample = 1024            // bytes of a value that are shown
	poisonReason = 2000            // bytes of why
)

// poisonRecord is a record that cannot be read as an event.
type poisonRecord struct {
	Partition  int32     `json:"partition"`
	Offset     int64     `json:"offset"`
	Timestamp  time.Time `json:"timestamp,omitzero"`
	Reason     string    `json:"reason"`
	KeyBytes   int       `json:"keyBytes"`
	ValueBytes int       `json:"valueBytes"`
	Value      []byte    `json:"value,omitempty"` // the beginning, where it was asked for
}

// poisonAnswer is what a stretch of the log holds of them.
type poisonAnswer struct {
	Items []poisonRecord `json:"items"`
	Next  string         `json:"next"`
	Done  bool           `json:"done"`
	Gaps  []session.Gap  `json:"gaps,omitempty"`
}

// poison answers GET …/poison: the records of a stream that cannot be read as events. They are found in the log itself,
// so that every replica finds the same, and nothing has to be kept.
func (g *Gateway) poison(w http.ResponseWriter, r *http.Request) {
	q, err := poisonQueryOf(r)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	if !g.scans.TryAcquire(1) {
		writeProblem(w, r, newProblem(kindOverloaded, "this replica is searching for poison for others already: try again").retry(retrySoon))
		return
	}
	defer g.scans.Release(1)
	ctx, cancel := context.WithTimeout(r.Context(), g.config.AppendTimeout)
	defer cancel()
	answer, err := g.findPoison(ctx, pathVar(r, "stream"), q)
	if err != nil {
		writeProblem(w, r, g.readProblem(err))
		return
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// poisonQuery is what is asked for.
type poisonQuery struct {
	after *cursor.Cursor
	from  session.From // where there is no cursor; neither oldest nor a time: the end
	limit int
	value bool
}

func poisonQueryOf(r *http.Request) (q poisonQuery, err error) {
	read := readQuery{From: "oldest"}
	q.limit = defaultPage
	for name, all := range r.URL.Query() {
		if len(all) > 1 {
			return q, newProblem(kindInvalidParameter, "%s= is there %d times: give it once", name, len(all))
		}
		switch text := all[0]; name {
		case "after":
			c, err := cursor.Parse(text)
			if err != nil {
				return q, err
			}
			q.after = &c
		case "from":
			read.From = cmp.Or(text, "oldest")
		case "limit":
			if q.limit, err = strconv.Atoi(text); err != nil || q.limit < 1 || q.limit > maxPage {
				return q, newProblem(kindInvalidParameter, "limit=%s: give a number from 1 to %d", text, maxPage)
			}
		case "value":
			if q.value, err = boolean(r, "value"); err != nil {
				return q, err
			}
		default:
			return q, newProblem(kindInvalidParameter, "there is no parameter %q: this takes after, from, limit and value", name)
		}
	}
	q.from, err = read.from()
	return q, err
}

// poisonScan is one look through the log.
type poisonScan struct {
	g      *Gateway
	stream string
	topic  string
	wrap   *event.Wrap
	next   []int64 // where it stands
	ends   []int64 // where the log ended when it began
	answer poisonAnswer
}

// findPoison looks from where q says until something of what it may cost is used up.
func (g *Gateway) findPoison(ctx context.Context, name string, q poisonQuery) (poisonAnswer, error) {
	stream, info, err := g.streamOf(ctx, name)
	if err != nil {
		return poisonAnswer{}, err
	}
	s := poisonScan{g: g, stream: name, topic: stream.Topic, answer: poisonAnswer{Items: []poisonRecord{}}}
	if stream.Wrap != "" {
		if s.wrap, err = event.CompileWrap([]byte(stream.Wrap)); err != nil {
			return poisonAnswer{}, fmt.Errorf("read records of stream %s: %w", name, err)
		}
	}
	epoch := cursor.EpochOf(info.Epoch)
	if err := s.begin(ctx, q, epoch); err != nil {
		return poisonAnswer{}, err
	}
	until, left := time.Now().Add(poisonTime), poisonBytes
	for left > 0 && len(s.answer.Items) < q.limit && time.Now().Before(until) {
		p := s.farthest()
		if p < 0 {
			s.answer.Done = true
			break
		}
		n, err := s.read(ctx, p, q)
		if err != nil {
			return poisonAnswer{}, err
		}
		left -= n
	}
	// The log is read by the topic's name. Ids never come back: the one after it all tells whose records they were.
	again, err := g.deps.Log.Describe(ctx, s.topic)
	switch {
	case err != nil:
		return poisonAnswer{}, err
	case again.Epoch != info.Epoch:
		return poisonAnswer{}, fmt.Errorf("%w: the topic was made anew while it was read", broker.ErrUnavailable)
	}
	s.answer.Next = string(cursor.AppendOne(nil, cursor.StreamCursor{Tag: cursor.TagOf(name), Epoch: epoch, Next: s.next}))
	return s.answer, nil
}

// begin finds where the scan begins and ends.
func (s *poisonScan) begin(ctx context.Context, q poisonQuery, epoch uint64) error {
	bounds, err := s.g.deps.Log.Bounds(ctx, s.topic)
	if err != nil {
		return err
	}
	s.next, s.ends = make([]int64, len(bounds)), make([]int64, len(bounds))
	for p, b := range bounds {
		s.next[p], s.ends[p] = b.First, b.Next
	}
	switch {
	case q.after != nil:
		at, ok := q.after.For(s.stream)
		if !ok {
			return session.ErrOtherStream
		}
		if at.Epoch != epoch { // of a topic that was deleted: what is there now is read from its beginning
			for p, from := range at.Next {
				if from > 0 || p == 0 {
					s.tell(broker.Gap{Partition: int32(p), From: from, Reason: broker.GapRecreated})
				}
			}
			return nil
		}
		for p := range s.next {
			s.next[p] = 0
			if p < len(at.Next) {
				s.next[p] = at.Next[p]
			}
			if b := bounds[p]; s.next[p] < b.First || s.next[p] > b.Next {
				s.lost(&broker.RangeError{Partition: int32(p), Offset: s.next[p], Bounds: b})
			}
		}
	case !q.from.Time.IsZero():
		s.next, err = s.g.deps.Log.At(ctx, s.topic, q.from.Time)
		for len(s.next) < len(s.ends) {
			s.next = append(s.next, 0)
		}
		return err
	case !q.from.Oldest:
		copy(s.next, s.ends)
	}
	return nil
}

// farthest is the partition of which most is left, so that none that is written to fast keeps others from their turn;
// -1 where nothing is left.
func (s *poisonScan) farthest() int {
	best, most := -1, int64(0)
	for p, end := range s.ends {
		if left := end - s.next[p]; left > most {
			best, most = p, left
		}
	}
	return best
}

// read looks through one fetch, and returns about how many bytes that took.
func (s *poisonScan) read(ctx context.Context, p int, q poisonQuery) (n int, err error) {
	batch, err := s.g.deps.Log.Read(ctx, s.topic, int32(p), s.next[p], poisonFetch)
	if re := (*broker.RangeError)(nil); errors.As(err, &re) {
		s.lost(re)
		s.ends[p] = max(s.next[p], min(s.ends[p], re.Bounds.Next))
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for i := range batch.Records {
		r := &batch.Records[i]
		n += len(r.Key) + len(r.Value)
		_, err := event.FromRecordOf(*r, s.wrap)
		if err == nil || errors.Is(err, event.ErrTombstone) {
			continue
		}
		s.answer.Items = append(s.answer.Items, poisonOf(r, err, q.value))
		if len(s.answer.Items) == q.limit {
			s.next[p] = r.Offset + 1
			return n, nil
		}
	}
	if batch.Next <= s.next[p] { // the log ends here by now
		s.ends[p] = s.next[p]
	}
	s.next[p] = max(s.next[p], batch.Next)
	return n, nil
}

func poisonOf(r *broker.Record, err error, value bool) poisonRecord {
	reason := err.Error()
	if len(reason) > poisonReason {
		reason = strings.ToValidUTF8(reason[:poisonReason], "") + "…"
	}
	found := poisonRecord{
		Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC(), Reason: reason,
		KeyBytes: len(r.Key), ValueBytes: len(r.Value),
	}
	if value {
		found.Value = r.Value[:min(len(r.Value), poisonSample)]
	}
	return found
}

// lost goes on behind what is gone.
func (s *poisonScan) lost(re *broker.RangeError) {
	gap := re.Gap()
	s.next[gap.Partition] = gap.To
	s.tell(gap)
}

func (s *poisonScan) tell(gap broker.Gap) {
	s.answer.Gaps = append(s.answer.Gaps, session.Gap{Stream: s.stream, Partition: gap.Partition, From: gap.From, To: gap.To, Reason: string(gap.Reason)})
}
