package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// zstandard compresses with zstd, in one frame that says its size.
func zstandard(t testing.TB, text string, o ...zstd.EOption) string {
	t.Helper()
	w, err := zstd.NewWriter(nil, append(o, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return string(w.EncodeAll([]byte(text), nil))
}

// streamed compresses with zstd as who does not know the size beforehand.
func streamed(t testing.TB, text string, o ...zstd.EOption) string {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, append(o, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text[:1]); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text[1:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// bareEdge is an edge without anything behind it, to read bodies.
func bareEdge(t testing.TB) *Gateway {
	t.Helper()
	g := &Gateway{bodies: newBodyMemory(256 << 20)}
	var err error
	g.gzip = newGzipTurns()
	if g.zstd, err = newZstdDecoders(); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestBombsTakeNoMoreMemoryThanTheLimit(t *testing.T) {
	const limit = 1 << 20
	const windows = 32 << 20 // of the decoders, once
	bomb := strings.Repeat("\x00", 64<<20)
	tooLarge := newProblem(kindEventTooLarge, "too large")
	g := bareEdge(t)
	for name, c := range map[string]struct {
		coding coding
		body   string
	}{
		"gzip":                            {gzipCoding, zipped(t, bomb)},
		"zstd that says its size":         {zstdCoding, zstandard(t, bomb)},
		"zstd that does not":              {zstdCoding, streamed(t, bomb)},
		"zstd that lies, in a next frame": {zstdCoding, zstandard(t, "x") + streamed(t, bomb)},
		"zstd of many frames":             {zstdCoding, strings.Repeat(zstandard(t, strings.Repeat("x", 1<<10)), 40<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body[:min(len(c.body), limit)]))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := g.readWhole(httptest.NewRecorder(), r, g.bodies.take(-1), c.coding, limit, tooLarge)
			runtime.ReadMemStats(&after)
			if p := (*problem)(nil); !errors.As(err, &p) || p.kind.name != kindEventTooLarge.name {
				t.Errorf("got %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 8*limit+windows {
				t.Errorf("%d bytes were allocated for a limit of %d", used, limit)
			}
		})
	}
}

func FuzzZstd(f *testing.F) {
	f.Add([]byte(zstandard(f, "hei")))
	f.Add([]byte(streamed(f, strings.Repeat("hei", 1000))))
	f.Add([]byte(zstandard(f, strings.Repeat("\x00", 100<<10))))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	const limit = 16 << 10
	g := bareEdge(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := g.zstd.inflate(body, limit, unbounded)
		if err != nil {
			if p := zstdError(err, newProblem(kindBodyTooLarge, "too large")); p.kind.status >= 500 || p.detail == "" {
				t.Fatalf("%v is answered %v", err, p)
			}
			return
		}
		if len(out) > limit {
			t.Fatalf("%d bytes came of %q", len(out), body)
		}
		again, err := g.zstd.inflate([]byte(zstandard(t, string(out))), limit, unbounded)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%q is not read again: %v", out, err)
		}
	})
}

// BenchmarkZstdOfTinyFrames is the most work that a body of a given size can make.
func BenchmarkZstdOfTinyFrames(b *testing.B) {
	g := bareEdge(b)
	frame := zstandard(b, "x")
	body := []byte(strings.Repeat(frame, (8<<20)/len(frame)))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := g.zstd.inflate(body, 8<<20, unbounded); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkZstd(b *testing.B) {
	g := bareEdge(b)
	text := strings.Repeat(trainEvent("1", `,"data":{"lat":60.79412,"lon":11.06872,"speed":132}`), 100)
	for name, body := range map[string]string{"sized": zstandard(b, text), "streamed": streamed(b, text)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := g.zstd.inflate([]byte(body), 8<<20, unbounded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// unbounded gives all the memory that is asked for.
func unbounded(int64) error { return nil }

func TestGzipIsForThoseWhoAcceptIt(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "gzip, deflate, br, zstd": true, "GZIP;Q=0.5": true, "x-gzip": true, "*": true,
		"identity": false, "gzip;q=0": false, "gzip; q=0.000": false, "*, gzip;q=0": false, "gzip;q=0, *": false, "*;q=0, gzip": true, "gzip;q=x": false,
	} {
		if got := acceptsGzip(http.Header{"Accept-Encoding": {accept}}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
