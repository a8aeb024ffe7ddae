package testenv

import "syscall"

// dieWithParent makes the kernel kill the child when this process ends, however it ends. The child is a process group
// of its own, so that a Ctrl-C at the terminal reaches it only through us.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
