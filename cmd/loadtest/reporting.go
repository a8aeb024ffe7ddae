package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/eventissuer/eventissuer/loadtest"
)

// reporting says how a run is watched and told of.
type reporting struct {
	JSON  bool   `name:"json" help:"Print the report as JSON."`
	HTML  string `name:"html" placeholder:"FILE" type:"path" help:"Write the report as a page with charts too. It needs no other file and no network."`
	Quiet bool   `short:"q" help:"No progress on standard error."`
}

func terminal() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// progressTo is where lines of progress go; nil for nowhere.
func (r *reporting) progressTo() io.Writer {
	if r.Quiet || !terminal() {
		return nil
	}
	return os.Stderr
}

// watch gives what a run's progress is told to, nil for nobody, and what is called once the run is over. On a terminal
// that is a block of lines which is drawn anew; elsewhere lines, where they are wanted.
func (r *reporting) watch(lines bool) (watch func(loadtest.Progress), done func()) {
	nothing := func() {}
	switch {
	case r.Quiet:
		return nil, nothing
	case terminal() && os.Getenv("TERM") != "dumb":
		s := newScreen(os.Stderr, func() int {
			width, _, err := term.GetSize(int(os.Stderr.Fd()))
			if err != nil || width <= 0 {
				width = 80
			}
			return width
		})
		return s.draw, s.leave
	case terminal() || lines:
		return loadtest.Lines(os.Stderr), nothing
	}
	return nil, nothing
}

// errContent ends a run whose report shows that something went wrong.
var errContent = errors.New("content was not right")

// outcome is the report of a run that is told of as a page too.
type outcome interface {
	writable
	WriteHTML(w io.Writer) error
	// Right says whether all was as it should be.
	Right() bool
}

// print writes a report to where it is wanted, and returns what the program's exit code says of it. interrupted is why the run did
// not go to its end.
func (r *reporting) print(w io.Writer, report outcome, interrupted string) error {
	if err := printReport(w, r.JSON, report); err != nil {
		return err
	}
	if r.HTML != "" {
		if err := writePage(r.HTML, report); err != nil {
			return err
		}
	}
	switch {
	case interrupted != "":
		return context.Canceled
	case !report.Right():
		return errContent
	}
	return nil
}

// writePage writes the report as a page.
func writePage(file string, report outcome) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := errors.Join(report.WriteHTML(f), f.Close()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// writable is a report.
type writable interface{ WriteText(w io.Writer) error }

func printReport(w io.Writer, asJSON bool, r writable) error {
	if !asJSON {
		return r.WriteText(w)
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(r)
}
