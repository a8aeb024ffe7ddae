package webhook

import "hash"

// mac is an HMAC (RFC 2104) that can be given another key. One of crypto/hmac keeps the key it was made with, and a
// process signs for more subscriptions than it could keep those of.
type mac struct {
	inner, outer hash.Hash
	block        []byte
	sum          []byte
}

func newMAC(h func() hash.Hash) *mac {
	m := &mac{inner: h(), outer: h()}
	m.block = make([]byte, m.inner.BlockSize())
	m.sum = make([]byte, 0, m.inner.Size())
	return m
}

// begin gives it a key; what is then written to inner is authenticated.
func (m *mac) begin(key []byte) {
	m.inner.Reset()
	m.outer.Reset()
	if len(key) > len(m.block) {
		m.outer.Write(key)
		key = m.outer.Sum(m.sum[:0])
		m.outer.Reset()
	}
	clear(m.block[copy(m.block, key):])
	m.mask(0x36)
	m.inner.Write(m.block)
	m.mask(0x36 ^ 0x5c)
	m.outer.Write(m.block)
}

func (m *mac) mask(c byte) {
	for i := range m.block {
		m.block[i] ^= c
	}
}

// end returns the MAC, which holds until the next begin, and forgets the key.
func (m *mac) end() []byte {
	m.outer.Write(m.inner.Sum(m.sum[:0]))
	sum := m.outer.Sum(m.sum[:0])
	clear(m.block)
	m.inner.Reset()
	m.outer.Reset()
	return sum
}
