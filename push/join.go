package push

import (
	"slices"

	"github.com/google/uuid"
)

// testimony is all that a new owner of a partition found said of one chunk, by all owners before it.
type testimony struct {
	statements []*statement // of the highest cut alone
	keys       []statementKey
	cut        int64
	cat        int64 // the highest of any statement
}

// add takes one statement more.
func (t *testimony) add(key statementKey, s *statement) {
	t.keys = append(t.keys, key)
	t.cat = max(t.cat, s.cat)
	switch {
	case len(t.statements) == 0 || s.cut > t.cut:
		t.cut, t.statements = s.cut, []*statement{s}
	case s.cut == t.cut:
		t.statements = append(t.statements, s)
	}
}

// head is the highest head that any statement has, or -1 where there is none: lanes that are not listed are there.
func (t *testimony) head() int64 {
	head := int64(-1)
	for _, s := range t.statements {
		head = max(head, s.head)
	}
	return head
}

// state joins what is said of a lane that the catalog's record at born has created: done is what any statement that covers
// the lane says is done. said is false where none covers it: then it is at its start.
func (t *testimony) state(incarnation uuid.UUID, born, start int64) (state laneState, said bool) {
	var covering []laneState
	state.next = start
	for _, s := range t.statements {
		if born >= s.cat {
			continue
		}
		of, ok := s.lane(incarnation)
		if !ok {
			of = laneState{next: max(start, s.head)}
		}
		covering = append(covering, of)
		state.next = max(state.next, of.next)
	}
	for i, of := range covering {
		for _, u := range of.undone {
			if j := slices.IndexFunc(state.undone, func(v undone) bool { return v.offset == u.offset }); j >= 0 {
				state.undone[j].attempts = max(state.undone[j].attempts, u.attempts)
				continue
			}
			if !slices.ContainsFunc(covering[:i], func(o laneState) bool { return o.done(u.offset) }) &&
				!slices.ContainsFunc(covering[i+1:], func(o laneState) bool { return o.done(u.offset) }) {
				state.undone = append(state.undone, u)
			}
		}
	}
	slices.SortFunc(state.undone, func(a, b undone) int { return int(a.offset - b.offset) })
	return state, len(covering) > 0
}

// done reports whether the state says that an event is done.
func (s laneState) done(offset int64) bool {
	if offset >= s.next {
		return false
	}
	_, found := slices.BinarySearchFunc(s.undone, offset, func(u undone, o int64) int { return int(u.offset - o) })
	return !found
}

// cutAt gives the state of a lane whose partition's log ends at end.
func (s laneState) cutAt(end int64) laneState {
	s.next = min(s.next, end)
	s.undone = slices.DeleteFunc(slices.Clone(s.undone), func(u undone) bool { return u.offset >= end })
	return s
}
