//go:build !linux

package loadtest

import (
	"errors"
	"os/exec"
)

// hasEpoll says whether ClientEpoll is to be had.
const hasEpoll = false

// setBuffer leaves a socket's receive buffer as it is: how it is set differs by system.
func setBuffer(uintptr, int) error { return nil }

// separate leaves a command as it is.
func separate(*exec.Cmd) {}

func newPoller(*fleet, endpoint) (client, error) {
	return nil, errors.New("client epoll exists on Linux only: choose --client goroutine")
}
