// Command servers runs a real Kafka and a real Redis on this machine, for tests and for development.
//
//	servers run COMMAND…    start both on free ports, run the command with their addresses in its environment, stop both
//	servers up              start both on fixed ports and run until interrupted; data is kept between runs
//	servers share           have Kafka's classes loaded faster from now on
//
// Under `run` the exit code is the command's. A server that the machine lacks is left out: the tests that need it are
// skipped, each reason is printed once at the end, and with CI=true the run has failed then.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
	}
	os.Exit(code)
}

func command(ctx context.Context, args []string) (int, error) {
	switch {
	case len(args) > 1 && args[0] == "run":
		return run(ctx, args[1:])
	case len(args) > 0 && args[0] == "up":
		if err := up(ctx, args[1:], os.Stdout); err != nil {
			return 1, err
		}
		return 0, nil
	case len(args) == 1 && args[0] == "share":
		if err := testenv.ShareKafkaClasses(ctx); err != nil {
			return 1, err
		}
		return 0, nil
	}
	return 2, errors.New("usage: servers run COMMAND… | servers share | servers up [--dir DIR] [--kafka-port PORT] [--redis-port PORT]")
}

// run is `servers run`: it returns the command's exit code.
func run(ctx context.Context, args []string) (code int, err error) {
	dir, err := os.MkdirTemp("", "eventissuer-servers-")
	if err != nil {
		return 1, err
	}
	defer func() {
		if e := os.RemoveAll(dir); e != nil {
			code, err = max(code, 1), errors.Join(err, e)
		}
	}()
	skips := filepath.Join(dir, "skips")
	env := append(os.Environ(), testenv.SkipsVariable+"="+skips)

	// Redis is not shared: one starts in milliseconds, so each test has its own.
	if os.Getenv(testenv.KafkaVariable) == "" {
		k, err := testenv.NewKafka(ctx, testenv.KafkaOptions{
			Dir: filepath.Join(dir, "kafka"),
			// Tests load the machine: a node that is late with its heartbeat must not lose its partitions.
			Properties: map[string]string{"broker.session.timeout.ms": "18000"},
			HeapMB:     768,
			LongLived:  true,
		})
		var missing *testenv.MissingError
		switch {
		case errors.As(err, &missing):
			// Every test that needs it says so.
		case err != nil:
			return 1, err
		default:
			if err := k.Start(ctx); err != nil {
				return 1, err
			}
			defer func() { err = errors.Join(err, k.Kill()) }()
			env = append(env, testenv.KafkaVariable+"="+k.Addr())
		}
	}
	code, err = child(ctx, args, env)
	skipped, e := report(skips, os.Stderr)
	if skipped && os.Getenv("CI") == "true" {
		code = max(code, 1)
	}
	return code, errors.Join(err, e)
}

// child runs the command to its end; an interrupt is passed on to it, and it has ten seconds to end.
func child(ctx context.Context, args, env []string) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return 130, ctx.Err()
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	default:
		return 1, err
	}
}

// report prints each distinct skip once.
func report(path string, w io.Writer) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		if _, err := fmt.Fprintln(w, "!!", line); err != nil {
			return true, err
		}
	}
	return true, nil
}

// up is `servers up`: it blocks until ctx is done.
func up(ctx context.Context, args []string, w io.Writer) (err error) {
	root, err := testenv.Root()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("servers up", flag.ContinueOnError)
	dir := flags.String("dir", filepath.Join(root, ".local", "dev"), "where the servers keep their data")
	kafkaPort := flags.Int("kafka-port", 9092, "Kafka's port")
	redisPort := flags.Int("redis-port", 6379, "Redis's port")
	if err := flags.Parse(args); err != nil {
		return err
	}
	k, err := testenv.NewKafka(ctx, testenv.KafkaOptions{
		Dir:        filepath.Join(*dir, "kafka"),
		Port:       *kafkaPort,
		Properties: map[string]string{"broker.session.timeout.ms": "9000"},
		LongLived:  true,
	})
	if err != nil {
		return err
	}
	r, err := testenv.NewRedis(testenv.RedisOptions{Dir: filepath.Join(*dir, "redis"), Port: *redisPort, AppendOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Stop(), r.Stop()) }()
	if err := k.Start(ctx); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "eventissuer serve --kafka-brokers %s --redis-url %s\n", k.Addr(), r.URL()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
