package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/loadtest"
)

// terminalOf is what a terminal shows after what was written to it, as far as the screen uses one: line by line.
func terminalOf(text string) []string {
	lines := []string{""}
	row := 0
	for len(text) > 0 {
		var up int
		switch {
		case strings.HasPrefix(text, "\r\x1b[J"):
			lines, lines[row] = lines[:row+1], ""
			text = text[4:]
		case strings.HasPrefix(text, "\x1b["):
			if _, err := fmt.Sscanf(text, "\x1b[%dA", &up); err != nil {
				panic(text)
			}
			row -= up
			_, text, _ = strings.Cut(text, "A")
		case text[0] == '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
			text = text[1:]
		default:
			r, n := utf8.DecodeRuneInString(text)
			lines[row] += string(r)
			text = text[n:]
		}
	}
	return lines
}

func progress(second int) loadtest.Progress {
	p := loadtest.Progress{
		Run: "r1", Scenario: "a day", Phase: "measuring", Elapsed: time.Duration(second) * time.Second, Of: time.Minute, Published: 100, Delivered: 12_345,
		Duplicates: 2, Expected: 12_350,
		Live: 9, Wanted: 10, Failures: 1, LastFailure: "503:\nbusy \x1b[31m", Acks: &loadtest.Quantiles{P50: 0.5, P99: 2, Max: 7}, Latency: &loadtest.Quantiles{P50: 1.25, P99: 99.5, Max: 1234},
		Groups: []loadtest.GroupProgress{{Name: "apps", Live: 4, Wanted: 5}, {Name: "maps", Live: 5, Wanted: 5}},
	}
	for i := range second {
		p.Seconds = append(p.Seconds, loadtest.Second{Delivered: uint64(1000 * i), Live: 9, Processes: []loadtest.ProcessSecond{{Cores: 0.5, RSS: 5e6}}})
	}
	return p
}

func TestScreenDrawsOneBlockInPlace(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, func() int { return 100 })
	for i := range 40 {
		s.draw(progress(i))
	}
	lines := terminalOf(out.String())
	if len(lines) != 10 || lines[9] != "" {
		t.Fatalf("the terminal shows:\n%s", strings.Join(lines, "\n"))
	}
	for i, want := range []string{
		"a day, run r1: measuring 39s of 1m0s", "published", "p50 0.50  p99 2.00  max 7.00 ms", "38.0k/s  12345 in all, 5 to come", "p50 1.25  p99 99.50  max 1234 ms",
		"2 duplicates, 0 OUT OF ORDER, 0 UNEXPECTED", "9 of 10 live, 0 reconnects, 1 FAILED (503: busy  [31m)",
		"0.50 cores, 5.0 MB", "apps 4/5  maps 5/5",
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want %q in it", i+1, lines[i], want)
		}
	}
	if !strings.Contains(lines[3], "▂") || !strings.Contains(lines[3], "█ ") {
		t.Errorf("no sparkline: %q", lines[3])
	}
	s.draw(loadtest.Progress{Note: "only 9 of 10 are live"})
	s.draw(progress(41))
	if lines = terminalOf(out.String()); lines[0] != "only 9 of 10 are live" || !strings.Contains(lines[1], "measuring 41s") {
		t.Errorf("the note is not above the block:\n%s", strings.Join(lines, "\n"))
	}
}

func TestScreenOfPublishersAloneTellsOfThemAlone(t *testing.T) {
	p := progress(5)
	p.Wanted, p.Live, p.Groups, p.Failed, p.Processes = 0, 0, nil, 3, []string{"broker"}
	var out bytes.Buffer
	newScreen(&out, func() int { return 100 }).draw(p)
	lines := terminalOf(out.String())
	if len(lines) != 5 {
		t.Fatalf("the terminal shows:\n%s", strings.Join(lines, "\n"))
	}
	for i, want := range []string{"a day", "100 in all, 3 FAILED", "acks p99", "broker"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want %q in it", i+1, lines[i], want)
		}
	}
}

func TestScreenKeepsToTheTerminalsWidth(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, func() int { return 40 })
	s.draw(progress(35))
	for _, l := range terminalOf(out.String()) {
		if n := utf8.RuneCountInString(l); n > 39 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
}

func TestSparklineShowsTheLastValuesFromNothingToTheHighest(t *testing.T) {
	for want, values := range map[string][]float64{"": nil, "   ": {0, 0, 0}, " ▁█": {0, 0.001, 8}, "▄█": {4, 8}} {
		if got := spark(values); got != want {
			t.Errorf("%v: %q, want %q", values, got, want)
		}
	}
	if n := utf8.RuneCountInString(spark(make([]float64, 100))); n != 30 {
		t.Errorf("%d columns, want 30", n)
	}
}
