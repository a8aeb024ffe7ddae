package dedupe

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/broker"
)

// inProcess is a desk without Redis.
func inProcess(t *testing.T, cfg Config) *desk {
	d := &desk{t: t, clock: &timer{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, cfg: cfg}
	d.log = &faultyLog{memoryLog: newMemoryLog(d.clock.now)}
	d.log.step = 1000
	d.log.create(stream.Topic, 2)
	d.start()
	return d
}

func TestARestartedProcessKnowsItsEvents(t *testing.T) {
	d := inProcess(t, Config{})
	d.publish("old")
	d.pass(2 * time.Hour)
	d.log.next = []string{"acked", "landed", "lost"}
	d.expect([]string{"1", "2", "3"}, "persisted 1", "in doubt", "in doubt")
	d.log.memoryLog.Append(t.Context(), stream.Topic, []broker.Message{{Value: []byte("no event")}, {Partition: 1}})
	d.start()
	d.expect([]string{"2", "3", "1", "2"}, "duplicate 2", "persisted 4", "duplicate 1", "duplicate 2")
	d.expect(one("old"), "duplicate 0")
	if n := testutil.CollectAndCount(d.metrics.rebuilds); n != 1 {
		t.Errorf("%d rebuilds are measured", n)
	}

	// A type with a shorter window is not held to a longer one's, nor the other way round.
	d.start()
	short := happening(t, "old", "a")
	short.Window = time.Hour
	if said := d.say(d.Append(t.Context(), stream, []Event{short})); said[0] != "persisted 5" {
		t.Errorf("after its window: %v", said)
	}
	d.start()
	short = happening(t, "1", "a")
	short.Window = time.Minute
	d.Append(t.Context(), stream, []Event{short})
	d.expect(one("3"), "duplicate 4")
	d.expect(one("old"), "duplicate 5") // of several copies in the window, the latest
}

func TestWhatTheProcessWroteUndeduplicatedIsNotReadAgain(t *testing.T) {
	d := inProcess(t, Config{})
	d.pass(2 * time.Second)
	free := happening(t, "free", "a")
	free.Window = 0
	d.Append(t.Context(), stream, []Event{free})
	d.pass(2 * time.Second)
	d.expect(one("free"), "persisted 1") // the first use of the topic with a window waits for no reading of a busy log
	d.start()
	d.expect(one("free"), "duplicate 1")
}

func TestWhatDoesNotFitIsTheOldest(t *testing.T) {
	d := inProcess(t, Config{MemoryBytes: 3 << 20})
	room := d.store.(*memory).capacity()
	var msgs []broker.Message
	total := int(room) + 20_000
	for i := range total {
		msgs = append(msgs, happening(t, fmt.Sprint(i), "a").Message)
	}
	d.log.memoryLog.Append(t.Context(), stream.Topic, msgs)
	d.expect(one(fmt.Sprint(total-1)), fmt.Sprint("duplicate ", total-1))
	d.expect(one(fmt.Sprint(total-int(room)/2)), fmt.Sprint("duplicate ", total-int(room)/2))
	d.expect(one("0"), fmt.Sprint("persisted ", total))
	if got := testutil.ToFloat64(d.metrics.shortened); got != 1 {
		t.Errorf("%v windows are counted as shortened, want 1", got)
	}
}

// slowLog reads when it is told to.
type slowLog struct {
	*faultyLog
	read chan error
}

func (l *slowLog) Read(ctx context.Context, topic string, p int32, offset int64, maxBytes int) (broker.Batch, error) {
	select {
	case err := <-l.read:
		if err != nil {
			return broker.Batch{}, err
		}
	case <-ctx.Done():
		return broker.Batch{}, ctx.Err()
	}
	return l.faultyLog.Read(ctx, topic, p, offset, maxBytes)
}

func TestPublishesWaitUntilATopicIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inProcess(t, Config{})
		d.publish("1")
		slow := &slowLog{faultyLog: d.log, read: make(chan error)}
		d2, err := newDeduper(Config{}, Deps{Log: slow}, d.clock.now)
		if err != nil {
			t.Fatal(err)
		}
		publish := func(wait time.Duration) Outcome {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			return d2.Append(ctx, stream, []Event{happening(t, "1", "a")})[0]
		}
		if o := publish(time.Second); !errors.Is(o.Ack.Err, ErrRebuilding) {
			t.Errorf("out of time: %+v, want %v", o, ErrRebuilding)
		}
		answer := make(chan Outcome)
		go func() { answer <- publish(time.Hour) }()
		synctest.Wait()
		slow.read <- broker.ErrUnavailable
		if o := <-answer; !errors.Is(o.Ack.Err, ErrRebuilding) || !errors.Is(o.Ack.Err, broker.ErrUnavailable) {
			t.Errorf("the log is away: %+v, want %v", o, ErrRebuilding)
		}
		go func() { answer <- publish(time.Hour) }()
		slow.read <- nil
		if o := <-answer; !o.Duplicate {
			t.Errorf("the next one reads again: %+v, want a duplicate", o)
		}
		// Closing does not wait for a log that does not answer.
		if err := d2.Prepare(t.Context(), stream, day); err != nil {
			t.Error(err)
		}
		go func() { answer <- publish(time.Second) }()
		<-answer
		long := make(chan error)
		go func() { long <- d2.Prepare(t.Context(), stream, 2*day) }()
		synctest.Wait()
		if err := d2.Close(); err != nil {
			t.Error(err)
		}
		if err := <-long; err == nil {
			t.Error("the reading was cut short, and Prepare says that it was done")
		}
		if err := d2.Prepare(t.Context(), stream, 3*day); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("after Close: %v, want %v", err, broker.ErrClosed)
		}
		_ = d.Close()
	})
}

func TestReservationsAreBounded(t *testing.T) {
	d := inProcess(t, Config{})
	const n = shards * reservedMost
	publish := func(from, to int) (retries int) {
		var events []Event
		var fates []string
		m := happening(t, "x", "a").Message
		for i := from; i < to; i++ {
			events = append(events, Event{Source: "/test", ID: fmt.Sprint(i), Window: day, Message: m})
			fates = append(fates, "lost")
		}
		d.log.next = fates
		for _, said := range d.say(d.Append(t.Context(), stream, events)) {
			if said == "retry" {
				retries++
			}
		}
		d.log.next = nil
		return retries
	}
	if r := publish(0, n/2); r > 0 {
		t.Errorf("%d of %d were refused", r, n/2)
	}
	if r := publish(n/2, 2*n); r < n/2 || r > n {
		t.Errorf("%d were refused, want some %d", r, n/2)
	}
	held := 0
	for i := range shards {
		held += len(d.store.(*memory).shards[i].reserved)
	}
	if held > n {
		t.Errorf("%d reservations are held, want %d at most", held, n)
	}
	d.pass(2 * time.Minute)
	d.expect(one("new"), "persisted 0")
}
