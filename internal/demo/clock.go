package demo

import (
	"strconv"
	"time"
)

// clock is the demo's time: Oslo's, or shifted so that it began at a time of day of one's choice.
type clock struct {
	shift time.Duration
	oslo  *time.Location
}

func newClock(start string, oslo *time.Location) clock {
	c := clock{oslo: oslo}
	if start == "" {
		return c
	}
	now := time.Now().In(oslo)
	at, _ := time.Parse("15:04", start) // checked by New
	c.shift = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, oslo).Sub(now)
	return c
}

func (c clock) now() time.Time { return time.Now().In(c.oslo).Add(c.shift) }

// mark tells the runs of a shifted clock apart: the same moment of the same day comes again in each of them, but an
// event's id must not.
func (c clock) mark() string {
	if c.shift == 0 {
		return ""
	}
	return "~" + strconv.FormatInt(c.shift.Milliseconds(), 36)
}

// serviceDay is a day of the timetable.
type serviceDay struct {
	date     string    // 2026-08-28
	midnight time.Time // where its times count from
}

// serviceDays gives the days whose trains may run at t: today's, and yesterday's that are still under way.
func (c clock) serviceDays(t time.Time) [2]serviceDay {
	return [2]serviceDay{serviceDayOf(t.AddDate(0, 0, -1)), serviceDayOf(t)}
}

// serviceDayOf counts from twelve hours before noon, as timetables do (GTFS): so an hour that a change of the clocks
// takes or gives falls in the night.
func serviceDayOf(t time.Time) serviceDay {
	noon := time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, t.Location())
	return serviceDay{t.Format(time.DateOnly), noon.Add(-12 * time.Hour)}
}
