package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnIdleSessionOutlivesTheStallTimeout(t *testing.T) {
	s := newSite(t, "a")
	for _, secure := range []bool{false, true} {
		r := s.replica(Config{Stall: 200 * time.Millisecond}, secure)
		for _, as := range transports {
			c := r.connect(t, as, "stream=a")
			c.must()
			time.Sleep(500 * time.Millisecond) // the timeout passes
			s.publish("a", 0, 1)
			c.ids(1)
			c.close()
		}
	}
}

func TestAWebSocketsSlowPeerIsKeptAndAStalledOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		c := &wholeConn{Conn: ours, stall: time.Minute}
		want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // a message of 1 MiB
		got := make(chan []byte)
		go func() {
			var all []byte
			var b [8 << 10]byte
			for len(all) < len(want) {
				time.Sleep(20 * time.Second)
				n, err := io.ReadFull(theirs, b[:])
				if err != nil {
					t.Error(err)
					break
				}
				all = append(all, b[:n]...)
			}
			got <- all
		}()
		if err := c.messages(want); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(<-got, want) {
			t.Error("it did not get what was written")
		}
		began := time.Now()
		if err := c.messages(want); err == nil || time.Since(began) != time.Minute {
			t.Errorf("a stalled peer was given %v: %v", time.Since(began), err)
		}
	})
}

func TestNoMessageFollowsACloseFrame(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(theirs)
		got <- all
	}()
	c := &wholeConn{Conn: ours, stall: time.Minute}
	message, last := appendFrame(nil, finText, []byte("{}")), []byte{0x80 | opClose, 2, 0x03, 0xE8}
	if err := c.messages(message); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(last); err != nil {
		t.Fatal(err)
	}
	if err := c.messages(message); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a message behind the close frame: %v", err)
	}
	_ = ours.Close()
	if all := <-got; !bytes.Equal(all, append(message, last...)) {
		t.Errorf("the peer has %x", all)
	}
}
