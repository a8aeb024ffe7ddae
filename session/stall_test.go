package session

import (
	"testing"
	"time"
)

func TestAnIdleSessionOutlivesTheStallTimeout(t *testing.T) {
	s := newSite(t, "a")
	for _, secure := range []bool{false, true} {
		r := s.replica(Config{Stall: 200 * time.Millisecond}, secure)
		for _, as := range transports {
			if secure && as != "sse" {
				continue
			}
			c := r.connect(t, as, "stream=a")
			c.must()
			time.Sleep(500 * time.Millisecond) // the timeout passes
			s.publish("a", 0, 1)
			c.ids(1)
			c.close()
		}
	}
}
