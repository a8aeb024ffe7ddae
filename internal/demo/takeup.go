package demo

import (
	"context"
	"encoding/json"
	"time"
)

// numberKey is a train in a stream.
type numberKey struct{ stream, train string }

// takeUp reads the log's last minutes, so that numbers go on where they stood, movements of the time in which nobody
// published are told, and what is there already is not published again.
func (d *Demo) takeUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d.seen = map[string]bool{}
	since := time.Now().Add(-memory)
	for _, stream := range []string{PositionStream, MovementStream} {
		err := d.api.readSince(ctx, stream, since, func(raw json.RawMessage) {
			var e struct {
				ID, Source string
				Time       time.Time
				Data       struct {
					Train    string
					Sequence int64
				}
			}
			if json.Unmarshal(raw, &e) != nil || e.Source != Source {
				return
			}
			d.seen[e.ID] = true
			d.numbers[numberKey{stream, e.Data.Train}] = e.Data.Sequence
			if stream == MovementStream && d.clock.shift == 0 && e.Time.Before(d.clock.now()) {
				d.told = e.Time.Add(-1) // others may share that moment
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
