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

// The parts of the processors that collecting may take at rest, and from which on down a busy replica has come to rest. Collecting
// at twice of what is in use takes twice of what it takes at three times, so that a steady load does not go to and fro.
const (
	restMost  = 0.02
	busyLeast = 0.005
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
	ticker := time.NewTicker(collectorLook)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		percent := pace.next(collecting())
		if percent != 0 {
			debug.SetGCPercent(percent)
		}
		if percent == restPercent {
			runtime.GC() // what the busy time left would stay until as much again is made, which may take long
			pace.spent = collecting()
		}
	}
}

// collecting is how much time went into collecting garbage so far that something else could have had, in the time that all
// processors have between two looks.
func collecting() float64 {
	spent := []metrics.Sample{
		{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/gc/pause:cpu-seconds"},
	}
	metrics.Read(spent)
	seconds := 0.0
	for _, s := range spent {
		seconds += s.Value.Float64()
	}
	return seconds / (collectorLook.Seconds() * float64(runtime.GOMAXPROCS(0)))
}

// collectorPace decides by how much of the processors collecting takes.
type collectorPace struct {
	percent int
	spent   float64 // so far, see collecting
}

// next is what the percentage is to be from now on, or 0 where it stays.
func (p *collectorPace) next(spent float64) int {
	part := spent - p.spent
	p.spent = spent
	switch {
	case p.percent == busyPercent && part < busyLeast:
		p.percent = restPercent
	case p.percent == restPercent && part > restMost:
		p.percent = busyPercent
	default:
		return 0
	}
	return p.percent
}
