package loadtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// child is a process that a run starts and asks, by JSON on its standard input and output. It ends with its standard input, and so
// with this process at the latest.
type child struct {
	what    string // "the receiver": for errors
	command *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

// startChild starts a command, and tells it what it is. Its standard error is this process's.
func startChild(what string, command *exec.Cmd, setup any) (*child, error) {
	c := &child{what: what, command: command}
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", what, err)
	}
	c.in, c.orders, c.answers = in, json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	if err := c.orders.Encode(setup); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", what, err), c.end())
	}
	return c, nil
}

// tell asks for something, one at a time, and reads the answer.
func (c *child) tell(order, answer any) error {
	err := c.orders.Encode(order)
	if err == nil {
		err = c.answers.Decode(answer)
	}
	if err != nil {
		return fmt.Errorf("%s is gone: %w", c.what, err)
	}
	return nil
}

// end has the process end, and waits for that.
func (c *child) end() error {
	_ = c.in.Close()
	if err := c.command.Wait(); err != nil { // why, it has said on standard error
		return fmt.Errorf("%s: %w", c.what, err)
	}
	return nil
}
