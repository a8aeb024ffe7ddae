package session

import (
	"context"
	"slices"
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
	check(r.Page(t.Context(), q))

	r = s.replica(Config{}, false) // which has no block of the log
	go func() {
		for r.Count() == 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // it has passed something
		_ = r.Drain(t.Context())
	}()
	check(r.Page(t.Context(), q))
}
