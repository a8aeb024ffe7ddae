package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The environment that a test run and its tests agree on.
const (
	// KafkaVariable holds the address of a Kafka that all tests of a run share.
	KafkaVariable = "EVENTISSUER_TEST_KAFKA"
	// RedisVariable holds the URL of a Redis that all tests of a run share.
	RedisVariable = "EVENTISSUER_TEST_REDIS"
	// ChromiumVariable holds the path of a Chromium to use instead of the one on the PATH.
	ChromiumVariable = "EVENTISSUER_TEST_CHROMIUM"
	// SkipsVariable names a file to which every skip adds its line: go test shows nothing of tests that pass or skip.
	SkipsVariable = "EVENTISSUER_TEST_SKIPS"
	// LogsVariable names a folder in which the programs of a test that fails leave their logs.
	LogsVariable = "EVENTISSUER_TEST_LOGS"
)

// MissingError says what a machine lacks and how to get it.
type MissingError struct {
	What string // "Kafka's jars"
	How  string // "run deploy/local/install kafka"
}

// Error implements error.
func (e *MissingError) Error() string { return e.What + " missing: " + e.How }

// Need ends the test for a server that could not be had: skipped where it is not installed, failed where it is but
// does not start, and always failed in CI.
func Need(t testing.TB, server string, err error) {
	t.Helper()
	var missing *MissingError
	if err == nil {
		return
	}
	if !errors.As(err, &missing) || os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v", server, err)
	}
	line := fmt.Sprintf("SKIPPED %s: needs %s, %v", t.Name(), server, missing)
	record(t, line)
	t.Skip(line)
}

func record(t testing.TB, line string) {
	t.Helper()
	path := os.Getenv(SkipsVariable)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Logf("record the skip: %v", err)
		return
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Logf("record the skip: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Logf("record the skip: %v", err)
	}
}

// Root is the repository's top folder: the nearest one upward from the working folder that holds a go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository: no go.mod in the working folder or above it")
		}
		dir = parent
	}
}

// program finds the first of the named programs on the PATH.
func program(how string, names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{What: names[0], How: how}
}
