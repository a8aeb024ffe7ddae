package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
)

// run lets the demo publish for that long, on fake time.
func run(t *testing.T, d *Demo, long time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := d.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// untilOslo sleeps until the next such time of day in Oslo.
func untilOslo(t *testing.T, d *Demo, clock string) {
	t.Helper()
	at, err := time.Parse("15:04", clock)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(d.oslo)
	next := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, d.oslo)
	if next.Before(now) {
		next = next.AddDate(0, 0, 1)
	}
	time.Sleep(next.Sub(now))
}

// checkNumbers fails where an id came twice or where the numbers of a train's events have a hole.
func checkNumbers(t *testing.T, log []published) {
	t.Helper()
	ids, last := map[string]bool{}, map[string]int64{}
	for _, e := range log {
		if ids[e.ID] {
			t.Fatalf("%s was published twice", e.ID)
		}
		ids[e.ID] = true
		row := e.stream + e.Subject
		if e.Data.Sequence != last[row]+1 {
			t.Fatalf("%s of %s has number %d after %d", e.Type, e.Subject, e.Data.Sequence, last[row])
		}
		last[row] = e.Data.Sequence
	}
}

func TestWhatIsPublishedAreCloudEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		run(t, newDemo(t, g, "08:00"), 5*time.Minute)
		kinds := map[string]int{}
		for _, e := range g.log {
			var ce cloudevents.Event
			if err := json.Unmarshal(e.raw, &ce); err != nil {
				t.Fatalf("%s: %v", e.raw, err)
			}
			if err := ce.Validate(); err != nil {
				t.Fatalf("%s: %v", e.raw, err)
			}
			if ce.Subject() != "/train/"+e.Data.Train || e.Line == "" || e.Operator == "" || len(e.raw) > 600 {
				t.Fatalf("cannot be filtered or is too large: %s", e.raw)
			}
			kinds[ce.Type()]++
		}
		for _, kind := range []string{PositionType, ArrivedType, DepartedType, DelayedType} {
			if kinds[kind] < 10 {
				t.Errorf("%d events of type %s in five minutes", kinds[kind], kind)
			}
		}
	})
}

func TestAHundredTrainsPublishEveryFiveSecondsSpreadOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		run(t, newDemo(t, g, "08:00"), time.Minute)
		trains, last, perSecond := map[string]bool{}, map[string]time.Time{}, map[int64]int{}
		begun := g.log[0].logged
		for _, e := range g.log {
			if e.stream != PositionStream {
				continue
			}
			trains[e.Data.Train] = true
			if before, ok := last[e.Data.Train]; ok && e.Time.Sub(before) != 5*time.Second {
				t.Fatalf("train %s: %v between two positions", e.Data.Train, e.Time.Sub(before))
			}
			last[e.Data.Train] = e.Time
			if e.logged.After(begun) {
				perSecond[e.logged.Unix()]++
			}
		}
		if len(trains) < 95 || len(trains) > 130 {
			t.Errorf("%d trains", len(trains))
		}
		for second, n := range perSecond {
			if n > 45 {
				t.Errorf("%d positions in second %d: a fifth of all trains is about 21", n, second)
			}
		}
	})
}

func TestATrainGoesForwardAlongItsLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		d := newDemo(t, g, "08:00")
		run(t, d, 8*time.Minute)
		rows := map[string][]published{}
		for _, e := range g.log {
			if e.stream == PositionStream {
				rows[e.Data.Train] = append(rows[e.Data.Train], e)
			}
		}
		moved := 0
		for train, row := range rows {
			for i := 1; i < len(row); i++ {
				a, b := row[i-1].Data, row[i].Data
				if b.NextCall < a.NextCall {
					t.Fatalf("train %s goes back from call %d to %d", train, a.NextCall, b.NextCall)
				}
				step := metres(a, b)
				if step > 5*250/3.6 {
					t.Fatalf("train %s jumps %.0f m in five seconds", train, step)
				}
				if step > 20 {
					moved++
				}
				if a.At != "" && a.At == b.At && step > 1 {
					t.Fatalf("train %s stands at %s and moves", train, a.At)
				}
			}
		}
		if moved < 4000 {
			t.Errorf("the trains moved %d times only", moved)
		}
	})
}

func metres(a, b publishedData) float64 {
	dy := (b.Latitude - a.Latitude) * 111_200
	dx := (b.Longitude - a.Longitude) * 111_200 * math.Cos(a.Latitude*math.Pi/180)
	return math.Hypot(dx, dy)
}

func TestEveryCallIsToldOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		d := newDemo(t, g, "06:00")
		d.interval = time.Minute // positions are no matter here
		run(t, d, 3*time.Hour)
		checkNumbers(t, g.log)
		calls := map[string][]string{}
		for _, e := range g.log {
			if e.Type == ArrivedType || e.Type == DepartedType {
				calls[e.Data.Train] = append(calls[e.Data.Train], fmt.Sprintf("%d%s", e.Data.Call, e.Type[len("no.banenor.train."):][:1]))
			}
		}
		whole := 0
		for _, train := range d.day.Trains {
			first, last := train.Calls[0].Departure, train.Calls[len(train.Calls)-1].Arrival
			if first < 6*time.Hour+5*time.Minute || last > 8*time.Hour+30*time.Minute {
				continue
			}
			whole++
			want := []string{"0d"}
			for i := 1; i < len(train.Calls); i++ {
				want = append(want, fmt.Sprintf("%da", i))
				if i < len(train.Calls)-1 {
					want = append(want, fmt.Sprintf("%dd", i))
				}
			}
			if got := calls[train.Number]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("train %s told %v, want %v", train.Number, got, want)
			}
		}
		if whole < 80 {
			t.Errorf("only %d trains ran their whole way in that time", whole)
		}
	})
}

func TestTrainsRunOnOverMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		d := newDemo(t, g, "")
		untilOslo(t, d, "23:50")
		run(t, d, 25*time.Minute)
		checkNumbers(t, g.log)
		dates, over := map[string]map[string]bool{}, map[string]time.Time{}
		for _, e := range g.log {
			if e.stream != PositionStream {
				continue
			}
			if before, ok := over[e.Data.Train]; ok && e.Time.Sub(before) != 5*time.Second {
				t.Fatalf("train %s is silent for %v around midnight", e.Data.Train, e.Time.Sub(before))
			}
			over[e.Data.Train] = e.Time
			day := e.Time.In(d.oslo).Format(time.DateOnly)
			if dates[day] == nil {
				dates[day] = map[string]bool{}
			}
			dates[day][e.Data.ServiceDate] = true
		}
		// After midnight trains of both service days are under way; before it only those of one.
		if len(dates) != 2 || len(dates["2000-01-01"]) != 1 || len(dates["2000-01-02"]) != 2 {
			t.Errorf("service dates by day: %v", dates)
		}
	})
}

func TestAnotherPublisherGoesOnWhereTheFirstStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		d := newDemo(t, g, "")
		untilOslo(t, d, "08:00")
		run(t, d, 90*time.Second)
		run(t, newDemo(t, g, ""), time.Minute) // at once: nothing twice
		stopped := len(g.log)
		time.Sleep(4 * time.Minute)
		run(t, newDemo(t, g, ""), time.Minute)
		checkNumbers(t, g.log)
		meanwhile := 0
		for _, e := range g.log[stopped:] {
			if e.stream == MovementStream && time.Since(e.Time) > 75*time.Second {
				meanwhile++
			}
		}
		if meanwhile < 50 {
			t.Errorf("%d movements of the four minutes without a publisher are told", meanwhile)
		}
	})
}

func TestTwoRunsOfAShiftedClockShareNoID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		run(t, newDemo(t, g, "08:00"), time.Minute)
		d := newDemo(t, g, "08:00")
		run(t, d, time.Minute)
		checkNumbers(t, g.log)
		for _, e := range g.log {
			if clock := e.Time.In(d.oslo).Format("15:04"); clock < "07:59" || clock > "08:01" {
				t.Fatalf("an event at %s", clock)
			}
		}
	})
}

func TestNothingThatHappensWhileTheGatewayIsAwayIsLost(t *testing.T) {
	for name, trouble := range map[string]func(n int, events []json.RawMessage) (*http.Response, error){
		"refused connection": func(int, []json.RawMessage) (*http.Response, error) { return nil, errAway },
		"503": func(int, []json.RawMessage) (*http.Response, error) {
			return answer(503, `{"title":"the log is away"}`), nil
		},
		"all failed": func(_ int, events []json.RawMessage) (*http.Response, error) {
			return answer(503, results(len(events), "failed")), nil
		},
		"an answer that is none": func(int, []json.RawMessage) (*http.Response, error) { return answer(200, `<html>`), nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGateway{}
				d := newDemo(t, g, "")
				untilOslo(t, d, "08:00")
				begun := time.Now()
				g.breakdown = func(n int, events []json.RawMessage) (*http.Response, error) {
					if since := time.Since(begun); since > time.Minute && since < 4*time.Minute {
						return trouble(n, events)
					}
					return nil, nil
				}
				run(t, d, 6*time.Minute)
				checkNumbers(t, g.log)

				ids := map[string]bool{}
				for _, e := range g.log {
					ids[e.ID] = true
				}
				due := 0
				for _, j := range d.journeysAt(time.Now()) {
					for _, m := range j.movements {
						if at := j.day.midnight.Add(m.at); at.After(begun) && at.Before(time.Now().Add(-time.Second)) {
							due++
							if id := d.movement(j, m).event.ID; !ids[id] {
								t.Errorf("%s, due after %v, was never told", id, at.Sub(begun))
							}
						}
					}
				}
				if due < 200 {
					t.Errorf("only %d movements were due", due)
				}
			})
		})
	}
}

func TestALostAnswerIsAskedForAgainWithTheSameEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{keep: true}
		var lost []json.RawMessage
		g.breakdown = func(n int, events []json.RawMessage) (*http.Response, error) {
			if n == 5 {
				lost = events
				return nil, errAway
			}
			if n == 6 && fmt.Sprintf("%s", events) != fmt.Sprintf("%s", lost) {
				t.Errorf("other events were sent again: %s, want %s", events, lost)
			}
			return nil, nil
		}
		run(t, newDemo(t, g, "08:00"), 10*time.Second)
		if len(lost) == 0 || len(g.requests) < 6 {
			t.Fatalf("%d requests", len(g.requests))
		}
	})
}

func TestOnlyWhatFailedIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		sent := 0
		g.breakdown = func(n int, events []json.RawMessage) (*http.Response, error) {
			switch n {
			case 1:
				sent = len(events)
				g.append(events[1:]...)
				statuses := `{"results":[{"status":"failed"}`
				for range events[1:] {
					statuses += `,{"status":"persisted"}`
				}
				return answer(207, statuses+"]}"), nil
			case 2:
				if len(events) != 1 {
					t.Errorf("%d events are sent again of %d, of which one failed", len(events), sent)
				}
			}
			return nil, nil
		}
		run(t, newDemo(t, g, "08:00"), 2*time.Second)
		if sent < 90 || len(g.requests) < 2 {
			t.Fatalf("%d events in the first of %d batches", sent, len(g.requests))
		}
	})
}

func TestTheGatewaysRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{}
		g.breakdown = func(n int, _ []json.RawMessage) (*http.Response, error) {
			if n != 1 {
				return nil, nil
			}
			res := answer(503, `{"title":"busy"}`)
			res.Header.Set("Retry-After", "7")
			return res, nil
		}
		run(t, newDemo(t, g, "08:00"), 20*time.Second)
		if wait := g.requests[1].Sub(g.requests[0]); wait < 7*time.Second || wait > 10*time.Second {
			t.Errorf("asked again after %v, told to wait 7 s", wait)
		}
	})
}

func TestAnImpossibleConfigurationIsRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"no gateway":   {},
		"no such time": {BaseURL: "http://gateway", Start: "25:00"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
