package main

import (
	"context"
	"net/http"
)

type subscriptionsPause struct{ subscriptionName }

// Run is called by kong.
func (p *subscriptionsPause) Run(ctx context.Context, c *client, o *console) error {
	return steer(ctx, c, o, p.Subscription, ":pause", nil)
}

type subscriptionsResume struct{ subscriptionName }

// Run is called by kong.
func (r *subscriptionsResume) Run(ctx context.Context, c *client, o *console) error {
	return steer(ctx, c, o, r.Subscription, ":resume", nil)
}

type subscriptionsRotateSecret struct {
	subscriptionName
	Keep string `placeholder:"24h" help:"For how long what was valid stays valid beside the new one: 0s to 168h. Default 24h."`
}

// Help is shown by kong.
func (r *subscriptionsRotateSecret) Help() string {
	return "The new secret is printed, and never shown again.\n\nExamples:\n\n  eventctl subscriptions rotate-secret billing\n  eventctl subscriptions rotate-secret billing --keep 0s\n"
}

// Run is called by kong.
func (r *subscriptionsRotateSecret) Run(ctx context.Context, c *client, o *console) error {
	return steer(ctx, c, o, r.Subscription, ":rotate-secret", compact(map[string]any{"keep": r.Keep}))
}

type subscriptionsReplay struct {
	subscriptionName
	Since string `required:"true" placeholder:"WHEN" help:"oldest, a time as 2026-01-02T03:04:05Z, or how long ago, as 2h."`
}

// Help is shown by kong.
func (r *subscriptionsReplay) Help() string {
	return `Examples:

  eventctl subscriptions replay billing --since 2h
  eventctl subscriptions replay billing --since oldest

One with the ordering key is taken back as a whole: what is before that time and was not delivered yet is passed over. Of one with the ordering none they are sent beside what goes on being sent.
`
}

// Run is called by kong.
func (r *subscriptionsReplay) Run(ctx context.Context, c *client, o *console) error {
	body := map[string]any{"since": ago(r.Since)}
	if r.Since == "oldest" {
		body = map[string]any{"from": r.Since}
	}
	return steer(ctx, c, o, r.Subscription, ":replay", body)
}

// steer does something to a subscription with a sink, and prints the answer.
func steer(ctx context.Context, c *client, o *console, idOrName, verb string, body any) error {
	s, err := c.subscription(ctx, idOrName)
	if err != nil {
		return err
	}
	return change(ctx, c, o, http.MethodPost, subscriptionPath(s.ID)+verb, body)
}
