package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

type listenCommand struct {
	ForwardTo string `name:"forward-to" required:"" placeholder:"URL" help:"Where events are posted, as http://localhost:3000/hook."`

	Subscription string   `placeholder:"ID|NAME" help:"Take streams, types, filters and mode from this subscription, and read beside it: its own positions stay where they are."`
	Stream       []string `sep:"none" help:"Stream to forward. Repeatable. None: those that the types of --type belong to."`
	Type         []string `sep:"none" help:"Only events of this type; a * at the end makes it a prefix. Repeatable."`
	Filter       string   `placeholder:"CESQL" help:"Only events for which this CloudEvents SQL expression is true."`
	From         string   `placeholder:"WHERE" help:"Where to begin: oldest, latest (the default), or a time as 2026-01-02T03:04:05Z."`

	Secret   string        `placeholder:"whsec_…" env:"EVENTCTL_WEBHOOK_SECRET" help:"What messages are signed with. Default: one that is made, and printed at the start."`
	Mode     string        `enum:"structured,binary,batch," default:"" help:"How an event is posted: structured (the default), binary, or batch, an array of one. Of a subscription: as it is set."`
	Attempts int           `default:"4" help:"How often an event is posted before the next one is (${default})."`
	Timeout  time.Duration `default:"15s" help:"How long an answer may take (${default})."`

	Count       int           `short:"n" placeholder:"N" help:"End after so many events."`
	MaxEvent    int           `name:"max-event" default:"16777216" help:"Bytes of the largest event to be read (${default})."`
	IdleTimeout time.Duration `name:"idle-timeout" default:"50s" help:"Take the connection for dead after so long without a byte; servers send a heartbeat every 15 s (${default})."`
}

// Help is shown by kong.
func (l *listenCommand) Help() string {
	return `Examples:

  eventctl listen --forward-to http://localhost:3000/hook --stream orders
  eventctl listen --forward-to http://localhost:3000/hook --subscription billing --from 2026-01-02T03:04:05Z
  eventctl listen --forward-to http://localhost:3000/hook --type 'no.acme.order.*' --mode binary --secret "$SECRET"

Events are posted as the server posts them to a subscription's endpoint: one after another, signed by Standard Webhooks with the secret (v1) and the key (v1a) that are printed at the start. An answer of 2xx takes an event; after any other, or none, it is posted again with the same webhook-id, and after --attempts the next one is. Redirects are not followed.

One line an event on standard output: when it was posted, its type and subject, the answer's status, and how long that took. What the server says besides, and each attempt that failed, on standard error. After an interruption of the connection to the server it goes on where it was; Ctrl-C ends it.
`
}

// What --attempts and --timeout may be.
const (
	maxPosts       = 100
	maxPostTimeout = 10 * time.Minute
)

// query is an events:query body.
type query struct {
	Streams []string          `json:"streams,omitempty"`
	Types   []string          `json:"types,omitempty"`
	Filter  string            `json:"filter,omitempty"`
	Filters []json.RawMessage `json:"filters,omitempty"`
	From    string            `json:"from,omitempty"`
}

// pushed is what of a subscription says what its endpoint would get. One that sessions read has no mode.
type pushed struct {
	Streams  []string          `json:"streams"`
	Types    []string          `json:"types"`
	Filters  []json.RawMessage `json:"filters"`
	Settings struct {
		Mode string `json:"mode"`
	} `json:"protocolsettings"`
	Config struct {
		Batch struct {
			Max int `json:"max"`
		} `json:"batch"`
	} `json:"config"`
}

func (p *pushed) mode() string {
	if p.Config.Batch.Max > 1 {
		return string(webhook.Batch)
	}
	return p.Settings.Mode
}

// Run is called by kong.
func (l *listenCommand) Run(ctx context.Context, c *client, o *console) error {
	f, err := l.forwarder(c, o)
	if err != nil {
		return err
	}
	defer f.http.CloseIdleConnections()
	q, mode := query{Streams: l.Stream, Types: l.Type, Filter: l.Filter, From: l.From}, l.Mode
	if l.Subscription != "" {
		sub, err := c.pushed(ctx, l.Subscription)
		if err != nil {
			return err
		}
		q, mode = query{Streams: sub.Streams, Types: sub.Types, Filters: sub.Filters, From: l.From}, cmp.Or(mode, sub.mode())
	}
	f.mode = webhook.Mode(cmp.Or(mode, string(webhook.Structured)))
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	if err := f.announce(); err != nil {
		return err
	}
	reader := &follower{
		client: c, console: o, path: "/v1/events:query", query: body, maxEvent: l.MaxEvent, idle: l.IdleTimeout,
		event: func(ctx context.Context, _ string, event []byte) error { return f.forward(ctx, event) },
		keep:  &keeper{client: c, console: o},
		left:  l.Count,
	}
	return reader.run(ctx)
}

// forwarder checks the flags, and makes what posts to the address that they give.
func (l *listenCommand) forwarder(c *client, o *console) (*forwarder, error) {
	switch {
	case l.Subscription != "" && (len(l.Stream)+len(l.Type) > 0 || l.Filter != ""):
		return nil, &usageError{"--subscription has its own streams, types and filters: leave out the others"}
	case l.Subscription == "" && len(l.Stream)+len(l.Type) == 0:
		return nil, &usageError{"say what to forward by --subscription, --stream or --type (see 'eventctl streams list')"}
	case l.Attempts < 1 || l.Attempts > maxPosts:
		return nil, &usageError{fmt.Sprintf("--attempts %d: expected 1 to %d", l.Attempts, maxPosts)}
	case l.Timeout <= 0 || l.Timeout > maxPostTimeout:
		return nil, &usageError{fmt.Sprintf("--timeout %s: expected up to %s", l.Timeout, maxPostTimeout)}
	}
	to, err := url.Parse(l.ForwardTo)
	if err != nil || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return nil, &usageError{fmt.Sprintf("--forward-to %q: expected an address as http://localhost:3000/hook", l.ForwardTo)}
	}
	server, err := url.Parse(c.base)
	if err != nil {
		return nil, err
	}
	secret := webhook.NewSecret()
	if l.Secret != "" {
		if secret, err = webhook.ParseSecret(l.Secret); err != nil {
			return nil, &usageError{"--secret: " + err.Error()}
		}
	}
	return &forwarder{
		console: o, to: to.String(), origin: server.Hostname(), attempts: l.Attempts,
		signer: webhook.Signer{Secrets: []webhook.Secret{secret}, Keys: []webhook.SigningKey{webhook.NewSigningKey()}},
		http: &http.Client{
			Timeout:       l.Timeout,
			Transport:     &http.Transport{IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// pushed looks a subscription up, by its id or its name.
func (c *client) pushed(ctx context.Context, idOrName string) (pushed, error) {
	sub, err := c.subscription(ctx, idOrName)
	if err != nil {
		return pushed{}, err
	}
	body, err := c.do(ctx, http.MethodGet, subscriptionPath(sub.ID), nil)
	if err != nil {
		return pushed{}, err
	}
	var p pushed
	if err := json.Unmarshal(body, &p); err != nil {
		return pushed{}, fmt.Errorf("%s cannot be read: %w", sub, err)
	}
	return p, nil
}
