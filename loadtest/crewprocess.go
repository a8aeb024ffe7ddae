package loadtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
type crewProcess struct{ *child }

// startShard starts a shard.
func startShard(command []string, setup crewSetup) (*crewProcess, error) {
	c := exec.Command(command[0], command[1:]...)
	separate(c)
	p, err := startChild(fmt.Sprintf("shard %d", setup.Shard+1), c, setup)
	if err != nil {
		return nil, err
	}
	return &crewProcess{p}, nil
}

// ask implements asker.
func (p *crewProcess) ask(o crewOrder) (a crewAnswer, err error) {
	err = p.tell(o, &a)
	return a, err
}
