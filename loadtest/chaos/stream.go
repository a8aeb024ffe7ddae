package chaos

import "slices"

// streamWitness follows a client that keeps its cursor itself.
type streamWitness struct {
	follower
	walk   *walk
	oldest bool // it asked for the oldest event, and is not known to have been told where that is
}

func (s *streamWitness) note(e *Entry) {
	switch e.What {
	case WhatOpen:
		s.opens(e)
		return
	case WhatGiven:
		s.begins(e)
		for _, id := range e.IDs {
			s.breaks(e, s.walk.given(id))
		}
	case WhatControl:
		s.told(e)
		if e.Gap != nil {
			s.breaks(e, s.walk.gap(e.Gap, e.At))
		}
	}
	if e.Cursor != nil {
		s.breaks(e, s.walk.cursor(e.Cursor))
	}
}

func (s *streamWitness) opens(e *Entry) {
	s.walk.lose()
	s.oldest = false
	switch {
	case e.Cursor != nil:
		s.walk.begin(e.Cursor)
	case !s.what.Latest:
		s.oldest = true
		s.walk.begin(s.what.of(s.checker.truth.low))
	}
}

// begins takes the first that comes where a client asked for the oldest event: that may be where the log began when it
// asked, or, where its beginning was deleted meanwhile, at any place up to where it begins since.
func (s *streamWitness) begins(e *Entry) {
	t := s.checker.truth
	if !s.oldest {
		return
	}
	s.oldest = false
	high := s.what.of(padded(t.high, len(s.walk.at)))
	if slices.Equal(s.walk.at, high) {
		return
	}
	switch {
	case e.Cursor == nil:
		s.oldest = true
	case len(e.IDs) > 0: // a page, of which it is not told where it begins
		e.IDs = nil
		s.walk.lose()
	default:
		s.walk.lose()
		if !reached(high, e.Cursor) {
			s.checker.breaks(e, PromiseComplete, "", "the oldest event is said to be at %v, and the log begins at %v", e.Cursor, high)
		}
	}
}

// padded is a place with zeros for the partitions that it says nothing of.
func padded(at []int64, n int) []int64 {
	all := make([]int64, n)
	copy(all, at)
	return all
}

func (s *streamWitness) end() { s.breaks(&Entry{Who: s.who}, s.walk.left()) }
