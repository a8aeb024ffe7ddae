package session

import (
	"context"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// unreadable is a log one topic of which cannot be read at random.
type unreadable struct {
	broker.Log
	topic string
	asked chan struct{}
}

func (l unreadable) Read(ctx context.Context, topic string, partition int32, offset int64, maxBytes int) (broker.Batch, error) {
	if topic == l.topic {
		select {
		case l.asked <- struct{}{}:
		default:
		}
		return broker.Batch{}, broker.ErrUnavailable
	}
	return l.Log.Read(ctx, topic, partition, offset, maxBytes)
}

func TestAStreamThatCannotCatchUpHoldsUpNoOtherOfItsSession(t *testing.T) {
	s := newSite(t, "a", "b")
	s.publish("a", 0, 4)
	behind := unreadable{s.log, "a", make(chan struct{})}
	s.log = behind
	r := s.replica(Config{}, false)
	for _, as := range transports {
		c := r.connect(t, as, "stream=a&stream=b&from=oldest")
		<-behind.asked
		s.publish("b", 0, 2)
		hung := time.AfterFunc(5*time.Second, c.close)
		c.until("0", "1") // what cannot be read is told to be stalled meanwhile
		hung.Stop()
		c.close()
	}
}

func TestAStreamThatCannotBeReadHoldsUpNoOtherThatIsBehindToo(t *testing.T) {
	s := newSite(t, "a", "b")
	s.publish("a", 0, 4)
	s.publish("b", 0, 2)
	s.log = unreadable{s.log, "a", nil}
	r := s.replica(Config{}, false)
	for _, as := range transports {
		for _, both := range []string{"stream=a&stream=b", "stream=b&stream=a"} {
			c := r.connect(t, as, both+"&from=oldest")
			hung := time.AfterFunc(5*time.Second, c.close)
			c.until("0", "1") // what cannot be read is told to be stalled meanwhile
			hung.Stop()
			c.close()
		}
	}
}
