package loadtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// receiverProcess is a receiver that was started.
type receiverProcess struct {
	command *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
	// addresses are those of the endpoints, with their ports.
	addresses []string
}

// startReceiver starts a receiver. It ends with its standard input, and so with this process at the latest.
func startReceiver(command []string, setup receiverSetup) (*receiverProcess, error) {
	p := &receiverProcess{command: exec.Command(command[0], command[1:]...)}
	p.command.Stderr = os.Stderr
	in, err := p.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	p.in, p.orders, p.answers = in, json.NewEncoder(in), json.NewDecoder(out)
	var first receiverReport
	err = p.orders.Encode(setup)
	if err == nil {
		err = p.answers.Decode(&first)
	}
	if err == nil && len(first.Addresses) != setup.Endpoints {
		err = fmt.Errorf("it has %d addresses, expected %d", len(first.Addresses), setup.Endpoints)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), p.stop())
	}
	p.addresses = first.Addresses
	return p, nil
}

// ask asks the receiver, one at a time.
func (p *receiverProcess) ask(order receiverOrder) (receiverReport, error) {
	var got receiverReport
	if err := p.orders.Encode(order); err != nil {
		return got, fmt.Errorf("the receiver is gone: %w", err)
	}
	if err := p.answers.Decode(&got); err != nil {
		return got, fmt.Errorf("the receiver is gone: %w", err)
	}
	return got, nil
}

func (p *receiverProcess) stop() error {
	_ = p.in.Close()
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("the receiver: %w", err)
	}
	return nil
}
