package group

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
)

// span is a stretch of offsets, from its first to before its end.
type span struct{ from, to int64 }

// attempt says how often an event that is not done was given out.
type attempt struct {
	offset int64
	n      int
}

// state is what is kept of one partition: everything that matches is done below pos, and within done. Positions of another
// cut say nothing: the log has lost its end in between.
type state struct {
	cut      uint64
	pos      int64
	done     []span    // above pos, ascending, apart from each other
	attempts []attempt // of what is not done, by offset
}

// The binary form: a version byte; uvarints cut and pos; the number of spans, and each as its distance from the end of the
// one before and its length; the number of runs of attempts, and each as the distance from the offset before and the
// number; CRC-32C of all that [4].
const stateFormat = 1

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errState   = errors.New("a stored position is damaged")
)

// binary is the binary form.
func (s *state) binary() []byte {
	dst := []byte{stateFormat}
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
		dst = binary.AppendUvarint(dst, uint64(a.offset-at))
		dst = binary.AppendUvarint(dst, uint64(a.n))
		at = a.offset
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

// parseState reads what binary gave.
func parseState(b []byte) (state, error) {
	if len(b) < 5 || b[0] != stateFormat || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return state{}, errState
	}
	r := numbers{b: b[1 : len(b)-4]}
	s := state{cut: uint64(r.next()), pos: r.next()}
	at := s.pos
	for n := r.count(); n > 0; n-- {
		from := at + r.next()
		at = from + r.next()
		s.done = append(s.done, span{from, at})
	}
	at = s.pos
	for n := r.count(); n > 0; n-- {
		at += r.next()
		s.attempts = append(s.attempts, attempt{at, int(r.next())})
	}
	if r.bad || len(r.b) > 0 {
		return state{}, errState
	}
	return s, nil
}

// numbers reads uvarints; what is not there reads as 0 and is noted.
type numbers struct {
	b   []byte
	bad bool
}

func (r *numbers) next() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<62 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

// count reads a number of things that take at least two bytes each.
func (r *numbers) count() int64 {
	n := r.next()
	if n > int64(len(r.b)/2) {
		r.bad = true
		return 0
	}
	return n
}

// isDone reports whether what is at an offset is done.
func (s *state) isDone(offset int64) bool {
	if offset < s.pos {
		return true
	}
	i, _ := slices.BinarySearchFunc(s.done, offset, func(d span, o int64) int {
		if d.to <= o {
			return -1
		}
		return 1
	})
	return i < len(s.done) && s.done[i].from <= offset
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

func joinAttempts(a, b []attempt, s *state) (all []attempt) {
	for len(a) > 0 || len(b) > 0 {
		var next attempt
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].offset < b[0].offset:
			next, a = a[0], a[1:]
		case len(a) == 0 || b[0].offset < a[0].offset:
			next, b = b[0], b[1:]
		default:
			next = attempt{a[0].offset, max(a[0].n, b[0].n)}
			a, b = a[1:], b[1:]
		}
		if !s.isDone(next.offset) {
			all = append(all, next)
		}
	}
	return all
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
		if a.offset < end {
			left.attempts = append(left.attempts, a)
		}
	}
	return left
}
