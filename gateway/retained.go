package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
)

// How far a stream is searched for events of a type that is to be deleted. A search that ends without an answer is a
// refusal: whoever knows better forces the deletion.
const (
	searchTime  = 10 * time.Second
	searchBytes = 1 << 20 // of one fetch
	searchTail  = 1000    // the newest offsets of a partition, searched first: that is where events mostly are
)

var errFound = errors.New("found")

// refuseRetained is a problem where a stream still holds events that fall under the type, or may do so.
func (g *Gateway) refuseRetained(ctx context.Context, t catalog.EventType) error {
	for _, name := range append([]string{t.Stream}, t.FormerStreams...) {
		stream, ok := g.deps.Catalog.Stream(name)
		if !ok {
			continue
		}
		if err := g.refuseRetainedIn(ctx, t, stream); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gateway) refuseRetainedIn(ctx context.Context, t catalog.EventType, stream catalog.Stream) error {
	var wrap *event.Wrap
	if stream.Format == catalog.FormatJSON {
		var err error
		if wrap, err = event.CompileWrap([]byte(stream.Wrap)); err != nil {
			return err
		}
	}
	bounds, err := g.deps.Log.Bounds(ctx, stream.Topic)
	if errors.Is(err, broker.ErrNoTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	where := ""
	search := func(p int, from, to int64) error {
		at, err := g.searchLog(ctx, stream, wrap, int32(p), from, to, func(typ string) bool { return g.fallsUnder(typ, t) })
		if err == nil && at >= 0 {
			where = fmt.Sprintf("partition %d, offset %d", p, at)
			return errFound
		}
		return err
	}
	for p, b := range bounds {
		if err = search(p, max(b.First, b.Next-searchTail), b.Next); err != nil {
			break
		}
	}
	for p, b := range bounds {
		if err != nil {
			break
		}
		err = search(p, b.First, max(b.First, b.Next-searchTail))
	}
	switch {
	case errors.Is(err, errFound):
		return newProblem(kindConflict, "the stream %q still holds events of type %q (%s): wait until its retention has passed, or delete the registration all the same with force=true", stream.Name, t.Type, where)
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(kindConflict, "the stream %q is so long that it is not known within %v whether it still holds events of type %q: with force=true the registration is deleted all the same", stream.Name, searchTime, t.Type)
	}
	return err
}

// fallsUnder reports whether events of a type are those of the registration t.
func (g *Gateway) fallsUnder(typ string, t catalog.EventType) bool {
	if !t.IsPattern() {
		return typ == t.Type
	}
	if !strings.HasPrefix(typ, strings.TrimSuffix(t.Type, "*")) {
		return false
	}
	found, ok := g.deps.Catalog.EventType(typ)
	return ok && found.Type == t.Type
}

// searchLog returns the first offset in [from, to) whose event's type matches, or -1.
func (g *Gateway) searchLog(ctx context.Context, stream catalog.Stream, wrap *event.Wrap, partition int32, from, to int64, matches func(typ string) bool) (int64, error) {
	for at := from; at < to; {
		batch, err := g.deps.Log.Read(ctx, stream.Topic, partition, at, searchBytes)
		var outside *broker.RangeError
		switch {
		case errors.As(err, &outside) && at < outside.Bounds.First: // retention went on meanwhile
			at = outside.Bounds.First
			continue
		case errors.As(err, &outside):
			return -1, nil
		case ctx.Err() != nil:
			return -1, ctx.Err()
		case err != nil:
			return -1, err
		}
		for _, r := range batch.Records {
			if r.Offset >= to {
				break
			}
			if e, err := event.FromRecordOf(r, wrap); err == nil && matches(e.Type()) {
				return r.Offset, nil
			}
		}
		if batch.Next <= at {
			break
		}
		at = batch.Next
	}
	return -1, nil
}
