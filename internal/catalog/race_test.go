package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// races runs rounds of a race between n replicas that see the log late, each round in a bubble and of another seed.
func races(t *testing.T, rounds, n int, race func(t *testing.T, R *rand.Rand, log *tabletest.Log, r []*process)) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for k := range rounds {
		synctest.Test(t, func(t *testing.T) {
			R := rand.New(rand.NewPCG(seed, uint64(k)))
			log := tabletest.New()
			var replicas []*process
			for range n {
				p := start(t, log.View(R.Uint64(), tabletest.Faults{Delay: 50 * time.Millisecond}))
				defer p.stop()
				replicas = append(replicas, p)
			}
			race(t, R, log, replicas)
		})
		if t.Failed() {
			t.Fatalf("round %d", k)
		}
	}
}

// coherent checks what must hold when all has come to its end: streams have their topics, one each, topics that were
// made for streams have one, and event types have their streams.
func coherent(t *testing.T, log *tabletest.Log, r []*process) {
	t.Helper()
	time.Sleep(3 * time.Hour) // crashes and mutual hindrance are mended by now
	used := map[string]string{}
	for _, s := range r[0].Streams() {
		if other, ok := used[s.Topic]; ok {
			t.Errorf("streams %s and %s share topic %s", other, s.Name, s.Topic)
		}
		used[s.Topic] = s.Name
		if _, err := log.Describe(t.Context(), s.Topic); err != nil {
			t.Errorf("stream %s is there, its topic %s is not: %v", s.Name, s.Topic, err)
		}
	}
	for _, o := range r[0].streams.all() {
		if o.v.Phase == phaseChecking || o.v.Phase == phaseDeleting {
			t.Errorf("stream %s is still %s", o.key, o.v.Phase)
		}
	}
	for _, typ := range r[0].EventTypes() {
		if _, ok := r[0].Stream(typ.Stream); !ok {
			t.Errorf("type %s is there, its stream %s is not", typ.Type, typ.Stream)
		}
	}
}

func TestAForcedAndAnUnforcedDeletionAgree(t *testing.T) {
	races(t, 150, 2, func(t *testing.T, R *rand.Rand, log *tabletest.Log, r []*process) {
		must(r[0].CreateStream(t.Context(), Stream{Name: "s"}))(t)
		for i := range 3 {
			must(r[0].CreateEventType(t.Context(), EventType{Type: fmt.Sprint("x", i), Stream: "s"}, nil))(t)
		}
		time.Sleep(time.Second)
		var racing sync.WaitGroup
		var forced error
		racing.Go(func() { forced = r[0].DeleteStream(t.Context(), "s", "", true) })
		time.Sleep(time.Duration(R.IntN(300)) * time.Millisecond)
		unforced := r[1].DeleteStream(t.Context(), "s", "", false)
		racing.Wait()
		if forced != nil {
			t.Errorf("forced: %v", forced)
		}
		if unforced != nil && !errors.Is(unforced, ErrInUse) && !errors.Is(unforced, ErrNotFound) {
			t.Errorf("not forced: %v", unforced)
		}
		coherent(t, log, r)
		if s, ok := r[0].Stream("s"); ok {
			t.Errorf("answered as deleted, and yet there is %+v", s)
		}
	})
}

func TestNobodyFinishesADeletionThatIsTakenBack(t *testing.T) {
	kept, gone := 0, 0
	races(t, 150, 3, func(t *testing.T, R *rand.Rand, log *tabletest.Log, r []*process) {
		ctx := context.WithoutCancel(t.Context())
		must(r[0].CreateStream(ctx, Stream{Name: "s"}))(t)
		time.Sleep(time.Second)
		var racing sync.WaitGroup
		some := func() time.Duration { return time.Duration(R.IntN(150)) * time.Millisecond }
		at, created := [3]time.Duration{some(), some(), some()}, error(nil)
		racing.Go(func() { // takes it back where it sees the type
			time.Sleep(at[0])
			_ = r[0].DeleteStream(ctx, "s", "", false)
		})
		racing.Go(func() {
			time.Sleep(at[1])
			_, created = r[1].CreateEventType(ctx, EventType{Type: "t", Stream: "s"}, nil)
		})
		time.Sleep(at[2])
		_, _ = r[2].CreateStream(ctx, Stream{Name: "s"}) // would finish it
		racing.Wait()
		coherent(t, log, r)
		if created == nil {
			kept++
			if _, ok := r[0].Stream("s"); !ok {
				t.Error("the type was registered, and its stream is gone")
			}
		} else {
			gone++
		}
	})
	if kept == 0 || gone == 0 {
		t.Errorf("one-sided: the type came first %d times, the deletion %d times", kept, gone)
	}
}

func TestOfRacingAdoptionsExactlyOneWins(t *testing.T) {
	races(t, 60, 2, func(t *testing.T, R *rand.Rand, log *tabletest.Log, r []*process) {
		topic := "legacy"
		first := Stream{Name: "x", Topic: topic}
		if R.IntN(2) == 0 { // one makes the topic that the other adopts
			first, topic = Stream{Name: "x"}, "eventissuer.x"
		} else if err := log.Create(t.Context(), topic, broker.TopicConfig{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		var racing sync.WaitGroup
		var errs [2]error
		racing.Go(func() { _, errs[0] = r[0].CreateStream(context.WithoutCancel(t.Context()), first) })
		time.Sleep(time.Duration(R.IntN(150)) * time.Millisecond)
		_, errs[1] = r[1].CreateStream(t.Context(), Stream{Name: "y", Topic: topic})
		racing.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			pointers(t, err, "/topic")
		}
		if won != 1 {
			t.Errorf("%d of two creations won: %v", won, errs)
		}
		coherent(t, log, r)
	})
}

func TestWhateverRacesEveryStreamHasATopicOfItsOwn(t *testing.T) {
	races(t, 60, 3, func(t *testing.T, R *rand.Rand, log *tabletest.Log, r []*process) {
		if err := log.Create(t.Context(), "legacy", broker.TopicConfig{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		ctx := context.WithoutCancel(t.Context())
		var racing sync.WaitGroup
		for range 40 {
			c := r[R.IntN(len(r))]
			name, typ := string("ab"[R.IntN(2)]), string("tu"[R.IntN(2)])
			topic := [...]string{"", "", "legacy", "eventissuer.a"}[R.IntN(4)]
			force := R.IntN(2) == 0
			var op func() error
			switch R.IntN(4) {
			case 0:
				op = func() error { return second(c.CreateStream(ctx, Stream{Name: name, Topic: topic})) }
			case 1:
				op = func() error { return c.DeleteStream(ctx, name, "", force) }
			case 2:
				op = func() error { return second(c.CreateEventType(ctx, EventType{Type: typ, Stream: name}, nil)) }
			case 3:
				op = func() error { return c.DeleteEventType(ctx, typ, "") }
			}
			racing.Go(func() {
				var invalid *InvalidError
				if err := op(); err != nil && !errors.As(err, &invalid) && !errors.Is(err, ErrExists) && !errors.Is(err, ErrNotFound) &&
					!errors.Is(err, ErrInUse) && !errors.Is(err, ErrPreconditionFailed) && !errors.Is(err, broker.ErrNoTopic) {
					t.Error(err)
				}
			})
			time.Sleep(time.Duration(R.IntN(200)) * time.Millisecond)
		}
		racing.Wait()
		coherent(t, log, r)
	})
}

func TestACheckThatIsLeftOverIsUndone(t *testing.T) {
	for name, then := range map[string]func(*testing.T, *process){
		"in time": func(*testing.T, *process) { time.Sleep(time.Hour) },
		"by a creation": func(t *testing.T, p *process) {
			wants(t, second(p.CreateStream(t.Context(), Stream{Name: "s"})), ErrExists)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
				s := must(r[0].CreateStream(t.Context(), Stream{Name: "s"}))(t)
				must(r[0].enter(t.Context(), r[0].streams.get("s"), phaseChecking))(t)
				synctest.Wait()
				then(t, r[1])
				if got, ok := r[1].Stream("s"); !ok || got.Topic != s.Topic {
					t.Errorf("got %+v %v", got, ok)
				}
				if err := r[1].DeleteStream(t.Context(), "s", "", false); err != nil {
					t.Error(err)
				}
				coherent(t, log, r)
			})
		})
	}
}

func TestAnAdoptionWhoseClaimIsLeftOverDoesNotKeepTheTopic(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx := t.Context()
		if err := log.Create(ctx, "legacy", broker.TopicConfig{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		left := Stream{Name: "x", Topic: "legacy", Adopted: true, Partitions: 1}
		must(r[0].streams.put(ctx, "x", nil, streamBody{Stream: left, Phase: phaseCreating}))(t)
		synctest.Wait()
		must(r[1].CreateStream(ctx, Stream{Name: "y", Topic: "legacy"}))(t)
		pointers(t, second(r[0].CreateStream(ctx, Stream{Name: "x", Topic: "legacy"})), "/topic")
		coherent(t, log, r)
	})
}
