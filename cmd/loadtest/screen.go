package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// screen draws a run's progress on a terminal: a block of lines that each second takes the place of the last one.
type screen struct {
	to    io.Writer
	width func() int // of the terminal, in columns
	drawn int        // lines of the block that is there
}

func newScreen(to io.Writer, width func() int) *screen { return &screen{to: to, width: width} }

// Of a terminal: up so many lines, and clear what is below. Nothing that moves ever scrolls away: the block is short.
const (
	lineUp     = "\x1b[%dA"
	clearBelow = "\r\x1b[J"
)

// draw draws the block anew. A note is left standing above it.
func (s *screen) draw(p loadtest.Progress) {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, lineUp, s.drawn)
	}
	b.WriteString(clearBelow)
	if p.Note != "" {
		b.WriteString(p.Note + "\n")
	}
	lines := block(p)
	width := s.width()
	for _, l := range lines {
		b.WriteString(clip(l, width-1) + "\n")
	}
	s.drawn = len(lines)
	_, _ = io.WriteString(s.to, b.String())
}

// leave leaves the last block where it is.
func (s *screen) leave() { s.drawn = 0 }

// block is the lines that tell of a run.
func block(p loadtest.Progress) []string {
	var last loadtest.Second
	if n := len(p.Seconds); n > 0 {
		last = p.Seconds[n-1]
	}
	of := func(get func(loadtest.Second) float64) []float64 {
		var all []float64
		for _, s := range p.Seconds {
			all = append(all, get(s))
		}
		return all
	}
	lines := []string{heading(p)}
	add := func(name, spark, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-12s%-30s  ", name, spark)+fmt.Sprintf(format, args...))
	}
	failed := ""
	if p.Failed > 0 {
		failed = fmt.Sprintf(", %d FAILED", p.Failed)
	}
	published := of(func(s loadtest.Second) float64 { return float64(s.Published) })
	add("published", spark(published), "%s/s  %d in all%s", short(float64(last.Published)), p.Published, failed)
	if q := p.Acks; q != nil {
		acks := of(func(s loadtest.Second) float64 { return s.AckP99 })
		add("acks p99", spark(acks), "p50 %s  p99 %s  max %s ms", figure(q.P50), figure(q.P99), figure(q.Max))
	}
	if p.Wanted > 0 {
		addReaders(p, last, of, add)
	}
	for i, u := range last.Processes {
		cores := of(func(s loadtest.Second) float64 {
			if i < len(s.Processes) {
				return s.Processes[i].Cores
			}
			return 0
		})
		name := "server"
		if i < len(p.Processes) {
			name = p.Processes[i]
		}
		add(name, spark(cores), "%.2f cores, %s", u.Cores, loadtest.Bytes(u.RSS))
	}
	if len(p.Groups) > 1 {
		var all []string
		for _, g := range p.Groups {
			all = append(all, fmt.Sprintf("%s %d/%d", g.Name, g.Live, g.Wanted))
		}
		lines = append(lines, "            "+strings.Join(all, "  "))
	}
	return lines
}

// addReaders adds the lines that tell of those who read.
func addReaders(p loadtest.Progress, last loadtest.Second, of func(get func(loadtest.Second) float64) []float64, add func(name, spark, format string, args ...any)) {
	rest := ""
	if p.Expected > p.Delivered {
		rest = fmt.Sprintf(", %d to come", p.Expected-p.Delivered)
	}
	delivered := of(func(s loadtest.Second) float64 { return float64(s.Delivered) })
	add("delivered", spark(delivered), "%s/s  %d in all%s", short(float64(last.Delivered)), p.Delivered, rest)
	latency := "nothing in the last 5 s"
	if q := p.Latency; q != nil {
		latency = fmt.Sprintf("p50 %s  p99 %s  max %s ms", figure(q.P50), figure(q.P99), figure(q.Max))
	}
	add("p99", spark(of(func(s loadtest.Second) float64 { return s.P99 })), "%s", latency)
	if p.Duplicates+p.Disordered+p.Unexpected > 0 {
		add("content", "", "%d duplicates, %d OUT OF ORDER, %d UNEXPECTED", p.Duplicates, p.Disordered, p.Unexpected)
	}
	failures := ""
	if p.Failures > 0 {
		failures = fmt.Sprintf(", %d FAILED (%s)", p.Failures, p.LastFailure)
	}
	live := of(func(s loadtest.Second) float64 { return float64(s.Live) })
	add("connections", spark(live), "%d of %d live, %d reconnects%s", p.Live, p.Wanted, p.Reconnects, failures)
}

// heading says what the run is doing.
func heading(p loadtest.Progress) string {
	text := fmt.Sprintf("%s, run %s: %s %s", p.Scenario, p.Run, p.Phase, p.Elapsed.Round(time.Second))
	if p.Of > 0 {
		text += " of " + p.Of.Round(time.Second).String()
	}
	return text
}

// sparks are the heights of a sparkline.
var sparks = []rune(" ▁▂▃▄▅▆▇█")

// spark draws the last 30 values, from 0 to the highest of them.
func spark(values []float64) string {
	values = values[max(0, len(values)-30):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 && v > 0 {
			i = max(1, int(math.Round(v/most*float64(len(sparks)-1))))
		}
		b.WriteRune(sparks[i])
	}
	return b.String()
}

// short is a number in few characters.
func short(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.2fM", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1fk", n/1e3)
	}
	return fmt.Sprintf("%.0f", n)
}

// figure is milliseconds in few characters.
func figure(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.2f", ms)
}

// clip cuts a line to so many columns; what could move the cursor is left out.
func clip(line string, columns int) string {
	var b strings.Builder
	n := 0
	for _, r := range line {
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		if n++; n > columns {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
