package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server program that can be killed, paused and started again with the same arguments.
// Its methods may be called concurrently, but not two of start and kill at a time.
type process struct {
	// static
	name string
	args []string
	env  []string
	dir  string // working folder
	log  string // what the program prints goes to the end of this file

	// up returns nil once the server is ready, judging by what it printed since it was started or by asking it.
	up func(ctx context.Context, printed []byte) error

	mu  sync.Mutex
	run *running // guarded by mu; nil when stopped
}

type running struct {
	process *os.Process
	done    chan struct{} // closed when the program has ended
	err     error         // how it ended; set before done is closed
}

// start runs the program and blocks until it answers, has ended, or ctx is done.
func (p *process) start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		return fmt.Errorf("start %s: it runs already", p.name)
	}
	var before int64 // what earlier runs printed
	if info, err := os.Stat(p.log); err == nil {
		before = info.Size()
	}
	r, err := p.spawn()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		printed, err := readFrom(p.log, before)
		if err == nil {
			err = p.up(attempt, printed)
		}
		cancel()
		if err == nil {
			p.run = r
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("start %s: it ended (%w); its log ends with:\n%s", p.name, r.err, p.tail())
		case <-ctx.Done():
			killErr := r.process.Kill()
			<-r.done
			return fmt.Errorf("start %s: no answer: %w; its log ends with:\n%s", p.name, errors.Join(ctx.Err(), err, killErr), p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// spawn starts the program on an OS thread that lives as long as the program: the kernel's death signal is bound to
// the thread that forked, and Go may end an idle one at any time.
func (p *process) spawn() (*running, error) {
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = p.dir, out, out, dieWithParent()
	cmd.Env = append(os.Environ(), p.env...)

	r := &running{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		r.process = cmd.Process
		started <- err
		if err == nil {
			r.err = cmd.Wait()
			if r.err == nil {
				r.err = errors.New("exit code 0")
			}
		}
		_ = out.Close() // the program wrote through a descriptor of its own
		close(r.done)
	}()
	if err := <-started; err != nil {
		<-r.done
		return nil, err
	}
	return r, nil
}

// stop sends the signal and waits until the program has ended; after the grace it kills it. No error if it does not run.
func (p *process) stop(sig syscall.Signal, grace time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.run
	if r == nil {
		return nil
	}
	p.run = nil
	// A paused program acts on no signal but SIGKILL.
	errs := []error{signal(r.process, syscall.SIGCONT), signal(r.process, sig)}
	select {
	case <-r.done:
	case <-time.After(grace):
		errs = append(errs, signal(r.process, syscall.SIGKILL))
		<-r.done
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	return nil
}

func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return fmt.Errorf("signal %s: it does not run", p.name)
	}
	return signal(p.run.process, sig)
}

func signal(p *os.Process, sig syscall.Signal) error {
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return 0
	}
	return p.run.process.Pid
}

func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, offset, 1<<20))
	return b, errors.Join(err, f.Close())
}

// tail is the end of the program's log, for error messages.
func (p *process) tail() string {
	const most = 4 << 10
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return string(bytes.TrimSpace(b))
}

// freePorts finds loopback ports nobody listens on, and keeps them for the life of this process: packages are tested
// side by side, and a port is often free for a second or more before its server starts, and again while it is down.
// They lie below the range from which the kernel takes the ports of outgoing connections, so that a server restarted
// among thousands of clients finds its port still free.
func freePorts(n int) ([]int, error) {
	const low, high = 20000, 32000
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := low + rand.IntN(high-low)
		if reserved, err := reservePort(port); err != nil {
			return nil, fmt.Errorf("reserve port %d: %w", port, err)
		} else if reserved {
			ports = append(ports, port)
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", n, low, high)
}

// reservedPorts are the lock files of the ports given away by this process; the kernel drops the locks when it ends.
var reservedPorts struct {
	sync.Mutex
	files []*os.File
}

// reservePort reports whether the port was free and is now kept from every other test process.
func reservePort(port int) (bool, error) {
	// The folder is of one user: another's lock files could not be opened.
	dir := filepath.Join(os.TempDir(), "eventissuer-test-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	// A server may be there that is none of ours, or one that outlived the test process it was started by.
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		_ = f.Close()
		return false, nil
	}
	_ = l.Close() // it was open only to see that the port is free
	reservedPorts.Lock()
	defer reservedPorts.Unlock()
	reservedPorts.files = append(reservedPorts.files, f)
	return true, nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func writeFile(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	return path, nil
}
