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

// Shard is one of the processes that the readers of a run are spread over, which starts it: it reads who its readers are
// from in, a JSON object, and then what it is asked, each on a line, and answers on out. It ends when in does.
func Shard(in io.Reader, out io.Writer) error {
	lines, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var setup crewSetup
	if err := lines.Decode(&setup); err != nil {
		return fmt.Errorf("expected who the readers are as JSON on standard input ('loadtest run --shards' says it): %w", err)
	}
	c, err := newCrew(setup)
	if err != nil {
		return errors.Join(err, answers.Encode(crewAnswer{Failed: err.Error()}))
	}
	c.start()
	defer func() { _ = c.end() }() // which has nothing that could go wrong
	for {
		var order crewOrder
		switch err := lines.Decode(&order); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read what is asked: %w", err)
		}
		answer, err := c.ask(order)
		if err != nil {
			answer.Failed = err.Error()
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

// crewProcess is a shard that was started. It implements asker.
type crewProcess struct {
	command *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

// startShard starts a shard. It ends with its standard input, and so with this process at the latest.
func startShard(command []string, setup crewSetup) (*crewProcess, error) {
	p := &crewProcess{command: exec.Command(command[0], command[1:]...)}
	p.command.Stderr = os.Stderr
	separate(p.command)
	in, err := p.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start shard %d: %w", setup.Shard+1, err)
	}
	p.in, p.orders, p.answers = in, json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	if err := p.orders.Encode(setup); err != nil {
		return nil, errors.Join(fmt.Errorf("start shard %d: %w", setup.Shard+1, err), p.end())
	}
	return p, nil
}

// ask implements asker.
func (p *crewProcess) ask(o crewOrder) (crewAnswer, error) {
	var a crewAnswer
	if err := p.orders.Encode(o); err != nil {
		return a, fmt.Errorf("a shard is gone: %w", err)
	}
	if err := p.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("a shard is gone: %w", err)
	}
	return a, nil
}

// end has the process end, and waits for that.
func (p *crewProcess) end() error {
	_ = p.in.Close()
	if err := p.command.Wait(); err != nil { // why, it has said on standard error
		return fmt.Errorf("a shard: %w", err)
	}
	return nil
}
