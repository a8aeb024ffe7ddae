package hostile

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"io"
	"testing"
)

// A bomb that is no valid stream would be refused for that, and show nothing.
func TestBombsAreWhatTheySayAndLittle(t *testing.T) {
	bomb := gzipBomb(3)
	r, err := gzip.NewReader(bytes.NewReader(bomb))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(all, bytes.Repeat([]byte(" "), 3<<20)) {
		t.Errorf("gzip: %d bytes, %v", len(all), err)
	}
	if most := 3 << 20 / 500; len(bomb) > most {
		t.Errorf("gzip: of %d bytes, %d at most are wanted", len(bomb), most)
	}
	message := append(deflateBomb(), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff)
	n, err := io.Copy(io.Discard, flate.NewReader(bytes.NewReader(message)))
	if err != nil || n != 64<<20 {
		t.Errorf("deflate: %d bytes, %v", n, err)
	}
}
