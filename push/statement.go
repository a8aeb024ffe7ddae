package push

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/varint"
)

// chunks divide the lanes of a partition. The number is part of the format.
const chunks = 64

// chunkOf is the chunk of an incarnation's lanes.
func chunkOf(incarnation uuid.UUID) uint8 { return incarnation[15] % chunks }

// tenure names one time of owning a partition: random, and new whenever the partition is assigned, also to the same
// process again.
type tenure [16]byte

// statementKey is the key of a statement's record.
type statementKey struct {
	epoch     broker.Epoch
	partition int32
	chunk     uint8
	tenure    tenure
}

const statementKeyBytes = 16 + 4 + 1 + 16

func (k statementKey) encode() []byte {
	b := make([]byte, 0, statementKeyBytes)
	b = append(b, k.epoch[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(k.partition))
	b = append(b, k.chunk)
	return append(b, k.tenure[:]...)
}

func decodeStatementKey(b []byte) (k statementKey, ok bool) {
	if len(b) != statementKeyBytes || b[20] >= chunks {
		return k, false
	}
	copy(k.epoch[:], b)
	k.partition = int32(binary.BigEndian.Uint32(b[16:]))
	k.chunk = b[20]
	copy(k.tenure[:], b[21:])
	return k, true
}

// undone is an event below a lane's next that is not done yet.
type undone struct {
	offset   int64
	attempts int
}

// laneState is how far a lane is: every matching event in [start, next) is done but those of undone, which ascend.
type laneState struct {
	next   int64
	undone []undone
}

// statement says of a chunk's lanes that the catalog held below cat: those listed are in the state listed, all others at
// (max(start, head), nothing undone). It is absolute, and stays true whoever writes it and however late.
type statement struct {
	cat   int64 // an offset of the catalog: the statement says nothing of lanes that were created at or above it
	cut   int64 // rises when the partition's log has lost its end: statements of a lower one are of what was lost
	head  int64
	lanes []listed // by incarnation
}

type listed struct {
	incarnation uuid.UUID
	laneState
}

func (s *statement) lane(incarnation uuid.UUID) (laneState, bool) {
	i, ok := slices.BinarySearchFunc(s.lanes, incarnation, func(l listed, id uuid.UUID) int { return compareUUID(l.incarnation, id) })
	if !ok {
		return laneState{}, false
	}
	return s.lanes[i].laneState, true
}

func compareUUID(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// statementFormat is the first byte of a statement's value.
const statementFormat = 1

// encode gives the record's value: format, uvarints cat, cut, head and the number of lanes; a lane: incarnation [16], the
// signed distance of next from head, the number of undone, and of each the distance to the one before (the last one's to
// next, and so on downwards) and its attempts.
func (s *statement) encode() []byte {
	b := make([]byte, 0, 32+32*len(s.lanes))
	b = append(b, statementFormat)
	for _, n := range []int64{s.cat, s.cut, s.head, int64(len(s.lanes))} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for i := range s.lanes {
		l := &s.lanes[i]
		b = append(b, l.incarnation[:]...)
		b = binary.AppendVarint(b, l.next-s.head)
		b = binary.AppendUvarint(b, uint64(len(l.undone)))
		above := l.next
		for _, u := range slices.Backward(l.undone) {
			b = binary.AppendUvarint(b, uint64(above-u.offset))
			b = binary.AppendUvarint(b, uint64(u.attempts))
			above = u.offset
		}
	}
	return b
}

// laneBytes and undoneBytes are what a lane, and an event of it, take of a statement at most in practice; a larger
// distance only makes the statement a little larger than it was reckoned.
const (
	laneBytes   = 16 + 6 + 2
	undoneBytes = 4 + 2
)

var errStatement = errors.New("not a statement of this version of the program")

func decodeStatement(b []byte) (*statement, error) {
	if len(b) == 0 || b[0] != statementFormat {
		return nil, errStatement
	}
	r := varint.Reader{Rest: b[1:]}
	s := &statement{cat: r.Uint(), cut: r.Uint(), head: r.Uint()}
	for n := r.Uint(); n > 0 && !r.Bad; n-- {
		var l listed
		copy(l.incarnation[:], r.Take(int64(len(l.incarnation))))
		l.next = s.head + r.Int()
		above := l.next
		for u := r.Uint(); u > 0 && !r.Bad; u-- {
			above -= r.Uint()
			l.undone = append(l.undone, undone{above, int(r.Uint())})
		}
		slices.Reverse(l.undone)
		if len(s.lanes) > 0 && compareUUID(s.lanes[len(s.lanes)-1].incarnation, l.incarnation) >= 0 {
			r.Bad = true
		}
		s.lanes = append(s.lanes, l)
	}
	if r.Bad || len(r.Rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes are left", errStatement, len(r.Rest))
	}
	return s, nil
}
