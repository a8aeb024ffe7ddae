package testenv

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a disk in memory.
func mountSmall(dir string, bytes int64) (unmount func() error, err error) {
	switch err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return nil, &MissingError{What: "the right to mount", How: "run the tests as root, or under unshare -Urm"}
	case err != nil:
		return nil, fmt.Errorf("mount a tmpfs of %d bytes: %w", bytes, err)
	}
	return func() error { return unix.Unmount(dir, unix.MNT_DETACH) }, nil
}
