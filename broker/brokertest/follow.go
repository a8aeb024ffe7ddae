package brokertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// follower is a tail under way and all that it was told.
type follower struct {
	t      testing.TB
	cancel context.CancelFunc
	done   chan error    // the tail's result
	gate   chan struct{} // while it is not nil and open, Records blocks

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed and replaced at each change
	records []broker.Record
	next    map[int32]int64
	gaps    []broker.Gap
	parts   int32
	health  []error
	wrong   []string
}

// follow starts a tail. It is ended, if it has not ended itself, with the case.
func follow(t testing.TB, log broker.Log, topic string, epoch broker.Epoch, from []int64) *follower {
	return followGated(t, log, topic, epoch, from, nil)
}

func followGated(t testing.TB, log broker.Log, topic string, epoch broker.Epoch, from []int64, gate chan struct{}) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, cancel: cancel, done: make(chan error, 1), gate: gate, changed: make(chan struct{}), next: make(map[int32]int64)}
	for p, offset := range from {
		f.next[int32(p)] = offset
	}
	go func() { f.done <- log.Tail(ctx, topic, epoch, from, f) }()
	t.Cleanup(func() { _ = f.stop() })
	return f
}

// stop ends the tail and returns its result.
func (f *follower) stop() error {
	f.cancel()
	return f.result()
}

func (f *follower) result() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		f.done <- err
		return err
	case <-time.After(patience):
		f.t.Error("the tail did not end")
		return errors.New("the tail did not end")
	}
}

func (f *follower) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Records implements broker.TailHandler and checks what always holds.
func (f *follower) Records(b broker.Batch) {
	f.change(func() {
		at := f.next[b.Partition]
		for _, r := range b.Records {
			if r.Partition != b.Partition || r.Offset < at {
				f.wrong = append(f.wrong, "a record out of order or twice")
			}
			at = r.Offset + 1
		}
		switch {
		case b.Next < at:
			f.wrong = append(f.wrong, "next is below the last record")
		case len(b.Records) == 0 && b.Next == f.next[b.Partition]:
			f.wrong = append(f.wrong, "a batch of nothing")
		}
		f.records = append(f.records, b.Records...)
		f.next[b.Partition] = b.Next
	})
	if f.gate != nil {
		<-f.gate
	}
}

// Gap implements broker.TailHandler.
func (f *follower) Gap(g broker.Gap) {
	f.change(func() {
		if g.From != f.next[g.Partition] {
			f.wrong = append(f.wrong, "a gap that begins elsewhere than where the reader was")
		}
		f.gaps = append(f.gaps, g)
		f.next[g.Partition] = g.To
	})
}

// Partitions implements broker.TailHandler.
func (f *follower) Partitions(n int32) { f.change(func() { f.parts = n }) }

// Health implements broker.TailHandler.
func (f *follower) Health(problem error) { f.change(func() { f.health = append(f.health, problem) }) }

// await waits until what the follower was told is as wanted. wanted runs with the follower's lock held.
func (f *follower) await(what string, wanted func() bool) {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		ok, changed, wrong := wanted(), f.changed, f.wrong
		f.mu.Unlock()
		if len(wrong) > 0 {
			f.t.Fatalf("the tail delivered %v", wrong)
		}
		if ok {
			return
		}
		select {
		case <-changed:
		case err := <-f.done:
			f.done <- err
			f.mu.Lock()
			ok = wanted()
			f.mu.Unlock()
			if !ok {
				f.t.Fatalf("waiting for %s: the tail ended: %v", what, err)
			}
		case <-deadline:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("waited in vain for %s: %d records, next %v, gaps %v, health %v", what, len(f.records), f.next, f.gaps, f.health)
		}
	}
}

// awaitRecords waits for n records in all and returns them.
func (f *follower) awaitRecords(n int) []broker.Record {
	f.t.Helper()
	f.await("records", func() bool { return len(f.records) >= n })
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.records) != n {
		f.t.Fatalf("got %d records, want %d", len(f.records), n)
	}
	return f.records[:n:n]
}

// position returns where the follower is, as a cursor.
func (f *follower) position(partitions int) []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := make([]int64, partitions)
	for p := range next {
		next[p] = f.next[int32(p)]
	}
	return next
}

func (f *follower) toldGaps() []broker.Gap {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gaps[:len(f.gaps):len(f.gaps)]
}
