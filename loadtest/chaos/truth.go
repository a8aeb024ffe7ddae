package chaos

import (
	"context"
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
	bounds, err := log.Bounds(ctx, topicPrefix+theStream)
	if err != nil {
		return nil, fmt.Errorf("ask for the log's ends: %w", err)
	}
	var all []int64
	for _, b := range bounds {
		all = append(all, b.Next)
	}
	return all, nil
}

// eachRecord gives what a partition of the log holds from an offset to an end, and when the log took it.
func eachRecord(ctx context.Context, log *kafka.Log, p int, from, end int64, each func(e Entry, written time.Time)) error {
	for at := from; at < end; {
		batch, err := log.Read(ctx, topicPrefix+theStream, int32(p), at, 1<<20)
		if err != nil {
			return fmt.Errorf("read partition %d of the log at %d: %w", p, at, err)
		}
		if batch.Next <= at {
			return fmt.Errorf("read partition %d of the log, which ends at %d: nothing comes at %d", p, end, at)
		}
		for _, r := range batch.Records {
			if r.Offset < end {
				each(recordEntry(r), r.Timestamp)
			}
		}
		at = batch.Next
	}
	return nil
}

func recordEntry(r broker.Record) Entry {
	e := Entry{What: WhatRecord, Places: []Place{{int64(r.Partition), r.Offset}}, IDs: []string{""}}
	v, err := event.FromRecord(r)
	if err != nil {
		e.Text = cut(err.Error())
		return e
	}
	e.IDs[0] = v.ID()
	return e
}

// record is an event on the log.
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
