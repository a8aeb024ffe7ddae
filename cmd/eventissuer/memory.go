package main

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory tells the runtime what the container allows, less a tenth for what it does not count, so that it
// collects garbage before the kernel kills the process. GOMEMLIMIT wins.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && limit > 0 && limit < math.MaxInt64/2 { // "max", or a number that means the same
			debug.SetMemoryLimit(limit / 10 * 9)
		}
		return
	}
}

// collectLess has the heap grow to three times what is in use, where twice is usual: events are read once and soon
// forgotten, and up to a fifth of a busy replica's processor time would else go into finding that out. Where memory is
// limited, the limit still holds. GOGC wins.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

const gcPercent = 200
