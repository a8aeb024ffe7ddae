package main

import (
	"math"

	"golang.org/x/sys/unix"
)

// How the files that the process may have open are shared out: some are its own (its log, Kafka, Redis, endpoints), the
// rest are connections, of which sessions leave some for requests.
const (
	ownFilesLeast = 128
	ownFilesMost  = 1000
	askingLeast   = 32
	askingMost    = 512
)

// fileLimit is how many files the process may have open. Go raises it to what the system allows at the start.
func fileLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// connectionLimits gives how many connections there may be at once, and how many of them may be sessions, for so many files.
func connectionLimits(files int) (connections, sessions int) {
	connections = max(files-min(max(files/16, ownFilesLeast), ownFilesMost), 1)
	return connections, max(connections-min(max(connections/32, askingLeast), askingMost), 1)
}

// boundConnections keeps the connections within what the process may have open, and tells if that is less than was asked for.
func (s *server) boundConnections() (connections int) {
	files := fileLimit()
	connections, sessions := connectionLimits(files)
	if s.config.MaxSessions > sessions {
		s.log.Warn("the limit of open files allows fewer sessions than --max-sessions: raise it (ulimit -n, LimitNOFILE=)",
			"maxSessions", s.config.MaxSessions, "sessions", sessions, "openFiles", files)
		s.config.MaxSessions = sessions
	}
	return connections
}
