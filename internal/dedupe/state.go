package dedupe

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// key is what an event is told apart by. A false match would lose an event, so it is long, and cannot be aimed at.
type key [16]byte

// keyOf hashes source and id, with the source's length between what belongs to which.
func keyOf(source, id string) key {
	var room [256]byte
	b := binary.AppendUvarint(room[:0], uint64(len(source)))
	b = append(b, source...)
	b = append(b, id...)
	sum := sha256.Sum256(b)
	return key(sum[:16])
}

// token is one attempt's own. It is used for one reservation.
type token [16]byte

// epoch is enough of a topic's epoch to tell its lives apart. The zero epoch stands for any.
type epoch [8]byte

func epochOf(e broker.Epoch) epoch { return epoch(e[:8]) }

func (e epoch) is(other epoch) bool { return e == other || e == epoch{} || other == epoch{} }

// life is a stream's topic between its making and its deletion.
type life struct {
	topic, stream string
	epoch         epoch
}

func (l life) is(other life) bool { return l.topic == other.topic && l.epoch.is(other.epoch) }

type kind byte

const (
	absent   kind = 0
	reserved kind = 'R' // somebody appends it, or has tried to
	done     kind = 'D' // it is on the log
)

// state is what is known of an event.
type state struct {
	kind      kind
	life      life
	partition int32
	offset    int64 // done: where it is. reserved: no append under this reservation, or one it took over, lies below

	token  token         // reserved: whose it is
	window time.Duration // reserved: the rest of the time to live is the lease
}

// text is the state as it stands in Redis. A reservation begins with its token, so that a script can compare it.
func (s *state) text(b []byte) []byte {
	b = append(b, byte(s.kind))
	if s.kind == reserved {
		b = append(b, s.token[:]...)
		b = binary.AppendUvarint(b, uint64(s.window.Milliseconds()))
	}
	b = append(b, s.life.epoch[:]...)
	b = binary.AppendUvarint(b, uint64(s.partition))
	b = binary.AppendUvarint(b, uint64(s.offset))
	// A stream's name is nearly always the end of its topic's.
	prefix, ok := strings.CutSuffix(s.life.topic, s.life.stream)
	if ok && len(prefix) < apart {
		b = append(b, byte(len(prefix)))
		return append(b, s.life.topic...)
	}
	b = append(b, apart)
	b = binary.AppendUvarint(b, uint64(len(s.life.stream)))
	b = append(b, s.life.stream...)
	return append(b, s.life.topic...)
}

// apart is written for the length of what comes before a stream's name in its topic's, where that is not so.
const apart = 0xff

// claim is what a script compares with the value's beginning: a reservation by its token, anything else by all of it.
func (s *state) claim(b []byte) []byte {
	if s.kind == reserved {
		b = append(b, byte(s.kind))
		return append(b, s.token[:]...)
	}
	return s.text(b)
}

var errState = errors.New("the deduplication key holds what is none of its states: expected one written by this version")

// parseState reads what text wrote.
func parseState(text string) (s state, err error) {
	r := bytes.NewReader([]byte(text))
	number := func() uint64 {
		n, e := binary.ReadUvarint(r)
		if e != nil || n > 1<<62 {
			err = errState
		}
		return n
	}
	take := func(to []byte) {
		if n, _ := r.Read(to); n < len(to) {
			err = errState
		}
	}
	var first [1]byte
	take(first[:])
	switch s.kind = kind(first[0]); s.kind {
	case reserved:
		take(s.token[:])
		ms := number()
		if ms > 1<<40 {
			return state{}, errState
		}
		s.window = time.Duration(ms) * time.Millisecond
	case done:
	default:
		return state{}, errState
	}
	take(s.life.epoch[:])
	partition := number()
	s.partition, s.offset = int32(partition), int64(number())
	if err != nil || partition > 1<<31-1 {
		return state{}, errState
	}
	var how [1]byte
	take(how[:])
	n := uint64(how[0])
	if how[0] == apart {
		n = number()
	}
	if err != nil || n > uint64(r.Len()) {
		return state{}, errState
	}
	rest := text[len(text)-r.Len():]
	if how[0] == apart {
		s.life.stream, s.life.topic = rest[:n], rest[n:]
	} else {
		s.life.stream, s.life.topic = rest[n:], rest
	}
	return s, nil
}

// change is one compare-and-set.
type change struct {
	key      key
	was      state // what must be there
	orAbsent bool  // nothing may be there as well
	to       state // absent: nothing is to be there
	window   time.Duration
	progress bool // the reservation stays who had it, with what is left of its time

	ok    bool
	found state // if not ok: what is there
	err   error // it is not known whether it was done
}
