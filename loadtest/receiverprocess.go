package loadtest

import (
	"errors"
	"fmt"
	"os/exec"
)

// receiverProcess is a receiver that was started.
type receiverProcess struct {
	*child
	// addresses are those of the endpoints, with their ports.
	addresses []string
}

// startReceiver starts a receiver.
func startReceiver(command []string, setup receiverSetup) (*receiverProcess, error) {
	c, err := startChild("the receiver", exec.Command(command[0], command[1:]...), setup)
	if err != nil {
		return nil, err
	}
	var first receiverReport
	err = c.answers.Decode(&first)
	if err == nil && len(first.Addresses) != setup.Endpoints {
		err = fmt.Errorf("it has %d addresses, expected %d", len(first.Addresses), setup.Endpoints)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), c.end())
	}
	return &receiverProcess{c, first.Addresses}, nil
}

// ask asks the receiver, one at a time.
func (p *receiverProcess) ask(order receiverOrder) (got receiverReport, err error) {
	err = p.tell(order, &got)
	return got, err
}
