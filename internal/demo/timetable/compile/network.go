package main

import (
	"math"
	"slices"
)

type point struct{ lat, lon float64 }

// network is the tracks between neighbouring stations, and the way of trains that pass stations without a stop.
type network struct {
	tracks []track
	vias   [][]int // [from, to, passed…]
}

type track struct {
	a, b  int
	curve []int // between a and b: steps of latitude and longitude in 1/100,000 degree, the first one from a
}

// detour is how much longer than the direct way a way through other stations may be and still be taken for the same
// line.
const detour = 1.22

func newNetwork(facts *published) *network {
	n := len(facts.stations)
	near := make([]map[int]float64, n)
	for i := range near {
		near[i] = map[int]float64{}
	}
	type edge struct {
		a, b   int
		length float64
	}
	var edges []edge
	for _, t := range facts.trains {
		for i := 1; i < len(t.Stops); i++ {
			a, b := facts.index[t.Stops[i-1][0]], facts.index[t.Stops[i][0]]
			if a > b {
				a, b = b, a
			}
			if _, known := near[a][b]; known || a == b {
				continue
			}
			length := distance(facts.stations[a].at, facts.stations[b].at)
			near[a][b], near[b][a] = length, length
			edges = append(edges, edge{a, b, length})
		}
	}
	slices.SortFunc(edges, func(x, y edge) int {
		if x.length != y.length {
			return int(math.Copysign(1, y.length-x.length))
		}
		return (x.a-y.a)*n + x.b - y.b
	})

	// From the longest on, what has a way through nearer stations is no track of its own.
	net := &network{}
	var direct, passing []edge
	for _, e := range edges {
		delete(near[e.a], e.b)
		delete(near[e.b], e.a)
		if way, length := shortest(near, e.a, e.b); way != nil && length <= e.length*detour+0.3 {
			passing = append(passing, e)
			continue
		}
		near[e.a][e.b], near[e.b][e.a] = e.length, e.length
		direct = append(direct, e)
	}
	for _, e := range passing {
		way, _ := shortest(near, e.a, e.b)
		net.vias = append(net.vias, append([]int{e.a, e.b}, way[1:len(way)-1]...))
	}
	for _, e := range direct {
		net.tracks = append(net.tracks, track{e.a, e.b, curve(facts, near, e.a, e.b)})
	}
	return net
}

// distance is in km, good for the few hundred that matter here.
func distance(p, q point) float64 {
	dy := (q.lat - p.lat) * 111.2
	dx := (q.lon - p.lon) * 111.2 * math.Cos((p.lat+q.lat)/2*math.Pi/180)
	return math.Hypot(dx, dy)
}

func shortest(near []map[int]float64, from, to int) (way []int, length float64) {
	best := make([]float64, len(near))
	before := make([]int, len(near))
	done := make([]bool, len(near))
	for i := range best {
		best[i], before[i] = math.Inf(1), -1
	}
	best[from] = 0
	for {
		at := -1
		for i := range best {
			if !done[i] && !math.IsInf(best[i], 1) && (at < 0 || best[i] < best[at]) {
				at = i
			}
		}
		if at < 0 {
			return nil, 0
		}
		if at == to {
			break
		}
		done[at] = true
		for next, d := range near[at] {
			// A tie is broken by the number, so that the same facts always give the same file.
			if l := best[at] + d; l < best[next] || (l == best[next] && at < before[next]) {
				best[next], before[next] = l, at
			}
		}
	}
	for at := to; at >= 0; at = before[at] {
		way = append(way, at)
	}
	slices.Reverse(way)
	return way, best[to]
}

// curve bends the track from a to b so that it leaves each station in the direction in which the line comes in: a
// cubic Hermite spline.
func curve(facts *published, near []map[int]float64, a, b int) []int {
	pa, pb := facts.stations[a].at, facts.stations[b].at
	squeeze := math.Cos((pa.lat + pb.lat) / 2 * math.Pi / 180)
	length := distance(pa, pb)
	chord := math.Hypot((pb.lon-pa.lon)*squeeze, pb.lat-pa.lat)
	leave := heading(facts, near, a, b, squeeze)
	arrive := heading(facts, near, b, a, squeeze)
	arrive[0], arrive[1] = -arrive[0], -arrive[1]

	steps := min(max(int(length/1.2), 3), 14)
	var flat []int
	prevLat, prevLon := int(math.Round(pa.lat*1e5)), int(math.Round(pa.lon*1e5))
	for i := 1; i < steps; i++ {
		t := float64(i) / float64(steps)
		h00, h10 := 2*t*t*t-3*t*t+1, t*t*t-2*t*t+t
		h01, h11 := -2*t*t*t+3*t*t, t*t*t-t*t
		lon := h00*pa.lon + h01*pb.lon + chord*(h10*leave[0]+h11*arrive[0])/squeeze
		lat := h00*pa.lat + h01*pb.lat + chord*(h10*leave[1]+h11*arrive[1])
		la, lo := int(math.Round(lat*1e5)), int(math.Round(lon*1e5))
		flat = append(flat, la-prevLat, lo-prevLon)
		prevLat, prevLon = la, lo
	}
	return flat
}

// heading is the unit vector in which the track leaves station at towards next: between the direction from the
// straightest continuation on the other side and that of next.
func heading(facts *published, near []map[int]float64, at, next int, squeeze float64) [2]float64 {
	unit := func(from, to int) [2]float64 {
		p, q := facts.stations[from].at, facts.stations[to].at
		x, y := (q.lon-p.lon)*squeeze, q.lat-p.lat
		l := math.Hypot(x, y)
		return [2]float64{x / l, y / l}
	}
	out := unit(at, next)
	straightest, best := -1, math.Cos(80*math.Pi/180)
	for other := range near[at] {
		if other == next {
			continue
		}
		in := unit(other, at)
		if c := in[0]*out[0] + in[1]*out[1]; c > best || (c == best && other < straightest) {
			straightest, best = other, c
		}
	}
	if straightest < 0 {
		return out
	}
	in := unit(straightest, at)
	// The nearer neighbour has more say, so that a short stretch beside a long one does not overshoot.
	din, dout := near[at][straightest], near[at][next]
	x, y := in[0]*dout+out[0]*din, in[1]*dout+out[1]*din
	l := math.Hypot(x, y)
	return [2]float64{x / l, y / l}
}
