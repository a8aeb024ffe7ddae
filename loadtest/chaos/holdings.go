package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// quietPeriod is for replicas to give back what clients cost, once they have gone: sessions of pages live on for ten
	// seconds, and connections that were cut off without a word for as long as it takes to find that out.
	quietPeriod = 90 * time.Second
	// moreGoroutines and moreFiles are what a replica may hold beyond its beginnings: connections to Kafka that are opened
	// when they are needed, and stay.
	moreGoroutines = 100
	moreFiles      = 60
	// moreMemory is for caches, and a heap that has grown.
	moreMemory = 256 << 20
)

// holding is what a replica holds.
type holding struct {
	goroutines, files int
	memory            int64 // bytes that are resident
}

func (h holding) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, %d MiB", h.goroutines, h.files, h.memory>>20)
}

// holdings are those of all replicas. What a system without /proc does not tell is 0.
func (r *run) holdings(ctx context.Context) ([]holding, error) {
	var all []holding
	for _, v := range r.cluster.replicas {
		h, err := r.cluster.holding(ctx, v)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

func (c *cluster) holding(ctx context.Context, v *replica) (h holding, err error) {
	status, out, err := c.call(ctx, v.direct, http.MethodGet, "/metrics", nil)
	if err != nil || status != http.StatusOK {
		return h, fmt.Errorf("ask %s for its metrics: answered %d: %w", v.name, status, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "go_goroutines":
			h.goroutines = int(n)
		case name == "process_resident_memory_bytes":
			h.memory = int64(n)
		}
	}
	if h.goroutines == 0 {
		return h, fmt.Errorf("ask %s for its metrics: expected go_goroutines", v.name)
	}
	if files, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(v.Pid()), "fd")); err == nil {
		h.files = len(files)
	}
	return h, nil
}

// compare waits until the replicas hold about what they did before, and notes what they hold longer than that.
func (r *run) compare(ctx context.Context, before []holding) error {
	first := before[0] // all were started alike, and some anew since
	for _, h := range before {
		first.goroutines, first.files, first.memory = max(first.goroutines, h.goroutines), max(first.files, h.files), max(first.memory, h.memory)
	}
	var last error
	var now []holding
	settled := r.wait(ctx, quietPeriod, func() bool {
		if now, last = r.holdings(ctx); last != nil {
			return true
		}
		for _, h := range now {
			if first.grown(h) != "" {
				return false
			}
		}
		return true
	})
	if err := ctx.Err(); err != nil || last != nil {
		return fmt.Errorf("compare what replicas hold: %w", errors.Join(err, last))
	}
	for i, h := range now {
		r.say("%s held %s, and holds %s", r.cluster.replicas[i].name, before[i], h)
		if grown := first.grown(h); !settled && grown != "" {
			r.journal.Note(Entry{What: WhatGrowth, Who: r.cluster.replicas[i].name, Text: grown})
		}
	}
	return nil
}

// grown tells of what there is much more now; nothing where there is not.
func (h holding) grown(now holding) string {
	if now.goroutines > h.goroutines+moreGoroutines || now.files > h.files+moreFiles || now.memory > h.memory+moreMemory {
		return fmt.Sprintf("%s, and in the beginning %s", now, h)
	}
	return ""
}
