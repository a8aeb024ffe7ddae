package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// coding is a content coding that a body may come in.
type coding int

const (
	plainCoding coding = iota
	gzipCoding
	zstdCoding
)

// acceptedCodings is what Accept-Encoding says to who sends another (RFC 9110, section 12.5.3).
const acceptedCodings = "gzip, zstd"

// codingOf reads a request's content coding.
func codingOf(r *http.Request) (coding, error) {
	switch name := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ","))); name {
	case "", "identity":
		return plainCoding, nil
	case "gzip", "x-gzip":
		return gzipCoding, nil
	case "zstd":
		return zstdCoding, nil
	default:
		return 0, newProblem(kindUnsupportedCoding, "Content-Encoding %q is not supported: send the body as it is, or with one of gzip and zstd", name).with("Accept-Encoding", acceptedCodings)
	}
}

// acceptsGzip reads whether an answer may be compressed by gzip (RFC 9110, section 12.5.3).
func acceptsGzip(h http.Header) bool {
	accepted, named := false, false
	for _, line := range h.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(item, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			gzip := name == "gzip" || name == "x-gzip"
			if !gzip && (name != "*" || named) {
				continue
			}
			named = named || gzip
			_, q, weighted := strings.Cut(strings.ToLower(strings.ReplaceAll(weight, " ", "")), "q=")
			value, err := strconv.ParseFloat(q, 64)
			accepted = !weighted || err == nil && value > 0
		}
	}
	return accepted
}

// zstdWindow is the largest window of a zstd body: what RFC 9659 has senders keep to.
const zstdWindow = 8 << 20

// zstdDecoders decode zstd bodies. There are as many as processors, since each may hold a window; they are given bodies
// that have been read whole, so that no slow client holds one.
type zstdDecoders chan *zstd.Decoder

func newZstdDecoders() (zstdDecoders, error) {
	decoders := make(zstdDecoders, runtime.GOMAXPROCS(0))
	for range cap(decoders) {
		// With one at a time a decoder has no goroutines, and need not be closed.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			return nil, fmt.Errorf("make a zstd decoder: %w", err)
		}
		decoders <- d
	}
	return decoders, nil
}

// inflate decodes a body to limit bytes at most; beyond that the error is errBounded. It blocks while all decoders are at
// work, and for memory as grow does.
func (z zstdDecoders) inflate(body []byte, limit int64, grow func(bytes int64) error) ([]byte, error) {
	if len(body) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	d := <-z
	defer func() {
		_ = d.Reset(nil) // lets go of the body
		z <- d
	}()
	if err := d.Reset(bytes.NewReader(body)); err != nil {
		return nil, err
	}
	guess := 4 * int64(len(body)) // what JSON is compressed to, about
	var header zstd.Header
	if header.Decode(body) == nil && header.HasFCS {
		guess = int64(min(header.FrameContentSize, uint64(limit)))
	}
	out, err := readUpTo(d, guess+1, limit, grow)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

// gzipTurns are the turns to inflate gzip. They are half as many as processors, so that bodies that inflate a thousandfold
// leave the other half to those who read.
type gzipTurns chan struct{}

func newGzipTurns() gzipTurns { return make(gzipTurns, max(1, runtime.GOMAXPROCS(0)/2)) }

// inflate decodes a body that has been read whole, so that no slow client has a turn, to limit bytes at most; beyond that the
// error is errBounded. It blocks while all turns are taken, until ctx ends. grow must not block: others wait for the turn.
func (t gzipTurns) inflate(ctx context.Context, body []byte, limit int64, grow func(bytes int64) error) ([]byte, error) {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t }()
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // an empty body is no gzip
		}
		return nil, err
	}
	out, err := readUpTo(zr, 4*int64(len(body))+1, limit, grow) // what JSON is compressed to, about
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

// zstdError says why a body cannot be decoded.
func zstdError(err error, tooLarge *problem) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, errBounded):
		return tooLarge
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return newProblem(kindInvalidBody, "the zstd in the body asks for a larger window than is taken: compress with one of 8 MiB at most (RFC 9659)")
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return newProblem(kindInvalidBody, "the zstd in the body needs a dictionary, and none is known here: compress without")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newProblem(kindInvalidBody, "the zstd in the body ended before it was complete")
	}
	return newProblem(kindInvalidBody, "Content-Encoding is zstd, but the body is not: %s", err)
}
