package dedupe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/broker"
)

// desk is a Deduper on a log in memory, with time that passes when it is told to.
type desk struct {
	t     *testing.T
	log   *faultyLog
	clock *timer
	redis *miniredis.Miniredis // nil: the store is in the process
	cfg   Config
	*Deduper
}

// faultyLog fails the next appends as it is told.
type faultyLog struct {
	*memoryLog
	next []string // for each message: acked, refused, landed, lost
	on   func()   // before an append
}

func (l *faultyLog) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	if l.on != nil {
		l.on()
	}
	acks := make([]broker.Ack, len(msgs))
	for i := range msgs {
		how := "acked"
		if len(l.next) > 0 {
			how, l.next = l.next[0], l.next[1:]
		}
		acks[i] = broker.Ack{Partition: -1, Offset: -1, Err: broker.ErrUnavailable}
		switch how {
		case "acked":
			acks[i] = l.memoryLog.Append(ctx, topic, msgs[i:i+1])[0]
		case "landed":
			l.memoryLog.Append(ctx, topic, msgs[i:i+1])
		case "refused":
			acks[i].Err = broker.ErrTooLarge
		}
	}
	return acks
}

var stream = Stream{Name: "s", Topic: "prefix.s"}

// onEveryStore runs a test with either store.
func onEveryStore(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	for _, name := range []string{"memory", "redis"} {
		t.Run(name, func(t *testing.T) {
			d := &desk{t: t, clock: &timer{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, cfg: Config{RedisTimeout: time.Minute}}
			d.log = &faultyLog{memoryLog: newMemoryLog(d.clock.now)}
			d.log.create(stream.Topic, 2)
			if name == "redis" {
				d.redis = miniredis.RunT(t)
			}
			d.start()
			test(t, d)
		})
	}
}

// start starts a process.
func (d *desk) start() {
	d.t.Helper()
	deps := Deps{Log: d.log, Logger: slog.New(slog.DiscardHandler)}
	if d.redis != nil {
		deps.Redis = realRedis(d.t, "redis://"+d.redis.Addr())
	}
	var err error
	if d.Deduper, err = newDeduper(d.cfg, deps, d.clock.now); err != nil {
		d.t.Fatal(err)
	}
	old := d.Deduper
	d.t.Cleanup(func() { _ = old.Close() })
}

func (d *desk) pass(t time.Duration) {
	d.clock.pass(t)
	if d.redis != nil {
		d.redis.FastForward(t)
	}
}

// publish publishes events of these ids, and says what became of each.
func (d *desk) publish(ids ...string) (said []string) {
	d.t.Helper()
	var events []Event
	for _, id := range ids {
		events = append(events, happening(d.t, id, "a"))
	}
	return d.say(d.Append(d.t.Context(), stream, events))
}

func (d *desk) say(out []Outcome) (said []string) {
	for _, o := range out {
		what := "persisted"
		switch {
		case o.Ack.Err != nil && isRetry(o.Ack.Err):
			said = append(said, "retry")
			continue
		case errors.Is(o.Ack.Err, broker.ErrRefused):
			said = append(said, "refused")
			continue
		case o.Ack.Err != nil:
			said = append(said, "in doubt")
			continue
		case o.Duplicate:
			what = "duplicate"
		case o.Degraded:
			what = "degraded"
		}
		said = append(said, fmt.Sprintf("%s %d", what, o.Ack.Offset))
	}
	return said
}

func (d *desk) expect(ids []string, want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.publish(ids...)); diff != "" {
		d.t.Fatalf("%v (-want +got):\n%s", ids, diff)
	}
}

func one(id string) []string { return []string{id} }

func TestTheSameEventWithinItsWindowIsADuplicate(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.expect([]string{"1", "2"}, "persisted 0", "persisted 1")
		d.expect([]string{"2", "3", "1"}, "duplicate 1", "persisted 2", "duplicate 0")
		d.pass(day)
		d.expect(one("1"), "duplicate 0")
		d.pass(2 * time.Minute) // the time to live is the window and the lease
		d.expect(one("1"), "persisted 3")
		if got := testutil.ToFloat64(d.metrics.events[persisted]); got != 4 {
			t.Errorf("%v persisted are counted, want 4", got)
		}
	})
}

func TestTheSecondInABatchIsDecidedByTheFirst(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.expect([]string{"1", "2", "1", "1", "2"}, "persisted 0", "persisted 1", "duplicate 0", "duplicate 0", "duplicate 1")
		d.log.next = []string{"landed", "acked", "refused"}
		d.expect([]string{"3", "3", "4", "5", "5", "1"}, "in doubt", "retry", "persisted 3", "refused", "retry", "duplicate 0")
		d.expect([]string{"3", "3", "5"}, "retry", "retry", "persisted 4")
	})
}

func TestAnEventThatIsInDoubtIsLookedForInTheLog(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.expect([]string{"before", "between"}, "persisted 0", "persisted 1")
		d.log.next = []string{"landed", "lost", "landed"}
		d.expect([]string{"there", "not there", "there too"}, "in doubt", "in doubt", "in doubt")
		d.expect([]string{"there", "not there", "new"}, "retry", "retry", "persisted 4")
		d.pass(59 * time.Second)
		d.expect(one("there"), "retry")
		d.pass(2 * time.Second)
		d.expect([]string{"there", "x", "not there", "y", "there too"}, "duplicate 2", "persisted 5", "persisted 6", "persisted 7", "duplicate 3")
		d.expect([]string{"there", "not there"}, "duplicate 2", "duplicate 6")
		for result, want := range map[string]float64{"found": 2, "absent": 1, "unsettled": 0} {
			if got := testutil.ToFloat64(d.metrics.settled.WithLabelValues(result)); got != want {
				t.Errorf("%v are counted as %s, want %v", got, result, want)
			}
		}
	})
}

func TestARefusedEventMayBeSentAgainAtOnce(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.log.next = []string{"refused"}
		d.expect(one("1"), "refused")
		d.expect(one("1"), "persisted 0")
	})
}

func TestWhatIsInDoubtIsFoundFromTheLogsStartWhereItsPlaceIsGone(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.publish("1", "2", "3")
		d.log.next = []string{"landed", "lost"}
		d.expect([]string{"there", "not there"}, "in doubt", "in doubt")
		d.publish("4", "5")
		d.pass(time.Hour)
		p := int(partitionOf(happening(t, "any", "a").Message, 2))
		// Retention.
		d.log.retain(stream.Topic, p, 5)
		d.expect([]string{"not there"}, "persisted 6")
		d.expect([]string{"there"}, "persisted 7") // it is there no more
		// A lost end.
		d.log.next = []string{"lost"}
		d.expect(one("late"), "in doubt")
		d.log.cut(stream.Topic, p, 6)
		d.log.memoryLog.Append(t.Context(), stream.Topic, []broker.Message{happening(t, "late", "a").Message})
		d.pass(time.Hour)
		d.expect(one("late"), "duplicate 6")
	})
}

func TestNothingIsTakenForAbsentBehindAnOpenTransaction(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		p := int(partitionOf(happening(t, "any", "a").Message, 2))
		d.publish("1")
		d.log.hold(stream.Topic, p, 1)
		d.log.next = []string{"landed"}
		d.expect(one("there"), "in doubt")
		d.pass(time.Hour)
		d.expect(one("there"), "retry")
		d.log.hold(stream.Topic, p, -1)
		d.expect(one("there"), "duplicate 1")
	})
}

func TestALongLogIsReadInPieces(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.cfg.SettleBytes = 1000
		d.start()
		d.log.next = []string{"lost", "lost"}
		d.expect([]string{"1", "2"}, "in doubt", "in doubt")
		for i := range 40 {
			d.publish(fmt.Sprint("other ", i))
		}
		d.log.memoryLog.Append(t.Context(), stream.Topic, []broker.Message{happening(t, "2", "a").Message})
		d.pass(time.Hour)
		retries := 0
		for {
			said := d.publish("1", "2")
			if said[0] == "persisted 41" && said[1] == "duplicate 40" {
				break
			}
			if said[0] != "retry" || said[1] != "retry" {
				t.Fatal(said)
			}
			if retries++; retries > 20 {
				t.Fatal("reading does not get on")
			}
		}
		if retries < 5 {
			t.Errorf("after %d retries: the bound on reading does not hold", retries)
		}
	})
}

func TestAReplicaThatIsSlowDoesNotAppend(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		late := &lateLog{faultyLog: d.log}
		d.Deduper.log = late
		late.afterPlace = func() {}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if said := d.say(d.Append(ctx, stream, []Event{happening(t, "1", "a")})); said[0] != "retry" {
			t.Errorf("of a caller who has gone: %v", said)
		}
		d.expect(one("1"), "persisted 0") // it left nothing behind

		// The time goes by while another event is looked for.
		d.log.next = []string{"lost"}
		d.expect(one("in doubt"), "in doubt")
		d.pass(time.Hour)
		late.onEnd = func() { d.pass(15 * time.Second) }
		d.expect([]string{"2", "in doubt"}, "retry", "persisted 1")
		late.onEnd = nil
		d.expect(one("2"), "retry") // it left its reservation
		d.pass(time.Minute)
		d.expect(one("2"), "persisted 2")
	})
}

// lateLog lets something happen while the log is asked.
type lateLog struct {
	*faultyLog
	afterPlace, onEnd func()
}

func (l *lateLog) Place(ctx context.Context, topic string, msgs []broker.Message) (broker.Epoch, []int64, error) {
	defer l.afterPlace()
	return l.faultyLog.Place(ctx, topic, msgs)
}

func (l *lateLog) End(ctx context.Context, topic string, p int32) (int64, error) {
	if l.onEnd != nil {
		l.onEnd()
	}
	return l.faultyLog.End(ctx, topic, p)
}

func TestARemadeTopicHoldsNoneOfItsOldEvents(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.expect([]string{"1", "2"}, "persisted 0", "persisted 1")
		d.log.next = []string{"lost", "lost"}
		d.expect([]string{"doubt", "landing"}, "in doubt", "in doubt")
		d.log.create(stream.Topic, 2)
		d.log.memoryLog.Append(t.Context(), stream.Topic, []broker.Message{happening(t, "landing", "a").Message})
		d.expect([]string{"2", "1", "doubt"}, "persisted 1", "persisted 2", "retry")
		d.expect([]string{"2", "1"}, "duplicate 1", "duplicate 2")
		d.pass(time.Hour)
		d.expect([]string{"doubt", "landing"}, "persisted 3", "duplicate 0")
	})
}

func TestADuplicateMayBeInAnotherStream(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.log.create("adopted", 1)
		other := Stream{Name: "other", Topic: "adopted"}
		d.publish("0", "1")
		e := happening(t, "1", "a")
		out := d.Append(t.Context(), other, []Event{e, happening(t, "2", "a")})
		p := partitionOf(e.Message, 2)
		want := []Outcome{{Stream: "s", Duplicate: true, Ack: broker.Ack{Partition: p, Offset: 1}}, {Stream: "other"}}
		if diff := cmp.Diff(want, out, cmpopts.EquateErrors()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// What was tried in another stream and is not there goes where it belongs now.
		d.log.next = []string{"lost", "landed"}
		d.expect([]string{"3", "4"}, "in doubt", "in doubt")
		d.pass(time.Hour)
		out = d.Append(t.Context(), other, []Event{happening(t, "3", "a"), happening(t, "4", "a")})
		want = []Outcome{{Stream: "other", Ack: broker.Ack{Offset: 1}}, {Stream: "s", Duplicate: true, Ack: broker.Ack{Partition: p, Offset: 2}}}
		if diff := cmp.Diff(want, out, cmpopts.EquateErrors()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// A stream that is gone holds nothing.
		d.log.delete(stream.Topic)
		if said := d.say(d.Append(t.Context(), other, []Event{happening(t, "0", "a")})); said[0] != "persisted 2" {
			t.Error(said)
		}
	})
}

func TestEventsWithoutAWindowAreAppendedAsTheyCome(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		plain := happening(t, "1", "a")
		plain.Window = 0
		for range 2 {
			if said := d.say(d.Append(t.Context(), stream, []Event{plain, plain})); said[0][:9] != "persisted" || said[1][:9] != "persisted" {
				t.Error(said)
			}
		}
		said := d.say(d.Append(t.Context(), stream, []Event{plain, happening(t, "2", "a"), plain, happening(t, "2", "a")}))
		if diff := cmp.Diff([]string{"persisted 4", "persisted 5", "persisted 6", "duplicate 5"}, said); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWithoutATopicNothingIsWritten(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		out := d.Append(t.Context(), Stream{"x", "prefix.x"}, []Event{happening(t, "1", "a")})
		if !errors.Is(out[0].Ack.Err, broker.ErrNoTopic) || !errors.Is(out[0].Ack.Err, broker.ErrRefused) {
			t.Errorf("got %v", out[0].Ack.Err)
		}
	})
}

// laggingLog is a log of which the brokers that are asked know an old life of the topic for a while.
type laggingLog struct {
	*faultyLog
	old      broker.Epoch
	places   bool // tells the old life of places too
	describe int  // how many times Describe tells it
}

func (l *laggingLog) Place(ctx context.Context, topic string, msgs []broker.Message) (broker.Epoch, []int64, error) {
	e, ends, err := l.faultyLog.Place(ctx, topic, msgs)
	if l.places {
		return l.old, make([]int64, len(ends)), err
	}
	return e, ends, err
}

func (l *laggingLog) Describe(ctx context.Context, topic string) (broker.TopicInfo, error) {
	info, err := l.faultyLog.Describe(ctx, topic)
	if l.describe > 0 {
		l.describe--
		info.Epoch = l.old
	}
	return info, err
}

func TestALifeIsNotTakenToBeOverByABrokerThatLags(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		lagging := &laggingLog{faultyLog: d.log}
		d.Deduper.log = lagging
		lagging.old, _, _ = d.log.Place(t.Context(), stream.Topic, nil)
		d.log.create(stream.Topic, 2)
		d.expect(one("1"), "persisted 0") // in the new life
		lagging.places, lagging.describe = true, 2
		if m, ok := d.store.(*memory); ok { // it has read the old life, while that was the present one
			m.rebuild.lives[life{stream.Topic, stream.Name, epochOf(lagging.old)}] = m.rebuild.lives[life{stream.Topic, stream.Name, epoch{2, 1}}]
		}
		d.expect(one("1"), "duplicate 0")
	})
}

func TestOfSeveralCopiesTheFirstIsTold(t *testing.T) {
	onEveryStore(t, func(t *testing.T, d *desk) {
		d.log.next = []string{"landed"}
		d.expect(one("1"), "in doubt")
		d.log.step = 10
		d.log.memoryLog.Append(t.Context(), stream.Topic, []broker.Message{happening(t, "1", "a").Message, happening(t, "1", "a").Message})
		d.pass(time.Hour)
		d.expect(one("1"), "duplicate 0")
	})
}
