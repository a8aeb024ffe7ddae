package main

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// keepLittleUnsent bounds what the kernel keeps. A connection that does not have it is as good as it was before. It is set
// on each one: those that are accepted from a listener for Multipath TCP, which Go's are, do not inherit it.
func keepLittleUnsent(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMost)
	})
}
