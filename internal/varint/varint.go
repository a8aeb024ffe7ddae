// Package varint reads binary forms made of varints that may be anything: what cannot be read is noted, and reads as nothing
// from then on, so that a reader of a form looks once, at its end.
package varint

import "encoding/binary"

// Most is the largest number that is read, and less it is the smallest: sums of a few do not overflow.
const Most = 1 << 62

// Reader reads a form. Rest is what is left of it; Bad says that something could not be read.
type Reader struct {
	Rest []byte
	Bad  bool
}

// Uint reads an unsigned varint.
func (r *Reader) Uint() int64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 || v > Most {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return int64(v)
}

// Int reads a signed varint.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 || v > Most || v < -Most {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Take reads n bytes, which alias the form; nil where there are fewer.
func (r *Reader) Take(n int64) []byte {
	if n < 0 || n > int64(len(r.Rest)) {
		r.fail()
		return nil
	}
	taken := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return taken
}

func (r *Reader) fail() { r.Bad, r.Rest = true, nil }
