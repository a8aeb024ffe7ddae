//go:build !unix

package main

import "os/exec"

// What a command line is given to.
const (
	shell     = "cmd"
	shellFlag = "/C"
)

// apart does nothing: a command ends as the system ends it.
func apart(*exec.Cmd) {}

// sweep does nothing, likewise.
func sweep(*exec.Cmd) {}
