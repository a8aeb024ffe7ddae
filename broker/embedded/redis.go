package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// redisServer is miniredis with a clock and a memory: by itself time does not pass for its keys, and nothing outlives it.
type redisServer struct {
	mini *miniredis.Miniredis
	file string
	log  *slog.Logger
	stop chan struct{}
	done sync.WaitGroup
}

func startRedis(cfg Config) (*redisServer, error) {
	dir := filepath.Join(cfg.Dir, "redis")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the embedded Redis: %w", err)
	}
	r := &redisServer{
		mini: miniredis.NewMiniRedis(),
		file: filepath.Join(dir, "snapshot"),
		log:  cfg.Log,
		stop: make(chan struct{}),
	}
	switch err := load(r.mini, r.file, time.Now()); {
	case err == nil, errors.Is(err, fs.ErrNotExist):
	default:
		// What Redis holds can be rebuilt: a broken snapshot must not keep the server from starting.
		r.log.Error("the embedded Redis starts empty: its snapshot cannot be read", "file", r.file, "error", err)
		r.mini.FlushAll()
	}
	if err := r.mini.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.RedisPort))); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	r.done.Go(func() { r.run(cfg.SaveEvery) })
	return r, nil
}

func (r *redisServer) addr() string { return r.mini.Addr() }

// run lets time pass for keys with a time to live, and saves.
func (r *redisServer) run(saveEvery time.Duration) {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	saves := time.NewTicker(saveEvery)
	defer saves.Stop()
	last := time.Now()
	for {
		select {
		case <-r.stop:
			return
		case now := <-clock.C:
			r.mini.FastForward(now.Sub(last))
			last = now
		case now := <-saves.C:
			if err := save(r.mini, r.file, now); err != nil {
				r.log.Error("the embedded Redis could not be saved", "file", r.file, "error", err)
			}
		}
	}
}

func (r *redisServer) close() error {
	close(r.stop)
	r.done.Wait()
	r.mini.Close()
	if err := save(r.mini, r.file, time.Now()); err != nil {
		return fmt.Errorf("save the embedded Redis: %w", err)
	}
	return nil
}
