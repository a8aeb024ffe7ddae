package table

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
)

// Kept is a version of an object as the table holds it, in little memory: the body is packed. It is immutable.
type Kept struct {
	u     uuid.UUID
	place int64    // the offset, doubled; odd where the object is deleted
	body  string   // packed by words
	words *s2.Dict // nil: the body is as it is
}

// NewKept holds a body that is to be written, as it is.
func NewKept(body []byte) *Kept { return &Kept{body: string(body)} }

// U is what a write that replaces the version names.
func (k *Kept) U() uuid.UUID { return k.u }

// Version is the whole version. Its body is made anew by each call.
func (k *Kept) Version() Version { return k.with(k.unpacked()) }

// with is the version, whose body is at hand.
func (k *Kept) with(body []byte) Version {
	return Version{U: k.u, Body: body, Offset: k.offset(), kept: k}
}

func (k *Kept) offset() int64 { return k.place >> 1 }

func (k *Kept) deleted() bool { return k.place&1 != 0 }

// unpacked is the body, nil where the object is deleted.
func (k *Kept) unpacked() []byte {
	switch {
	case k.deleted():
		return nil
	case k.words == nil:
		return append(make([]byte, 0, len(k.body)), k.body...)
	}
	body, err := k.words.Decode(nil, []byte(k.body))
	if err != nil {
		panic(fmt.Sprintf("a body that was packed by this process cannot be unpacked: %v", err))
	}
	return body
}

// size is that of the body, unpacked.
func (k *Kept) size() int {
	if k.words == nil {
		return len(k.body)
	}
	n, err := s2.DecodedLen([]byte(k.body))
	if err != nil {
		panic(fmt.Sprintf("a body that was packed by this process has no size: %v", err))
	}
	return n
}

// packer packs the bodies of a partition. They are small, and much alike: those that came last are the dictionary for
// those that follow. What that is depends on nothing but speed and memory, so replicas need not agree. It is not safe for
// concurrent use.
type packer struct {
	seen   int
	due    int    // how many are seen when the dictionary is made anew
	recent []byte // for the next dictionary
	words  *s2.Dict
	buffer []byte
}

const (
	// The first dictionary has to be worth its memory, and each comes when there are sixteen times as many bodies: what
	// came first may not be what there is most of.
	firstWords = 256
	moreWords  = 16
	wordsBytes = 16 << 10
	sampled    = 8 // one in so many of the bodies that come last before it is due
	// unlikely is the size from which on a body is not thought to be like others: a dictionary has eight at least.
	unlikely = wordsBytes / 8
	// tooSmall to be packed.
	tooSmall = 64
)

// keep makes of a version what is held of it. It shares nothing with it.
func (p *packer) keep(v Version) *Kept {
	k := &Kept{u: v.U, place: v.Offset << 1}
	if v.Deleted() {
		k.place |= 1
		return k
	}
	p.learn(v.Body)
	if p.words != nil && len(v.Body) >= tooSmall {
		if most := s2.MaxEncodedLen(len(v.Body)); len(p.buffer) < most {
			p.buffer = make([]byte, max(most, unlikely))
		}
		if packed := p.words.Encode(p.buffer, v.Body); len(packed) < len(v.Body)-len(v.Body)/8 {
			k.body, k.words = string(packed), p.words
		}
		if len(p.buffer) > 4*unlikely {
			p.buffer = nil
		}
	}
	if k.words == nil {
		k.body = string(v.Body)
	}
	return k
}

// learn gathers the next dictionary, and makes it when it is due.
func (p *packer) learn(body []byte) {
	if p.due == 0 {
		p.due = firstWords
	}
	p.seen++
	if p.seen > p.due-firstWords && p.seen%sampled == 0 && len(body) < unlikely && len(p.recent)+len(body) <= wordsBytes {
		p.recent = append(p.recent, body...)
	}
	if p.seen < p.due {
		return
	}
	p.due *= moreWords
	if len(p.recent) >= unlikely {
		p.words = s2.MakeDict(p.recent, nil)
	}
	p.recent = nil
}
