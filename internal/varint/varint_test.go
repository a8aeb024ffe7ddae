package varint_test

import (
	"encoding/binary"
	"testing"

	"github.com/eventissuer/eventissuer/internal/varint"
)

// What is read of anything lies within the bounds, and a reader that has failed reads nothing more.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2}, int64(1))
	f.Add(binary.AppendUvarint(nil, varint.Most), int64(0))
	f.Add(binary.AppendVarint(nil, -varint.Most), int64(-1))
	f.Add(binary.AppendUvarint(nil, 1<<63), int64(1<<62))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, int64(3))
	f.Fuzz(func(t *testing.T, form []byte, n int64) {
		r := varint.Reader{Rest: form}
		if v := r.Uint(); v < 0 || v > varint.Most {
			t.Errorf("an unsigned number is read as %d", v)
		}
		if v := r.Int(); v < -varint.Most || v > varint.Most {
			t.Errorf("a number is read as %d", v)
		}
		before := len(r.Rest)
		taken := r.Take(n)
		if !r.Bad && (int64(len(taken)) != n || len(r.Rest) != before-len(taken)) {
			t.Errorf("of %d bytes %d were taken, for %d, and %d are left", before, len(taken), n, len(r.Rest))
		}
		if r.Bad && (len(r.Rest) > 0 || taken != nil || r.Uint() != 0 || r.Int() != 0 || r.Take(1) != nil) {
			t.Error("a reader that has failed reads on")
		}
	})
}

func TestNumbersThatWereWrittenAreRead(t *testing.T) {
	form := binary.AppendVarint(binary.AppendUvarint(nil, 300), -300)
	r := varint.Reader{Rest: append(form, "abc"...)}
	if u, i, b := r.Uint(), r.Int(), r.Take(3); u != 300 || i != -300 || string(b) != "abc" || r.Bad || len(r.Rest) > 0 {
		t.Errorf("read %d, %d, %q; bad %v, left %q", u, i, b, r.Bad, r.Rest)
	}
}
