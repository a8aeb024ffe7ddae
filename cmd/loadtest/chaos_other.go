//go:build !unix

package main

import "errors"

// chaosCommand needs signals that stop a process and have it go on.
type chaosCommand struct{}

// Run is called by kong.
func (chaosCommand) Run() error {
	return errors.New("chaos pauses processes by signals that this system does not have: expected Linux, macOS or another Unix")
}
