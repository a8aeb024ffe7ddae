package push

import (
	"context"
	"errors"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// saveAtLeast is the least time between looks for statements that are due and not urgent.
const saveAtLeast = 100 * time.Millisecond

// saveAll writes statements until ctx ends.
func (p *partition) saveAll(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.kick: // something is urgent
		case <-p.changed:
			// What changed is written soon, and what changes until then with it.
			select {
			case <-p.kick:
			case <-ctx.Done():
				return
			case <-time.After(saveAtLeast):
			}
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		p.save(ctx, false)
		timer.Reset(p.nextSave())
	}
}

// nextSave is how long until a statement is due at the latest.
func (p *partition) nextSave() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, wait, every := time.Now(), writeHeadEvery, p.engine.stretch()
	for n := range p.chunks {
		if c := &p.chunks[n]; c.dirty || c.urgent {
			wait = min(wait, c.written.Add(every).Sub(now))
		}
	}
	return max(wait, saveAtLeast)
}

// saveLast writes what is not said yet, if there is time.
func (p *partition) saveLast() {
	ctx, cancel := context.WithTimeout(context.Background(), lastSave)
	defer cancel()
	p.save(ctx, true)
}

// save writes the statements that are due, and notes what became of them. It is called by one goroutine at a time, so that
// one statement of a chunk is outstanding at most.
func (p *partition) save(ctx context.Context, all bool) {
	var due []uint8
	var messages []broker.Message
	p.mu.Lock()
	now := time.Now()
	for n := range uint8(chunks) {
		c := &p.chunks[n]
		if !c.due(now, p.head, p.engine.stretch()) && !(all && c.dirty && c.pending == nil) {
			continue
		}
		value := p.state(n).encode()
		c.written = now
		due = append(due, n)
		messages = append(messages, broker.Message{Partition: positionsOf(p.epoch, p.id), Key: p.key(n).encode(), Value: value})
	}
	p.mu.Unlock()
	if len(due) == 0 {
		return
	}
	bytes := 0
	for _, m := range messages {
		bytes += len(m.Value)
	}
	p.engine.wrote(len(messages), bytes)
	acks := p.engine.deps.Log.Append(ctx, p.engine.cfg.Positions, messages)
	p.engine.m.statements.Add(float64(len(messages)))
	p.engine.m.statementBytes.Add(float64(bytes))

	var old []broker.Message
	p.mu.Lock()
	for i, n := range due {
		if err := acks[i].Err; err != nil {
			p.engine.m.unsaid.Inc()
			if !errors.Is(err, context.Canceled) {
				p.log.Warn("a statement of how far subscriptions are was not acknowledged; it is written again", "error", err)
			}
			p.unacknowledged(n)
			continue
		}
		for _, key := range p.acknowledged(n) {
			old = append(old, broker.Message{Partition: positionsOf(p.epoch, p.id), Key: key.encode()})
		}
	}
	p.mu.Unlock()
	p.rouse()
	if len(old) > 0 {
		// One that fails is left to the next owner.
		p.engine.deps.Log.Append(ctx, p.engine.cfg.Positions, old)
	}
}

// statementBytesMost is what a replica writes of statements in a second.
const statementBytesMost = 4 << 20

// wrote counts statements.
func (e *Engine) wrote(n, bytes int) {
	e.writes.take(float64(n))
	e.written.take(float64(bytes))
}

// stretch is how long a chunk waits between statements that are not urgent: longer where more are written than a replica
// may.
func (e *Engine) stretch() time.Duration {
	return max(writeEvery, e.writes.debt(), e.written.debt())
}
