package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// shell runs a script under `servers run`, without a Kafka of its own.
func shell(t *testing.T, script string) (int, error) {
	t.Helper()
	t.Setenv(testenv.KafkaVariable, "127.0.0.1:1") // nothing connects to it
	return command(t.Context(), []string{"run", "sh", "-c", script})
}

func TestRunEndsAsItsCommandDoes(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3} {
		if got, err := shell(t, script); got != want || err != nil {
			t.Errorf("%s: got %d, %v; want %d", script, got, err, want)
		}
	}
	if got, err := command(t.Context(), []string{"run", "no-such-command"}); got == 0 || err == nil {
		t.Errorf("a command that does not exist: got %d, %v", got, err)
	}
}

func TestSkippedTestFailsTheRunInCIAlone(t *testing.T) {
	for ci, want := range map[string]int{"": 0, "true": 1} {
		t.Setenv("CI", ci)
		if got, err := shell(t, `echo SKIPPED TestX: needs a thing >> "$EVENTISSUER_TEST_SKIPS"`); got != want || err != nil {
			t.Errorf("CI=%q: got %d, %v; want %d", ci, got, err, want)
		}
	}
}

func TestEachSkipIsReportedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skips")
	var out bytes.Buffer
	if skipped, err := report(path, &out); skipped || err != nil {
		t.Errorf("no file: got %v, %v", skipped, err)
	}
	if err := os.WriteFile(path, []byte("b\na\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	skipped, err := report(path, &out)
	if want := "!! a\n!! b\n"; !skipped || err != nil || out.String() != want {
		t.Errorf("got %v, %v and %q, want %q", skipped, err, out.String(), want)
	}
}
