package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// InUseError tells that another process uses a data folder.
type InUseError struct {
	Dir string
	PID string // of the other process; "" where it is not known
}

// Error implements error.
func (e *InUseError) Error() string {
	who := "another process"
	if e.PID != "" {
		who = "process " + e.PID
	}
	return fmt.Sprintf("the data folder %s is in use by %s: stop it, or give this one a folder of its own", e.Dir, who)
}

// dirLock is the exclusive use of a folder. The operating system takes it back when the process ends, however it ends,
// so there is never a stale one.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data folder %s: %w", abs, err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, &InUseError{Dir: abs, PID: strings.TrimSpace(string(pid))}
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil && !errors.Is(err, unix.ENOSPC) { // the lock holds without a name
		_ = f.Close()
		return nil, fmt.Errorf("lock the data folder %s: %w", abs, err)
	}
	return &dirLock{f}, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

func (l *dirLock) release() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}
