package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// pageBytes bounds a page beside its limit of events. An event that is larger goes alone.
const pageBytes = 8 << 20

// Page is what a poll gives.
type Page struct {
	Events [][]byte // their JSON; to be written before anything else is asked of the server
	Cursor string   // where the next page begins
	Gaps   []Gap
	// Skipped are records on the way that are no events.
	Skipped []Skipped
}

// pageCodec collects a page.
type pageCodec struct {
	page  Page
	limit int
	bytes int
	full  bool
	at    []byte
}

func (c *pageCodec) event(_ *output, e *fanout.Entry, cursor []byte, _ bool) {
	json := e.Event.JSON()
	if c.full || len(c.page.Events) >= c.limit || (len(c.page.Events) > 0 && c.bytes+len(json) > pageBytes) {
		c.full = true // what is over comes with the next page
		return
	}
	c.page.Events = append(c.page.Events, json)
	c.bytes += len(json)
	c.at = append(c.at[:0], cursor...)
}

func (c *pageCodec) cursor(*output, []byte) {}

func (c *pageCodec) control(_ *output, _ string, payload any, cursor []byte) {
	if c.full {
		return
	}
	switch p := payload.(type) {
	case Gap:
		c.page.Gaps = append(c.page.Gaps, p)
	case Skipped:
		if len(c.page.Skipped) >= min(c.limit, skippedOfPage) {
			c.full = true
			return
		}
		c.page.Skipped = append(c.page.Skipped, p)
		c.at = append(c.at[:0], cursor...)
	}
}

func (c *pageCodec) flush(*output) {}

// Page reads one page of at most q.Limit events. Where there is none it waits for q.Wait at most. Where the filter passes
// over much it ends after a while, with fewer events or none and a cursor behind what it passed.
func (s *Server) Page(ctx context.Context, q Request) (Page, error) {
	e := &entry{info: Info{Transport: "poll", Address: q.Address, Consumer: q.Consumer, Filter: q.Filter != nil, Streams: names(q)}}
	wake := make(chan struct{}, 1)
	notify := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	stopped := make(chan struct{})
	var once sync.Once
	e.stop = func(string, any, string) { once.Do(func() { close(stopped) }) }
	if err := s.admit(e); err != nil {
		return Page{}, err
	}
	defer s.leave(e, endClient)
	f, err := s.prepare(ctx, q, 0, nil, notify)
	if err != nil {
		return Page{}, err
	}
	defer f.close()
	c := &pageCodec{limit: q.Limit}
	f.codec = c
	var o output
	var entries []*fanout.Entry
	f.begin(&o)
	enough := time.Now().Add(max(q.Wait, s.scan))
	until := time.NewTimer(max(0, q.Wait))
	defer until.Stop()
	for {
		status := f.gather(&o, &entries, pageBytes)
		if status == fanout.Behind {
			if status, err = f.fill(ctx, &o, &entries, blockOfPage); err != nil {
				if len(c.page.Events) > 0 {
					break // what there is is worth having
				}
				return Page{}, fmt.Errorf("read a page: %w", err)
			}
			if status != fanout.Ended {
				status = fanout.More
			}
		}
		if status == fanout.Ended {
			return Page{}, fmt.Errorf("read a page: %w", f.err())
		}
		if c.full || len(c.page.Events) >= c.limit || c.bytes >= pageBytes {
			break
		}
		if status == fanout.More {
			if time.Now().After(enough) || closed(stopped) {
				break // a client that gave up before it had a cursor would begin anew for ever
			}
			continue
		}
		if len(c.page.Events)+len(c.page.Gaps)+len(c.page.Skipped) > 0 || q.Wait <= 0 {
			break
		}
		if !f.park() {
			continue
		}
		waiting := true
		select {
		case <-wake:
		case <-until.C:
			waiting = false
		case <-stopped:
			waiting = false
		case <-ctx.Done():
			return Page{}, ctx.Err()
		}
		f.unpark()
		if !waiting {
			break
		}
	}
	if c.full || (len(c.at) > 0 && len(c.page.Events) >= c.limit) {
		c.page.Cursor = string(c.at)
	} else {
		c.page.Cursor = string(f.cursor())
	}
	if f.autosave {
		if at, err := cursor.Parse(c.page.Cursor); err == nil {
			_ = f.confirm(at) // it is the session's own
		}
	}
	return c.page, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

const (
	// skippedOfPage bounds the records that a page says were passed: they are headers, of which proxies take little.
	skippedOfPage = 16
	blockOfPage   = 1 << 20
	scanOfPage    = 10 * time.Second
)
