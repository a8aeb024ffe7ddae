package loadtest

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hasEpoll says whether ClientEpoll is to be had.
const hasEpoll = true

// separate keeps the terminal's Ctrl-C from a command: who started it ends it, and asks it for its results first.
func separate(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// poller reads all connections in one loop over epoll, level-triggered: one read(2) for each readable socket and
// round, one buffer for all. Nothing else comes near the cost of a load client that shares its machine with the server.
type poller struct {
	fleet  *fleet
	target unix.Sockaddr
	family int
	from   []unix.Sockaddr

	drops atomic.Int64  // storms asked for, one after the other
	away  atomic.Int64  // how long who is dropped is to stay away, nanoseconds
	share atomic.Uint64 // of the readers, in the last of them, as a float64's bits

	// owned by run
	epoll   int
	conns   []*polled
	queue   []int   // readers to dial now, in order
	waiting dueHeap // what is to be done later
	ended   bool    // the window has ended: what is outstanding is wanted now
	opening int     // dialled, header not there yet
	begun   int     // dials since start, for the ramp
	start   time.Time
	dropped int64
	buffer  []byte
	request []byte
}

type polled struct {
	*reader
	stream     stream
	slow       slow
	fd         int // -1 when closed
	life       int // how many connections it has had
	connecting bool
	muted      bool // nothing is read for now
}

// what is to be done with a reader once it is time.
type what int

const (
	comeBack  what = iota // connect
	readOn                // a slow one
	askAgain              // for a page
	expireNow             // hang up, and connect
)

type due struct {
	at    int64
	what  what
	index int
	life  int // of which connection; any other's time has passed
}

type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

func newPoller(f *fleet, target endpoint) (client, error) {
	addr, err := net.ResolveTCPAddr("tcp", target.address)
	if err != nil {
		return nil, err
	}
	p := &poller{fleet: f, buffer: make([]byte, 256<<10)}
	p.target, p.family = sockaddr(addr.IP, addr.Port)
	for _, s := range f.sources {
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, fmt.Errorf("source address %q is no IP address", s)
		}
		sa, family := sockaddr(ip, 0)
		if family != p.family {
			return nil, fmt.Errorf("source address %s and target %s are of different families", s, target.address)
		}
		p.from = append(p.from, sa)
	}
	for _, r := range f.readers {
		c := &polled{reader: r, fd: -1, slow: newSlow(f.slow, r.number)}
		c.stream.reader, c.stream.format = r, f.format
		p.conns = append(p.conns, c)
		p.queue = append(p.queue, r.index)
	}
	return p, nil
}

func sockaddr(ip net.IP, port int) (unix.Sockaddr, int) {
	if v4 := ip.To4(); v4 != nil {
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte(v4)}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: port, Addr: [16]byte(ip.To16())}, unix.AF_INET6
}

func (p *poller) drop(share float64, away time.Duration) {
	p.share.Store(math.Float64bits(share))
	p.away.Store(int64(away))
	p.drops.Add(1)
}

func (p *poller) run(ctx context.Context) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	p.epoll, p.start = epoll, time.Now()
	defer func() {
		for _, c := range p.conns {
			p.hangUp(c)
		}
		_ = unix.Close(epoll)
	}()
	events := make([]unix.EpollEvent, 512)
	mu := &p.fleet.tallies[0].mu
	mu.Lock()
	defer mu.Unlock()
	for ctx.Err() == nil {
		if n := p.drops.Load(); n != p.dropped {
			p.dropped = n
			p.dropSome(math.Float64frombits(p.share.Load()), time.Duration(p.away.Load()))
		}
		if !p.ended && p.fleet.all.to.Load() != 0 {
			p.ended = true
			p.hurry()
		}
		p.doDue()
		if err := p.dialDue(); err != nil {
			return err
		}
		mu.Unlock()
		// 10 ms bounds how late drops, dials and the end of ctx are noticed by an idle loop.
		n, err := unix.EpollWait(epoll, events, 10)
		mu.Lock()
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		before := p.fleet.tallies[0].deliveries
		for _, e := range events[:max(n, 0)] {
			p.ready(p.conns[e.Fd], e.Events)
		}
		if d := p.fleet.tallies[0].deliveries - before; d > 0 {
			p.fleet.all.deliveries.Add(d)
			p.fleet.all.lastAt.Store(time.Now().UnixNano())
		}
	}
	return nil
}

// doDue does what it is time for.
func (p *poller) doDue() {
	now := time.Now().UnixNano()
	for len(p.waiting) > 0 && p.waiting[0].at <= now {
		d := heap.Pop(&p.waiting).(due)
		c := p.conns[d.index]
		if c.life != d.life {
			continue
		}
		switch d.what {
		case comeBack:
			p.queue = append(p.queue, d.index)
		case readOn:
			p.mute(c, false)
		case askAgain:
			p.ask(c)
		case expireNow:
			if c.fd >= 0 && !p.ended {
				p.hangUp(c)
				p.queue = append(p.queue, d.index)
			}
		}
	}
}

// later has something done at a time, unless the reader's connection has ended by then.
func (p *poller) later(c *polled, at int64, w what) {
	heap.Push(&p.waiting, due{at: at, what: w, index: c.index, life: c.life})
}

// hurry has what slow readers and such that wait for their next page put off done soon.
func (p *poller) hurry() {
	soon := time.Now().Add(p.fleet.apart()).UnixNano()
	for i := range p.waiting {
		if d := &p.waiting[i]; d.what == readOn || d.what == askAgain {
			d.at = min(d.at, soon)
		}
	}
	heap.Init(&p.waiting)
}

// mute has a connection's bytes left where they are, or read again.
func (p *poller) mute(c *polled, on bool) {
	if c.fd < 0 || c.muted == on {
		return
	}
	c.muted = on
	ev := unix.EpollEvent{Fd: int32(c.index)}
	if !on {
		ev.Events = unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		p.failed(c, 0, "epoll: "+err.Error())
	}
}

// ask asks for the next page.
func (p *poller) ask(c *polled) {
	if c.fd < 0 {
		return
	}
	request, err := nextPage(p.request[:0], c.target, p.fleet.header, &c.stream, p.fleet.wait)
	p.request = request[:0]
	if err != nil {
		p.failed(c, 0, err.Error())
		return
	}
	p.write(c, request)
}

// write sends a request. A socket's send buffer holds any: there is one at a time.
func (p *poller) write(c *polled, request []byte) {
	if n, err := unix.Write(c.fd, request); err != nil || n < len(request) {
		p.failed(c, 0, fmt.Sprintf("the request could not be written: %v", err))
	}
}

// dialDue begins as many connections as the limits allow.
func (p *poller) dialDue() error {
	for len(p.queue) > 0 && p.opening < p.fleet.dials {
		if r := p.fleet.ramp; r > 0 && float64(p.begun) > r*time.Since(p.start).Seconds() {
			return nil
		}
		c := p.conns[p.queue[0]]
		p.queue = p.queue[1:]
		p.begun++
		if err := p.dial(c); err != nil {
			return err
		}
	}
	return nil
}

// dial returns only errors that no later try would mend.
func (p *poller) dial(c *polled) error {
	fd, err := unix.Socket(p.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for connection %d (a process may hold a limited number of files; see ulimit -n): %w", c.index, err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if p.fleet.slow != nil {
		_ = setBuffer(uintptr(fd), p.fleet.slow.Buffer)
	}
	if len(p.from) > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, p.from[c.number%len(p.from)]); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("bind to source address %s: %w", p.fleet.sources[c.number%len(p.from)], err)
		}
	}
	c.fd, c.connecting, c.muted, c.dialed = fd, true, false, time.Now().UnixNano()
	c.life++
	c.stream.begin()
	p.opening++
	if err := unix.Connect(fd, p.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		p.failed(c, 0, "connect: "+err.Error())
		return nil
	}
	ev := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(c.index)}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (p *poller) ready(c *polled, events uint32) {
	if c.fd < 0 {
		return // closed earlier in this round
	}
	if c.connecting {
		p.connected(c)
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) == 0 {
		return
	}
	now := time.Now().UnixNano()
	most := len(p.buffer)
	// A connection that has ended is always read: epoll would tell of it again and again.
	if p.fleet.slow != nil && c.headed && !p.ended && events&(unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		var until int64
		if most, until = c.slow.allow(now, most); most == 0 {
			p.mute(c, true)
			p.later(c, until, readOn)
			return
		}
	}
	n, err := unix.Read(c.fd, p.buffer[:most])
	c.slow.took(max(n, 0))
	now = time.Now().UnixNano()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	case err != nil:
		p.failed(c, 0, "read: "+err.Error())
	case n == 0:
		p.failed(c, 0, "the server closed the connection")
	default:
		headed := c.headed
		err := c.stream.feed(p.buffer[:n], now)
		if c.headed && !headed {
			p.opening--
			if p.fleet.lifetime > 0 {
				p.later(c, now+int64(lifetime(p.fleet.lifetime)), expireNow)
			}
		}
		var no *rejection
		switch {
		case err == nil:
		case errors.Is(err, errPageEnd):
			if apart := p.fleet.apart(); apart > 0 {
				p.later(c, now+int64(apart), askAgain)
			} else {
				p.ask(c)
			}
		case errors.As(err, &no):
			p.failed(c, no.status, no.line)
		default:
			p.failed(c, 0, err.Error())
		}
	}
}

func (p *poller) connected(c *polled) {
	if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		if err == nil {
			err = syscall.Errno(code)
		}
		p.failed(c, 0, "connect: "+err.Error())
		return
	}
	c.connecting = false
	request, err := streamRequest(p.request[:0], c.target, p.fleet.header, c.cursor, p.fleet.format)
	p.request = request[:0]
	if err != nil {
		p.failed(c, 0, err.Error())
		return
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(c.index)}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		p.failed(c, 0, "epoll: "+err.Error())
		return
	}
	p.write(c, request)
}

// failed ends a connection; its reader comes back after the pause that the server asked for.
func (p *poller) failed(c *polled, status int, why string) {
	final := (status != 0 || !c.headed) && c.rejectedWith(status, why)
	p.hangUp(c)
	if final {
		return
	}
	p.later(c, time.Now().Add(pause(c.retry)).UnixNano(), comeBack)
}

// hangUp closes a connection, if there is one.
func (p *poller) hangUp(c *polled) {
	if c.fd < 0 {
		return
	}
	if !c.headed {
		p.opening--
	}
	_ = unix.Close(c.fd)
	c.fd, c.connecting = -1, false
	c.lost()
}

// dropSome cuts a share of the readers off, and has them come back once they were away for so long.
func (p *poller) dropSome(share float64, away time.Duration) {
	all := p.fleet.all
	p.start, p.begun = time.Now().Add(away), 0
	all.stormAt.Store(p.start.UnixNano())
	for _, c := range p.conns {
		if c.fd < 0 || !chosen(c.number, share) {
			continue // those that are not connected come back as they would have
		}
		p.hangUp(c)
		c.drop()
		all.away.Add(1)
		all.waiting.Add(1)
		if away > 0 {
			p.later(c, p.start.UnixNano(), comeBack)
		} else {
			p.queue = append(p.queue, c.index)
		}
	}
	all.storms.Add(1)
}

// setBuffer sets a socket's receive buffer, in bytes; 0 leaves it.
func setBuffer(fd uintptr, size int) error {
	if size == 0 {
		return nil
	}
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
}
