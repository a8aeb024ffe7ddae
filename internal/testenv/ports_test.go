package testenv

import (
	"net"
	"strconv"
	"testing"
)

func TestPortIsKeptFromOtherTests(t *testing.T) {
	port := FreePort(t)
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		t.Fatalf("the port %d is not free: %v", port, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if reserved, err := reservePort(port); err != nil || reserved {
		t.Errorf("the port %d, given away and not yet used, was given away again: %v, %v", port, reserved, err)
	}
}

func TestUsedPortIsNotReserved(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, text, _ := net.SplitHostPort(l.Addr().String())
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if reserved, err := reservePort(port); err != nil || reserved {
		t.Errorf("the port %d, which is listened on, was reserved: %v, %v", port, reserved, err)
	}
}
