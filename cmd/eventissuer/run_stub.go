package main

import (
	"context"
	"io"
	"log/slog"
	"net"
)

func serve(ctx context.Context, c Config, log *slog.Logger, banner io.Writer, started func(net.Addr)) error {
	<-ctx.Done()
	return newLifecycle(log).stop(ctx)
}
