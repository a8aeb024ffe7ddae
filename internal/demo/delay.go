package demo

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/eventissuer/eventissuer/internal/demo/timetable"
)

// book knows how late trains are: an observed train as it was, any other like one that was observed, drawn anew for
// each date but always alike for the same date.
type book struct {
	profiles []timetable.Profile
	own      map[string]timetable.Profile
}

func newBook(day *timetable.Timetable) *book {
	b := &book{profiles: day.Profiles, own: map[string]timetable.Profile{}}
	for _, p := range day.Profiles {
		b.own[p.Train] = p
	}
	return b
}

// delays gives one delay per call.
func (b *book) delays(train *timetable.Train, date string) []time.Duration {
	delays := make([]time.Duration, len(train.Calls))
	own, ok := b.own[train.Number]
	if !ok || !b.asObserved(own, train, delays) {
		p := b.profiles[spread(date+"/"+train.Number)%uint64(len(b.profiles))].Calls
		for i := range delays {
			delays[i] = p[i*(len(p)-1)/max(len(delays)-1, 1)].By
		}
	}
	for i := range delays {
		// Timetables know minutes only; without this half the country would leave in the same second.
		delays[i] += time.Duration(spread(date+"/"+train.Number+"/"+strconv.Itoa(i))%25) * time.Second
	}
	return delays
}

// asObserved tells whether the profile speaks of at least half of the train's calls; a call that was not seen is as
// late as the one before.
func (b *book) asObserved(p timetable.Profile, train *timetable.Train, delays []time.Duration) bool {
	at := map[int]time.Duration{}
	for _, call := range p.Calls {
		at[call.Station] = call.By
	}
	seen, last := 0, time.Duration(0)
	for i, call := range train.Calls {
		if by, ok := at[call.Station]; ok {
			seen, last = seen+1, by
		}
		delays[i] = last
	}
	return seen*2 >= len(delays)
}

func spread(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}
