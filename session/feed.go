package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// writeBytes is about what one write carries at most. An event that is larger goes alone.
const writeBytes = 64 << 10

// part is a session's way through one stream.
type part struct {
	stream  string
	tag     cursor.Tag
	reader  *fanout.Reader
	held    *cursor.Held // nil: no named consumer
	lease   cursor.Lease
	epoch   uint64  // of the client's cursor: the reader's, once it is told what that lost
	cut     uint64  // of the client's cursor; see cursor.StreamCursor
	next    []int64 // where the client stands; kept only where several parts share a cursor, it is autosaved, or gaps wait
	status  fanout.Status
	stalled bool
	failed  int           // reads of the log in a row
	gaps    []broker.Gap  // of the beginning, not yet told
	unwatch chan struct{} // ends what onLost started; nil where nothing did

	picture  bool              // it is told what goes away
	snapshot bool              // one is to be given, before anything else
	first    bool              // none has been given yet, so that there is no cursor
	conf     *fanout.Conflated // reader is its own; nil: every event is given
	batch    *fanout.Batch     // what is being given; nil: nothing
	at       int               // in batch
}

// feed merges the streams of one session under one cursor. It belongs to one goroutine at a time.
type feed struct {
	parts    []part
	filter   *filter.Filter
	codec    codec
	autosave bool
	turn     int
	text     []byte // scratch for a cursor of the session's own

	options  fanout.Options // of its readers
	whole    bool           // its clients have the whole picture, from snapshots
	batches  bool           // each key's latest is given
	interval time.Duration  // once in so long; 0: whenever it asks
	page     bool
	kept     []*fanout.Batch // what a page was made of, until it is written
	failure  error           // why it ended, where no hub did
}

// solo says that the hub's own text is the session's cursor: one stream, no lease.
func (f *feed) solo() bool { return len(f.parts) == 1 && f.parts[0].lease.IsZero() }

// gather writes to o what is due, about max bytes, and returns what to do next: the most urgent of all parts.
func (f *feed) gather(o *output, scratch *[]*fanout.Entry, max int) fanout.Status {
	if p := f.renewing(); p != nil {
		return f.renew(o, p)
	}
	due := fanout.Idle
	entries := *scratch
	for i := range f.parts {
		p := &f.parts[(f.turn+i)%len(f.parts)]
		room := max - len(o.buf)
		switch {
		case i > 0 && room <= 0:
			p.status = fanout.More
		case p.conf != nil:
			f.gatherBatch(o, p)
		default:
			entries, p.status = p.reader.Take(entries[:0], room)
			if p.status != fanout.Behind {
				p.failed = 0
			}
			f.write(o, p, entries)
			clear(entries) // the ring's bounds are not to be stretched by what was written
		}
		if p.status == fanout.Stale {
			p.snapshot, p.status = true, fanout.More
		}
		due = urgent(due, p.status)
	}
	*scratch = entries
	f.turn++
	f.codec.flush(o)
	return due
}

// heard counts the reads of the log that failed.
func (p *part) heard(ctx context.Context, err error) {
	switch {
	case err == nil:
		p.failed = 0
	case ctx.Err() == nil:
		p.failed++
	}
}

func urgent(a, b fanout.Status) fanout.Status {
	rank := [...]int{fanout.Idle: 0, fanout.More: 1, fanout.Behind: 2, fanout.Ended: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// fill reads the log for the first part that is behind, and writes to o what matches. It follows a gather, which
// passes the turn on.
func (f *feed) fill(ctx context.Context, o *output, scratch *[]*fanout.Entry, max int) (fanout.Status, error) {
	if p := f.renewing(); p != nil {
		return f.await(ctx, o, p)
	}
	for i := range f.parts {
		p := &f.parts[(f.turn+i)%len(f.parts)]
		if p.status != fanout.Behind {
			continue
		}
		var err error
		var entries []*fanout.Entry
		if p.conf != nil {
			err = f.fillBatch(ctx, p)
		} else {
			entries, p.status, err = p.reader.Fill(ctx, (*scratch)[:0], max)
			*scratch = entries
		}
		p.heard(ctx, err)
		f.write(o, p, entries)
		clear(entries)
		f.codec.flush(o)
		if p.status == fanout.Stale {
			p.snapshot, p.status = true, fanout.More
		}
		return p.status, err
	}
	return fanout.Idle, nil
}

// write tells what the part met, and writes its entries.
func (f *feed) write(o *output, p *part, entries []*fanout.Entry) {
	// One failed read may be of a topic that is just being made anew, which is told as what it is.
	if stalled := p.reader.Health() != nil || p.failed > 1; stalled != p.stalled {
		p.stalled = stalled
		name := "resumed"
		if stalled {
			name = "stalled"
		}
		defer func() { f.codec.control(o, name, Health{Stream: p.stream}, f.cursor()) }() // behind the entries, as its cursor is
	}
	f.tell(o, p, p.reader.Gaps(), len(entries) == 0)
	solo := f.solo() && !p.doubtful()
	for _, e := range entries {
		if e.Beside {
			writeEntry(f.codec, o, p.stream, e, nil, false)
			continue
		}
		vec, shared := p.reader.After(e)
		text := e.Cursor()
		if !shared || !solo {
			text = f.at(p, vec)
		}
		writeEntry(f.codec, o, p.stream, e, text, shared && solo)
	}
}

// writeEntry writes what an entry tells, and the cursor after it if that is not nil; whole says that it is the entry's own.
func writeEntry(c codec, o *output, stream string, e *fanout.Entry, cursor []byte, whole bool) {
	switch {
	case e.Removed != nil:
		c.control(o, "removed", removedOf(stream, e), cursor)
	case e.Skipped != "":
		c.control(o, "skipped", Skipped{Stream: stream, Partition: e.Partition, Offset: e.Offset, Reason: e.Skipped}, cursor)
	default:
		c.event(o, e, cursor, whole)
	}
}

// tell writes what a part's reader lost under way. Their cursors are as begin's; where entries are to follow, the cursor
// after the gaps comes with the first of them.
func (f *feed) tell(o *output, p *part, gaps []broker.Gap, alone bool) {
	if len(gaps) == 0 {
		return
	}
	var before, after []byte
	if p.conf != nil { // until the next batch the client stands where it did
		vec, _ := p.position()
		before = slices.Clone(f.at(p, vec))
		f.heed(p, gaps)
		f.writeGaps(o, p, gaps, before, before)
		return
	}
	if alone {
		vec, _ := p.reader.Position()
		was := slices.Clone(vec)
		for _, g := range slices.Backward(gaps) {
			for len(was) <= int(g.Partition) {
				was = append(was, 0)
			}
			was[g.Partition] = g.From
		}
		before = slices.Clone(f.at(p, was))
	}
	f.heed(p, gaps)
	f.stand(p, nil)
	if alone {
		vec, _ := p.reader.Position()
		after = f.at(p, vec)
	}
	f.writeGaps(o, p, gaps, before, after)
}

// heed has the part's cursor and its consumer follow its reader over gaps.
func (f *feed) heed(p *part, gaps []broker.Gap) {
	if p.conf == nil {
		p.epoch = p.reader.Epoch()
	}
	if p.held == nil {
		return
	}
	for _, g := range gaps {
		switch g.Reason {
		case broker.GapRecreated:
			p.held.Recreated(p.reader.Epoch(), len(p.reader.Hub().Latest()))
		case broker.GapTruncated:
			p.held.Truncated(g)
		}
	}
	p.cut = p.held.Cut()
}

func (f *feed) writeGaps(o *output, p *part, gaps []broker.Gap, before, after []byte) {
	for i, g := range gaps {
		text := before
		if i == len(gaps)-1 {
			text = after
		}
		f.codec.control(o, "gap", Gap{Stream: p.stream, Partition: g.Partition, From: g.From, To: g.To, Reason: string(g.Reason)}, text)
	}
}

// begin writes what a session begins with: what was lost of where its client stood, and then its cursor. A gap carries
// the place from before, until all of a stream are told: a client that is cut in between comes back with it, and hears
// of the others again.
func (f *feed) begin(o *output) {
	for i := range f.parts {
		p := &f.parts[i]
		if len(p.gaps) == 0 {
			continue
		}
		before := slices.Clone(f.at(p, p.next))
		p.epoch = p.reader.Epoch()
		if p.held != nil {
			p.cut = p.held.Cut()
		}
		vec, _ := p.reader.Position()
		p.next = append(p.next[:0], vec...)
		f.writeGaps(o, p, p.gaps, before, f.at(p, vec))
		p.gaps = nil
	}
	if text := f.cursor(); text != nil {
		f.codec.cursor(o, text)
	}
}

// position is where the part's client stands once all that was gathered is written, and the shared text for it if there is
// one.
func (p *part) position() (vec []int64, text []byte) {
	switch {
	case p.conf == nil:
		return p.reader.Position()
	case p.batch != nil && !p.snapshot:
		vec, p.epoch, text = p.conf.Before()
	default:
		vec, p.epoch, text = p.conf.Position()
	}
	return vec, text
}

// stand notes where the part stands, vec or else its position.
func (f *feed) stand(p *part, vec []int64) {
	if vec == nil {
		vec, _ = p.position()
	}
	if len(f.parts) > 1 || f.autosave {
		p.next = append(p.next[:0], vec...)
	}
}

// at notes that p stands at vec, and returns the text of the session's cursor then; nil where there is none yet. It is valid
// until the next call.
func (f *feed) at(p *part, vec []int64) []byte {
	f.stand(p, vec) // also before there is a cursor: the first one tells where each part stands
	if f.unfinished() {
		return nil
	}
	if len(f.parts) == 1 {
		f.text = cursor.AppendOne(f.text[:0], cursor.StreamCursor{Tag: p.tag, Epoch: p.epoch, Next: vec, Lease: p.lease, Cut: p.cut, Doubt: p.doubtful()})
		return f.text
	}
	c := cursor.Cursor{Streams: make([]cursor.StreamCursor, len(f.parts))}
	for i := range f.parts {
		q := &f.parts[i]
		c.Streams[i] = cursor.StreamCursor{Tag: q.tag, Epoch: q.epoch, Next: q.next, Lease: q.lease, Cut: q.cut, Doubt: q.doubtful()}
	}
	f.text = cursor.Append(f.text[:0], c)
	return f.text
}

// cursor returns the text of where the session stands once all that was gathered is written; nil before it has been given
// its first snapshot.
func (f *feed) cursor() []byte {
	if f.unfinished() {
		return nil
	}
	if f.solo() {
		vec, text := f.parts[0].position()
		if text != nil && !f.autosave && !f.parts[0].doubtful() {
			return text
		}
		return f.at(&f.parts[0], vec)
	}
	for i := range f.parts {
		f.stand(&f.parts[i], nil)
	}
	p := &f.parts[0]
	vec, _ := p.position()
	return f.at(p, vec)
}

// written moves the named consumers to what was written, where the client asked for that.
func (f *feed) written() {
	if !f.autosave || f.unfinished() {
		return
	}
	for i := range f.parts {
		p := &f.parts[i]
		f.stand(p, nil)
		if p.held != nil {
			p.held.Confirm(cursor.StreamCursor{Epoch: p.epoch, Next: p.next, Cut: p.cut}, len(p.next))
		}
	}
}

// confirm takes the client's word for what it has done.
func (f *feed) confirm(c cursor.Cursor) error {
	for i := range f.parts {
		p := &f.parts[i]
		if p.held == nil {
			return errNotNamed
		}
		at, ok := c.For(p.stream)
		if !ok {
			return errOtherStream
		}
		if at.Lease != p.lease || at.Cut > p.cut {
			return errOtherLease
		}
		p.held.Confirm(at, len(p.reader.Hub().Latest())) // partitions may have been added
	}
	return nil
}

var (
	errNotNamed    = &MessageError{Detail: "only a named consumer takes acknowledgements: open the stream with consumer=<name>"}
	errOtherStream = &MessageError{Detail: "the cursor is of another stream: acknowledge with a cursor of this session"}
	errOtherLease  = &MessageError{Detail: "the cursor is not of this session: acknowledge with a cursor that it was given"}
)

// park leaves every reader to be woken. It returns false where one has something due.
func (f *feed) park() bool {
	if f.renewing() != nil {
		return false
	}
	for i := range f.parts {
		if !f.parts[i].park() {
			f.unpark()
			return false
		}
	}
	return true
}

func (p *part) park() bool {
	if p.conf != nil {
		return p.batch == nil && p.conf.Park()
	}
	return p.reader.Park()
}

func (f *feed) unpark() {
	for i := range f.parts {
		if p := &f.parts[i]; p.conf != nil {
			p.conf.Unpark()
		} else {
			p.reader.Unpark()
		}
	}
}

// onLost has the session ended once it no longer holds one of its consumers.
func (f *feed) onLost(stop func(name string, payload any, reason string)) {
	for i := range f.parts {
		p := &f.parts[i]
		if p.held == nil {
			continue
		}
		p.unwatch = make(chan struct{})
		go func(h *cursor.Held, done chan struct{}) {
			select {
			case <-h.Lost():
				if why := h.Reason(); errors.Is(why, cursor.ErrInDoubt) || errors.Is(why, cursor.ErrTruncated) || errors.Is(why, cursor.ErrEpoch) {
					stop("drain", Drain{RetryAfter: jitter(time.Second).Seconds()}, endLease)
				} else {
					stop("problem", problemSuperseded, endLease)
				}
			case <-done:
			}
		}(p.held, p.unwatch)
	}
}

// ended tells why a reader ended.
func (f *feed) ended() Problem {
	if errors.Is(f.failure, fanout.ErrNoState) {
		return problemNoState
	}
	if err := f.err(); errors.Is(err, fanout.ErrGone) || errors.Is(err, broker.ErrNoTopic) {
		return problemGone
	}
	return problemInternal
}

// err is why a reader ended: that a stream is gone before anything else.
func (f *feed) err() (first error) {
	if f.failure != nil {
		return f.failure
	}
	for i := range f.parts {
		err := f.parts[i].reader.Hub().Err()
		if errors.Is(err, fanout.ErrGone) || errors.Is(err, broker.ErrNoTopic) {
			return err
		}
		first = cmp.Or(first, err)
	}
	return first
}

// seal writes what a stream ends with.
func (f *feed) seal(o *output) {
	if z, ok := f.codec.(*zipped); ok {
		z.seal(o)
	}
}

// close leaves the hubs and saves the consumers.
func (f *feed) close() {
	for i := range f.parts {
		f.parts[i].leave()
		if done := f.parts[i].unwatch; done != nil {
			close(done)
		}
	}
	for _, b := range f.kept {
		b.Release()
	}
	f.release()
}

// release saves and gives up the consumers; it blocks for the log for a few seconds at most.
func (f *feed) release() {
	for i := range f.parts {
		if h := f.parts[i].held; h != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_ = h.Close(ctx) // what could not be saved comes again, which a consumer has to expect
			cancel()
		}
	}
}
