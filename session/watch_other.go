//go:build !linux

package session

import (
	"context"
	"net"
	"syscall"
)

// watcher exists on Linux only; elsewhere every session has a goroutine.
type watcher struct{}

func newWatcher() (*watcher, error)            { return &watcher{}, nil }
func (*watcher) add(*conn) error               { return nil }
func (*watcher) remove(*conn)                  {}
func (*watcher) run(ctx context.Context) error { <-ctx.Done(); return nil }

func rawConn(net.Conn) (syscall.RawConn, bool) { return nil, false }

const canShard = false

func writeFD(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
