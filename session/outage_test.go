package session

import (
	"context"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// silent is a log whose reads are never answered.
type silent struct {
	broker.Log
	asked chan struct{} // gets a token with the first read
}

func (l silent) Read(ctx context.Context, _ string, _ int32, _ int64, _ int) (broker.Batch, error) {
	select {
	case l.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return broker.Batch{}, ctx.Err()
}

// settled waits until the server has n sessions.
func (r *replica) settled(t *testing.T, n int) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(10 * time.Second)
	for r.Count() != n {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d sessions are open instead of %d", r.Count(), n)
		}
	}
}

func TestSessionsWaitingForTheLogStillBeatHangUpAndDrain(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 4)
	log := silent{s.log, make(chan struct{}, 1)}
	s.log = log
	r := s.replica(Config{}, false)
	var all, others []*client
	for range 30 { // more than read the log at once
		for _, as := range transports {
			all = append(all, r.connect(t, as, "stream=a&from=oldest&beat"))
		}
	}
	<-log.asked

	// Heartbeats come.
	for _, c := range all[:len(transports)] {
		for beats := 0; beats < 4; {
			if g := c.must(); g.ID == "" && g.Control == "" && g.Cursor != "" {
				beats++
			}
		}
	}
	// Who hangs up is gone.
	for i, c := range all {
		if i%2 == 0 {
			c.close()
		} else {
			others = append(others, c)
		}
	}
	r.settled(t, len(others))
	// Who stays is told of the drain.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		t.Error(err)
	}
	for _, c := range others {
		told := false
		for {
			g, err := c.next()
			if err != nil {
				break
			}
			told = told || g.Control == "drain"
		}
		if !told {
			t.Errorf("%s: was not told of the drain", c.as)
		}
		c.close()
	}
}
