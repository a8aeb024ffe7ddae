package session

import "hash/crc32"

// checksum is what a gzip stream ends with.
type checksum struct{ crc, size uint32 }

func (c *checksum) add(text []byte) {
	c.crc, c.size = crc32.Update(c.crc, crc32.IEEETable, text), c.size+uint32(len(text))
}

// combined is the checksum (CRC-32) of a text of which one part has the checksum a, and the other, of so many bytes, b: that of the
// first is moved on by as many zeros, as a product of matrices over GF(2).
func combined(a, b uint32, bytes int) uint32 {
	var op matrix // one zero bit
	op[0] = crc32.IEEE
	for i := 1; i < 32; i++ {
		op[i] = 1 << (i - 1)
	}
	for range 3 {
		op = op.square() // eight: one byte
	}
	for ; bytes > 0; bytes >>= 1 {
		if bytes&1 == 1 {
			a = op.times(a)
		}
		op = op.square()
	}
	return a ^ b
}

// matrix is 32 columns of 32 bits.
type matrix [32]uint32

func (m *matrix) times(v uint32) (out uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		out ^= m[i] & -(v & 1)
	}
	return out
}

func (m *matrix) square() (out matrix) {
	for i := range out {
		out[i] = m.times(m[i])
	}
	return out
}
