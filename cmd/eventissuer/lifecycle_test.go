package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStopEndsInTimeThoughAPartDoesNot(t *testing.T) {
	for name, c := range map[string]struct {
		hangs bool
		fails error
		took  time.Duration
	}{
		"all end":                  {took: 3 * time.Second},
		"one hangs":                {hangs: true, took: 10*time.Second + 2*lateTime + 2*time.Second},
		"one hangs, another fails": {hangs: true, fails: errors.New("it broke"), took: 10*time.Second + 2*lateTime + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				l := newLifecycle(slog.New(slog.NewTextHandler(&log, nil)))
				var ended []string // by one goroutine after the other
				closing := func(name string, takes time.Duration, err error) *part {
					return l.closing(name, func() error {
						time.Sleep(takes)
						ended = append(ended, name)
						return err
					})
				}
				closing("storage", 2*time.Second, nil).must = true
				release := make(chan struct{})
				l.run("slow", func(ctx context.Context) error {
					<-ctx.Done()
					if c.hangs {
						<-release
					}
					return ctx.Err()
				})
				closing("first", time.Second, c.fails)
				began := time.Now()
				err := l.stop(10 * time.Second)
				if took := time.Since(began); took > c.took || took < 3*time.Second {
					t.Errorf("it took %s, want %s at most", took, c.took)
				}
				if !errors.Is(err, c.fails) {
					t.Errorf("it ended with %v, want %v", err, c.fails)
				}
				if want := []string{"first", "storage"}; !slices.Equal(ended, want) {
					t.Errorf("ended %v, want %v", ended, want)
				}
				if c.hangs != strings.Contains(log.String(), "slow") {
					t.Errorf("it logged %q", &log)
				}
				close(release)
			})
		})
	}
}
