package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type tailCommand struct {
	Streams []string `arg:"" optional:"" help:"Streams to follow, on one connection. None: those that the types of --type belong to."`

	From         string `placeholder:"WHERE" help:"Where to begin: oldest, latest (the default), or a time as 2026-01-02T03:04:05Z."`
	After        string `placeholder:"CURSOR" help:"Begin after this cursor."`
	CursorFile   string `name:"cursor-file" placeholder:"FILE" help:"Keep the cursor in this file: begin after it if it is there, else as --from or --after say."`
	Consumer     string `placeholder:"NAME" help:"Read as this named consumer, whose cursor the server keeps. What was printed is confirmed every 10 s and at the end."`
	Subscription string `placeholder:"ID|NAME" help:"Take this subscription's events, which its other readers then do not get, and acknowledge each one as soon as it is printed or --exec is done with it."`
	picture      `embed:""`
	matching     `embed:""`
	reading      `embed:""`
	working      `embed:""`
}

// matching is which events are wanted.
type matching struct {
	Type     []string `sep:"none" help:"Only events of this type; a * at the end makes it a prefix. Repeatable."`
	Source   []string `sep:"none" help:"Only events of this source; likewise."`
	Subject  []string `sep:"none" help:"Only events with this subject; likewise. It stands in the address: not for identifiers of persons."`
	Resource []string `sep:"none" help:"Only events with this resource attribute; likewise."`
	Filter   string   `placeholder:"CESQL" help:"Only events for which this CloudEvents SQL expression is true."`
}

// add adds the filters to a query.
func (m *matching) add(q url.Values) {
	for name, values := range map[string][]string{"type": m.Type, "source": m.Source, "subject": m.Subject, "resource": m.Resource} {
		if len(values) > 0 {
			q[name] = values
		}
	}
	if m.Filter != "" {
		q.Set("filter", m.Filter)
	}
}

// picture is what is wanted of streams that keep the latest event of each key.
type picture struct {
	Snapshot         bool   `help:"Begin with the latest event of each key, where the stream keeps a state (--state of 'streams create'), and be told when one is gone."`
	Conflate         string `placeholder:"INTERVAL" help:"Only each key's latest event, once in so long: 100ms to 1m."`
	OverflowSnapshot bool   `name:"overflow-snapshot" help:"Having fallen far behind, begin anew with the latest event of each key, rather than read what was missed."`
}

// reading is how events are read and printed.
type reading struct {
	Count    int  `short:"n" placeholder:"N" help:"End after so many events."`
	Pretty   bool `help:"For people instead of programs: time, type and subject, then the data, indented."`
	Envelope bool `help:"Print {\"cursor\":…,\"event\":…} instead of the event alone; of a subscription with group and attempt; of --snapshot and --conflate lines {\"snapshot\":…}, {\"live\":…} and {\"removed\":…}, too."`

	MaxEvent    int           `name:"max-event" default:"16777216" help:"Bytes of the largest event to be read (${default})."`
	IdleTimeout time.Duration `name:"idle-timeout" default:"50s" help:"Take the connection for dead after so long without a byte; servers send a heartbeat every 15 s (${default})."`
}

// Help is shown by kong.
func (t *tailCommand) Help() string {
	return `Examples:

  eventctl tail trains --pretty
  eventctl tail trains works --from oldest -n 100
  eventctl tail trains --subject /train/61 --from 2026-01-02T03:04:05Z
  eventctl tail trains --filter "delay > 60 AND subject LIKE '/train/%'"
  eventctl tail trains --cursor-file trains.cursor | my-program
  eventctl tail positions --snapshot --conflate 2s --envelope | my-map
  eventctl tail --subscription billing --exec ./invoice

One JSON event a line on standard output; what the server says besides (gaps, drains) on standard error. After an interruption it goes on where it was: nothing is missed, and the last event may be printed twice only if the program itself was killed. Of --subscription and --exec, 'eventctl subscriptions tail --help' says more.
`
}

// address is the path and query to read from.
func (t *tailCommand) address() (string, error) {
	if len(t.Streams) == 0 && len(t.Type) == 0 {
		return "", &usageError{"name a stream to follow, or an event type with --type (see 'eventctl streams list')"}
	}
	if t.Consumer != "" && len(t.Streams) == 0 {
		return "", &usageError{"--consumer needs the streams to be named"}
	}
	q := url.Values{}
	path := "/v1/events"
	if len(t.Streams) == 1 {
		path = "/v1/streams/" + url.PathEscape(t.Streams[0]) + "/events"
	} else {
		q["stream"] = t.Streams
	}
	t.add(q)
	from := t.From
	if t.Snapshot {
		if from != "" {
			return "", &usageError{"--snapshot and --from both say where to begin: give one of them"}
		}
		from = "snapshot" // beside a cursor it says that what was printed is the picture up to there
	}
	overflow := ""
	if t.OverflowSnapshot {
		overflow = "snapshot"
	}
	for name, value := range map[string]string{"from": from, "consumer": t.Consumer, "conflate": t.Conflate, "overflow": overflow} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path, nil
}

// selects tells whether something says what to read, or from where.
func (t *tailCommand) selects() bool {
	return len(t.Streams)+len(t.Type)+len(t.Source)+len(t.Subject)+len(t.Resource) > 0 ||
		t.From+t.After+t.CursorFile+t.Consumer+t.Filter != "" || t.picture != (picture{})
}

// Run is called by kong.
func (t *tailCommand) Run(ctx context.Context, c *client, o *console) error {
	switch {
	case t.Subscription != "" && t.selects():
		return &usageError{"--subscription has its own streams, filters and position: leave out the others"}
	case t.Subscription != "":
		return t.work(ctx, c, o, t.Subscription, t.reading)
	case t.Exec != "":
		return &usageError{"--exec needs --subscription, whose events can be given back"}
	}
	path, err := t.address()
	if err != nil {
		return err
	}
	cursor := t.After
	if t.CursorFile != "" {
		kept, err := readCursor(t.CursorFile)
		if err == nil {
			err = writable(t.CursorFile)
		}
		if err != nil {
			return err
		}
		if kept != "" {
			cursor = kept
		}
	}
	p := &printer{out: o.out, pretty: t.Pretty, envelope: t.Envelope, color: o.terminals.out}
	f := &follower{
		client: c, console: o, path: path, cursor: cursor, maxEvent: t.MaxEvent, idle: t.IdleTimeout,
		event: func(_ context.Context, cursor string, event []byte) error { return p.event(cursor, event) },
		told:  p.told,
		keep:  &keeper{client: c, console: o, file: t.CursorFile, consumer: t.Consumer, streams: t.Streams},
		left:  t.Count,
	}
	return f.run(ctx)
}

// readCursor reads a kept cursor; "" if there is none yet.
func readCursor(file string) (string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", &fileError{fmt.Errorf("--cursor-file: %w", err)}
	}
	return strings.TrimSpace(string(text)), nil
}

// writable tells whether a cursor could be kept, before anything is read that it would be for.
func writable(file string) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return &fileError{fmt.Errorf("--cursor-file: %w", err)}
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// writeCursor replaces the file whole: a crash leaves the old cursor or the new one.
func writeCursor(file, cursor string) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return &fileError{fmt.Errorf("--cursor-file: %w", err)}
	}
	_, err = f.WriteString(cursor + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return &fileError{fmt.Errorf("--cursor-file: %w", err)}
	}
	return nil
}

// keeper keeps the cursor of what has been printed, in a file, or at the server under a consumer's name.
type keeper struct {
	client   *client
	console  *console
	file     string
	consumer string
	streams  []string

	kept   string
	keptAt time.Time
	lost   bool // another reader has the consumer
}

// Intervals between two times of keeping; what is printed after the last one may be printed again after a crash.
const (
	fileInterval     = time.Second
	consumerInterval = 10 * time.Second
)

// moved is told the cursor after something was printed or a heartbeat came.
func (k *keeper) moved(ctx context.Context, cursor string) error {
	interval := fileInterval
	if k.file == "" {
		interval = consumerInterval
	}
	if time.Since(k.keptAt) < interval {
		return nil
	}
	return k.keep(ctx, cursor)
}

// keep saves the cursor now, unless it is saved already. Only a file that cannot be written is an error: a server that
// does not answer now is asked again later.
func (k *keeper) keep(ctx context.Context, cursor string) error {
	if cursor == "" || cursor == k.kept || k.file == "" && k.consumer == "" {
		return nil
	}
	if k.file != "" {
		if err := writeCursor(k.file, cursor); err != nil {
			return err
		}
	}
	for _, stream := range k.streams {
		if k.consumer == "" || k.lost {
			break
		}
		_, err := k.client.do(ctx, "PUT", consumerName{stream, k.consumer}.path(), map[string]any{"cursor": cursor})
		var no *problem
		if errors.As(err, &no) && no.final() {
			k.lost = true
			k.console.note("the consumer's cursor cannot be saved any more: %v", no)
		} else if err != nil {
			k.console.note("the consumer's cursor is not saved yet: %v", err)
			k.keptAt = time.Now()
			return nil
		}
	}
	k.kept, k.keptAt = cursor, time.Now()
	return nil
}
