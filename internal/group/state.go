package group

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"sort"

	"github.com/eventissuer/eventissuer/internal/varint"
)

// span is a stretch of offsets, from its first to before its end.
type span struct{ from, to int64 }

// attempt says how often each event of a stretch was given out that is not done.
type attempt struct {
	span
	n int
}

// state is what is kept of one partition: everything that matches is done below pos, and within done. Positions of another
// cut say nothing: the log has lost its end in between.
type state struct {
	cut      uint64
	pos      int64
	done     []span    // above pos, ascending, apart from each other
	attempts []attempt // of what is not done, ascending, apart from each other
}

// The binary form: a version byte; uvarints cut and pos; the number of spans, and each as its distance from the end of the
// one before and its length; the number of stretches with attempts, and each likewise and the number; CRC-32C of all that [4].
const stateFormat = 2

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errState   = errors.New("a stored position is damaged")
)

// binary is the binary form.
func (s *state) binary() []byte {
	dst := make([]byte, 1, 32+6*(len(s.done)+len(s.attempts)))
	dst[0] = stateFormat
	dst = binary.AppendUvarint(dst, s.cut)
	dst = binary.AppendUvarint(dst, uint64(s.pos))
	dst = binary.AppendUvarint(dst, uint64(len(s.done)))
	at := s.pos
	for _, d := range s.done {
		dst = binary.AppendUvarint(dst, uint64(d.from-at))
		dst = binary.AppendUvarint(dst, uint64(d.to-d.from))
		at = d.to
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.attempts)))
	at = s.pos
	for _, a := range s.attempts {
		dst = binary.AppendUvarint(dst, uint64(a.from-at))
		dst = binary.AppendUvarint(dst, uint64(a.to-a.from))
		dst = binary.AppendUvarint(dst, uint64(a.n))
		at = a.to
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

// parseState reads what binary gave.
func parseState(b []byte) (state, error) {
	if len(b) < 5 || b[0] != stateFormat || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return state{}, errState
	}
	r := numbers{varint.Reader{Rest: b[1 : len(b)-4]}}
	s := state{cut: uint64(r.Uint()), pos: r.Uint()}
	at := s.pos
	for n := r.count(); n > 0; n-- {
		from := at + r.Uint()
		at = from + r.Uint()
		s.done = append(s.done, span{from, at})
	}
	at = s.pos
	for n := r.count(); n > 0; n-- {
		from := at + r.Uint()
		at = from + r.Uint()
		s.attempts = append(s.attempts, attempt{span{from, at}, int(r.Uint())})
	}
	if r.Bad || len(r.Rest) > 0 {
		return state{}, errState
	}
	return s, nil
}

// numbers reads uvarints; what is not there reads as 0 and is noted.
type numbers struct{ varint.Reader }

// count reads a number of things that take at least two bytes each.
func (r *numbers) count() int64 {
	n := r.Uint()
	if n > int64(len(r.Rest)/2) {
		r.Bad = true
		return 0
	}
	return n
}

// isDone reports whether what is at an offset is done.
func (s *state) isDone(offset int64) bool {
	if offset < s.pos {
		return true
	}
	i := sort.Search(len(s.done), func(i int) bool { return s.done[i].to > offset })
	return i < len(s.done) && s.done[i].from <= offset
}

// attemptsOf is how often what is at an offset was given out, 0 where it is done.
func (s *state) attemptsOf(offset int64) int {
	i := sort.Search(len(s.attempts), func(i int) bool { return s.attempts[i].to > offset })
	if i == len(s.attempts) || s.attempts[i].from > offset {
		return 0
	}
	return s.attempts[i].n
}

// end is the offset from which on the state says nothing.
func (s *state) end() int64 {
	end := s.pos
	if n := len(s.done); n > 0 {
		end = max(end, s.done[n-1].to)
	}
	if n := len(s.attempts); n > 0 {
		end = max(end, s.attempts[n-1].to)
	}
	return end
}

// join is what either of two says is done. What is of a lower cut says nothing.
func join(a, b state) state {
	if a.cut != b.cut {
		if a.cut > b.cut {
			return a
		}
		return b
	}
	s := state{cut: a.cut, pos: max(a.pos, b.pos)}
	for _, d := range slices.SortedFunc(slices.Values(append(slices.Clone(a.done), b.done...)), func(x, y span) int { return int(min(max(x.from-y.from, -1), 1)) }) {
		switch last := len(s.done) - 1; {
		case d.to <= s.pos:
		case d.from <= s.pos:
			s.pos = d.to
		case last >= 0 && d.from <= s.done[last].to:
			s.done[last].to = max(s.done[last].to, d.to)
		default:
			s.done = append(s.done, d)
		}
	}
	s.attempts = joinAttempts(a.attempts, b.attempts, &s)
	return s
}

// joinAttempts is the higher of two numbers of attempts, for what a state does not say is done.
func joinAttempts(a, b []attempt, s *state) (all []attempt) {
	done := s.done
	for at := s.pos; ; {
		for len(a) > 0 && a[0].to <= at {
			a = a[1:]
		}
		for len(b) > 0 && b[0].to <= at {
			b = b[1:]
		}
		for len(done) > 0 && done[0].to <= at {
			done = done[1:]
		}
		if len(a) == 0 && len(b) == 0 {
			return all
		}
		if len(done) > 0 && done[0].from <= at {
			at = done[0].to
			continue
		}
		// Up to the next boundary nothing changes.
		n, next := 0, int64(math.MaxInt64)
		if len(done) > 0 {
			next = done[0].from
		}
		for _, runs := range [2][]attempt{a, b} {
			switch {
			case len(runs) == 0:
			case runs[0].from > at:
				next = min(next, runs[0].from)
			default:
				n, next = max(n, runs[0].n), min(next, runs[0].to)
			}
		}
		if n > 0 {
			if last := len(all) - 1; last >= 0 && all[last].to == at && all[last].n == n {
				all[last].to = next
			} else {
				all = append(all, attempt{span{at, next}, n})
			}
		}
		at = next
	}
}

// cutAt is what is left of a state when the log has lost what was from end on.
func (s state) cutAt(end int64) state {
	left := state{cut: s.cut + 1, pos: min(s.pos, end)}
	for _, d := range s.done {
		if d.from < end {
			left.done = append(left.done, span{d.from, min(d.to, end)})
		}
	}
	for _, a := range s.attempts {
		if a.from < end {
			left.attempts = append(left.attempts, attempt{span{a.from, min(a.to, end)}, a.n})
		}
	}
	return left
}
