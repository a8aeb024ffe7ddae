package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ProgramOptions say how to run a program under test.
type ProgramOptions struct {
	Name string   // for messages and the log's name
	Args []string // the program itself first
	Env  []string // added to the test's own
	Dir  string   // working folder, and where its log goes; must be absolute
	// Up returns nil once the program is ready, judging by what it printed since it was started or by asking it.
	Up func(ctx context.Context, printed []byte) error
	// Patience is how long it may take to start; default 30 s.
	Patience time.Duration
}

// Program is a program under test that can be killed, paused and started again with the same arguments. Its methods
// may be called concurrently, but not two of Start, Kill and Stop at a time.
type Program struct {
	process  process
	patience time.Duration
}

// NewProgram prepares a program without starting it.
func NewProgram(o ProgramOptions) *Program {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	return &Program{patience: o.Patience, process: process{
		name: o.Name, args: o.Args, env: o.Env, dir: o.Dir, log: filepath.Join(o.Dir, o.Name+".log"), up: o.Up,
	}}
}

// StartProgram starts a program, and kills it when the test and its subtests are done. It blocks until the program is
// ready. Where the test fails, the end of the program's log is shown, and LogsVariable names a folder to keep it in whole.
func StartProgram(t testing.TB, o ProgramOptions) *Program {
	t.Helper()
	p := NewProgram(o)
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Errorf("stop %s: %v", o.Name, err)
		}
		if t.Failed() {
			t.Logf("the log of %s ends with:\n%s", o.Name, p.process.tail())
			if err := p.keepLog(os.Getenv(LogsVariable)); err != nil {
				t.Logf("keep the log of %s: %v", o.Name, err)
			}
		}
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// keepLog copies the program's log into a folder; "" is none.
func (p *Program) keepLog(dir string) error {
	if dir == "" {
		return nil
	}
	text, err := p.Log()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, p.process.name+".log"), text, 0o600)
}

// Start starts a stopped program and blocks until it is ready.
func (p *Program) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	return p.process.start(ctx)
}

// Kill is kill -9. It returns when the process is gone.
func (p *Program) Kill() error { return p.process.stop(syscall.SIGKILL, time.Minute) }

// Stop is SIGTERM. It returns the exit code; a program that takes longer than the grace is killed, which is an error.
func (p *Program) Stop(grace time.Duration) (code int, err error) {
	p.process.mu.Lock()
	r := p.process.run
	p.process.mu.Unlock()
	if r == nil {
		return 0, fmt.Errorf("stop %s: it does not run", p.process.name)
	}
	if err := p.process.stop(syscall.SIGTERM, grace); err != nil {
		return 0, err
	}
	var exit *exec.ExitError
	if !errors.As(r.err, &exit) {
		return 0, nil
	}
	if !exit.Exited() {
		return 0, fmt.Errorf("%s did not end within %s of SIGTERM: %w", p.process.name, grace, exit)
	}
	return exit.ExitCode(), nil
}

// Pause freezes the program: connections stay open and nothing answers.
func (p *Program) Pause() error { return p.process.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Program) Resume() error { return p.process.signal(syscall.SIGCONT) }

// Pid is the process id, 0 while the program is stopped.
func (p *Program) Pid() int { return p.process.pid() }

// Log is all that the program printed, over all its starts.
func (p *Program) Log() ([]byte, error) { return os.ReadFile(p.process.log) }

// FreeAddresses finds n loopback addresses such as those of [FreePort].
func FreeAddresses(n int) ([]string, error) {
	ports, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	addresses := make([]string, n)
	for i, port := range ports {
		addresses[i] = address(port)
	}
	return addresses, nil
}

// FreePort finds a loopback port that nobody listens on, and that the kernel gives to no outgoing connection.
func FreePort(t testing.TB) int {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// Certificate writes a new key and its self-signed certificate for loopback into dir, each whole at once, so that a
// server that watches them sees two changes and no half of one. The certificate is its own authority.
func Certificate(t testing.TB, dir string) (certFile, keyFile string) {
	t.Helper()
	pair, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string]string{certFile: pair.chain, keyFile: pair.key} {
		part, err := writeFile(dir, "part", text)
		if err == nil {
			err = os.Rename(part, file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
