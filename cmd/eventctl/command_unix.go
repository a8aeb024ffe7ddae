//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// What a command line is given to.
const (
	shell     = "sh"
	shellFlag = "-c"
)

// apart keeps a terminal's Ctrl-C from a command, which is to end what it is at, and has what it started end with it.
func apart(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error {
		err := syscall.Kill(-command.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
}

// sweep ends what a command that was stopped has left running.
func sweep(command *exec.Cmd) {
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // mostly there is nothing any more
	}
}
