package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	redisStart = 20 * time.Second
	redisStop  = 10 * time.Second
	redisHow   = "run deploy/local/install redis, or install redis-server"
)

// RedisOptions are what a test may ask of its own Redis. The zero value is one plain server on a free port that keeps
// nothing over a restart.
type RedisOptions struct {
	Dir        string   // the folder of data and log; must be absolute. StartRedis gives a temporary one
	Port       int      // 0 takes a free one
	AppendOnly bool     // keep every acknowledged write over a restart
	Args       []string // further arguments of redis-server, such as "--maxmemory", "10mb"
}

// RedisProcess is one redis-server. Its methods may be called concurrently.
type RedisProcess struct {
	process process
	dir     string
	port    int
}

// Addr is the server's address. It stays the same over restarts.
func (r *RedisProcess) Addr() string { return address(r.port) }

// URL is the server's address as --redis-url takes it.
func (r *RedisProcess) URL() string { return "redis://" + r.Addr() }

// Pid is the process id, 0 while the server is stopped.
func (r *RedisProcess) Pid() int { return r.process.pid() }

// Start starts a stopped server on its port and data, and blocks until it answers.
func (r *RedisProcess) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisStart)
	defer cancel()
	return r.process.start(ctx)
}

// Kill is kill -9. It returns when the process is gone.
func (r *RedisProcess) Kill() error { return r.process.stop(syscall.SIGKILL, redisStop) }

// Stop is an orderly shutdown.
func (r *RedisProcess) Stop() error { return r.process.stop(syscall.SIGTERM, redisStop) }

// Pause freezes the server: connections stay open and nothing answers.
func (r *RedisProcess) Pause() error { return r.process.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (r *RedisProcess) Resume() error { return r.process.signal(syscall.SIGCONT) }

// Flush has the server forget all that it keeps.
func (r *RedisProcess) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisStart)
	defer cancel()
	return command(ctx, r.Addr(), "FLUSHALL", "+OK")
}

// Empty deletes what a stopped server kept, so that it starts with nothing.
func (r *RedisProcess) Empty() error { return os.RemoveAll(filepath.Join(r.dir, "appendonlydir")) }

// NewRedis prepares a server in o.Dir without starting it. A *[MissingError] says that the machine has no Redis.
func NewRedis(o RedisOptions) (*RedisProcess, error) {
	server, err := program(redisHow, "redis-server", "valkey-server")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("prepare Redis: %w", err)
	}
	port := o.Port
	if port == 0 {
		ports, err := freePorts(1)
		if err != nil {
			return nil, fmt.Errorf("prepare Redis: %w", err)
		}
		port = ports[0]
	}
	r := &RedisProcess{dir: o.Dir, port: port}
	appendOnly := "no"
	if o.AppendOnly {
		appendOnly = "yes"
	}
	r.process = process{
		name: "Redis",
		dir:  o.Dir,
		log:  filepath.Join(o.Dir, "redis.log"),
		args: slices.Concat([]string{
			server, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", o.Dir,
			"--appendonly", appendOnly, "--appendfsync", "always", "--daemonize", "no", "--loglevel", "notice",
		}, o.Args),
		up: func(ctx context.Context, _ []byte) error { return ping(ctx, address(port)) },
	}
	return r, nil
}

// ping asks for a PONG; while Redis loads its data it answers with an error.
func ping(ctx context.Context, addr string) error { return command(ctx, addr, "PING", "+PONG") }

// command gives a command that has one answer. It speaks the protocol's inline form, so that this package needs no client.
func command(ctx context.Context, addr, what, want string) (err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte(what + "\r\n")); err != nil {
		return err
	}
	b := make([]byte, 128)
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	if answer := strings.TrimSpace(string(b[:n])); answer != want {
		return fmt.Errorf("answered %q", answer)
	}
	return nil
}
