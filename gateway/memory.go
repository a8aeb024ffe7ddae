package gateway

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// How bodies get the memory that they are read into. A body is given memory as it arrives and not for what it may become,
// so that a client that only begins to send holds next to nothing, and small bodies have a share of their own, which no
// large one that waits can hold up.
const (
	memoryWait = 5 * time.Second // for memory, each time that a body needs more
	firstRoom  = 64 << 10        // what a body gets at first; one that says it has no more is small
	smallShare = 8               // the part of all memory that is for small bodies, as a divisor
)

// bodyMemory bounds the memory of all bodies being handled.
type bodyMemory struct{ small, large *semaphore.Weighted }

func newBodyMemory(total int64) bodyMemory {
	return bodyMemory{small: semaphore.NewWeighted(total / smallShare), large: semaphore.NewWeighted(total - total/smallShare)}
}

// room is the memory of one body. It belongs to one goroutine.
type room struct {
	from  *semaphore.Weighted
	bytes int64
}

// take begins the room of a body that says it has declared bytes; negative: it does not say.
func (m bodyMemory) take(declared int64) *room {
	if declared >= 0 && declared <= firstRoom {
		return &room{from: m.small}
	}
	return &room{from: m.large}
}

// grow makes the room bytes larger. It blocks for memoryWait at most; the error is a *problem.
func (r *room) grow(ctx context.Context, bytes int64) error {
	if !r.from.TryAcquire(bytes) {
		ctx, cancel := context.WithTimeout(ctx, memoryWait)
		defer cancel()
		if r.from.Acquire(ctx, bytes) != nil {
			return errNoMemory()
		}
	}
	r.bytes += bytes
	return nil
}

// growNow is grow where nobody is to wait.
func (r *room) growNow(bytes int64) error {
	if !r.from.TryAcquire(bytes) {
		return errNoMemory()
	}
	r.bytes += bytes
	return nil
}

func errNoMemory() *problem {
	return newProblem(kindOverloaded, "too many large requests are being handled at once: try again").retry(retrySoon)
}

// free gives the room back.
func (r *room) free() {
	r.from.Release(r.bytes)
	r.bytes = 0
}
