package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher tells which connections their peers have left, with one epoll set for all of them, so that an idle session
// needs no goroutine that waits in a read.
type watcher struct {
	epoll int
	wake  int // an eventfd that ends run

	mu     sync.Mutex
	next   uint64           // guarded by mu
	conns  map[uint64]*conn // guarded by mu
	closed bool             // guarded by mu
}

func newWatcher() (*watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll set: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	w := &watcher{epoll: ep, wake: ev, conns: map[uint64]*conn{}}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		_ = unix.Close(ep)
		_ = unix.Close(ev)
		return nil, fmt.Errorf("watch the eventfd: %w", err)
	}
	return w, nil
}

// add watches a connection until it is removed. The set holds the descriptor only as long as it is open.
func (w *watcher) add(c *conn) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return net.ErrClosed
	}
	w.next++
	id := w.next
	w.conns[id] = c
	c.watchID = id
	var err error
	cerr := c.raw.Control(func(fd uintptr) {
		ev := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
		err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, int(fd), &ev)
	})
	w.mu.Unlock()
	if err = errors.Join(cerr, err); err != nil {
		w.remove(c)
		return fmt.Errorf("watch the connection: %w", err)
	}
	return nil
}

func (w *watcher) remove(c *conn) {
	w.mu.Lock()
	delete(w.conns, c.watchID)
	w.mu.Unlock()
}

func (w *watcher) run(ctx context.Context) error {
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(w.wake, one[:])
	})
	defer func() {
		if !stop() {
			<-told // the descriptor's number may be another's once it is closed
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.closed = true
		_ = unix.Close(w.epoll)
		_ = unix.Close(w.wake)
	}()
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for hang-ups: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
			w.mu.Lock()
			c := w.conns[id]
			w.mu.Unlock()
			if c != nil {
				c.hangUp()
			}
		}
	}
}

// rawConn returns the descriptor's access for writes that do not block, or false for what is no socket.
func rawConn(c net.Conn) (syscall.RawConn, bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := sc.SyscallConn()
	return raw, err == nil
}

// canShard says that shards can drive connections here.
const canShard = true

// writeFD writes to a socket without blocking. By send(2), which is spared what write(2) does for files, and without telling the
// scheduler, since the call is so short.
func writeFD(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
