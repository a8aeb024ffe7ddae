package main

import (
	"context"
	"net/http"
	"net/url"
)

type consumersCommand struct {
	Show   consumersShow   `cmd:"" help:"Show where a consumer is, and how far behind."`
	Save   consumersSave   `cmd:"" help:"Save a cursor of the session that holds the consumer: everything up to it is done."`
	Reset  consumersReset  `cmd:"" help:"Move a consumer to any position, or make it. The session that holds it ends."`
	Delete consumersDelete `cmd:"" help:"Forget a consumer. The session that holds it ends."`
}

type consumerName struct {
	Stream   string `arg:"" help:"Name of the stream."`
	Consumer string `arg:"" help:"Name of the consumer."`
}

func (n consumerName) path() string {
	return "/v1/streams/" + url.PathEscape(n.Stream) + "/consumers/" + url.PathEscape(n.Consumer)
}

type consumersShow struct{ consumerName }

// Run is called by kong.
func (s *consumersShow) Run(ctx context.Context, c *client, o *console) error {
	return show(ctx, c, o, s.path())
}

type consumersSave struct {
	consumerName
	Cursor string `required:"true" help:"As 'eventctl tail --consumer NAME --envelope' prints it."`
}

// Run is called by kong.
func (s *consumersSave) Run(ctx context.Context, c *client, o *console) error {
	return change(ctx, c, o, http.MethodPut, s.path(), map[string]any{"cursor": s.Cursor})
}

type consumersReset struct {
	consumerName
	Cursor string `xor:"to" required:"true" help:"To this cursor."`
	From   string `xor:"to" required:"true" help:"To the oldest event, the latest, or a time: oldest, latest, 2026-01-02T03:04:05Z."`
}

// Help is shown by kong.
func (s *consumersReset) Help() string {
	return "Examples:\n\n  eventctl consumers reset trains my-app --from oldest\n  eventctl consumers reset trains my-app --from 2026-01-02T03:04:05Z\n"
}

// Run is called by kong.
func (s *consumersReset) Run(ctx context.Context, c *client, o *console) error {
	return change(ctx, c, o, http.MethodPut, s.path(), compact(map[string]any{"cursor": s.Cursor, "from": s.From, "reset": true}))
}

type consumersDelete struct {
	consumerName
	Yes bool `short:"y" help:"Do not ask."`
}

// Run is called by kong.
func (s *consumersDelete) Run(ctx context.Context, c *client, o *console) error {
	return remove(ctx, c, o, s.path(), "consumer "+s.Consumer+" of stream "+s.Stream, s.Yes)
}
