package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// settleMost is how long a stop waits for the request that is being carried out.
const settleMost = 5 * time.Second

// guard has the broker refuse what there is no room for, and, once it is to stop, all records and topics.
func (s *Server) guard() {
	for key, refuse := range map[kmsg.Key]func(kmsg.Request) kmsg.Response{
		kmsg.Produce: s.space.produce, kmsg.CreateTopics: s.space.create, kmsg.CreatePartitions: s.space.grow,
	} {
		s.kafka.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			s.kafka.KeepControl()
			if s.stopping.Load() {
				return nil, errStopping, true // cuts the connection, as the stop is about to
			}
			resp := refuse(req)
			return resp, nil, resp != nil
		})
	}
}

var errStopping = errors.New("the broker stops")

// settle has the broker take no more records, and returns when those that it was about to write are written. kfake saves what it
// knows of producers and stops even while a request is with the guard, and carries that request out afterwards: its records
// would be on the log, and the producer, which had no answer, would be let write them again.
func (s *Server) settle() error {
	s.stopping.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), settleMost)
	defer cancel()
	conn, err := s.links.dial(ctx)
	if err != nil {
		return fmt.Errorf("reach the embedded Kafka: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	// Requests are carried out one after another: an answer to this one tells that none before it is left.
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 0)); err != nil {
		return fmt.Errorf("ask the embedded Kafka: %w", err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		return fmt.Errorf("await the embedded Kafka: %w", err)
	}
	return nil
}
