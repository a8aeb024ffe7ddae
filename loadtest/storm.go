package loadtest

import (
	"context"
	"fmt"
	"time"
)

// storms drops everybody at once, several times, while publishing goes on.
func (s *subscription) storms(ctx context.Context) error {
	apart := s.config.Duration / time.Duration(s.config.Storms)
	for range s.config.Storms {
		began := time.Now()
		if err := s.storm(ctx); err != nil {
			return err
		}
		if !wait(ctx, max(apart-time.Since(began), s.config.Settle)) {
			return ctx.Err()
		}
	}
	return nil
}

func (s *subscription) storm(ctx context.Context) error {
	wanted := s.all.live.Load()
	if wanted == 0 {
		return fmt.Errorf("no connection is live before the storm")
	}
	reconnects, failures, began := s.all.reconnects.Load(), s.all.failures.Load(), time.Now()
	s.client.drop()
	var storm Storm
	ok, err := s.until(ctx, s.config.StormTimeout, func() bool {
		return s.all.live.Load() >= wanted && s.all.reconnects.Load() >= reconnects+uint64(wanted)
	})
	storm.AllLive = time.Since(began).Seconds()
	if err != nil {
		return err
	}
	// A server that sends no block before its next event has its readers whole only then.
	blocks, err := s.until(ctx, max(0, s.config.StormTimeout-time.Since(began)), func() bool { return s.all.blocks.Load() >= wanted })
	storm.AllBlocks = time.Since(began).Seconds()
	if err != nil {
		return err
	}
	storm.Timeout, storm.Failures = !ok || !blocks, s.all.failures.Load()-failures
	s.report.Storms = append(s.report.Storms, storm)
	return nil
}
