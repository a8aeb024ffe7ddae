package loadtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ticksPerSecond is USER_HZ, in which /proc counts processor time: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// usage is what a process (or a tree of them) has used and holds.
type usage struct {
	cpu      time.Duration // user and system, since it started
	rss, pss int64         // bytes; pss is 0 where the kernel does not tell
	name     string
}

// ProcessReport is what one measured process used. Memory is in bytes.
type ProcessReport struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
	Tree bool   `json:"tree,omitempty"` // its children are counted in
	// CPUSeconds and Cores are of the measured window; CPUPerDelivery is in µs.
	CPUSeconds     float64 `json:"cpuSeconds"`
	Cores          float64 `json:"cores"`
	CPUPerDelivery float64 `json:"cpuMicrosPerDelivery,omitempty"`
	CPUPerPublish  float64 `json:"cpuMicrosPerPublish,omitempty"`

	RSSBefore    int64 `json:"rssBefore"`
	RSSConnected int64 `json:"rssConnected,omitempty"`
	RSSAfter     int64 `json:"rssAfter"`
	RSSMost      int64 `json:"rssMost,omitempty"` // at any second of the run
	PSSBefore    int64 `json:"pssBefore,omitempty"`
	PSSConnected int64 `json:"pssConnected,omitempty"`
	PSSAfter     int64 `json:"pssAfter,omitempty"`
	// KBPerConnection is the RSS that connecting added, in 1024 bytes, and PSSKBPerConnection the PSS.
	KBPerConnection    float64 `json:"kbPerConnection,omitempty"`
	PSSKBPerConnection float64 `json:"pssKBPerConnection,omitempty"`
}

// sample reads one process, and with tree its descendants too.
func sample(pid int, tree bool) (usage, error) { return sampleBy(sampleOne, pid, tree) }

// glance is sample without PSS and the exact RSS, for which the kernel goes through all of a process's pages: cheap enough
// to be done every second while the process is measured.
func glance(pid int, tree bool) (usage, error) { return sampleBy(glanceOne, pid, tree) }

func sampleBy(one func(pid int) (usage, error), pid int, tree bool) (usage, error) {
	u, err := one(pid)
	if err != nil || !tree {
		return u, err
	}
	for _, child := range descendants(pid) {
		c, err := one(child)
		if err != nil {
			continue // it has ended meanwhile
		}
		u.cpu += c.cpu
		u.rss += c.rss
		u.pss += c.pss
	}
	return u, nil
}

func sampleOne(pid int) (usage, error) {
	u, err := glanceOne(pid)
	if err != nil {
		return u, err
	}
	// PSS shares what several processes map among them, which is what counts for nginx's workers. It needs the
	// process's owner's rights.
	if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		u.pss = kilobytes(rollup, "Pss:")
		if rss := kilobytes(rollup, "Rss:"); rss > 0 {
			u.rss = rss // exact, where stat's figure lags by up to 64 pages a thread
		}
	}
	return u, nil
}

func glanceOne(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	name, fields, err := statFields(stat)
	if err != nil {
		return usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return usage{}, fmt.Errorf("process %d: /proc/%d/stat is not in the form known", pid, pid)
	}
	return usage{
		cpu:  time.Duration(user+system) * time.Second / ticksPerSecond,
		rss:  pages * int64(os.Getpagesize()),
		name: name,
	}, nil
}

// statFields splits /proc/PID/stat. The name is in parentheses and may hold anything, parentheses too; fields begin with the state.
func statFields(stat []byte) (name string, fields []string, err error) {
	open, shut := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || shut < open {
		return "", nil, fmt.Errorf("stat %q has no name", stat)
	}
	fields = strings.Fields(string(stat[shut+1:]))
	if len(fields) < 22 {
		return "", nil, fmt.Errorf("stat has %d fields after the name, expected at least 22", len(fields))
	}
	return string(stat[open+1 : shut]), fields, nil
}

func kilobytes(rollup []byte, field string) int64 {
	for line := range strings.SplitSeq(string(rollup), "\n") {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// descendants lists the children of a process, and theirs.
func descendants(pid int) []int {
	parents := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, fields, err := statFields(stat)
		if err != nil {
			continue
		}
		child, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			parents[parent] = append(parents[parent], child)
		}
	}
	var all []int
	for next := parents[pid]; len(next) > 0; {
		all = append(all, next...)
		var below []int
		for _, c := range next {
			below = append(below, parents[c]...)
		}
		next = below
	}
	return all
}

// watch samples the measured processes at the points of a run.
type watch struct {
	pids    []int
	tree    bool
	samples map[string][]usage // by point, as pids

	mu   sync.Mutex
	peak []int64 // the most RSS seen, as pids; guarded by mu
}

func newWatch(pids []int, tree bool) *watch {
	return &watch{pids: pids, tree: tree, samples: map[string][]usage{}}
}

// most has the processes sampled every second for the most memory that they hold, until the returned function is called.
func (w *watch) most() (stop func()) {
	w.mu.Lock()
	w.peak = make([]int64, len(w.pids))
	w.mu.Unlock()
	look := func() {
		for i, pid := range w.pids {
			if u, err := sample(pid, w.tree); err == nil {
				w.mu.Lock()
				w.peak[i] = max(w.peak[i], u.rss)
				w.mu.Unlock()
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	looking.Go(func() {
		for wait(ctx, time.Second) {
			look()
		}
	})
	return func() { cancel(); looking.Wait() }
}

// take samples every process now. A process that has gone is reported with what was known before.
func (w *watch) take(point string) error {
	var all []usage
	for i, pid := range w.pids {
		u, err := sample(pid, w.tree)
		if err != nil {
			if point == "before" {
				return err
			}
			u = w.last(i)
		}
		all = append(all, u)
	}
	w.samples[point] = all
	return nil
}

func (w *watch) last(i int) usage {
	for _, point := range []string{"after", "begin", "connected", "before"} {
		if s := w.samples[point]; i < len(s) {
			return s[i]
		}
	}
	return usage{}
}

// report relates the samples to what was delivered and published between "begin" and "after", which lie window apart.
func (w *watch) report(connections int, deliveries, published uint64, window time.Duration) []ProcessReport {
	var out []ProcessReport
	at := func(point string, i int) (usage, bool) {
		s := w.samples[point]
		if i >= len(s) {
			return usage{}, false
		}
		return s[i], true
	}
	for i, pid := range w.pids {
		before, _ := at("before", i)
		begin, _ := at("begin", i)
		after, measured := at("after", i)
		r := ProcessReport{
			PID: pid, Name: before.name, Tree: w.tree,
			RSSBefore: before.rss, PSSBefore: before.pss, RSSAfter: after.rss, PSSAfter: after.pss,
		}
		w.mu.Lock()
		if i < len(w.peak) {
			r.RSSMost = max(w.peak[i], before.rss, begin.rss, after.rss)
		}
		w.mu.Unlock()
		if measured && window > 0 {
			spent := after.cpu - begin.cpu
			r.CPUSeconds = spent.Seconds()
			r.Cores = spent.Seconds() / window.Seconds()
			if deliveries > 0 {
				r.CPUPerDelivery = float64(spent.Microseconds()) / float64(deliveries)
			}
			if published > 0 {
				r.CPUPerPublish = float64(spent.Microseconds()) / float64(published)
			}
		}
		if c, ok := at("connected", i); ok && connections > 0 {
			r.RSSConnected, r.PSSConnected = c.rss, c.pss
			r.KBPerConnection = float64(c.rss-before.rss) / 1024 / float64(connections)
			if c.pss > 0 {
				r.PSSKBPerConnection = float64(c.pss-before.pss) / 1024 / float64(connections)
			}
		}
		out = append(out, r)
	}
	return out
}
