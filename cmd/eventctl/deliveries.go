package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// atOnce is how many attempts, or dead letters, one request to the server may name.
const atOnce = 100

// errUndelivered ends a command some of whose events the endpoint did not take. They have been named by then.
var errUndelivered = errors.New("the endpoint did not take all events")

type subscriptionsAttempts struct {
	subscriptionName
	State []string `sep:"none" enum:"delivered,refused,failed,gone,cut,lost" placeholder:"STATE" help:"Only what became of it: delivered, refused, failed, gone, cut or lost. Repeatable."`
	Event string   `placeholder:"ID" help:"Only attempts at this event."`
	Since string   `placeholder:"WHEN" help:"Only attempts made since: a time as 2026-01-02T03:04:05Z, or how long ago, as 2h."`
	Until string   `placeholder:"WHEN" help:"Only attempts made before."`
	Count int      `short:"n" default:"50" help:"The latest so many (${default}); 0 for all that are kept."`
	JSON  bool     `name:"json" help:"One attempt a line, as JSON."`
}

// Help is shown by kong.
func (a *subscriptionsAttempts) Help() string {
	return `Examples:

  eventctl subscriptions attempts billing --state failed --state refused --since 2h
  eventctl subscriptions attempts billing --event 4711 --json

The newest come first. All attempts that failed are kept, and a sample of those that were delivered. The ID is what 'eventctl subscriptions resend' takes.
`
}

// Run is called by kong.
func (a *subscriptionsAttempts) Run(ctx context.Context, c *client, o *console) error {
	query := url.Values{"state": a.State, "limit": {"200"}}
	if a.Count > 0 {
		query.Set("limit", strconv.Itoa(min(a.Count, 200)))
	}
	for name, text := range map[string]string{"since": ago(a.Since), "until": ago(a.Until), "event": a.Event} {
		if text != "" {
			query.Set(name, text)
		}
	}
	s, err := c.subscription(ctx, a.Subscription)
	if err != nil {
		return err
	}
	return listFirst(ctx, c, o, a.Count, subscriptionPath(s.ID)+"/attempts", query, a.JSON,
		[]string{"TIME", "STATE", "STATUS", "TOOK", "EVENT", "ATTEMPT", "NEXT", "REASON", "ID"},
		[]string{"time", "state", "status", "took", "event", "attempt", "nextAttempt", "reason", "id"})
}

// ago gives a time for how long ago something was, and any other text as it is.
func ago(text string) string {
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d).UTC().Format(time.RFC3339)
	}
	return text
}

// attempt is what eventctl itself needs to know of one.
type attempt struct {
	Of     string `json:"of"`
	State  string `json:"state"`
	Status int    `json:"status"`
	Took   string `json:"took"`
	Event  string `json:"event"`
	Reason string `json:"reason"`
}

func (a attempt) delivered() bool { return a.State == "delivered" }

type subscriptionsTest struct{ subscriptionName }

// Help is shown by kong.
func (t *subscriptionsTest) Help() string {
	return "The endpoint has to have proven that it wants the events. Exit code 1: it did not take this one.\n"
}

// Run is called by kong.
func (t *subscriptionsTest) Run(ctx context.Context, c *client, o *console) error {
	body, err := t.post(ctx, c, ":test", nil)
	if err != nil {
		return err
	}
	var a attempt
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("the answer is no attempt: %w", err)
	}
	if err := o.print(body); err != nil {
		return err
	}
	if !a.delivered() {
		return fmt.Errorf("the endpoint did not take the event: %s", cmp.Or(a.Reason, a.State))
	}
	return nil
}

type subscriptionsVerify struct{ subscriptionName }

// Help is shown by kong.
func (v *subscriptionsVerify) Help() string {
	return "The endpoint is asked for its consent, and else challenged. What it said is printed. Exit code 1: it has not proven that it wants the events.\n"
}

// Run is called by kong.
func (v *subscriptionsVerify) Run(ctx context.Context, c *client, o *console) error {
	body, err := v.post(ctx, c, ":verify", nil)
	if err != nil {
		return err
	}
	var is struct {
		Status json.RawMessage `json:"status"`
	}
	var status struct {
		Proof struct {
			State  string `json:"state"`
			Reason string `json:"reason"`
		} `json:"proof"`
	}
	if err := errors.Join(json.Unmarshal(body, &is), json.Unmarshal(is.Status, &status)); err != nil {
		return fmt.Errorf("the answer is no subscription: %w", err)
	}
	if err := o.print(is.Status); err != nil {
		return err
	}
	if p := status.Proof; p.State != "proven" {
		return fmt.Errorf("the endpoint has not proven that it wants the events: %s", cmp.Or(p.Reason, p.State))
	}
	return nil
}

type subscriptionsResend struct {
	subscriptionName
	Attempts []string `arg:"" name:"attempt" help:"Ids of attempts, as 'eventctl subscriptions attempts' prints them."`
	JSON     bool     `name:"json" help:"One attempt a line, as JSON."`
}

// Help is shown by kong.
func (r *subscriptionsResend) Help() string {
	return "The events of these attempts are sent again at once, each once, beside what else is sent. Exit code 1: not all were delivered.\n"
}

// Run is called by kong.
func (r *subscriptionsResend) Run(ctx context.Context, c *client, o *console) error {
	table := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	if !r.JSON {
		row(table, []string{"EVENT", "STATE", "STATUS", "TOOK", "REASON", "OF"})
	}
	failed := false
	for some := range slices.Chunk(r.Attempts, atOnce) {
		body, err := r.post(ctx, c, ":replay", map[string]any{"attempts": some})
		if err != nil {
			return errors.Join(table.Flush(), err)
		}
		var answer struct {
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("the answer is no list: %w", err)
		}
		for _, item := range answer.Items {
			var a attempt
			if err := json.Unmarshal(item, &a); err != nil {
				return fmt.Errorf("the answer is no list of attempts: %w", err)
			}
			failed = failed || !a.delivered()
			if r.JSON {
				if _, err := fmt.Fprintf(o.out, "%s\n", item); err != nil {
					return err
				}
				continue
			}
			status := "-"
			if a.Status > 0 {
				status = strconv.Itoa(a.Status)
			}
			row(table, []string{cell(a.Event), a.State, status, cell(a.Took), cell(a.Reason), a.Of})
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if failed {
		return errUndelivered
	}
	return nil
}

type subscriptionsRedeliver struct {
	subscriptionName
	Letters []string `arg:"" optional:"" name:"letter" help:"Ids of dead letters, as 'eventctl subscriptions dead-letters' prints them under LETTER."`
	All     bool     `help:"All that were not delivered since."`
}

// Help is shown by kong.
func (r *subscriptionsRedeliver) Help() string {
	return "Examples:\n\n  eventctl subscriptions redeliver billing --all\n  eventctl subscriptions redeliver billing 17 21\n\nThose that were not delivered this time either are printed with the reason. Exit code 1: there are some.\n"
}

// Run is called by kong.
func (r *subscriptionsRedeliver) Run(ctx context.Context, c *client, o *console) error {
	if r.All == (len(r.Letters) > 0) {
		return &usageError{"name dead letters (see 'eventctl subscriptions dead-letters'), or say --all"}
	}
	done, failed := 0, 0
	more := func(body map[string]any) (next string, err error) {
		raw, err := r.post(ctx, c, "/dead-letters:redeliver", body)
		if err != nil {
			return "", err
		}
		var answer struct {
			Redelivered int `json:"redelivered"`
			Failed      []struct {
				ID     string `json:"id"`
				Reason string `json:"reason"`
			} `json:"failed"`
			Next string `json:"next"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return "", fmt.Errorf("the answer does not say what became of them: %w", err)
		}
		done, failed = done+answer.Redelivered, failed+len(answer.Failed)
		var text bytes.Buffer
		for _, f := range answer.Failed {
			fmt.Fprintf(&text, "%s\t%s\n", f.ID, f.Reason)
		}
		_, err = o.out.Write(text.Bytes())
		return answer.Next, err
	}
	var err error
	if r.All {
		err = r.all(more)
	}
	for some := range slices.Chunk(r.Letters, atOnce) {
		if err == nil {
			_, err = more(map[string]any{"ids": some})
		}
	}
	o.note("delivered %d dead letters, %d were not", done, failed)
	if err == nil && failed > 0 {
		err = errUndelivered
	}
	return err
}

// all goes through all letters.
func (r *subscriptionsRedeliver) all(more func(body map[string]any) (next string, err error)) error {
	body := map[string]any{"all": true}
	for {
		next, err := more(body)
		if err != nil || next == "" || next == body["next"] {
			return err
		}
		body["next"] = next
	}
}

// post asks the server to do something with the subscription.
func (n subscriptionName) post(ctx context.Context, c *client, verb string, body any) ([]byte, error) {
	s, err := c.subscription(ctx, n.Subscription)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, http.MethodPost, subscriptionPath(s.ID)+verb, body)
}
