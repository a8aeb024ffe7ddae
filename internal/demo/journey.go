package demo

import (
	"math"
	"sort"
	"time"

	"github.com/eventissuer/eventissuer/internal/demo/timetable"
)

const (
	boarding = 90 * time.Second // a train stands at its first station before it leaves
	arrived  = 30 * time.Second // and at its last one after it came
	doors    = 20 * time.Second // the least time at a station between
	lateFrom = 2 * time.Minute  // a delay is told from here on, and again for each further change of a minute
)

// journey is what a train does on a date: when it really arrives and departs, and what is told of it.
type journey struct {
	train     *timetable.Train
	day       serviceDay
	calls     []actual
	movements []movement // in order of time
	phase     uint64     // spreads the trains' positions over the interval
}

// actual is a call as it happens; times count from the service day's midnight.
type actual struct{ arrival, departure time.Duration }

type movementKind byte

const (
	arrival   movementKind = 'a'
	departure movementKind = 'd'
	lateness  movementKind = 'l'
)

type movement struct {
	kind movementKind
	call int
	at   time.Duration
	late time.Duration // at this moment
	was  time.Duration // lateness: what was told before
}

func newJourney(day *timetable.Timetable, train *timetable.Train, on serviceDay, delays []time.Duration) *journey {
	j := &journey{train: train, day: on, phase: spread(train.Number), calls: make([]actual, len(train.Calls))}
	for i, aimed := range train.Calls {
		c := actual{aimed.Arrival + delays[i], aimed.Departure + delays[i]}
		if i > 0 {
			before := j.calls[i-1].departure
			if i < len(train.Calls)-1 && aimed.Arrival == aimed.Departure {
				c.arrival -= doors // the timetable's minute is that of the departure
			}
			c.arrival = max(c.arrival, before+fastest(day.Way(train.Calls[i-1].Station, aimed.Station)))
			c.departure = max(c.departure, c.arrival+doors)
		}
		j.calls[i] = c
	}
	j.tell()
	return j
}

// fastest is the least time a train needs: 200 km/h, and half a minute to start and brake.
func fastest(way *timetable.Way) time.Duration {
	return 30*time.Second + time.Duration(way.Length()/(200/3.6)*float64(time.Second))
}

// tell lists the movements.
func (j *journey) tell() {
	told := time.Duration(0)
	add := func(kind movementKind, call int, at, late time.Duration) {
		j.movements = append(j.movements, movement{kind: kind, call: call, at: at, late: late})
		changed := (late - told).Abs() >= time.Minute
		if (late >= lateFrom && changed) || (told >= lateFrom && late < time.Minute) {
			j.movements = append(j.movements, movement{kind: lateness, call: call, at: at, late: late, was: told})
			told = late
		}
	}
	for i, c := range j.calls {
		if i > 0 {
			add(arrival, i, c.arrival, j.lateAtArrival(i))
		}
		if i < len(j.calls)-1 {
			add(departure, i, c.departure, j.lateAtDeparture(i))
		}
	}
}

func (j *journey) lateAtArrival(call int) time.Duration {
	return max(j.calls[call].arrival-j.train.Calls[call].Arrival, 0)
}

// lateAtDeparture forgives the seconds that the doors take where the timetable gives a stop no time.
func (j *journey) lateAtDeparture(call int) time.Duration {
	return max(j.calls[call].departure-j.train.Calls[call].Departure, 0)
}

func (j *journey) begins() time.Duration { return j.calls[0].departure - boarding }
func (j *journey) ends() time.Duration   { return j.calls[len(j.calls)-1].arrival + arrived }

// place is where a train is at a moment.
type place struct {
	latitude, longitude float64
	bearing             float64 // degrees from north
	speed               float64 // m/s
	late                time.Duration
	at                  int // the call where it stands, or −1
	next                int // the call it goes to; the last one when it is there
}

// placeAt gives the train's place between begins and ends.
func (j *journey) placeAt(day *timetable.Timetable, t time.Duration) place {
	last := len(j.calls) - 1
	// i is the first call that the train has not yet left.
	i := sort.Search(last, func(i int) bool { return t < j.calls[i].departure })
	if i == 0 || t >= j.calls[i].arrival {
		return j.standing(day, i)
	}
	from, to := j.train.Calls[i-1].Station, j.train.Calls[i].Station
	way := day.Way(from, to)
	left, comes := j.calls[i-1].departure, j.calls[i].arrival
	metres, speed := drive(way.Length(), (comes - left).Seconds(), (t - left).Seconds())
	p := place{speed: speed, at: -1, next: i}
	p.latitude, p.longitude, p.bearing = way.At(metres)
	f := float64(t-left) / float64(comes-left)
	before, after := j.lateAtDeparture(i-1), j.lateAtArrival(i)
	p.late = before + time.Duration(f*float64(after-before))
	return p
}

func (j *journey) standing(day *timetable.Timetable, call int) place {
	p := place{at: call, next: min(call+1, len(j.calls)-1)}
	s := day.Stations[j.train.Calls[call].Station]
	p.latitude, p.longitude = s.Latitude, s.Longitude
	if call > 0 {
		way := day.Way(j.train.Calls[call-1].Station, j.train.Calls[call].Station)
		_, _, p.bearing = way.At(way.Length())
		p.late = j.lateAtArrival(call)
	} else {
		_, _, p.bearing = day.Way(j.train.Calls[0].Station, j.train.Calls[1].Station).At(0)
		p.late = j.lateAtDeparture(0)
	}
	return p
}

// drive covers the metres in the seconds given: even acceleration, a steady run, even braking. It gives how far the
// train is after t seconds, and its speed.
func drive(metres, seconds, t float64) (far, speed float64) {
	ramp := math.Min(seconds/4, 45)
	top := metres / (seconds - ramp)
	switch {
	case t < ramp:
		return top * t * t / (2 * ramp), top * t / ramp
	case t > seconds-ramp:
		rest := math.Max(seconds-t, 0)
		return metres - top*rest*rest/(2*ramp), top * rest / ramp
	default:
		return top * (t - ramp/2), top
	}
}
