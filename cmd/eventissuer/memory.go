package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
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

// How far the heap may grow beyond what is in use, in percent of that, before garbage is collected.
const (
	busyPercent   = 200
	restPercent   = 100 // as is usual
	collectorLook = 5 * time.Second
)

// collectByNeed has the heap of a busy replica grow to three times what is in use, where twice is usual: events are read once and
// soon forgotten, and up to a fifth of the processor time would else go into finding that out. A replica that makes little
// garbage, as one whose ten thousand readers wait, has twice: it would pay for the rest in memory alone. Where memory is
// limited, the limit still holds. GOGC wins. It goes on until ctx ends.
func collectByNeed(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(busyPercent)
	pace := collectorPace{percent: busyPercent}
	cycles := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	ticker := time.NewTicker(collectorLook)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(cycles)
		percent := pace.next(cycles[0].Value.Uint64())
		if percent != 0 {
			debug.SetGCPercent(percent)
		}
		if percent == restPercent {
			runtime.GC() // what the busy time left would stay until as much again is made, which may take long
		}
	}
}

// collectorPace decides by how often garbage was collected.
type collectorPace struct {
	percent int
	cycles  uint64 // so far
}

// next is what the percentage is to be from now on, or 0 where it stays, given how many collections there were so far. One
// collection at three times is about two at twice, so that a steady load does not go to and fro.
func (p *collectorPace) next(cycles uint64) int {
	since := cycles - p.cycles
	p.cycles = cycles
	switch {
	case p.percent == busyPercent && since == 0:
		p.percent = restPercent
	case p.percent == restPercent && since > 2:
		p.percent = busyPercent
	default:
		return 0
	}
	return p.percent
}
