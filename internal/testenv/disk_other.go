//go:build !linux

package testenv

// mountSmall would need what only Linux has.
func mountSmall(string, int64) (unmount func() error, err error) {
	return nil, &MissingError{What: "disks in memory", How: "run this test on Linux"}
}
