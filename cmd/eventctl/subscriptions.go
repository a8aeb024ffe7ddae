package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

type subscriptionsCommand struct {
	Create      subscriptionsCreate       `cmd:"" help:"Create a subscription; the same again is no error."`
	List        subscriptionsList         `cmd:"" help:"List the subscriptions."`
	Get         subscriptionsGet          `cmd:"" aliases:"show" help:"Show a subscription."`
	Stats       subscriptionsStats        `cmd:"" help:"Show where each partition is, how far behind, and who reads it."`
	Reset       subscriptionsReset        `cmd:"" help:"Move a subscription to any position."`
	Pause       subscriptionsPause        `cmd:"" help:"Send nothing to the sink of a subscription for now."`
	Resume      subscriptionsResume       `cmd:"" help:"Go on after a pause, or after the subscription was disabled."`
	Rotate      subscriptionsRotateSecret `cmd:"" name:"rotate-secret" help:"Replace what the messages to a sink are signed with."`
	Replay      subscriptionsReplay       `cmd:"" help:"Send events of before to a sink again."`
	Verify      subscriptionsVerify       `cmd:"" help:"Ask the endpoint at a sink now for its proof that it wants the events."`
	Test        subscriptionsTest         `cmd:"" help:"Send an example event to a sink."`
	Attempts    subscriptionsAttempts     `cmd:"" help:"List the attempts to deliver events to a sink."`
	Resend      subscriptionsResend       `cmd:"" help:"Send the events of single attempts again."`
	Redeliver   subscriptionsRedeliver    `cmd:"" help:"Send dead letters to a sink again."`
	Tail        subscriptionsTail         `cmd:"" help:"Take a subscription's events, and acknowledge them: the same as 'eventctl tail --subscription'."`
	Delete      subscriptionsDelete       `cmd:"" help:"Delete a subscription with its position. Its sessions end."`
	DeadLetters subscriptionsDeadLetters  `cmd:"" name:"dead-letters" help:"List the events that were given up after too many attempts."`
}

// subscriptionName is how a command is told which one.
type subscriptionName struct {
	Subscription string `arg:"" name:"id|name" help:"Id of the subscription, or its name."`
}

func subscriptionPath(id string) string { return "/v1/subscriptions/" + url.PathEscape(id) }

// subscription is what eventctl itself needs to know of one.
type subscription struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// String names it for messages.
func (s subscription) String() string {
	if s.Name == "" {
		return "subscription " + s.ID
	}
	return fmt.Sprintf("subscription %s (%s)", s.Name, s.ID)
}

// subscription finds one by its id, or by its name if only one has it.
func (c *client) subscription(ctx context.Context, idOrName string) (subscription, error) {
	if idOrName == "" {
		return subscription{}, &usageError{"name a subscription (see 'eventctl subscriptions list')"}
	}
	a, err := c.send(ctx, http.MethodGet, subscriptionPath(idOrName), "", nil)
	if err != nil {
		return subscription{}, err
	}
	var byID subscription
	if a.status == http.StatusOK && json.Unmarshal(a.body, &byID) == nil && byID.ID == idOrName {
		return byID, nil
	}
	if a.status/100 != 2 {
		if no := c.problemOf(a.status, a.header, a.body); no.Status != http.StatusNotFound && no.Status != http.StatusBadRequest {
			return subscription{}, no
		}
	}
	var named []subscription
	err = c.each(ctx, "/v1/subscriptions", nil, func(item json.RawMessage) error {
		var s subscription
		if err := json.Unmarshal(item, &s); err != nil {
			return err
		}
		if s.Name == idOrName {
			named = append(named, s)
		}
		return nil
	})
	switch {
	case err != nil:
		return subscription{}, err
	case len(named) == 0:
		return subscription{}, &refusedError{fmt.Sprintf("there is no subscription with the id or the name %q: see 'eventctl subscriptions list'", idOrName)}
	case len(named) > 1:
		ids := make([]string, len(named))
		for i, s := range named {
			ids[i] = s.ID
		}
		return subscription{}, &usageError{fmt.Sprintf("%d subscriptions have the name %q: give the id, one of %s", len(named), idOrName, strings.Join(ids, ", "))}
	}
	return named[0], nil
}

type subscriptionsCreate struct {
	Name string `arg:"" optional:"" help:"Its name; without one, it is known by its id alone."`

	File           string   `short:"f" placeholder:"FILE" help:"The whole subscription as JSON, instead of the name and flags. - is standard input."`
	Stream         []string `sep:"none" help:"Stream that it reads. Repeatable. None: those that the types of --type belong to."`
	Type           []string `sep:"none" help:"Only events of this type; a * at the end makes it a prefix. Repeatable."`
	Filter         string   `placeholder:"CESQL" help:"Only events for which this CloudEvents SQL expression is true."`
	Filters        string   `placeholder:"FILE|JSON" help:"Only events that all these filters match, of the dialects of the CloudEvents Subscriptions API. - is standard input."`
	From           string   `placeholder:"WHERE" help:"Where to begin: oldest, latest (the default), or a time as 2026-01-02T03:04:05Z."`
	Ordering       string   `enum:"key,none," default:"" help:"key (the default for readers): events of a key one after another. none (the default for a sink): as many at a time as there may be, whatever the partitions."`
	Sink           string   `placeholder:"URL" help:"Where its events are sent to, by https. None: readers take them. Its credential, headers and settings are said in --file."`
	AckTimeout     string   `name:"ack-timeout" placeholder:"60s" help:"How long a reader has for an event before others get it. Default 60s."`
	MaxUncommitted int      `name:"max-uncommitted" placeholder:"N" help:"Events that a session may hold without having acknowledged them. Default 1000."`
	MaxSessions    int      `name:"max-sessions" placeholder:"N" help:"Readers at a time. Default 100."`
	MaxAttempts    int      `name:"max-attempts" placeholder:"N" help:"How often an event is given out before it is a dead letter. Default 10."`
	Description    string   `help:"What it is for."`
	Output         string   `short:"o" enum:"json,id" default:"json" help:"What to print: json (the subscription) or id."`
}

// Help is shown by kong.
func (s *subscriptionsCreate) Help() string {
	return `Examples:

  eventctl subscriptions create billing --stream orders --type 'no.acme.order.*' --from oldest
  eventctl subscriptions create alarms --stream trains --filter "delay > 60" --ordering none --ack-timeout 5m
  eventctl subscriptions create -f billing.json --output id
  eventctl subscriptions create hook --stream orders --sink https://example.com/events
`
}

// Run is called by kong.
func (s *subscriptionsCreate) Run(ctx context.Context, c *client, o *console) error {
	object, err := s.object(o)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	a, err := c.send(ctx, http.MethodPost, "/v1/subscriptions", "application/json", raw)
	if err != nil {
		return err
	}
	if a.status/100 != 2 {
		return c.problemOf(a.status, a.header, a.body)
	}
	var made struct {
		subscription
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(a.body, &made); err != nil || made.ID == "" {
		return fmt.Errorf("the answer (%d) is no subscription: %.200s", a.status, a.body)
	}
	if s.Output == "id" {
		_, err = fmt.Fprintln(o.out, made.ID)
	} else {
		err = o.print(a.body)
	}
	if a.status == http.StatusCreated {
		o.note("created %s", made.subscription)
	} else {
		o.note("%s was there already, with the same content", made.subscription)
	}
	if made.Secret != "" && s.Output == "id" {
		// Whoever wants no notes needs it all the same.
		_, _ = fmt.Fprintf(o.err, "eventctl: its messages are signed with %s, which is not shown again\n", made.Secret)
	}
	return err
}

// object is what to create, as it is sent.
func (s *subscriptionsCreate) object(o *console) (any, error) {
	config := compact(map[string]any{
		"from": s.From, "ordering": s.Ordering, "ackTimeout": s.AckTimeout, "maxUncommitted": s.MaxUncommitted,
		"maxSessions": s.MaxSessions, "maxAttempts": s.MaxAttempts,
	})
	object := compact(map[string]any{"name": s.Name, "description": s.Description, "sink": s.Sink})
	if len(config) > 0 {
		object["config"] = config
	}
	if len(s.Stream) > 0 {
		object["streams"] = s.Stream
	}
	if len(s.Type) > 0 {
		object["types"] = s.Type
	}
	filters, err := s.filters(o)
	if err != nil {
		return nil, err
	}
	if len(filters) > 0 {
		object["filters"] = filters
	}
	switch {
	case s.File != "" && len(object) > 0:
		return nil, &usageError{"--file is the whole subscription: leave out the name and the flags that say what it is"}
	case s.File != "":
		return o.readJSON(s.File)
	case len(s.Stream)+len(s.Type) == 0:
		return nil, &usageError{"name a stream with --stream, or an event type with --type (see 'eventctl streams list')"}
	}
	return object, nil
}

func (s *subscriptionsCreate) filters(o *console) ([]json.RawMessage, error) {
	var filters []json.RawMessage
	if raw := json.RawMessage(strings.TrimSpace(s.Filters)); len(raw) > 0 {
		if raw[0] != '[' && raw[0] != '{' {
			var err error
			if raw, err = o.readJSON(s.Filters); err != nil {
				return nil, err
			}
			raw = bytes.TrimSpace(raw)
		}
		if raw[0] == '{' { // a single one
			raw = append(append(json.RawMessage{'['}, raw...), ']')
		}
		if err := json.Unmarshal(raw, &filters); err != nil {
			return nil, &usageError{fmt.Sprintf("--filters: expected a JSON array of filters, as [{\"prefix\":{\"subject\":\"/train/\"}}]: %v", err)}
		}
	}
	if s.Filter != "" {
		sql, err := json.Marshal(map[string]string{"sql": s.Filter})
		if err != nil {
			return nil, err
		}
		filters = append(filters, sql)
	}
	return filters, nil
}

type subscriptionsList struct {
	Search string `short:"s" placeholder:"WORDS" help:"Only those that say this of themselves."`
	JSON   bool   `name:"json" help:"One subscription a line, as JSON."`
}

// Run is called by kong.
func (l *subscriptionsList) Run(ctx context.Context, c *client, o *console) error {
	query := url.Values{}
	if l.Search != "" {
		query.Set("q", l.Search)
	}
	return list(ctx, c, o, "/v1/subscriptions", query, l.JSON, []string{"ID", "NAME", "STREAMS", "ORDERING", "STATE"},
		[]string{"id", "name", "streams", "config.ordering", "status.state"})
}

type subscriptionsGet struct{ subscriptionName }

// Run is called by kong.
func (g *subscriptionsGet) Run(ctx context.Context, c *client, o *console) error {
	s, err := c.subscription(ctx, g.Subscription)
	if err != nil {
		return err
	}
	return show(ctx, c, o, subscriptionPath(s.ID))
}

type subscriptionsReset struct {
	subscriptionName
	To    string `required:"true" placeholder:"WHERE" help:"oldest, latest, a time as 2026-01-02T03:04:05Z, or a cursor of the streams that it reads."`
	Force bool   `help:"Although it has sessions, which then end."`
	Yes   bool   `short:"y" help:"Do not ask."`
	JSON  bool   `name:"json" help:"Print where it is then as JSON."`
}

// Help is shown by kong.
func (r *subscriptionsReset) Help() string {
	return "Examples:\n\n  eventctl subscriptions reset billing --to oldest\n  eventctl subscriptions reset billing --to 2026-01-02T03:04:05Z --force --yes\n"
}

// Run is called by kong.
func (r *subscriptionsReset) Run(ctx context.Context, c *client, o *console) error {
	if !r.Yes {
		if err := o.askable(resetting, "subscription "+r.Subscription); err != nil {
			return err
		}
	}
	s, err := c.subscription(ctx, r.Subscription)
	if err != nil {
		return err
	}
	if err := o.confirm(resetting, s.String()+" to "+r.To, r.Yes); err != nil {
		return err
	}
	path := subscriptionPath(s.ID) + ":reset"
	if r.Force {
		path += "?force=true"
	}
	member := "cursor"
	if _, err := time.Parse(time.RFC3339, r.To); err == nil || r.To == "oldest" || r.To == "latest" {
		member = "from"
	}
	body, err := c.do(ctx, http.MethodPost, path, map[string]string{member: r.To})
	var no *problem
	if errors.As(err, &no) && no.Status == http.StatusConflict && !r.Force {
		no.remedy = "end its sessions first, or say --force, which ends them"
	}
	if err != nil {
		return err
	}
	o.note("reset %s to %s", s, r.To)
	return o.printStats(body, r.JSON)
}

type subscriptionsTail struct {
	subscriptionName
	reading `embed:""`
	working `embed:""`
}

// Help is shown by kong.
func (t *subscriptionsTail) Help() string {
	return `Examples:

  eventctl subscriptions tail billing | my-program
  eventctl subscriptions tail billing --exec ./invoice --exec-concurrency 4 --retry-delay 1m

Each event is acknowledged as soon as it is written, or its command has ended with 0. A command that ends with anything else gives its event back: it comes again after --retry-delay, to whichever reader, until the subscription's attempts are used up. A command that is not there (exit codes 126 and 127) ends eventctl.

A command gets the event as JSON on standard input, and EVENTISSUER_ID, _TYPE, _SOURCE, _SUBJECT, _GROUP, _ATTEMPT, _CURSOR and _SUBSCRIPTION in its environment. Events wait for their turn here while the subscription's ackTimeout runs: with slow commands, give it a small maxUncommitted.

After Ctrl-C no event is taken any more; commands that run have --grace to end.
`
}

// Run is called by kong.
func (t *subscriptionsTail) Run(ctx context.Context, c *client, o *console) error {
	return t.work(ctx, c, o, t.Subscription, t.reading)
}

type subscriptionsDelete struct {
	subscriptionName
	Yes bool `short:"y" help:"Do not ask."`
}

// Run is called by kong.
func (d *subscriptionsDelete) Run(ctx context.Context, c *client, o *console) error {
	if !d.Yes {
		if err := o.askable(deletion, "subscription "+d.Subscription); err != nil {
			return err
		}
	}
	s, err := c.subscription(ctx, d.Subscription)
	if err != nil {
		return err
	}
	return remove(ctx, c, o, subscriptionPath(s.ID), s.String()+" with its position", d.Yes)
}

type subscriptionsDeadLetters struct {
	subscriptionName
	JSON bool `name:"json" help:"One dead letter a line, as JSON, with its event."`
}

// Run is called by kong.
func (d *subscriptionsDeadLetters) Run(ctx context.Context, c *client, o *console) error {
	s, err := c.subscription(ctx, d.Subscription)
	if err != nil {
		return err
	}
	return list(ctx, c, o, subscriptionPath(s.ID)+"/dead-letters", nil, d.JSON,
		[]string{"STREAM", "PARTITION", "OFFSET", "ATTEMPTS", "REASON", "AT", "TYPE", "ID", "LETTER", "REDELIVERED"},
		[]string{"stream", "partition", "offset", "attempts", "reason", "at", "event.type", "event.id", "id", "redelivered"})
}

type subscriptionsStats struct {
	subscriptionName
	Watch    bool          `short:"w" help:"Show it again and again, until Ctrl-C."`
	Interval time.Duration `default:"2s" help:"How often, with --watch (${default})."`
	JSON     bool          `name:"json" help:"Print it as JSON; with --watch on a line each."`
}

// Run is called by kong.
func (s *subscriptionsStats) Run(ctx context.Context, c *client, o *console) error {
	sub, err := c.subscription(ctx, s.Subscription)
	if err != nil {
		return err
	}
	path := subscriptionPath(sub.ID) + "/stats"
	if !s.Watch {
		body, err := c.do(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		return o.printStats(body, s.JSON)
	}
	for first := true; ; first = false {
		body, err := c.do(ctx, http.MethodGet, path, nil)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a watch has no end of its own: to interrupt it is no failure
		}
		var no *problem
		switch {
		case err == nil:
			if err := s.show(o, body, first); err != nil {
				return err
			}
		case errors.As(err, &no) && no.final():
			return err
		default:
			o.note("%s", c.ended(err))
		}
		if !clock.Pause(ctx, max(s.Interval, 100*time.Millisecond)) {
			return nil
		}
	}
}

// show prints one of many: over the one before where that can be done, else below it.
func (s *subscriptionsStats) show(o *console, body []byte, first bool) error {
	if s.JSON {
		var line bytes.Buffer
		if err := json.Compact(&line, body); err != nil {
			return err
		}
		_, err := fmt.Fprintln(o.out, line.String())
		return err
	}
	before := "\n"
	switch {
	case o.terminals.out:
		before = "\x1b[H\x1b[2J"
	case first:
		before = ""
	}
	if _, err := fmt.Fprint(o.out, before); err != nil {
		return err
	}
	return o.printStats(body, false)
}
