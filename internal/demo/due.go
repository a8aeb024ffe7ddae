package demo

import (
	"context"
	"slices"
	"time"
)

// memory is how long after the gateway went away movements are still told when it is back.
const memory = 10 * time.Minute

// journeysAt gives the journeys of the service days that touch t, made when a day is first asked for.
func (d *Demo) journeysAt(t time.Time) []*journey {
	days := d.clock.serviceDays(t)
	if days == d.touched {
		return d.journeys
	}
	kept := map[string][]*journey{}
	var all []*journey
	for _, day := range days {
		js := d.days[day.date]
		if js == nil {
			js = make([]*journey, 0, len(d.day.Trains))
			for i := range d.day.Trains {
				train := &d.day.Trains[i]
				js = append(js, newJourney(d.day, train, day, d.book.delays(train, day.date)))
			}
		}
		kept[day.date] = js
		all = append(all, js...)
	}
	d.days, d.touched, d.journeys = kept, days, all
	return all
}

// running gives the journeys under way at t.
func (d *Demo) running(t time.Time) []*journey {
	var list []*journey
	for _, j := range d.journeysAt(t) {
		if at := t.Sub(j.day.midnight); at >= j.begins() && at < j.ends() {
			list = append(list, j)
		}
	}
	return list
}

// publishDue publishes what has come due up to now; false when ctx has ended.
func (d *Demo) publishDue(ctx context.Context, now time.Time) bool {
	if early := now.Add(-memory); d.told.Before(early) {
		d.told = early
	}
	items := d.due(now)
	d.told, d.ticked = now, now
	for batch := range slices.Chunk(items, 200) {
		if !d.publish(ctx, batch) {
			return false
		}
	}
	return true
}

// due gives the movements since told and, of each train, its newest position since ticked, in order of time.
func (d *Demo) due(now time.Time) []item {
	var items []item
	add := func(it item) {
		if !d.seen[it.event.ID] {
			items = append(items, it)
		}
	}
	for _, j := range d.journeysAt(now) {
		begins, ends := j.day.midnight.Add(j.begins()), j.day.midnight.Add(j.ends())
		if ends.Before(d.told) || begins.After(now) {
			continue
		}
		for _, m := range j.movements {
			if at := j.day.midnight.Add(m.at); at.After(d.told) && !at.After(now) {
				add(d.movement(j, m))
			}
		}
		if tick := d.tick(j, now); tick.After(d.ticked) && !tick.Before(begins) && tick.Before(ends) {
			add(d.position(j, tick.Sub(j.day.midnight)))
		}
	}
	d.seen = nil // what the log held when this publisher began lies before now
	slices.SortStableFunc(items, func(a, b item) int { return a.at.Compare(b.at) })
	for i := range items {
		if err := d.number(&items[i]); err != nil {
			panic("demo: an event cannot be encoded: " + err.Error()) // strings and finite numbers can
		}
	}
	return items
}

// tick is the last moment up to now at which the train publishes its position.
func (d *Demo) tick(j *journey, now time.Time) time.Time {
	phase := time.Duration(j.phase%uint64(d.interval.Milliseconds())) * time.Millisecond
	since := now.Sub(j.day.midnight) - phase
	past := (since%d.interval + d.interval) % d.interval // also before midnight, where since is negative
	return j.day.midnight.Add(since - past + phase)
}

// publish sends a batch until the log has all of it; false when ctx has ended. A batch whose answer was lost is sent
// again as it is: the same ids, the same numbers.
func (d *Demo) publish(ctx context.Context, batch []item) bool {
	return d.patiently(ctx, "publish", func(ctx context.Context) error {
		rest, refused, err := d.api.publish(ctx, batch)
		if refused != "" {
			// The type or the stream may have been deleted under us. What is wrong in another way stays wrong: told and left.
			if now := time.Now(); now.Sub(d.refused) >= time.Minute {
				d.refused = now
				d.log.Error("the gateway refuses events of the demo", "reason", refused)
			}
			if err := d.setUp(ctx); err != nil {
				return err
			}
		}
		batch = rest
		return err
	})
}
