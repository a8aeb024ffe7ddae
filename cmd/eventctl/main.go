// Eventctl publishes to an Event Issuer, reads from it, and keeps its streams, event types, consumers and subscriptions.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/eventissuer/eventissuer/internal/version"
)

const description = `Publishes to an Event Issuer, reads from it, and keeps its streams, event types, consumers and subscriptions.

A first event:

  eventctl streams create trains
  eventctl types register 'app.train.*' --stream trains
  eventctl publish --type app.train.left --source /me --subject /train/61 --data '{"station":"Oslo S"}'
  eventctl tail trains --from oldest --pretty

Exit codes:

  0    all done. For tail and listen: it was ended with Ctrl-C, or by --count
  1    it failed: the server cannot be reached, or answered with an error that may pass; or an endpoint did not take its events
  2    wrong usage, or a file that cannot be read or written
  3    some events were not published, or could not be read in the input; each is named on standard error
  4    the server refuses, or asks to stop: a mistake in the request, no such thing, not allowed, another reader has taken over
  5    it differs: the server from the files (types diff), or a schema is not compatible (schemas check)
  130  interrupted before it was done`

// Exit codes, as the help tells them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnpublished = 3
	exitRefused     = 4
	exitDiffers     = 5
	exitInterrupted = 130
)

type cli struct {
	Server string   `placeholder:"URL" default:"http://127.0.0.1:8080" env:"EVENTCTL_SERVER" help:"Address of the Event Issuer (${default})."`
	Header []string `short:"H" sep:"none" placeholder:"'Name: value'" help:"Header field of every request. Repeatable."`
	Quiet  bool     `short:"q" help:"Say nothing on standard error but errors."`

	Publish       publishCommand       `cmd:"" help:"Publish events from files, standard input, or the command line."`
	Tail          tailCommand          `cmd:"" help:"Follow streams, or take a subscription's events; goes on by itself after any interruption."`
	State         stateCommand         `cmd:"" help:"Show the latest event of each key of a stream."`
	Listen        listenCommand        `cmd:"" help:"Forward events to a server under development as signed webhooks."`
	Replay        replayCommand        `cmd:"" help:"Publish recorded events at the pace of their own times."`
	Streams       streamsCommand       `cmd:"" help:"List, show, create and delete streams."`
	Types         typesCommand         `cmd:"" help:"List, show, register and delete event types; move them between environments."`
	Schemas       schemasCommand       `cmd:"" help:"List, show, check and register the schemas of event types."`
	Consumers     consumersCommand     `cmd:"" help:"Show, save, reset and delete named consumers."`
	Subscriptions subscriptionsCommand `cmd:"" help:"Create, list, show, reset and delete subscriptions, which readers share; see their lag; take their events."`
	Version       versionCommand       `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`
}

type versionCommand struct{}

// Run is called by kong.
func (versionCommand) Run(o *console) error {
	_, err := fmt.Fprintln(o.out, name())
	return err
}

// name is the program's, with its version.
func name() string { return "eventctl " + version.String() }

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer
	quiet    bool
	// terminals tells which of them are terminals.
	terminals struct{ in, out, err bool }
}

// note writes a line on standard error, unless --quiet.
func (c *console) note(format string, args ...any) {
	if !c.quiet {
		_, _ = fmt.Fprintf(c.err, "eventctl: "+format+"\n", args...)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A reader that has enough is an error of writing, after which the cursor is still kept. The signal is not ignored: a
	// command that is started would ignore it too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := &console{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	c.terminals.in = term.IsTerminal(int(os.Stdin.Fd()))
	c.terminals.out = term.IsTerminal(int(os.Stdout.Fd()))
	c.terminals.err = term.IsTerminal(int(os.Stderr.Fd()))
	os.Exit(run(ctx, c, os.Args[1:]))
}

// helpShown ends parsing after --help.
type helpShown struct{}

// run is the whole program but its exit.
func run(ctx context.Context, c *console, args []string) (code int) {
	var flags cli
	parser := kong.Must(&flags, kong.Name("eventctl"), kong.Description(description), kong.Vars{"version": name()},
		kong.Writers(c.out, c.err), kong.Exit(func(int) { panic(helpShown{}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	defer func() {
		if p := recover(); p != nil {
			if _, help := p.(helpShown); !help {
				panic(p)
			}
			code = exitDone
		}
	}()
	k, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(c.err, "eventctl: %v\nTry 'eventctl --help', or --help after any command.\n", err)
		return exitUsage
	}
	c.quiet = flags.Quiet
	client, err := newClient(flags.Server, flags.Header)
	if err != nil {
		_, _ = fmt.Fprintln(c.err, "eventctl:", err)
		return exitUsage
	}
	k.BindTo(ctx, (*context.Context)(nil))
	return c.report(k.Run(client, c))
}

// report writes an error for people, and says what it exits with.
func (c *console) report(err error) int {
	var (
		no      *problem
		refused *refusedError
		usage   *usageError
		file    *fileError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, syscall.EPIPE): // whoever read the output has enough of it
		return exitDone
	case errors.Is(err, errDiffers):
		return exitDiffers
	case errors.Is(err, errUnpublished):
		return exitUnpublished
	case errors.Is(err, errUndelivered):
		return exitFailed
	}
	_, _ = fmt.Fprintln(c.err, "eventctl:", err)
	switch {
	case errors.As(err, &usage), errors.As(err, &file):
		return exitUsage
	case errors.As(err, &refused):
		return exitRefused
	case errors.As(err, &no) && no.final():
		return exitRefused
	}
	return exitFailed
}

// fileError is a file of the user's that cannot be read or written: trying again will not help.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *fileError) Unwrap() error { return e.err }

// usageError is a call that makes no sense.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }
