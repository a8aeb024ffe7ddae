package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// slow is a log that gives little at a time.
type slow struct{ broker.Log }

func (l slow) Read(ctx context.Context, topic string, partition int32, offset int64, _ int) (broker.Batch, error) {
	time.Sleep(20 * time.Millisecond)
	b, err := l.Log.Read(ctx, topic, partition, offset, 1)
	if len(b.Records) > 1 {
		b.Records = b.Records[:1]
		b.Next = b.Records[0].Offset + 1
	}
	return b, err
}

func TestAPageThatFindsNothingEndsWithWhatItHasPassed(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 400) // a page takes 8 s
	s.log = slow{s.log}
	f, err := filter.Compile(filter.Query{Subjects: []string{"/none"}})
	if err != nil {
		t.Fatal(err)
	}
	q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}, Filter: f, From: From{Oldest: true}, Limit: 3}
	check := func(page Page, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c, err := cursor.Parse(page.Cursor)
		if err != nil {
			t.Fatal(err)
		}
		if at, _ := c.For("a"); slices.Max(at.Next) == 0 || slices.Min(at.Next) == 200 {
			t.Errorf("the page ends at %v", at.Next)
		}
	}
	r := s.replica(Config{}, false)
	r.scan = 200 * time.Millisecond
	check(r.page(t.Context(), q))

	r = s.replica(Config{}, false) // which has no block of the log
	go func() {
		for r.Count() == 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // it has passed something
		_ = r.Drain(t.Context())
	}()
	check(r.page(t.Context(), q))
}

// page reads a page and takes it.
func (r *replica) page(ctx context.Context, q Request) (page Page, err error) {
	err = r.Page(ctx, q, func(_ context.Context, p Page) { page = p })
	return page, err
}

func TestAPageCountsUntilItIsWritten(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 4)
	r := s.replica(Config{MaxPerAddress: 2}, false)
	q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}, From: From{Oldest: true}, Limit: 3, Address: "x"}
	written, ended := make(chan struct{}), make(chan error, 2)
	writing := make(chan struct{}, 2)
	for range 2 {
		go func() {
			ended <- r.Page(context.Background(), q, func(context.Context, Page) { writing <- struct{}{}; <-written })
		}()
	}
	<-writing
	<-writing
	var limit *LimitError
	if _, err := r.page(t.Context(), q); !errors.As(err, &limit) {
		t.Errorf("a third page beside two that are being written: %v", err)
	}
	close(written)
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Error(err)
	}
	if _, err := r.page(t.Context(), q); err != nil {
		t.Errorf("after they were written: %v", err)
	}
}

func TestPagesAreCutSmallerWhereTheirMemoryIsShort(t *testing.T) {
	s := newSite(t, "a")
	const size = 100 << 10
	pad := strings.Repeat("x", size)
	var messages []broker.Message
	for i := range 60 {
		messages = append(messages, broker.Message{Value: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":%q}`, i, pad)})
	}
	for _, a := range s.log.Append(t.Context(), "a", messages) {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	r := s.replica(Config{PageBytes: leastMemory}, false)
	q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}, From: From{Oldest: true}, Limit: 1000}
	written := make(chan struct{})
	var pages sync.WaitGroup
	held := make(chan int, 100)
	for range 10 {
		pages.Go(func() {
			err := r.Page(context.Background(), q, func(_ context.Context, p Page) {
				n := 0
				for _, e := range p.Events {
					n += len(e)
				}
				held <- n
				<-written
			})
			if err != nil {
				t.Error(err)
				held <- 0
			}
		})
	}
	total, least := 0, pageBytes
	for range 10 {
		n := <-held
		total, least = total+n, min(least, n)
	}
	if total > leastMemory || least == 0 || least > leastPage {
		t.Errorf("ten pages hold %d bytes, the smallest %d", total, least)
	}
	close(written)
	pages.Wait()
	if page, err := r.page(t.Context(), q); err != nil || len(page.Events) <= leastPage/size {
		t.Errorf("a page alone has %d events: %v", len(page.Events), err)
	}
}

func TestADrainDoesNotWaitForAPageThatNobodyTakes(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	writing, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- r.Page(context.Background(), Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}, Limit: 3}, func(ctx context.Context, _ Page) {
			close(writing)
			<-ctx.Done()
		})
	}()
	<-writing
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := errors.Join(r.Drain(ctx), <-ended); err != nil {
		t.Error(err)
	}
}
