//go:build !linux

package loadtest

import "errors"

func newPoller(*fleet, endpoint) (client, error) {
	return nil, errors.New("client epoll exists on Linux only: choose --client goroutine")
}
