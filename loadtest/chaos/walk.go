package chaos

import (
	"fmt"
	"slices"
	"time"
)

// walk is a client's way along the log: for each partition the offset below which it was given everything that it wants.
// Each of its steps returns what it breaks, and goes on from there, so that one mistake is found once.
type walk struct {
	truth *truth
	wants func(key string) bool
	at    []int64
	index []int // of the first record at or above at
	known bool  // it has a place
}

func newWalk(t *truth, wants func(key string) bool) *walk {
	n := len(t.partitions)
	return &walk{truth: t, wants: wants, at: make([]int64, n), index: make([]int, n)}
}

// begin has the walk go on from a place. Partitions that it says nothing of are at 0.
func (w *walk) begin(from []int64) {
	w.known = true
	clear(w.at)
	copy(w.at, from)
	for p := range w.at {
		w.index[p] = w.truth.find(p, w.at[p])
	}
}

// lose has the walk have no place until it is given one.
func (w *walk) lose() { w.known = false }

// due is the next record of p that the client wants.
func (w *walk) due(p int) (record, bool) {
	all := w.truth.partitions[p]
	for ; w.index[p] < len(all); w.index[p]++ {
		r := all[w.index[p]]
		if key, n := splitID(r.id); r.offset >= w.at[p] && n >= 0 && w.wants(key) {
			return r, true
		}
	}
	return record{}, false
}

// pass goes on behind an offset, and returns what is wanted and was passed by.
func (w *walk) pass(p int, to int64) (missed []record) {
	for {
		r, ok := w.due(p)
		if !ok || r.offset >= to {
			break
		}
		missed = append(missed, r)
		w.index[p]++
	}
	w.at[p] = max(w.at[p], to)
	return missed
}

// broken is a promise that a step breaks, and the event or partition that it is about.
type broken struct {
	promise Promise
	id      string
	text    string
}

// given takes the step of an event that came.
func (w *walk) given(id string) []broken {
	places := w.truth.places[id]
	key, _ := splitID(id)
	switch {
	case len(places) == 0 || removes(id):
		return []broken{{PromiseGenuine, id, fmt.Sprintf("%s came, and is no event on the log", id)}}
	case !w.wants(key):
		return []broken{{PromiseWanted, id, fmt.Sprintf("%s came, which the client did not ask for", id)}}
	case !w.known:
		return []broken{{PromiseCursor, id, fmt.Sprintf("%s came before any cursor", id)}}
	}
	for _, at := range places { // a copy that is the next of its partition, if there is one
		if r, ok := w.due(int(at[0])); ok && r.offset == at[1] {
			w.pass(int(at[0]), at[1])
			w.index[at[0]]++
			w.at[at[0]] = at[1] + 1
			return nil
		}
	}
	for _, at := range places {
		if p := int(at[0]); at[1] >= w.at[p] {
			was := w.at[p]
			missed := w.pass(p, at[1])
			w.pass(p, at[1]+1)
			return wronged(PromiseComplete, missed, "%s at %d/%d did not come: after %d came %s at %d", p, was, id, at[1])
		}
	}
	return []broken{{PromiseRepeat, id, fmt.Sprintf("%s at %v came again, or out of order: the client is at %v", id, places, w.at)}}
}

// wronged is a promise that is broken of each of some records.
func wronged(promise Promise, records []record, format string, p int, rest ...any) []broken {
	var all []broken
	for _, r := range records {
		all = append(all, broken{promise, r.id, fmt.Sprintf(format, append([]any{r.id, p, r.offset}, rest...)...)})
	}
	return all
}

// cursor takes the step of a cursor: it must pass nothing that the client wants and was not given, nor go back.
func (w *walk) cursor(at []int64) (all []broken) {
	if !w.known {
		w.begin(at)
		return nil
	}
	for p := range w.at {
		var to int64
		if p < len(at) {
			to = at[p]
		}
		if to < w.at[p] {
			all = append(all, broken{PromiseCursor, "", fmt.Sprintf("the cursor of partition %d goes back from %d to %d", p, w.at[p], to)})
			continue
		}
		all = append(all, wronged(PromiseCursor, w.pass(p, to), "%s at %d/%d was not given, and the cursor passes it: it is at %d", p, to)...)
	}
	if slices.ContainsFunc(at[min(len(at), len(w.at)):], func(o int64) bool { return o > 0 }) {
		all = append(all, broken{PromiseCursor, "", fmt.Sprintf("the cursor %v has partitions that the log has not", at)})
	}
	return all
}

// gap takes the step of a gap that was told at a time: it must be true, and the walk goes on behind it.
func (w *walk) gap(g *Gap, told time.Duration) (all []broken) {
	p := int(g.Partition)
	if p < 0 || p >= len(w.at) {
		return []broken{{PromiseGap, "", fmt.Sprintf("a gap was told in partition %d, which the log has not", p)}}
	}
	if id, at, ok := w.denies(p, g, told); ok {
		all = append(all, broken{PromiseGap, id, fmt.Sprintf("a gap (%s) from %d to %d was told, and %s is at %v", g.Reason, g.From, g.To, id, at)})
	}
	if w.known && g.From > w.at[p] {
		all = append(all, wronged(PromiseComplete, w.pass(p, g.From), "%s at %d/%d did not come, and the gap begins at %d", p, g.From)...)
	}
	w.at[p] = g.To
	w.index[p] = w.truth.find(p, g.To)
	return all
}

// denies finds an event that shows that a gap is not true: one that is said to be deleted, and was not by then; or one that
// is said to be cut off, or of a log that is no more, and was acknowledged before and is there still.
func (w *walk) denies(p int, g *Gap, told time.Duration) (id string, at Place, found bool) {
	for _, r := range w.truth.partitions[p] {
		at := Place{int64(p), r.offset}
		acked, known := w.truth.acked[at]
		inside := r.offset >= g.From && r.offset < g.To && (p >= len(w.truth.high) || r.offset >= w.truth.high[p])
		if g.Reason != "retention" {
			inside = r.offset >= g.To && r.offset < g.From && known && acked < told
		}
		if inside {
			return r.id, at, true
		}
	}
	return "", Place{}, false
}

// left is what the client wants and was not given, below the ends.
func (w *walk) left() (all []broken) {
	if !w.known {
		return []broken{{PromiseComplete, "", "the client was never given a place"}}
	}
	for p, end := range w.truth.ends {
		if p >= len(w.at) {
			break // the log holds nothing of it
		}
		missed := w.pass(p, end)
		all = append(all, wronged(PromiseComplete, missed, "%s at %d/%d was never given", p)...)
	}
	return all
}
