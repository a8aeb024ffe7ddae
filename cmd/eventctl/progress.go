package main

import (
	"fmt"
	"time"
)

// progress tells on one line of a terminal how far a long input has been published.
type progress struct {
	console *console
	reader  *eventReader
	start   time.Time
	shown   time.Time
	open    bool // the line is on the screen, without its end
}

func newProgress(o *console) *progress { return &progress{console: o, start: time.Now()} }

func (p *progress) begin(r *eventReader) { p.reader = r }

// show updates the line, at most five times a second, and not in the first second: a short input needs none.
func (p *progress) show(events int) {
	now := time.Now()
	if p.console.quiet || !p.console.terminals.err || now.Sub(p.start) < time.Second || now.Sub(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown, p.open = now, true
	line := fmt.Sprintf("%d events  %.0f/s", events, float64(events)/now.Sub(p.start).Seconds())
	if r := p.reader; r != nil {
		read := r.read.Load()
		line += fmt.Sprintf("  %.1f MB", float64(read)/1e6)
		if r.size > 0 {
			line += fmt.Sprintf(" of %.1f MB (%d%%)", float64(r.size)/1e6, read*100/r.size)
		}
	}
	_, _ = fmt.Fprintf(p.console.err, "\r\x1b[K%s", line)
}

// end leaves the line, so that other messages stand on their own.
func (p *progress) end() {
	if p.open {
		_, _ = fmt.Fprintln(p.console.err)
		p.open = false
	}
}
