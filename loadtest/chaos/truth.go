package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/event"
)

// readPeriod is for what the log is asked, once everything is repaired.
const readPeriod = time.Minute

// ends asks the log where it ends.
func ends(ctx context.Context, log *kafka.Log) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readPeriod)
	defer cancel()
	var all []int64
	for _, s := range streams {
		bounds, err := log.Bounds(ctx, topicPrefix+s.name)
		if err != nil {
			return nil, fmt.Errorf("ask for the log's ends: %w", err)
		}
		for _, b := range bounds {
			all = append(all, b.Next)
		}
	}
	return all, nil
}

// eachRecord gives what a partition of a stream's log holds from an offset to an end, and when the log took it.
func eachRecord(
	ctx context.Context, log *kafka.Log, s *stream, p int, from, end int64, each func(e Entry, written time.Time),
) error {
	for at := from; at < end; {
		batch, err := log.Read(ctx, topicPrefix+s.name, int32(p), at, 1<<20)
		if err != nil {
			return fmt.Errorf("read partition %d of %s at %d: %w", p, s.name, at, err)
		}
		if batch.Next <= at {
			return fmt.Errorf("read partition %d of %s, which ends at %d: nothing comes at %d", p, s.name, end, at)
		}
		for _, r := range batch.Records {
			if r.Offset < end {
				each(s.entry(r), r.Timestamp)
			}
		}
		at = batch.Next
	}
	return nil
}

// entry is what the journal has of a record.
func (s *stream) entry(r broker.Record) Entry {
	e := Entry{What: WhatRecord, Places: []Place{{int64(s.first) + int64(r.Partition), r.Offset}}, IDs: []string{""}}
	v, err := event.FromRecord(r)
	switch {
	case errors.Is(err, event.ErrTombstone):
		e.IDs[0] = string(r.Key)
		return e
	case err != nil:
		e.Text = cut(err.Error())
		return e
	}
	e.IDs[0] = v.ID()
	return e
}

// record is an event or a tombstone on the log.
type record struct {
	offset int64
	id     string
}

// truth is what the log holds: what every client is compared with.
type truth struct {
	partitions [][]record // in order
	places     map[string][]Place
	acked      map[Place]time.Duration // when an answer first said that something is there
	ends       []int64                 // once nothing more was published

	// The log begins between low and high: what is below low is deleted, and what is below high may be. They move as the
	// journal is followed.
	low, high []int64
}

func newTruth() *truth { return &truth{places: map[string][]Place{}, acked: map[Place]time.Duration{}} }

// add takes a record. Those of a partition come in order.
func (t *truth) add(at Place, id string) {
	for int64(len(t.partitions)) <= at[0] {
		t.partitions = append(t.partitions, nil)
	}
	t.partitions[at[0]] = append(t.partitions[at[0]], record{at[1], id})
	t.places[id] = append(t.places[id], at)
}

// find is the index of the first record of p at or above the offset.
func (t *truth) find(p int, offset int64) int {
	i, _ := slices.BinarySearchFunc(t.partitions[p], offset, func(r record, o int64) int { return int(r.offset - o) })
	return i
}

// latest is a key's last record of p below an offset; "" where there is none.
func (t *truth) latest(p int, key string, below int64) (id string) {
	for i := t.find(p, below) - 1; i >= 0; i-- {
		id := t.partitions[p][i].id
		if of, _ := splitID(id); of == key {
			return id
		}
	}
	return ""
}

// removed reports whether a key was removed behind a place.
func (t *truth) removed(key string, behind Place) bool {
	return slices.ContainsFunc(t.places[key], func(at Place) bool { return at[0] == behind[0] && at[1] > behind[1] })
}

// behind reports whether one of the places is at or behind a row of offsets.
func (t *truth) behind(places []Place, from []int64) bool {
	return slices.ContainsFunc(places, func(at Place) bool { return at[0] >= int64(len(from)) || at[1] >= from[at[0]] })
}

// at is the event in a place; "" where there is none.
func (t *truth) at(p Place) string {
	if p[0] < 0 || p[0] >= int64(len(t.partitions)) {
		return ""
	}
	all := t.partitions[p[0]]
	i := t.find(int(p[0]), p[1])
	if i == len(all) || all[i].offset != p[1] {
		return ""
	}
	return all[i].id
}
