package table

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/varint"
)

// snapshot is (X, w): the fold of all offsets below x, written in the attempt w (rule 3).
type snapshot struct {
	x     int64
	w     uuid.UUID
	first int64 // offset of its first part
	size  int64 // bytes of its parts
}

// part is one record of a snapshot.
type part struct {
	epoch   broker.Epoch // of the log: the snapshot of an earlier life of the topic says nothing about this one
	w       uuid.UUID
	x, k, n int64
	entries []byte // encoded
}

// A part's value: format byte, CRC-32C of all that follows [4], epoch [16], w [16], uvarints x, k, n, entries. An
// entry: uvarint length and id, u [16], uvarint offset, uvarint length of the body plus one (0: deleted) and body.
const (
	partFormat = 1
	partHeader = 1 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p *part) encode() []byte {
	b := make([]byte, partHeader, partHeader+64+len(p.entries))
	b[0] = partFormat
	b = append(b, p.epoch[:]...)
	b = append(b, p.w[:]...)
	b = binary.AppendUvarint(b, uint64(p.x))
	b = binary.AppendUvarint(b, uint64(p.k))
	b = binary.AppendUvarint(b, uint64(p.n))
	b = append(b, p.entries...)
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[partHeader:], castagnoli))
	return b
}

func decodePart(b []byte) (p part, ok bool) {
	if len(b) < partHeader+32 || b[0] != partFormat ||
		crc32.Checksum(b[partHeader:], castagnoli) != binary.BigEndian.Uint32(b[1:]) {
		return part{}, false
	}
	b = b[partHeader:]
	p.epoch, p.w = broker.Epoch(b[:16]), uuid.UUID(b[16:32])
	r := varint.Reader{Rest: b[32:]}
	p.x, p.k, p.n = r.Uint(), r.Uint(), r.Uint()
	p.entries = r.Rest
	return p, !r.Bad && p.k < p.n
}

func appendEntry(b []byte, e entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.id)))
	b = append(b, e.id...)
	b = append(b, e.kept.u[:]...)
	b = binary.AppendUvarint(b, uint64(e.kept.offset()))
	if e.kept.deleted() {
		return binary.AppendUvarint(b, 0)
	}
	body := e.kept.unpacked()
	b = binary.AppendUvarint(b, uint64(len(body))+1)
	return append(b, body...)
}

// entrySize is an upper bound of what appendEntry appends.
func entrySize(e entry) int {
	return len(e.id) + e.kept.size() + 16 + 3*binary.MaxVarintLen64
}

// readEntries calls fn for each entry and reports whether all were whole. The bodies alias b.
func readEntries(b []byte, fn func(id string, v Version)) bool {
	r := varint.Reader{Rest: b}
	for len(r.Rest) > 0 {
		id := string(r.Take(r.Uint()))
		var v Version
		copy(v.U[:], r.Take(16))
		v.Offset = r.Uint()
		if n := r.Uint(); n > 0 {
			v.Body = r.Take(n - 1)
		}
		if r.Bad {
			return false
		}
		fn(id, v)
	}
	return true
}

// split deals entries out to the parts of a snapshot, each closed when it passes limit. There is always one part.
func split(entries []entry, limit int) [][]entry {
	var parts [][]entry
	begin, size := 0, 0
	for i, e := range entries {
		size += entrySize(e)
		if size > limit {
			parts = append(parts, entries[begin:i+1])
			begin, size = i+1, 0
		}
	}
	if begin < len(entries) || len(parts) == 0 {
		parts = append(parts, entries[begin:])
	}
	return parts
}

// scan reads the topic of snapshots in order and knows the last valid one (rule 3). It is not safe for concurrent use.
type scan struct {
	epoch broker.Epoch // of the log
	build bool         // keep the entries of the last valid snapshot, not only the facts about it
	next  int64        // offset to read on from
	bad   int          // records that are no whole parts

	open *attempt // the snapshot that began last and is not complete
	last *attempt // the last valid one
}

type attempt struct {
	snapshot
	n, k    int64 // parts in all, parts seen
	entries map[string]*Kept
	packer  *packer
}

func newScan(epoch broker.Epoch, build bool) *scan { return &scan{epoch: epoch, build: build} }

// add takes the next record.
func (sc *scan) add(r *broker.Record) {
	sc.next = r.Offset + 1
	p, ok := decodePart(r.Value)
	if !ok {
		sc.bad++
		return
	}
	if p.epoch != sc.epoch {
		return
	}
	if p.k == 0 {
		// Another snapshot begins: one that is still open cannot become valid any more. Otherwise truncation by the
		// one that began later could take away the other's first part after it was chosen (rule 3).
		sc.open = &attempt{snapshot: snapshot{x: p.x, w: p.w, first: r.Offset}, n: p.n, entries: map[string]*Kept{}, packer: &packer{}}
	}
	a := sc.open
	if a == nil || a.w != p.w || a.x != p.x || a.n != p.n || a.k != p.k {
		return // of an attempt that is out, or a second copy
	}
	// Decoded even where it is not kept: only what can be read back whole may truncate (rule 5).
	whole := readEntries(p.entries, func(id string, v Version) {
		if sc.build {
			a.entries[id] = a.packer.keep(v)
		}
	})
	if !whole {
		sc.bad++
		return
	}
	a.k++
	a.size += int64(len(r.Value))
	if a.k < a.n {
		return
	}
	sc.open = nil
	// One that says less than the last valid one would lead below what that one may have truncated (rule 3).
	if sc.last == nil || a.x >= sc.last.x {
		sc.last = a
	}
}

// valid returns the facts of the last valid snapshot; where there is none, the empty fold at offset 0.
func (sc *scan) valid() (s snapshot, ok bool) {
	if sc.last == nil {
		return snapshot{}, false
	}
	return sc.last.snapshot, true
}

// facts returns a scan that goes on from where sc is, without the entries.
func (sc *scan) facts() *scan {
	f := &scan{epoch: sc.epoch, next: sc.next, bad: sc.bad}
	if sc.open != nil {
		open := *sc.open
		open.entries, open.packer = nil, nil
		f.open = &open
	}
	if sc.last != nil {
		f.last = &attempt{snapshot: sc.last.snapshot}
	}
	return f
}
