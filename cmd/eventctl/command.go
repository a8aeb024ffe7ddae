package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// Exit codes with which a shell says that there is no such command, or that it may not be run.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// killDelay is how long a command has to end after it was asked to.
const killDelay = 2 * time.Second

// commander hands events to a command, a bounded number at a time.
type commander struct {
	console      *console
	line         string // for the shell
	subscription string // its id
	slots        chan struct{}
	running      sync.WaitGroup
}

// start runs the command for a delivery and calls ended, on a goroutine of its own, with how it ended. It waits for a
// command before it to end where as many run as may; false: ctx was done or over closed first, and nothing was started.
// The command is stopped when kill is done.
func (c *commander) start(ctx, kill context.Context, over <-chan struct{}, d delivery, ended func(error)) bool {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-over:
		return false
	}
	c.running.Go(func() {
		defer func() { <-c.slots }()
		ended(c.run(kill, d))
	})
	return true
}

// wait returns when no command runs. Once ctx is done, those that do have the grace time, and then kill is called.
func (c *commander) wait(ctx context.Context, grace time.Duration, kill context.CancelFunc) {
	ended := make(chan struct{})
	go func() {
		c.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	c.console.note("waiting up to %s for what runs", grace)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		kill()
		<-ended
	}
}

// run returns nil after the exit code 0.
func (c *commander) run(ctx context.Context, d delivery) error {
	var event struct{ ID, Source, Type, Subject string }
	if err := json.Unmarshal(d.Event, &event); err != nil {
		return fmt.Errorf("the event cannot be read: %w", err)
	}
	command := exec.CommandContext(ctx, shell, shellFlag, c.line) //nolint:gosec // the line is what the user gave for the purpose
	command.Env = append(os.Environ(),
		"EVENTISSUER_SUBSCRIPTION="+c.subscription,
		"EVENTISSUER_ATTEMPT="+strconv.Itoa(d.Attempt),
		"EVENTISSUER_GROUP="+d.Group,
		"EVENTISSUER_CURSOR="+d.Cursor,
		"EVENTISSUER_ID="+event.ID,
		"EVENTISSUER_TYPE="+event.Type,
		"EVENTISSUER_SOURCE="+event.Source,
		"EVENTISSUER_SUBJECT="+event.Subject,
	)
	command.Stdin = bytes.NewReader(append(bytes.Clone(d.Event), '\n'))
	command.Stdout, command.Stderr = c.console.out, c.console.err
	command.WaitDelay = killDelay
	apart(command)
	err := command.Run()
	if ctx.Err() != nil {
		sweep(command)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well; what it left running in the background holds its output
	}
	return err
}

// unrunnable tells whether a command failed because there is no such command: it would fail for every event.
func unrunnable(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && (exit.ExitCode() == exitNotFound || exit.ExitCode() == exitNotExecutable)
}
