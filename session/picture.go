package session

import (
	"context"
	"errors"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// read has the part read its stream as the options say. whole says that the client has the whole picture, or will once it has
// been given its snapshot.
func (f *feed) read(p *part, hub *fanout.Hub, o fanout.Options, whole bool) {
	p.leave()
	o.Picture, o.Whole = p.picture, p.picture && whole
	if f.batches {
		p.conf = hub.Conflated(o, f.interval)
		p.reader = p.conf.Reader()
	} else {
		p.reader = hub.Reader(o)
	}
	if p.picture {
		hub.Prepare()
	}
}

// leave leaves the hub.
func (p *part) leave() {
	p.dropBatch()
	switch {
	case p.conf != nil:
		p.conf.Close()
	case p.reader != nil:
		p.reader.Close()
	}
	p.conf, p.reader = nil, nil
}

// dropBatch gives up what is being given, if something is.
func (p *part) dropBatch() {
	if p.batch != nil {
		p.batch.Release()
		p.batch = nil
	}
}

// done releases a batch that has been given, or of a page once that is written.
func (f *feed) done(b *fanout.Batch) {
	if f.page {
		f.kept = append(f.kept, b)
	} else {
		b.Release()
	}
}

// renewing returns the part that is to be given a snapshot, before anything else is given; nil: none is.
func (f *feed) renewing() *part {
	for i := range f.parts {
		if f.parts[i].snapshot {
			return &f.parts[i]
		}
	}
	return nil
}

// midway reports whether what is being given has no end that a cursor could stand for.
func (f *feed) midway() bool {
	for i := range f.parts {
		if p := &f.parts[i]; p.snapshot || p.batch != nil {
			return true
		}
	}
	return false
}

// begun reports whether something is being given that has one cursor at its end.
func (f *feed) begun() bool {
	for i := range f.parts {
		if f.parts[i].batch != nil {
			return true
		}
	}
	return false
}

// renewAll has all of the feed's streams given anew, in place of what it is about to give.
func (f *feed) renewAll() {
	for i := range f.parts {
		p := &f.parts[i]
		p.dropBatch()
		p.snapshot = p.picture || p.snapshot
	}
}

// unfinished reports whether the client has not been given all that its first cursor is to stand for.
func (f *feed) unfinished() bool {
	for i := range f.parts {
		if f.parts[i].first {
			return true
		}
	}
	return false
}

// doubtful reports whether the client may have what is gone, so that who comes back with its cursor is to be given a snapshot.
// One that is being given a snapshot has thrown away what it had.
func (p *part) doubtful() bool { return p.picture && (p.snapshot || p.reader.Doubtful()) }

// floor is the position that a snapshot must not be behind: that of a client which has one.
func (p *part) floor() []int64 {
	if p.first {
		return nil
	}
	vec, _ := p.position()
	return vec
}

// renew gives the next piece of a part's snapshot.
func (f *feed) renew(o *output, p *part) fanout.Status {
	if f.failure != nil {
		p.status = fanout.Ended
		return fanout.Ended
	}
	if p.batch == nil {
		b := p.reader.Hub().TrySnapshot(f.filter, p.floor())
		if b == nil {
			p.status = fanout.Behind
			return fanout.Behind
		}
		f.start(o, p, b)
	}
	piece, held := p.batch.Next(&p.at)
	if !held {
		p.dropBatch()
		return fanout.More
	}
	if piece != nil {
		f.give(o, p, piece, nil)
		if !piece.Last {
			return fanout.More
		}
	}
	f.finish(o, p)
	return fanout.More
}

// stateOfPage is how long a page waits for a state to be read.
const stateOfPage = 20 * time.Second

// await waits for a part's snapshot, and begins it.
func (f *feed) await(ctx context.Context, o *output, p *part) (fanout.Status, error) {
	if f.page {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stateOfPage)
		defer cancel()
	}
	b, err := p.reader.Hub().Snapshot(ctx, f.filter, p.floor())
	p.heard(ctx, err)
	if errors.Is(err, fanout.ErrNoState) || err != nil && p.reader.Hub().Err() != nil {
		if p.reader.Hub().Err() == nil {
			f.failure = err
		}
		p.status = fanout.Ended
		return p.status, nil
	}
	f.write(o, p, nil)
	if err != nil {
		return fanout.Behind, err
	}
	f.start(o, p, b)
	return fanout.More, nil
}

// start begins to give a snapshot.
func (f *feed) start(o *output, p *part, b *fanout.Batch) {
	p.batch, p.at = b, 0
	// What the client had is void from here on, and so is its cursor: who comes back with this one is given all of it again.
	f.codec.control(o, "snapshot", Snapshot{Stream: p.stream, Keys: b.Keys(), Dropped: b.Dropped()}, f.cursor())
}

// finish ends a snapshot: its part goes on from there.
func (f *feed) finish(o *output, p *part) {
	b := p.batch
	p.batch = nil
	options := f.options
	options.Since = b
	f.read(p, p.reader.Hub(), options, true)
	f.done(b)
	vec, epoch, _ := b.Position()
	p.snapshot, p.first, p.epoch = false, false, epoch
	f.codec.control(o, "live", Live{Stream: p.stream}, f.at(p, vec))
	if !f.unfinished() {
		f.tell(o, p, p.reader.Gaps(), true) // what was lost since: its position is behind that already
	}
}

// gatherBatch gives the next piece of what is due to a part that is given each key's latest event.
func (f *feed) gatherBatch(o *output, p *part) {
	if p.batch == nil {
		p.batch, p.status = p.conf.Take()
		p.at = 0
		if p.status != fanout.Behind {
			p.failed = 0
		}
		f.write(o, p, nil)
	}
	if p.batch != nil {
		f.giveBatch(o, p)
	}
}

// fillBatch reads the log for a part that is given each key's latest event.
func (f *feed) fillBatch(ctx context.Context, p *part) (err error) {
	var b *fanout.Batch
	if b, p.status, err = p.conf.Fill(ctx); b != nil {
		p.batch, p.at = b, 0
		p.status = fanout.More
	}
	return err
}

// giveBatch gives the next piece of a batch, and after the last the cursor.
func (f *feed) giveBatch(o *output, p *part) {
	if o.size() > 0 && !f.page {
		p.status = fanout.More // what others share is to be a write of its own
		return
	}
	piece, _ := p.batch.Next(&p.at)
	last := piece == nil || piece.Last
	vec, epoch, text := p.batch.Position()
	shared := piece != nil && f.solo() && !f.autosave && !p.doubtful()
	if !last || !shared {
		text = nil
	}
	if piece != nil {
		f.give(o, p, piece, text)
	}
	if !last {
		p.status = fanout.More
		return
	}
	f.done(p.batch)
	p.batch, p.epoch = nil, epoch
	if !shared {
		f.codec.end(o, f.at(p, vec))
	}
}

// give writes a piece, and the cursor after it where it is the last one and has one that all share.
func (f *feed) give(o *output, p *part, piece *fanout.Piece, cursor []byte) {
	kind := f.codec.form()
	if kind == noForm {
		writeAll(f.codec, o, p.stream, piece.Entries)
		if cursor != nil {
			f.codec.end(o, cursor)
		}
		return
	}
	key := int(kind) << 1
	if cursor != nil {
		key |= 1
	}
	buf, cuts, shared := piece.Encoded(key, func(entries []*fanout.Entry) ([]byte, []int) {
		made, c := output{}, f.codec.blank()
		if !kind.compressed() {
			made.buf = make([]byte, 0, room(entries))
		}
		writeAll(c, &made, p.stream, entries)
		if cursor != nil {
			c.end(&made, cursor)
		}
		c.flush(&made)
		if z, ok := c.(*zipped); ok {
			return made.buf, z.made()
		}
		return made.buf, made.cuts
	})
	if z, ok := f.codec.(*zipped); ok {
		z.flush(o)
		z.passed(cuts)
		cuts = nil
	}
	if shared && !kind.messages() && o.size() == 0 {
		o.shared = buf
		return
	}
	f.codec.flush(o)
	from := len(o.buf)
	o.buf = append(o.buf, buf...)
	for _, cut := range cuts {
		o.cuts = append(o.cuts, from<<cutBits+cut)
	}
}

// room is about what entries take once they are encoded.
func room(entries []*fanout.Entry) int {
	n := 128
	for _, e := range entries {
		n += len(e.SSEData()) + 32
	}
	return n
}

// writeAll writes entries without cursors.
func writeAll(c codec, o *output, stream string, entries []*fanout.Entry) {
	for _, e := range entries {
		writeEntry(c, o, stream, e, nil, false)
	}
}

// requery has a part go on with the filter that the feed has got. A client that has the whole picture is given that of the
// new filter.
func (f *feed) requery(o *output, p *part) {
	vec, _ := p.position()
	options := f.options
	options.Next, options.Epoch = append([]int64{}, vec...), p.reader.Epoch()
	if p.conf != nil {
		options.Epoch = p.epoch // of the position, which the reader's may have passed
	}
	f.read(p, p.reader.Hub(), options, f.whole)
	f.tell(o, p, p.reader.Gaps(), true)
	p.snapshot = p.picture && f.whole
}

// beat tells a client that is given nothing that its session lives: by its cursor, or before there is one by what it waits
// for.
func (f *feed) beat(o *output) {
	if text := f.cursor(); text != nil {
		f.codec.cursor(o, text)
		return
	}
	f.codec.control(o, "waiting", Waiting{Reason: "snapshot", Detail: "the stream's state is being read"}, nil)
}
