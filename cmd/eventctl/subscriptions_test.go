package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubscriptionIsFoundByItsIDOrItsName(t *testing.T) {
	s := newPullServer(t, 0)
	s.objects = append(s.objects,
		subscriptionOf("sub-2", "twin"), subscriptionOf("sub-3", ".."), subscriptionOf("sub-4", "twin"), subscriptionOf("sub-5", "last"),
		subscriptionOf("sub-6", "sub-1"), // a name that is another one's id
	)
	for _, c := range []struct {
		given string
		id    string
		code  int
		told  string
	}{
		{given: "sub-1", id: "sub-1"},
		{given: "billing", id: "sub-1"},
		{given: "last", id: "sub-5"},
		{given: "..", id: "sub-3"},
		{given: "twin", code: exitUsage, told: `2 subscriptions have the name "twin": give the id, one of sub-2, sub-4`},
		{given: "nobody", code: exitRefused, told: `no subscription with the id or the name "nobody"`},
		{given: "", code: exitUsage, told: "name a subscription"},
	} {
		o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "get", c.given)
		if o.code != c.code || !strings.Contains(o.err, c.told) {
			t.Errorf("%q: exit code %d, %s", c.given, o.code, o.err)
		}
		if got := (subscription{}); c.id != "" && (json.Unmarshal([]byte(o.out), &got) != nil || got.ID != c.id) {
			t.Errorf("%q: printed %s, want that of %s", c.given, o.out, c.id)
		}
	}
}

func TestSubscriptionIsCreatedAsItsFlagsOrItsFileSay(t *testing.T) {
	dir := t.TempDir()
	filters := filepath.Join(dir, "filters.json")
	whole := filepath.Join(dir, "whole.json")
	for file, text := range map[string]string{filters: ` {"prefix":{"subject":"/a"}}`, whole: `{"name":"n","streams":["s"]}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		in   string
		want string
	}{
		{[]string{"n", "--stream", "s"}, "", `{"name":"n","streams":["s"]}`},
		{[]string{"--type", "a.*", "--type", "b"}, "", `{"types":["a.*","b"]}`},
		{
			[]string{
				"n", "--stream", "s", "--from", "oldest", "--ordering", "none", "--ack-timeout", "5m", "--max-uncommitted", "10",
				"--max-sessions", "3", "--max-attempts", "4", "--description", "what for",
			},
			"",
			`{"name":"n","description":"what for","streams":["s"],"config":{"from":"oldest","ordering":"none","ackTimeout":"5m","maxUncommitted":10,"maxSessions":3,"maxAttempts":4}}`,
		},
		{
			[]string{"n", "--stream", "s", "--filter", "a > 1", "--filters", `[{"exact":{"type":"t"}}]`},
			"",
			`{"name":"n","streams":["s"],"filters":[{"exact":{"type":"t"}},{"sql":"a > 1"}]}`,
		},
		{[]string{"n", "--stream", "s", "--filters", " "}, "", `{"name":"n","streams":["s"]}`},
		{[]string{"n", "--stream", "s", "--filters", filters}, "", `{"name":"n","streams":["s"],"filters":[{"prefix":{"subject":"/a"}}]}`},
		{[]string{"n", "--stream", "s", "--filters", "-"}, `[{"prefix":{"subject":"/a"}}]`, `{"name":"n","streams":["s"],"filters":[{"prefix":{"subject":"/a"}}]}`},
		{[]string{"-f", whole}, "", `{"name":"n","streams":["s"]}`},
		{[]string{"--file", "-"}, `{"name":"n","types":["t"]}`, `{"name":"n","types":["t"]}`},
	} {
		s := newPullServer(t, 0)
		o := eventctl(t.Context(), c.in, append([]string{"--server", s.URL, "subscriptions", "create"}, c.args...)...)
		var want any
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if o.code != exitDone || len(s.objects) != 2 {
			t.Errorf("%v: exit code %d, %s", c.args, o.code, o.err)
		} else if diff := cmp.Diff(want, s.objects[1]["asked"]); diff != "" {
			t.Errorf("%v: asked for another one:\n%s", c.args, diff)
		}
	}
}

func TestCreatingTellsWhetherTheSubscriptionWasThere(t *testing.T) {
	s := newPullServer(t, 0)
	args := []string{"--server", s.URL, "subscriptions", "create", "alarms", "--stream", "trains"}
	o := eventctl(t.Context(), "", args...)
	if o.code != exitDone || !strings.Contains(o.out, `"id": "sub-2"`) || !strings.Contains(o.err, "created subscription alarms (sub-2)") {
		t.Errorf("exit code %d, %s%s", o.code, o.out, o.err)
	}
	o = eventctl(t.Context(), "", append(args, "--output", "id")...)
	if o.code != exitDone || o.out != "sub-2\n" || !strings.Contains(o.err, "subscription alarms (sub-2) was there already") {
		t.Errorf("again: exit code %d, %s%s", o.code, o.out, o.err)
	}
	o = eventctl(t.Context(), "", append(args, "--ordering", "none")...)
	if o.code != exitRefused || o.out != "" || !strings.Contains(o.err, "another subscription of this name (409)") {
		t.Errorf("another one: exit code %d, %s%s", o.code, o.out, o.err)
	}
}

func TestSubscriptionThatCannotBeMeantIsWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"n"},
		{"n", "--stream", "s", "--ordering", "sometimes"},
		{"n", "--stream", "s", "--filters", "no-such-file"},
		{"n", "--stream", "s", "--filters", "[1"},
		{"n", "-f", "-"},
		{"--stream", "s", "-f", "-"},
		{"-f", "no-such-file"},
		{"n", "--stream", "s", "--output", "xml"},
	} {
		if o := eventctl(t.Context(), "{}", append([]string{"subscriptions", "create"}, args...)...); o.code != exitUsage || o.err == "" {
			t.Errorf("%v: exit code %d, %q", args, o.code, o.err)
		}
	}
	for _, args := range [][]string{{"delete", "x"}, {"reset", "x", "--to", "oldest"}, {"reset", "x", "--yes"}} { // nobody to ask; no place
		if o := eventctl(t.Context(), "", append([]string{"subscriptions"}, args...)...); o.code != exitUsage || o.err == "" {
			t.Errorf("%v: exit code %d, %q", args, o.code, o.err)
		}
	}
}

func TestSubscriptionsAreListedOnAllPages(t *testing.T) {
	s := newPullServer(t, 0)
	other := subscriptionOf("sub-2", "")
	other["streams"] = []any{"a", "b"}
	s.objects = append(s.objects, other, subscriptionOf("sub-3", "last"))
	o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "list")
	want := "ID     NAME     STREAMS  ORDERING  STATE\nsub-1  billing  orders   key       active\nsub-2  -        a,b      key       active\nsub-3  last     orders   key       active\n"
	if o.code != exitDone || o.out != want {
		t.Errorf("exit code %d, printed\n%s, want\n%s%s", o.code, o.out, want, o.err)
	}
	o = eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "list", "--json")
	if o.code != exitDone || strings.Count(o.out, "\n") != 3 {
		t.Errorf("exit code %d, printed\n%s", o.code, o.out)
	}
}

const statsTable = `subscription billing (sub-1): active, lag 123 (4.2 s), 3 uncommitted, 1 redeliveries, 2 dead letters

PARTITION  POSITION  END   LAG  LAG SECONDS  UNCOMMITTED  REDELIVERIES  SESSION
orders/0   100       123   23   4.2          3            1             s1
orders/1   900       1000  100  0.0          0            0             -

SESSION  REPLICA  TRANSPORT  ADDRESS     SINCE                 UNCOMMITTED  GROUPS    WAITING
s1       r1       ndjson     10.0.0.1:5  2026-01-02T03:04:05Z  3            orders/0  -
s2       r2       sse        10.0.0.2:5  2026-01-02T03:04:06Z  0            -         partitions
`

func TestStatsShowPartitionsAndSessions(t *testing.T) {
	s := newPullServer(t, 0)
	o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "stats", "billing")
	if o.code != exitDone || o.out != statsTable {
		t.Errorf("exit code %d, printed\n%s, want\n%s%s", o.code, o.out, statsTable, o.err)
	}
	o = eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "stats", "billing", "--json")
	if o.code != exitDone || !strings.Contains(o.out, `"acknowledgedAbove": 2`) {
		t.Errorf("exit code %d, printed\n%s", o.code, o.out)
	}
}

func TestStatsAreWatchedUntilInterrupted(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // twice
	}{
		{nil, statsTable},
		{[]string{"--json"}, `"acknowledgedAbove":2`},
	} {
		s := newPullServer(t, 0)
		out := &lockedBuffer{grown: make(chan struct{}, 1)}
		stop := background(t, out, append([]string{"--server", s.URL, "subscriptions", "stats", "billing", "--watch", "--interval", "1ms"}, c.args...)...)
		for strings.Count(out.String(), c.want) < 2 {
			<-out.grown
		}
		if o := stop(); o.code != exitDone || strings.HasPrefix(o.out, "\n") {
			t.Errorf("%v: exit code %d, %s", c.args, o.code, o.err)
		}
	}
}

func TestDeadLettersAreListed(t *testing.T) {
	s := newPullServer(t, 0)
	o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "dead-letters", "billing")
	want := "STREAM  PARTITION  OFFSET   ATTEMPTS  REASON  AT                    TYPE             ID  LETTER  REDELIVERED\n" +
		"orders  2          7000001  10        nack    2026-01-02T03:04:05Z  acme.order.paid  e1  17      -\n"
	if o.code != exitDone || o.out != want {
		t.Errorf("exit code %d, printed\n%s, want\n%s%s", o.code, o.out, want, o.err)
	}
}

// asked runs the program at a terminal where somebody answers.
func asked(t *testing.T, reply string, args ...string) outcome {
	t.Helper()
	var out, errs lockedBuffer
	c := &console{in: strings.NewReader(reply), out: &out, err: &errs}
	c.terminals.in = true
	return outcome{run(t.Context(), c, args), out.String(), errs.String()}
}

func TestResetAndDeleteAskFirst(t *testing.T) {
	s := newPullServer(t, 0)
	for _, c := range []struct {
		reply string
		args  []string
		code  int
		told  string
		done  bool
	}{
		{"no\n", []string{"reset", "billing", "--to", "oldest"}, exitUsage, "nothing was reset", false},
		{"", []string{"reset", "billing", "--to", "oldest"}, exitUsage, "nothing was reset", false},
		{"yes\n", []string{"reset", "billing", "--to", "oldest"}, exitDone, "Reset subscription billing (sub-1) to oldest? Type yes: ", true},
		{"", []string{"reset", "sub-1", "--to", "latest", "--yes"}, exitDone, "reset subscription billing (sub-1) to latest", true},
		{"no\n", []string{"delete", "billing"}, exitUsage, "nothing was deleted", false},
		{"yes\n", []string{"delete", "billing"}, exitDone, "Delete subscription billing (sub-1) with its position? Type yes: ", true},
		{"", []string{"delete", "sub-1", "-y"}, exitDone, "deleted subscription billing (sub-1)", true},
	} {
		s.resets, s.deleted = nil, nil
		o := asked(t, c.reply, append([]string{"--server", s.URL, "subscriptions"}, c.args...)...)
		if o.code != c.code || !strings.Contains(o.err, c.told) || (len(s.resets)+len(s.deleted) == 1) != c.done {
			t.Errorf("%v, answered %q: exit code %d, reset %v, deleted %v, %s", c.args, c.reply, o.code, s.resets, s.deleted, o.err)
		}
		if strings.Contains(o.err, "Type yes") == slices.ContainsFunc(c.args, func(a string) bool { return a == "-y" || a == "--yes" }) {
			t.Errorf("%v: asked although told not to, or not asked: %s", c.args, o.err)
		}
	}
}

func TestResetGoesToAPlaceATimeOrACursor(t *testing.T) {
	s := newPullServer(t, 0)
	for _, c := range []struct{ to, want string }{
		{"oldest", `{"from":"oldest"}`},
		{"latest", `{"from":"latest"}`},
		{"2026-01-02T03:04:05.5+01:00", `{"from":"2026-01-02T03:04:05.5+01:00"}`},
		{"AbCd_1", `{"cursor":"AbCd_1"}`},
	} {
		s.resets = nil
		o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "reset", "billing", "--to", c.to, "--yes")
		if o.code != exitDone || !slices.Equal(s.resets, []string{c.want}) || o.out != statsTable {
			t.Errorf("%s: exit code %d, reset %v, %s%s", c.to, o.code, s.resets, o.out, o.err)
		}
	}
}

func TestResetOfASubscriptionInUseNeedsForce(t *testing.T) {
	s := newPullServer(t, 0)
	s.sessions = []*pullSession{{}}
	o := eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "reset", "billing", "--to", "oldest", "--yes")
	if o.code != exitRefused || !strings.Contains(o.err, "has sessions (409)") || !strings.Contains(o.err, "--force") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
	o = eventctl(t.Context(), "", "--server", s.URL, "subscriptions", "reset", "billing", "--to", "oldest", "--yes", "--force")
	if want := []string{`force=true {"from":"oldest"}`}; o.code != exitDone || !slices.Equal(s.resets, want) {
		t.Errorf("exit code %d, reset %v, %s", o.code, s.resets, o.err)
	}
}

func TestWatchGoesOnAfterWhatMayPassAndEndsAtWhatMayNot(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		switch n {
		case 0:
			writeAs(w, "application/json", 200, subscriptionOf(pullID, "billing"))
		case 1:
			pullProblem(w, "not-ready", "The server is starting", 503, nil)
		default:
			pullProblem(w, "unknown-subscription", "It was deleted", 404, nil)
		}
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "subscriptions", "stats", pullID, "--watch", "--interval", "1ms")
	if o.code != exitRefused || !strings.Contains(o.err, "The server is starting (503)") || !strings.Contains(o.err, "It was deleted (404)") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
}
