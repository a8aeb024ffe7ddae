package chaos

import (
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

const (
	// chaosVariable says for how long faults are to be made. Three JVMs and three replicas want the machine for themselves,
	// so that without it there are none.
	chaosVariable = "EVENTISSUER_TEST_CHAOS"
	// seedVariable repeats a run's draws.
	seedVariable = "EVENTISSUER_TEST_SEED"
)

// sarama's metrics keep one goroutine for the whole process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestPromisesAreKeptThroughFaults(t *testing.T) {
	text := os.Getenv(chaosVariable)
	if text == "" {
		t.Skipf("%s=3m has all kinds of faults made for three minutes: make test-chaos", chaosVariable)
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	report, err := Run(t.Context(), Config{Seed: seed, Duration: duration, Progress: t.Output()})
	testenv.Need(t, "chaos", err)
	var b strings.Builder
	if err := report.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
	if !report.Whole() {
		t.Error("promises are broken")
	}
	if report.Acked == 0 || report.Connects == 0 || len(report.Faults) == 0 {
		t.Error("nothing was published, read or disturbed, which shows nothing")
	}
}

func TestAPlanFollowsFromItsSeed(t *testing.T) {
	const every, end = 4 * time.Second, 10 * time.Minute
	one, same, other := plan(1, allFaults, every, end), plan(1, allFaults, every, end), plan(2, allFaults, every, end)
	if !reflect.DeepEqual(one, same) {
		t.Error("two plans of one seed differ")
	}
	if reflect.DeepEqual(one, other) {
		t.Error("the plans of two seeds are the same")
	}
	if least := 100; len(one) < least {
		t.Errorf("%d faults in %s, expected %d", len(one), end, least)
	}
	kinds := map[FaultKind]bool{}
	for i, f := range one {
		kinds[f.Kind] = true
		if f.Target == 0 && (f.Kind == ReplicaKill || f.Kind == ReplicaRestart) {
			t.Errorf("%s: expected the first replica to live to the end", f)
		}
		if i == len(allFaults)-1 && len(kinds) != len(allFaults) {
			t.Errorf("%d kinds among the first %d faults, expected each once", len(kinds), len(allFaults))
		}
		if lease, err := time.ParseDuration(dedupeLease); err != nil || f.For >= lease {
			t.Errorf("%s: expected less than the lease of %s (%v)", f, dedupeLease, err)
		}
	}
}

func TestFaultsAreChosenByName(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  int // kinds; -1: an error
	}{
		{nil, len(allFaults)},
		{[]string{"replica"}, 3},
		{[]string{"redis-line", "redis-line-cut", "kafka-kill"}, 4},
		{[]string{"replica-kil"}, -1},
		{[]string{""}, -1},
	} {
		got, err := faultsNamed(tt.names)
		if tt.want < 0 {
			if err == nil || !strings.Contains(err.Error(), string(ReplicaKill)) {
				t.Errorf("%q: got %v, expected an error that names the kinds", tt.names, err)
			}
			continue
		}
		if err != nil || len(got) != tt.want {
			t.Errorf("%q: %d kinds and %v, expected %d", tt.names, len(got), err, tt.want)
		}
	}
}

func TestEventsAreHeldToWhatWasSent(t *testing.T) {
	id := eventID(keyName(5), 17)
	sent := string(eventJSON(id))
	for _, tt := range []struct {
		name, came string
		fault      bool
	}{
		{"as it was sent", sent, false},
		{"with what the server adds", strings.Replace(sent, `"data":`, `"dataschema":"http://example.org/1","data":`, 1), false},
		{"with other data", strings.Replace(sent, `"n":17`, `"n":18`, 1), true},
		{"with the id of another", strings.Replace(sent, `-17"`, `-16"`, 1), true},
		{"of another type", strings.Replace(sent, kindLoose, kindStrict, 1), true},
		{"of another subject", strings.Replace(sent, `"subject":"b05"`, `"subject":"b06"`, 1), true},
		{"without an id of ours", strings.Replace(sent, `"id":"b05-17"`, `"id":"b05"`, 1), true},
	} {
		if !tt.fault && tt.name != "as it was sent" && tt.came == sent {
			t.Fatalf("%s: nothing was changed", tt.name)
		}
		events, err := parseEvents([]byte(tt.came))
		if err != nil {
			t.Fatal(err)
		}
		if got := events[0].faithful(); (got != "") != tt.fault {
			t.Errorf("%s: found %q", tt.name, got)
		}
	}
}

func TestGrowthIsWhatIsMuchMoreThanBefore(t *testing.T) {
	before := holding{goroutines: 90, files: 40, memory: 50 << 20}
	for _, tt := range []struct {
		now   holding
		grown bool
	}{
		{before, false},
		{holding{90 + moreGoroutines, 40 + moreFiles, 50<<20 + moreMemory}, false},
		{holding{91 + moreGoroutines, 40, 50 << 20}, true},
		{holding{90, 41 + moreFiles, 50 << 20}, true},
		{holding{90, 40, 50<<20 + moreMemory + 1}, true},
	} {
		if got := before.grown(tt.now); (got != "") != tt.grown {
			t.Errorf("%v after %v: found %q", tt.now, before, got)
		}
	}
}
