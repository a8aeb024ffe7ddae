package loadtest

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// unwire gives sequences that crossed a pipe back their form.
func unwire(all []wireSequence) []sequence {
	out := make([]sequence, len(all))
	for i, s := range all {
		out[i] = sequence{end: s.End, doubts: map[uint64]struct{}{}}
		for _, n := range s.Doubts {
			out[i].doubts[n] = struct{}{}
		}
	}
	return out
}

// wire gives sequences the form in which they cross a pipe.
func wire(all []sequence) []wireSequence {
	out := make([]wireSequence, 0, len(all))
	for _, s := range all {
		one := wireSequence{End: s.end}
		for n := range s.doubts {
			one.Doubts = append(one.Doubts, n)
		}
		out = append(out, one)
	}
	return out
}

// wireTally is a tally in the form in which it crosses a pipe: its histograms lose nothing.
type wireTally struct {
	Histograms                            [][]byte // as tally.histograms
	Deliveries, InWindow                  uint64
	Late, Duplicates, Unexpected, Foreign uint64
	Bytes, BytesIn                        uint64
	Controls                              map[string]uint64
	Rejected                              map[int]uint64
}

func (t *tally) wire() (wireTally, error) {
	w := wireTally{
		Deliveries: t.deliveries, InWindow: t.inWindow, Late: t.late, Duplicates: t.duplicates, Unexpected: t.unexpected,
		Foreign: t.foreign, Bytes: t.bytes, BytesIn: t.bytesIn, Controls: t.controls, Rejected: t.rejected,
	}
	for _, h := range t.histograms() {
		p, err := encodeHistogram(h)
		if err != nil {
			return w, err
		}
		w.Histograms = append(w.Histograms, p)
	}
	return w, nil
}

// tally gives a tally back its form.
func (w *wireTally) tally() (*tally, error) {
	t := newTally()
	t.deliveries, t.inWindow, t.late, t.duplicates, t.unexpected = w.Deliveries, w.InWindow, w.Late, w.Duplicates, w.Unexpected
	t.foreign, t.bytes, t.bytesIn = w.Foreign, w.Bytes, w.BytesIn
	for k, n := range w.Controls {
		t.controls[k] = n
	}
	for k, n := range w.Rejected {
		t.rejected[k] = n
	}
	all := t.histograms()
	if len(w.Histograms) != len(all) {
		return nil, fmt.Errorf("a shard told of %d histograms, expected %d: is it of another version?", len(w.Histograms), len(all))
	}
	for i, h := range all {
		if err := mergeEncoded(h, w.Histograms[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (w *wireTally) merge(o *wireTally) error {
	t, err := w.tally()
	if err != nil {
		return err
	}
	other, err := o.tally()
	if err != nil {
		return err
	}
	t.merge(other)
	*w, err = t.wire()
	return err
}

// encodeHistogram gives a histogram the form in which it crosses a pipe, exact to the bucket.
func encodeHistogram(h *hdrhistogram.Histogram) ([]byte, error) {
	if h.TotalCount() == 0 {
		return nil, nil
	}
	p, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, fmt.Errorf("encode a histogram: %w", err)
	}
	return p, nil
}

// mergeEncoded adds an encoded histogram.
func mergeEncoded(to *hdrhistogram.Histogram, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	h, err := hdrhistogram.Decode(p)
	if err != nil {
		return fmt.Errorf("decode a histogram: %w", err)
	}
	to.Merge(h)
	return nil
}
