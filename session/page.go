package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// pageBytes bounds a page beside its limit of events. An event that is larger goes alone. Where the memory of all pages is
// short a page is cut smaller, down to leastPage.
const (
	pageBytes = 8 << 20
	leastPage = 256 << 10
)

// pageWait is how long a page waits for memory.
const pageWait = 5 * time.Second

// ErrPages tells that the pages which are being written hold all the memory that pages may have.
var ErrPages = errors.New("the pages of others hold all the memory there is for pages")

// Page is what a poll gives.
type Page struct {
	Events [][]byte // their JSON
	Cursor string   // where the next page begins
	Gaps   []Gap
	// Skipped are records on the way that are no events.
	Skipped []Skipped
	Stalled []Health // streams that cannot be read at the moment
	Waiting *Waiting // why a subscription gives nothing; nil: it does not say
	Drain   *Drain   // this replica goes away; nil: it does not
	// Snapshots are what the page is of, where it is the whole of each stream.
	Snapshots []Snapshot
	Removed   []Removed // what is gone once the events are taken
}

// pageCodec collects a page.
type pageCodec struct {
	page  Page
	limit int
	most  func(need int) int // bytes that the page may have, at least need; 0: there is no memory
	room  int                // what most gave, once there is an event
	bytes int
	full  bool
	ended bool // all that one cursor stands for is on it
	over  bool // more is gone than can be told
	short bool // there was no memory
	at    []byte
	gone  int // of Removed, those that at stands for, too: the others come with what is next
}

// again empties the page: what comes makes void what is on it.
func (c *pageCodec) again() {
	c.page.Events, c.page.Removed, c.page.Skipped, c.at = nil, nil, nil, nil
	c.bytes, c.gone, c.full, c.ended, c.over = 0, 0, false, false, false
}

func (c *pageCodec) event(_ *output, e *fanout.Entry, cursor []byte, _ bool) {
	json := e.Event.JSON()
	if cursor == nil { // it is whole, or not at all
		c.page.Events = append(c.page.Events, json)
		return
	}
	if c.full || c.gone > 0 {
		c.full = true
		return
	}
	if c.room == 0 {
		c.room = c.most(len(json))
		c.short = c.room == 0
	}
	if len(c.page.Events) >= c.limit || c.bytes+len(json) > c.room {
		c.full = true // what is over comes with the next page
		return
	}
	c.page.Events = append(c.page.Events, json)
	c.bytes += len(json)
	c.reach(cursor)
}

func (c *pageCodec) cursor(*output, []byte) {}

func (c *pageCodec) form() form { return noForm }

func (c *pageCodec) blank() codec { return &pageCodec{} }

// end ends a page of what belongs together, once all streams had their turn.
func (c *pageCodec) end(_ *output, cursor []byte) {
	c.at = append(c.at[:0], cursor...)
	c.ended = true
}

// reach notes where the page ends for now.
func (c *pageCodec) reach(cursor []byte) {
	if cursor != nil {
		c.at = append(c.at[:0], cursor...)
		c.gone = len(c.page.Removed)
	}
}

func (c *pageCodec) control(_ *output, name string, payload any, cursor []byte) {
	if c.full {
		return
	}
	switch p := payload.(type) {
	case Gap:
		c.page.Gaps = append(c.page.Gaps, p)
	case Skipped:
		if len(c.page.Skipped) >= min(c.limit, skippedOfPage) {
			c.full = cursor != nil // what has one cursor is on one page, with as many as can be told
			return
		}
		c.page.Skipped = append(c.page.Skipped, p)
		c.reach(cursor)
	case Removed:
		switch {
		case cursor == nil && len(c.page.Removed) >= removedOfPage:
			c.over = true
			return
		case cursor != nil && c.gone >= skippedOfPage:
			c.full = true
			return
		}
		c.page.Removed = append(c.page.Removed, p)
		c.reach(cursor)
	case Snapshot:
		c.page.Snapshots = append(c.page.Snapshots, p)
	case Live:
		if cursor != nil {
			c.end(nil, cursor)
		}
	case Health:
		c.page.stall(name, p)
	}
}

// stall notes whether a stream can be read.
func (p *Page) stall(name string, h Health) {
	p.Stalled = slices.DeleteFunc(p.Stalled, func(o Health) bool { return o == h })
	if name == "stalled" {
		p.Stalled = append(p.Stalled, h)
	}
}

func (c *pageCodec) flush(*output) {}

// Page reads one page of at most q.Limit events and has it written. Where there is none it waits for q.Wait at most. Where
// the filter passes over much it ends after a while, with fewer events or none and a cursor behind what it passed.
//
// Until write returns, the page counts against the limits of sessions and the memory of pages. Its context ends a moment
// after the session was asked to end: what a client has not taken by then is not waited for. An error is returned only
// where write was not called; ErrPages is one of them.
func (s *Server) Page(ctx context.Context, q Request, write func(context.Context, Page)) error {
	if q.Subscription != "" {
		return s.sharePage(ctx, q, write)
	}
	e := newPageEntry(q)
	wake := make(chan struct{}, 1)
	notify := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	if err := s.admit(&e.entry); err != nil {
		return err
	}
	defer s.leave(&e.entry, endClient)
	page, release, err := s.read(ctx, q, notify, wake, e.stopped)
	if err != nil {
		return err
	}
	defer release()
	if closed(e.stopped) {
		page.Drain = e.drain
	}
	e.write(ctx, page, write)
	return nil
}

// pageEntry is a page in the server's register.
type pageEntry struct {
	entry
	once    sync.Once
	stopped chan struct{} // closed once the page is to end
	drain   *Drain        // set before stopped is closed
}

func newPageEntry(q Request) *pageEntry {
	e := &pageEntry{entry: entry{info: infoOf("poll", q)}, stopped: make(chan struct{})}
	e.stop = func(_ string, payload any, _ string) {
		e.once.Do(func() {
			if d, ok := payload.(Drain); ok {
				e.drain = &d
			}
			close(e.stopped)
		})
	}
	return e
}

// write has the page written until a moment after it was asked to end.
func (e *pageEntry) write(ctx context.Context, page Page, write func(context.Context, Page)) {
	writing, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-e.stopped:
			clock.Pause(writing, endPatience)
			cancel()
		case <-writing.Done():
		}
	})
	defer func() { cancel(); watching.Wait() }()
	write(writing, page)
}

// pageMemory is the memory of all pages that are being written.
type pageMemory struct {
	all  int64               // static
	free *semaphore.Weighted // of all
	used atomic.Int64
}

// take gives a page its room, a part of what is free so that some is left for others, and waits where there is none.
func (m *pageMemory) take(ctx context.Context, need int) int {
	least := max(need, leastPage)
	n := max(least, int(min(pageBytes, (m.all-m.used.Load())/8)))
	if !m.free.TryAcquire(int64(n)) {
		ctx, cancel := context.WithTimeout(ctx, pageWait)
		defer cancel()
		if n = least; m.free.Acquire(ctx, int64(n)) != nil {
			return 0
		}
	}
	m.used.Add(int64(n))
	return n
}

func (m *pageMemory) release(n int) {
	m.used.Add(-int64(n))
	m.free.Release(int64(n))
}

// read gathers a page. What it holds of the memory of pages is to be released.
func (s *Server) read(ctx context.Context, q Request, notify func(), wake, stopped <-chan struct{}) (_ Page, release func(), err error) {
	f, err := s.prepare(ctx, q, 0, nil, notify)
	if err != nil {
		return Page{}, nil, err
	}
	defer f.close()
	c := &pageCodec{limit: q.Limit, most: func(need int) int { return s.pages.take(ctx, need) }}
	defer func() {
		if err != nil {
			s.pages.release(c.room)
		}
	}()
	f.codec = c
	var o output
	var entries []*fanout.Entry
	f.begin(&o)
	enough := time.Now().Add(max(q.Wait, s.scan))
	until := time.NewTimer(max(0, q.Wait))
	defer until.Stop()
	takes := f.whole || f.options.Renew // a snapshot at any time
	for anew := false; ; {
		if !anew && (f.whole && f.renewing() != nil || takes && c.over) {
			anew = true
			f.renewAll()
			c.again()
		}
		status := f.gather(&o, &entries, pageBytes)
		if status == fanout.Behind {
			if status, err = f.fill(ctx, &o, &entries, blockOfPage); err != nil {
				if len(c.page.Events) > 0 && !f.midway() {
					break // what there is is worth having
				}
				return Page{}, nil, fmt.Errorf("read a page: %w", err)
			}
			if status != fanout.Ended {
				status = fanout.More
			}
		}
		if status == fanout.Ended {
			return Page{}, nil, fmt.Errorf("read a page: %w", f.err())
		}
		if c.short {
			return Page{}, nil, ErrPages
		}
		if c.full && !f.begun() {
			break // a snapshot that is due comes with the next page
		}
		if f.midway() && status != fanout.Idle {
			if closed(stopped) {
				return Page{}, nil, ErrDraining
			}
			continue
		}
		if takes && c.over && !anew {
			continue // with a snapshot in its place
		}
		if c.full || c.ended || len(c.page.Events) >= c.limit || len(c.page.Events) > 0 && c.bytes >= c.room {
			break
		}
		if status == fanout.More {
			if time.Now().After(enough) && !f.batches || closed(stopped) {
				break // a client that gave up before it had a cursor would begin anew for ever
			}
			continue
		}
		if len(c.page.Events)+len(c.page.Gaps)+len(c.page.Skipped)+len(c.page.Removed) > 0 || q.Wait <= 0 {
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
			return Page{}, nil, ctx.Err()
		}
		f.unpark()
		if !waiting {
			break
		}
	}
	if c.full || c.ended || (len(c.at) > 0 && len(c.page.Events) >= c.limit) {
		c.page.Cursor = string(c.at)
	} else {
		c.page.Cursor = string(f.cursor())
	}
	if f.autosave {
		if at, err := cursor.Parse(c.page.Cursor); err == nil {
			_ = f.confirm(at) // it is the session's own
		}
	}
	s.pages.release(c.room - c.bytes)
	kept := f.kept
	f.kept = nil
	return c.page, func() {
		s.pages.release(c.bytes)
		for _, b := range kept {
			b.Release()
		}
	}, nil
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
	// removedOfPage bounds what a page says is gone where it cannot be cut short for that.
	removedOfPage = 64
	blockOfPage   = 1 << 20
	scanOfPage    = 10 * time.Second
)
