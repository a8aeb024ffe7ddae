package main

import "net"

// unsentMost is how many bytes the kernel may keep of what was written to a connection and is not on its way yet. By itself
// it takes megabytes, which on a slow line are minutes: whoever is given each key's latest event would be given what was
// the latest long ago, and a reader would fall behind without the server knowing.
const unsentMost = 16 << 10

// shallow is a listener whose connections keep little that is unsent. They are of the type that they would be without it.
type shallow struct{ net.Listener }

func (l shallow) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		keepLittleUnsent(conn)
	}
	return conn, err
}
