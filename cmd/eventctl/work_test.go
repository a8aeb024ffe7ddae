package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lineOf is an event as tail prints it.
func lineOf(n int) string { return eventNumber(n) + "\n" }

// linesOf are the events from 1 to n.
func linesOf(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(lineOf(i + 1))
	}
	return b.String()
}

// background runs the program until stop is called, which gives what it left behind.
func background(t *testing.T, out *lockedBuffer, args ...string) (stop func() outcome) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var errs lockedBuffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, &console{out: out, err: &errs}, args) }()
	return func() outcome {
		cancel()
		return outcome{<-ended, out.String(), errs.String()}
	}
}

func TestSubscriptionsEventsAreAcknowledgedOnceTheyAreWritten(t *testing.T) {
	const events = 300
	s := newPullServer(t, events)
	for _, args := range [][]string{{"tail", "--subscription", pullID}, {"subscriptions", "tail", "billing"}} {
		s.mu.Lock()
		for i := range s.events {
			s.events[i] = &pullEvent{}
		}
		s.mu.Unlock()
		out := &lockedBuffer{}
		s.acknowledged = func(number int) {
			if !strings.Contains(out.String(), lineOf(number)) {
				t.Errorf("event %d is acknowledged before it is written", number)
			}
		}
		var errs lockedBuffer
		code := run(t.Context(), &console{out: out, err: &errs}, append([]string{"--server", s.URL}, append(args, "-n", fmt.Sprint(events))...))
		if code != exitDone || out.String() != linesOf(events) {
			t.Errorf("%v: exit code %d, %d bytes printed; %s", args, code, len(out.String()), errs.String())
		}
		if undone := s.undone(); len(undone) > 0 {
			t.Errorf("%v: what was written is not acknowledged: %v", args, undone)
		}
		if !strings.Contains(errs.String(), "fed from orders/0") {
			t.Errorf("%v: %q does not say what the session is fed from", args, errs.String())
		}
	}
}

func TestOneAcknowledgementIsOnItsWayAndTheOthersAreGathered(t *testing.T) {
	const events = 200
	s := newPullServer(t, events)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.delivered = func(_, n int) whatNext {
		if n == 2 {
			<-asked
		}
		return goOn
	}
	s.acknowledging = func(n int, _ http.ResponseWriter) bool {
		if n == 0 {
			close(asked)
			<-answer
		}
		return false
	}
	out := &lockedBuffer{grown: make(chan struct{}, 1)}
	stop := background(t, out, "--server", s.URL, "tail", "--subscription", pullID)
	<-asked
	for out.String() != linesOf(events) { // printing does not wait for the answer
		<-out.grown
	}
	close(answer)
	if o := stop(); o.code != exitDone {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
	said := s.words()
	if len(said) != 2 || s.maxOpen != 1 {
		t.Fatalf("%d acknowledgements, up to %d at a time; want 2, one at a time", len(said), s.maxOpen)
	}
	if want := (acknowledgement{Cursors: []string{"1-200"}}); !cmp.Equal(said[1], want) {
		t.Errorf("the second one says %v, want %v", said[1], want)
	}
	if undone := s.undone(); len(undone) > 0 {
		t.Errorf("not acknowledged: %v", undone)
	}
}

func TestSubscriptionIsReadOnAfterAnyEndOfTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		next whatNext
		told string
	}{
		"a clean end":          {closeIt, "the server closed the connection"},
		"a cut":                {cutIt, "coming back"},
		"a cut within a line":  {tornOff, "coming back"},
		"a drain, with a wait": {drainIt, "the server closed the connection; coming back in 20ms"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPullServer(t, 6)
			s.delivered = func(session, n int) whatNext {
				if session <= 2 && n == 2 {
					return c.next
				}
				return goOn
			}
			out := &lockedBuffer{grown: make(chan struct{}, 1)}
			stop := background(t, out, "--server", s.URL, "tail", "--subscription", "billing")
			for !strings.Contains(out.String(), lineOf(6)) {
				<-out.grown
			}
			o := stop()
			if o.code != exitDone || !strings.Contains(o.err, c.told) || s.opened() != 3 {
				t.Errorf("exit code %d after %d sessions, %s", o.code, s.opened(), o.err)
			}
			if undone := s.undone(); len(undone) > 0 {
				t.Errorf("not acknowledged: %v", undone)
			}
			for line := range strings.Lines(o.out) {
				if !strings.Contains(linesOf(6), line) {
					t.Errorf("printed %q", line)
				}
			}
		})
	}
}

func TestRefusedAcknowledgementOpensTheSessionAgain(t *testing.T) {
	s := newPullServer(t, 5)
	s.acknowledging = func(n int, w http.ResponseWriter) bool {
		if n == 0 {
			pullProblem(w, "reconnect", "Open the session again", 409, map[string]any{"acknowledged": 0, "refused": 1})
		}
		return n == 0
	}
	out := &lockedBuffer{}
	stop := background(t, out, "--server", s.URL, "tail", "--subscription", pullID)
	s.await(func() bool { return !slices.ContainsFunc(s.events, func(e *pullEvent) bool { return !e.done }) })
	o := stop()
	if o.code != exitDone || s.opened() != 2 || !strings.Contains(o.err, "Open the session again (409); coming back") || !strings.Contains(o.err, "come again") {
		t.Errorf("exit code %d after %d sessions, %s", o.code, s.opened(), o.err)
	}
	if strings.Count(o.out, lineOf(1)) != 2 || !strings.HasSuffix(o.out, linesOf(5)) {
		t.Errorf("printed %s", o.out)
	}
}

func TestAcknowledgementsThatMayPassAreTriedAgain(t *testing.T) {
	s := newPullServer(t, 3)
	s.acknowledging = func(n int, w http.ResponseWriter) bool {
		switch n {
		case 0:
			pullProblem(w, "log-unavailable", "The log is unavailable", 503, nil)
		case 1:
			panic(http.ErrAbortHandler)
		}
		return n < 2
	}
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "3")
	if o.code != exitDone || o.out != linesOf(3) || len(s.undone()) > 0 || s.opened() != 1 {
		t.Errorf("exit code %d after %d sessions, not acknowledged %v, printed %s%s", o.code, s.opened(), s.undone(), o.out, o.err)
	}
	if !strings.Contains(o.err, "not acknowledged yet: The log is unavailable (503)") {
		t.Errorf("%q does not tell why", o.err)
	}
}

func TestSubscriptionsReaderEndsWhereTheServerMeansIt(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*pullServer)
		want    string
	}{
		"at the opening": {func(s *pullServer) {
			s.opening = func(_ int, w http.ResponseWriter) bool {
				pullProblem(w, "forbidden", "Not allowed", 403, nil)
				return true
			}
		}, "Not allowed (403)"},
		"no stream": {func(s *pullServer) {
			s.opening = func(_ int, w http.ResponseWriter) bool {
				writeAs(w, "text/html", 200, "hello")
				return true
			}
		}, "no event stream"},
		"in band": {func(s *pullServer) {
			s.opening = func(_ int, w http.ResponseWriter) bool {
				w.Header().Set("Content-Type", ndjson)
				_, _ = w.Write([]byte(`{"problem":{"type":"/problems/unknown-subscription","title":"It was deleted","status":404}}` + "\n"))
				return true
			}
		}, "It was deleted (404)"},
		"at an acknowledgement": {func(s *pullServer) {
			s.acknowledging = func(_ int, w http.ResponseWriter) bool {
				pullProblem(w, "unknown-subscription", "It was deleted", 404, nil)
				return true
			}
		}, "It was deleted (404)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPullServer(t, 1)
			c.prepare(s)
			o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID)
			if o.code != exitRefused || !strings.Contains(o.err, c.want) || s.opened() != 1 {
				t.Errorf("exit code %d after %d sessions, %s", o.code, s.opened(), o.err)
			}
		})
	}
}

func TestProblemInBandThatAsksToReconnectIsObeyed(t *testing.T) {
	s := newPullServer(t, 1)
	s.opening = func(session int, w http.ResponseWriter) bool {
		switch session {
		case 1:
			w.Header().Set("Content-Type", ndjson)
			_, _ = w.Write([]byte(`{"problem":{"type":"/problems/reconnect","title":"Open the session again","status":409}}` + "\n"))
		case 2:
			pullProblem(w, "overloaded", "Too many sessions", 429, nil)
		}
		return session < 3
	}
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "1")
	if o.code != exitDone || s.opened() != 3 || o.out != linesOf(1) {
		t.Errorf("exit code %d after %d sessions, %s", o.code, s.opened(), o.err)
	}
}

func TestWhatTheServerSaysBesidesIsToldOnStandardError(t *testing.T) {
	s := newPullServer(t, 1)
	s.opening = func(session int, w http.ResponseWriter) bool {
		if session == 1 {
			w.Header().Set("Content-Type", ndjson)
			_, _ = w.Write([]byte(`{"cursor":"1-0"}` + "\n" +
				`{"waiting":{"reason":"partitions","detail":"all of them are with other sessions"}}` + "\n" +
				`{"gap":{"stream":"orders","partition":3,"from":10,"to":500,"reason":"retention"},"cursor":"1-0"}` + "\n" +
				`{"stalled":{"stream":"orders"}}` + "\n\n"))
		}
		return session == 1
	}
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "1")
	for _, want := range []string{
		"waiting (partitions): all of them are with other sessions", "GAP in stream orders, partition 3", `stalled {"stream":"orders"}`, "fed from orders/0",
	} {
		if !strings.Contains(o.err, want) {
			t.Errorf("%q lacks %q", o.err, want)
		}
	}
}

func TestSubscriptionsReaderLeavesAConnectionOnWhichNothingComes(t *testing.T) {
	s := newPullServer(t, 1)
	mute := make(chan struct{})
	s.opening = func(session int, _ http.ResponseWriter) bool {
		if session == 1 {
			<-mute
		}
		return session == 1
	}
	out := &lockedBuffer{grown: make(chan struct{}, 1)}
	stop := background(t, out, "--server", s.URL, "tail", "--subscription", pullID, "--idle-timeout", "200ms")
	<-out.grown
	o := stop()
	close(mute)
	if o.code != exitDone || !strings.Contains(o.err, "nothing was heard") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
}

func TestEventThatIsTooLargeIsToldWithTheFlagThatHelps(t *testing.T) {
	s := newPullServer(t, 0)
	s.opening = func(_ int, w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", ndjson)
		_, _ = fmt.Fprintf(w, `{"cursor":"1-1","group":"orders/0","attempt":1,"event":{"data":%q}}`+"\n", strings.Repeat("x", 1<<20))
		return true
	}
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "--max-event", "65536")
	if o.code != exitFailed || !strings.Contains(o.err, "--max-event") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
}

// shut is an output that takes so many lines.
type shut struct {
	lockedBuffer
	left int
}

func (s *shut) Write(p []byte) (int, error) {
	if s.left == 0 {
		return 0, syscall.EPIPE
	}
	s.left--
	return s.lockedBuffer.Write(p)
}

func TestOnlyWhatTheOutputTookIsAcknowledged(t *testing.T) {
	s := newPullServer(t, 5)
	var errs lockedBuffer
	code := run(t.Context(), &console{out: &shut{left: 3}, err: &errs}, []string{"--server", s.URL, "tail", "--subscription", pullID})
	if want := []int{4, 5}; code != exitDone || !slices.Equal(s.undone(), want) {
		t.Errorf("exit code %d, not acknowledged %v, want %v; %s", code, s.undone(), want, errs.String())
	}
}

func TestPrettyAndEnvelopeOfDeliveries(t *testing.T) {
	s := newPullServer(t, 2)
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "1", "--envelope")
	if want := `{"cursor":"1-1","group":"orders/0","attempt":1,"event":` + eventNumber(1) + "}\n"; o.out != want {
		t.Errorf("printed\n%s, want\n%s", o.out, want)
	}
	o = eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "1", "--pretty")
	if want := "acme.order.paid  /order/2  /shop 2\n  {\n    \"n\": 2\n  }\n"; o.out != want {
		t.Errorf("printed\n%s, want\n%s", o.out, want)
	}
}

func TestCommandGetsTheEventAndWhatIsKnownOfIt(t *testing.T) {
	s := newPullServer(t, 1)
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", "billing", "-n", "1",
		"--exec", `cat; for n in SUBSCRIPTION ATTEMPT GROUP CURSOR ID TYPE SOURCE SUBJECT; do eval echo $n=\$EVENTISSUER_$n; done`)
	want := lineOf(1) + "SUBSCRIPTION=sub-1\nATTEMPT=1\nGROUP=orders/0\nCURSOR=1-1\nID=1\nTYPE=acme.order.paid\nSOURCE=/shop\nSUBJECT=/order/1\n"
	if o.code != exitDone || o.out != want {
		t.Errorf("exit code %d, printed\n%s, want\n%s%s", o.code, o.out, want, o.err)
	}
	if undone := s.undone(); len(undone) > 0 {
		t.Errorf("not acknowledged: %v", undone)
	}
}

func TestEventIsAcknowledgedAfterItsCommandEndedWell(t *testing.T) {
	for _, concurrency := range []string{"1", "4"} {
		s := newPullServer(t, 30)
		dir := t.TempDir()
		s.acknowledged = func(number int) {
			if _, err := os.Stat(filepath.Join(dir, fmt.Sprint(number))); err != nil {
				t.Errorf("event %d is acknowledged before its command ended: %v", number, err)
			}
		}
		// Every third fails at its first attempt, after which it stays away for a while.
		t.Setenv("DIR", dir)
		o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "40", "--exec-concurrency", concurrency, "--retry-delay", "10ms",
			"--exec", `[ $((EVENTISSUER_ID % 3)) -ne 0 ] || [ $EVENTISSUER_ATTEMPT -gt 1 ] || exit 3; touch "$DIR/$EVENTISSUER_ID"`)
		if undone := s.undone(); o.code != exitDone || len(undone) > 0 {
			t.Errorf("%s at a time: exit code %d, not acknowledged: %v; %s", concurrency, o.code, undone, o.err)
		}
		if got := strings.Count(o.err, "the command failed at event"); got != 10 || !strings.Contains(o.err, `event "3" of "/shop" (orders/0, attempt 1): exit status 3; it comes again in 10ms`) {
			t.Errorf("%s at a time: %d failures are told: %s", concurrency, got, o.err)
		}
		nacks := 0
		for _, said := range s.words() {
			for _, n := range said.Nacks {
				nacks++
				if n.Delay != "10ms" {
					t.Errorf("an event is given back for %s", n.Delay)
				}
			}
			if concurrency != "1" && len(said.Cursors) > 0 {
				t.Errorf("with several at a time a cursor acknowledges what may still run: %v", said)
			}
		}
		if nacks == 0 || s.maxOpen != 1 || s.opened() != 1 {
			t.Errorf("%s at a time: %d nacks, %d acknowledgements at a time, %d sessions", concurrency, nacks, s.maxOpen, s.opened())
		}
	}
}

func TestCommandThatIsSlowHoldsUpNoAcknowledgementOfOthers(t *testing.T) {
	s := newPullServer(t, 3)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []int
	s.acknowledged = func(number int) {
		mu.Lock()
		order = append(order, number)
		others := len(order)
		mu.Unlock()
		if others == 2 { // the first may end when the others are acknowledged
			if err := os.WriteFile(gate, []byte("go\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	t.Setenv("GATE", gate)
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "-n", "3", "--exec-concurrency", "3",
		"--exec", `[ $EVENTISSUER_ID != 1 ] || read go < "$GATE"`)
	if o.code != exitDone || len(order) != 3 || order[2] != 1 {
		t.Errorf("exit code %d, acknowledged in the order %v, %s", o.code, order, o.err)
	}
}

// started makes a fifo that a command can tell over that it runs.
func started(t *testing.T, name string) (path string, wait func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() {
		if _, err := os.ReadFile(path); err != nil {
			t.Error(err)
		}
	}
}

func TestInterruptLetsTheRunningCommandEndAndAcknowledgesIt(t *testing.T) {
	s := newPullServer(t, 3)
	begun, wait := started(t, "begun")
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BEGUN", begun)
	t.Setenv("GATE", gate)
	ctx, cancel := context.WithCancel(t.Context())
	errs := &lockedBuffer{grown: make(chan struct{}, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, &console{out: &lockedBuffer{}, err: errs}, []string{
			"--server", s.URL, "tail", "--subscription", pullID, "--exec", `echo x > "$BEGUN"; read go < "$GATE"`,
		})
	}()
	wait()
	cancel()
	for !strings.Contains(errs.String(), "waiting up to 30s for what runs") {
		<-errs.grown
	}
	if err := os.WriteFile(gate, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitDone {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	if want := []int{2, 3}; !slices.Equal(s.undone(), want) {
		t.Errorf("not acknowledged: %v, want %v", s.undone(), want)
	}
}

func TestCommandThatOutlivesTheGraceTimeIsStoppedAndItsEventGivenBack(t *testing.T) {
	s := newPullServer(t, 1)
	begun, wait := started(t, "begun")
	t.Setenv("BEGUN", begun)
	stop := background(t, &lockedBuffer{}, "--server", s.URL, "tail", "--subscription", pullID, "--grace", "10ms",
		"--exec", `echo x > "$BEGUN"; sleep 1000; true`)
	wait()
	o := stop()
	want := []acknowledgement{{Nacks: []bounds{{From: "1-1", To: "1-1", Delay: "0s"}}}}
	if o.code != exitDone || !cmp.Equal(s.words(), want) || !strings.Contains(o.err, "was stopped") {
		t.Errorf("exit code %d, said %v, %s", o.code, s.words(), o.err)
	}
}

func TestCommandThatIsNotThereEndsItInsteadOfSpendingTheAttempts(t *testing.T) {
	s := newPullServer(t, 3)
	o := eventctl(t.Context(), "", "--server", s.URL, "tail", "--subscription", pullID, "--exec", "no-such-command-here")
	if o.code != exitUsage || !strings.Contains(o.err, "cannot be run") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
	if said := s.words(); len(said) != 1 || len(said[0].Nacks) != 1 || len(s.undone()) != 3 {
		t.Errorf("said %v", said)
	}
}

func TestWhatWasNotBegunWhenTheConnectionEndedIsLeftToTheNextSession(t *testing.T) {
	var out lockedBuffer
	o := &console{out: &out, err: &out}
	w := &worker{
		console: o, maxEvent: 1 << 20, options: working{Exec: "echo $EVENTISSUER_ID", ExecConcurrency: 1},
		commander: &commander{console: o, line: "echo $EVENTISSUER_ID", slots: make(chan struct{}, 1)},
	}
	var lines strings.Builder
	for n := range 3 {
		fmt.Fprintf(&lines, `{"cursor":"c%d","group":"orders/0","attempt":1,"event":%s}`+"\n", n+1, eventNumber(n+1))
	}
	r := newReceiver(w)
	r.run(t.Context(), strings.NewReader(lines.String())) // to the end of the connection
	acks := newAcknowledger(nil, o, "", false)
	if err := w.take(t.Context(), r, acks); err != nil {
		t.Fatal(err)
	}
	// One is begun, so that connections that never last bring something forward too.
	spans, exact, _ := acks.take()
	if want := (acknowledgement{Cursors: []string{"c1"}}); out.String() != "1\n" || !cmp.Equal(saidOf(spans, exact), want) {
		t.Errorf("commands printed %q; said %v, want %v", out.String(), saidOf(spans, exact), want)
	}
}

func TestWhatCannotBeAcknowledgedAtTheEndIsToldAndNoSuccess(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		pullProblem(w, "log-unavailable", "The log is unavailable", 503, nil)
	})
	c, err := newClient(f.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := newAcknowledger(c, &console{err: &lockedBuffer{}}, "/x", false)
	ctx, stop := context.WithCancel(t.Context())
	go a.run(ctx)
	a.done(1, "c1")
	a.done(2, "c2")
	settling, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := a.finish(settling, stop); err == nil || !strings.Contains(err.Error(), "2 events are dealt with but could not be acknowledged") {
		t.Errorf("finish: %v", err)
	}
}

func TestRowsOfDeliveriesAreJoined(t *testing.T) {
	type word struct {
		n        int
		returned bool
	}
	for name, c := range map[string]struct {
		exact bool
		words []word
		want  acknowledgement
	}{
		"in order":     {false, []word{{n: 1}, {n: 2}, {n: 3}}, acknowledgement{Cursors: []string{"3"}}},
		"out of order": {true, []word{{n: 3}, {n: 1}, {n: 5}, {n: 2}}, acknowledgement{Ranges: []bounds{{From: "1", To: "3"}, {From: "5", To: "5"}}}},
		"given back": {
			false,
			[]word{{n: 1}, {2, true}, {n: 3}},
			acknowledgement{Ranges: []bounds{{From: "1", To: "1"}, {From: "3", To: "3"}}, Nacks: []bounds{{From: "2", To: "2", Delay: "5s"}}},
		},
		"given back in a row": {false, []word{{1, true}, {2, true}}, acknowledgement{Nacks: []bounds{{From: "1", To: "2", Delay: "5s"}}}},
	} {
		a := newAcknowledger(nil, nil, "", c.exact)
		for _, w := range c.words {
			if w.returned {
				a.giveBack(w.n, fmt.Sprint(w.n), 5*time.Second)
			} else {
				a.done(w.n, fmt.Sprint(w.n))
			}
		}
		spans, exact, _ := a.take()
		if got := saidOf(spans, exact); !cmp.Equal(got, c.want) {
			t.Errorf("%s: says %v, want %v", name, got, c.want)
		}
	}
}

func TestWhatIsGatheredIsBounded(t *testing.T) {
	a := newAcknowledger(nil, nil, "", true)
	for i := range maxUntold {
		a.done(2*i+1, "c") // no two in a row
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan bool)
	go func() { waited <- a.room(ctx) }()
	cancel()
	if <-waited {
		t.Error("there is room beyond the bound")
	}
	if spans, _, _ := a.take(); len(spans) != maxSpans {
		t.Errorf("a request tells %d rows, want at most %d", len(spans), maxSpans)
	}
	if !a.room(t.Context()) {
		t.Error("there is no room after some was told")
	}
}

func TestFlagsThatContradictEachOtherAreWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"tail", "orders", "--subscription", "x"},
		{"tail", "--subscription", "x", "--type", "t"},
		{"tail", "--subscription", "x", "--from", "oldest"},
		{"tail", "orders", "--exec", "cat"},
		{"tail", "--subscription", "x", "--exec", "cat", "--pretty"},
		{"tail", "--subscription", "x", "--exec", "cat", "--exec-concurrency", "0"},
		{"tail", "--subscription", "x", "--exec", "cat", "--retry-delay", "13h"},
	} {
		if o := eventctl(t.Context(), "", args...); o.code != exitUsage || o.err == "" {
			t.Errorf("%v: exit code %d, %q", args, o.code, o.err)
		}
	}
}
