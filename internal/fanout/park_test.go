package fanout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// follow is a client that parks whenever it can, and that nothing but its hub wakes.
type follow struct {
	subject string // "" for everything
	born    int    // the number of the first event that it must be given
	reader  *Reader
	wake    chan struct{}

	// owned by run, read once everything stands still
	seen map[string]int
	last map[int32]int64 // the offset after the last one taken, by partition; as gaps moved it
	gaps map[broker.GapReason]int
	err  error
}

// run drives the client until ctx ends.
func (f *follow) run(ctx context.Context, rnd *rand.Rand) {
	defer f.reader.Close()
	for ctx.Err() == nil {
		entries, status := f.reader.Take(nil, 1+rnd.IntN(2000))
		f.take(entries)
		switch status {
		case Behind:
			var err error
			if entries, _, err = f.reader.Fill(ctx, nil, 1+rnd.IntN(2000)); err != nil && ctx.Err() == nil {
				time.Sleep(time.Millisecond) // as a session does
			}
			f.take(entries)
			if rnd.IntN(4) == 0 {
				time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond) // a slow socket: much may happen meanwhile
			}
			continue
		case Ended:
			return
		case More:
			continue
		}
		if rnd.IntN(3) == 0 {
			time.Sleep(time.Duration(rnd.IntN(50)) * time.Microsecond) // busy with the socket
		}
		if !f.reader.Park() {
			continue
		}
		if vec, _ := f.reader.Position(); len(vec) > 0 {
			for p, next := range vec {
				f.last[int32(p)] = max(f.last[int32(p)], next)
			}
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
		}
		f.reader.Unpark()
	}
}

func (f *follow) take(entries []*Entry) {
	for _, g := range f.reader.Gaps() {
		f.gaps[g.Reason]++
		f.last[g.Partition] = g.To
	}
	for _, e := range entries {
		f.reader.After(e)
		if e.Offset < f.last[e.Partition] && f.err == nil {
			f.err = fmt.Errorf("offset %d of partition %d after %d", e.Offset, e.Partition, f.last[e.Partition]-1)
		}
		f.last[e.Partition] = e.Offset + 1
		f.seen[e.Event.ID()]++
	}
}

// TestParkedReadersAreWokenForAllThatConcernsThem publishes while readers park, and has the log lose its end, be made
// anew and grow. There are no timers: a wake-up that is lost, or a Park that passes something over, is never made up for.
func TestParkedReadersAreWokenForAllThatConcernsThem(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	runs := 200
	if testing.Short() {
		runs = 50
	}
	for i := range runs {
		synctest.Test(t, func(t *testing.T) { parkSchedule(t, seed+uint64(i)) })
		if t.Failed() {
			t.Fatalf("to repeat: go test ./internal/fanout -run Parked -seed %d", seed+uint64(i))
		}
	}
}

func parkSchedule(t *testing.T, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 2))
	log := fanouttest.NewLog(1 + rnd.IntN(3))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	hubs, err := New(Config{Log: log, RingBytes: int64(2000 + rnd.IntN(20000)), MemoryBytes: 1 << 20, CatchUpReads: 1 + rnd.IntN(3)})
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = hubs.Run(ctx) })
	hub, err := hubs.Open(ctx, Stream{Name: "s", Topic: "s"})
	if err != nil {
		t.Fatal(err)
	}

	published := 0
	number := map[string]int{} // of each event
	subjects := map[string]string{}
	publish := func() {
		id, subject := fmt.Sprint(published), fmt.Sprintf("/train/%d", rnd.IntN(4))
		number[id], subjects[id] = published, subject
		published++
		log.Append(rnd.IntN(len(log.Parts)), fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t","subject":%q}`, id, subject))
	}
	var clients []*follow
	join := func() {
		f := &follow{wake: make(chan struct{}, 1), seen: map[string]int{}, last: map[int32]int64{}, gaps: map[broker.GapReason]int{}}
		var q filter.Query
		if rnd.IntN(3) > 0 {
			f.subject = fmt.Sprintf("/train/%d", rnd.IntN(4))
			if rnd.IntN(2) == 0 {
				q.Subjects = []string{f.subject}
			} else {
				q.SQL = "subject LIKE '" + f.subject + "'"
			}
		}
		compiled, err := filter.Compile(q)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Filter: compiled, Epoch: cursor.EpochOf(log.Epoch), Notify: func() {
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}}
		if rnd.IntN(2) == 0 {
			o.Next = make([]int64, len(log.Parts)) // from the oldest
		} else {
			f.born = published
		}
		f.reader = hub.Reader(o)
		own := rand.New(rand.NewPCG(seed, uint64(len(clients)+3)))
		running.Go(func() { f.run(ctx, own) })
		clients = append(clients, f)
	}

	for range 60 {
		switch x := rnd.IntN(100); {
		case x < 55:
			for range 1 + rnd.IntN(40) {
				publish()
				if rnd.IntN(4) == 0 {
					time.Sleep(time.Duration(rnd.IntN(20)) * time.Microsecond)
				}
			}
		case x < 70 && len(clients) < 8:
			synctest.Wait() // so that it is known where "latest" is
			join()
		case x < 80:
			time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
		case x < 84: // what is lost can be told from what follows only if it is noticed before
			synctest.Wait()
			p := rnd.IntN(len(log.Parts))
			log.Lose(p, log.Parts[p].Next-rnd.Int64N(log.Parts[p].Next+1)/4)
			synctest.Wait()
		case x < 86:
			synctest.Wait()
			log.Recreate(len(log.Parts))
			synctest.Wait()
		case x < 88 && len(log.Parts) < 5:
			log.Grow(len(log.Parts) + 1)
		}
	}
	time.Sleep(time.Second) // those who wait before they ask the log again
	synctest.Wait()

	for i, f := range clients {
		if f.err != nil {
			t.Errorf("client %d: %v", i, f.err)
		}
		for _, q := range log.Parts {
			for _, r := range q.Records {
				e := newEntry(&r, nil, nil)
				id := e.Event.ID()
				if number[id] >= f.born && (f.subject == "" || f.subject == subjects[id]) && f.seen[id] != 1 {
					t.Errorf("client %d (subject %q) was given event %s, offset %d of partition %d, %d times; gaps %v", i, f.subject, id, r.Offset, r.Partition, f.seen[id], f.gaps)
				}
			}
		}
	}
}
