package webhook

import (
	"bytes"
	"crypto/hmac"
	"testing"
)

func TestAMACOfManyKeysIsTheStandardLibrarys(t *testing.T) {
	for _, name := range []string{HashSHA1, HashSHA256, HashSHA512} {
		m := newMAC(newHash(name))
		for size := range 300 { // keys beyond a block are hashed first
			key := bytes.Repeat([]byte{byte(size)}, size)
			text := bytes.Repeat([]byte("x"), size*7)
			want := hmac.New(newHash(name), key)
			want.Write(text)

			m.begin(key)
			m.inner.Write(text[:size])
			m.inner.Write(text[size:])
			if got := m.end(); !bytes.Equal(got, want.Sum(nil)) {
				t.Fatalf("%s with a key of %d bytes: %x, want %x", name, size, got, want.Sum(nil))
			}
			if bytes.ContainsFunc(m.block, func(r rune) bool { return r != 0 }) {
				t.Fatalf("%s: the key of %d bytes is kept", name, size)
			}
		}
	}
}
