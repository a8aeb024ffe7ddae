package table

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// A write's record: key = id, value = body (null: a deletion), and two headers with the UUIDs in their text form, so
// that Kafka's own tools show the table as it is.
const (
	headerU    = "u"
	headerPrev = "prev"
)

// write is {id, u, prev, body} (rule 1).
type write struct {
	id   string
	u    uuid.UUID
	prev uuid.UUID // Nil: there is no version to replace
	body []byte    // nil: a deletion
}

func (w *write) message(partition int32) broker.Message {
	h := []broker.Header{{Key: headerU, Value: []byte(w.u.String())}}
	if w.prev != uuid.Nil {
		h = append(h, broker.Header{Key: headerPrev, Value: []byte(w.prev.String())})
	}
	return broker.Message{Partition: partition, Key: []byte(w.id), Value: w.body, Headers: h}
}

// parseWrite reads a record. What is no write is passed over, by everyone alike. The result shares nothing with r,
// since a record may pin the whole fetch it came in.
func parseWrite(r *broker.Record) (w write, ok bool) {
	for _, h := range r.Headers {
		var err error
		switch h.Key {
		case headerU:
			w.u, err = uuid.ParseBytes(h.Value)
		case headerPrev:
			w.prev, err = uuid.ParseBytes(h.Value)
		}
		if err != nil {
			return write{}, false
		}
	}
	if w.u == uuid.Nil || len(r.Key) == 0 {
		return write{}, false
	}
	w.id = string(r.Key)
	if r.Value != nil {
		// Not Clone of an empty value: it would be nil, which is a deletion.
		w.body = append(make([]byte, 0, len(r.Value)), r.Value...)
	}
	return w, true
}

// fold is the state after all offsets below next. It depends on those records alone, so everyone has the same (rule 1).
// It is not safe for concurrent use.
type fold struct {
	cur    map[string]*Kept // deletions that are still remembered among them
	graves []grave          // those deletions, by offset; some may have been replaced since
	next   int64
	retain int64
	packer *packer
}

type grave struct {
	offset int64
	id     string
}

func newFold(retain int64) *fold {
	return &fold{cur: map[string]*Kept{}, retain: retain, packer: &packer{}}
}

// apply folds one record. ok is false for what is no write.
func (f *fold) apply(r *broker.Record) (w write, k *Kept, ok bool) {
	f.next = r.Offset + 1
	if w, ok = parseWrite(r); ok {
		k = f.accept(&w, r.Offset)
	}
	f.bury(r.Offset)
	return w, k, ok
}

// accept applies the rule of acceptance and returns the new version, or nil where the write is rejected (rule 1).
func (f *fold) accept(w *write, offset int64) *Kept {
	current := uuid.Nil
	if c := f.cur[w.id]; c != nil {
		current = c.u
	}
	if current != w.prev {
		return nil
	}
	k := f.packer.keep(Version{U: w.u, Body: w.body, Offset: offset})
	f.cur[w.id] = k
	if k.deleted() {
		f.graves = append(f.graves, grave{offset, w.id})
	}
	return k
}

// bury drops the deletions that are retain offsets old now that the record at offset has been applied (rule 1).
func (f *fold) bury(offset int64) {
	n := 0
	for ; n < len(f.graves) && f.graves[n].offset <= offset-f.retain; n++ {
		g := f.graves[n]
		if c := f.cur[g.id]; c != nil && c.offset() == g.offset {
			delete(f.cur, g.id)
		}
	}
	f.graves = f.graves[n:]
}

// restore makes the fold of a valid snapshot, which is not to be used any more.
func restore(a *attempt, retain int64) *fold {
	f := &fold{cur: a.entries, next: a.x, retain: retain, packer: a.packer}
	for id, k := range f.cur {
		if k.deleted() {
			f.graves = append(f.graves, grave{k.offset(), id})
		}
	}
	slices.SortFunc(f.graves, func(a, b grave) int { return cmp.Compare(a.offset, b.offset) })
	return f
}

func (f *fold) entries() []entry {
	es := make([]entry, 0, len(f.cur))
	for id, k := range f.cur {
		es = append(es, entry{id, k})
	}
	return es
}
