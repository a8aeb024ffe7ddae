package loadtest

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"strconv"
)

// markPrefix begins a mark. None of a mark's characters is escaped in JSON, in a URL-encoded form, or by an SSE
// server, so that a mark survives whatever envelope the server under test puts around the event.
const markPrefix = "~lt:"

// mark is what an event says of itself: where it belongs in which sequence, and when it was sent.
type mark struct {
	lane int
	seq  uint64
	sent int64 // Unix time in nanoseconds; when it was due, where it says late, too
	// late is how long after that it was really sent, in nanoseconds. It counts where scheduled is true.
	late      int64
	scheduled bool
}

// appendMark appends the text ~lt:RUN:LANE:SEQ:NANOS~, or ~lt:RUN:LANE:SEQ:NANOS:LATE~ of one that was scheduled.
func appendMark(dst []byte, run string, m mark) []byte {
	dst = append(dst, markPrefix...)
	dst = append(dst, run...)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, int64(m.lane), 10)
	dst = append(dst, ':')
	dst = strconv.AppendUint(dst, m.seq, 10)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, m.sent, 10)
	if m.scheduled {
		dst = append(dst, ':')
		dst = strconv.AppendInt(dst, max(m.late, 0), 10)
	}
	return append(dst, '~')
}

// marker finds the marks of one run. Those of other runs are passed over.
type marker struct {
	prefix []byte // "~lt:RUN:"
}

func newMarker(run string) marker { return marker{prefix: []byte(markPrefix + run + ":")} }

// next returns the first mark in p and what follows it. It is the hot path of a load test: no allocation.
func (k marker) next(p []byte) (m mark, rest []byte, ok bool) {
	for {
		i := bytes.Index(p, k.prefix)
		if i < 0 {
			return mark{}, nil, false
		}
		p = p[i+len(k.prefix):]
		lane, q, ok1 := number(p, ':')
		seq, q, ok2 := number(q, ':')
		m, q, ok3 := times(q)
		if ok1 && ok2 && ok3 {
			m.lane, m.seq = int(lane), seq
			return m, q, true
		}
	}
}

// times reads a mark's end.
func times(p []byte) (m mark, rest []byte, ok bool) {
	if sent, q, ok := number(p, '~'); ok {
		return mark{sent: int64(sent)}, q, true
	}
	sent, q, ok1 := number(p, ':')
	late, q, ok2 := number(q, '~')
	return mark{sent: int64(sent), late: int64(late), scheduled: true}, q, ok1 && ok2
}

// number reads decimal digits up to the byte end, and returns what follows it.
func number(p []byte, end byte) (n uint64, rest []byte, ok bool) {
	for i, c := range p {
		if c == end {
			return n, p[i+1:], i > 0
		}
		if c < '0' || c > '9' || i > 18 {
			return 0, nil, false
		}
		n = n*10 + uint64(c-'0')
	}
	return 0, nil, false
}

// NewRun returns a short random name for a run, which tells its events from those of earlier runs in the same stream.
func NewRun() string {
	n, err := rand.Int(rand.Reader, big.NewInt(36*36*36*36*36*36))
	if err != nil { // crypto/rand never fails on the systems that Go supports
		panic(err)
	}
	return strconv.FormatInt(n.Int64()+36*36*36*36*36*36, 36)[1:]
}
