package timetable

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
)

// Way is the track from one station to another, past those where the train does not stop.
type Way struct {
	points []point
	metres []float64 // from the start, at each point
}

type point struct{ lat, lon float64 }

// Length is in metres.
func (w *Way) Length() float64 { return w.metres[len(w.metres)-1] }

// At gives the place that many metres from the start, and the direction of travel there in degrees from north.
func (w *Way) At(metres float64) (latitude, longitude, bearing float64) {
	i := sort.SearchFloat64s(w.metres, metres)
	i = min(max(i, 1), len(w.points)-1)
	p, q := w.points[i-1], w.points[i]
	step := w.metres[i] - w.metres[i-1]
	f := 0.0
	if step > 0 {
		f = min(max((metres-w.metres[i-1])/step, 0), 1)
	}
	dy, dx := offset(p, q)
	bearing = math.Mod(math.Atan2(dx, dy)*180/math.Pi+360, 360)
	return p.lat + (q.lat-p.lat)*f, p.lon + (q.lon-p.lon)*f, bearing
}

// Way gives the track between stations that follow each other in some train's calls, or nil.
func (t *Timetable) Way(from, to int) *Way { return t.ways[[2]int{from, to}] }

func (t *Timetable) layTracks(tracks [][3]json.RawMessage, vias [][]int) error {
	t.ways = map[[2]int]*Way{}
	for _, row := range tracks {
		var a, b int
		var curve []int
		if err := unmarshalAll(row[:], &a, &b, &curve); err != nil {
			return err
		}
		points := []point{t.place(a)}
		lat, lon := math.Round(points[0].lat*1e5), math.Round(points[0].lon*1e5)
		for i := 0; i+1 < len(curve); i += 2 {
			lat, lon = lat+float64(curve[i]), lon+float64(curve[i+1])
			points = append(points, point{lat / 1e5, lon / 1e5})
		}
		t.lay(a, b, append(points, t.place(b)))
	}
	for _, via := range vias {
		stations := append([]int{via[0]}, via[2:]...)
		stations = append(stations, via[1])
		var points []point
		for i := 1; i < len(stations); i++ {
			leg := t.Way(stations[i-1], stations[i])
			if leg == nil {
				return fmt.Errorf("timetable: no track from station %d to %d", stations[i-1], stations[i])
			}
			if i > 1 {
				points = points[:len(points)-1]
			}
			points = append(points, leg.points...)
		}
		t.lay(via[0], via[1], points)
	}
	return nil
}

func (t *Timetable) place(station int) point {
	return point{t.Stations[station].Latitude, t.Stations[station].Longitude}
}

// lay keeps the way in both directions.
func (t *Timetable) lay(from, to int, points []point) {
	t.ways[[2]int{from, to}] = newWay(points)
	back := slices.Clone(points)
	slices.Reverse(back)
	t.ways[[2]int{to, from}] = newWay(back)
}

func newWay(points []point) *Way {
	w := &Way{points: points, metres: make([]float64, len(points))}
	for i := 1; i < len(points); i++ {
		dy, dx := offset(points[i-1], points[i])
		w.metres[i] = w.metres[i-1] + math.Hypot(dx, dy)
	}
	return w
}

// offset is in metres, on a plane: good for the few kilometres between two points of a track.
func offset(p, q point) (north, east float64) {
	return (q.lat - p.lat) * 111_200, (q.lon - p.lon) * 111_200 * math.Cos((p.lat+q.lat)/2*math.Pi/180)
}
