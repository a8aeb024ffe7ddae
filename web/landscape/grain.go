package main

import (
	"math"
	"slices"

	"github.com/eventissuer/eventissuer/internal/demo/timetable"
)

// point is a place on the page's map in km: x to the east, y to the south.
type point struct{ x, y float64 }

// The page's projection (web/page/projection.js): a transverse Mercator on the sphere.
const (
	radius   = 6371
	meridian = 11.5 * math.Pi / 180
	parallel = 62.5 * math.Pi / 180
)

func project(lat, lon float64) point {
	phi, lambda := lat*math.Pi/180, lon*math.Pi/180-meridian
	// Near the poles of this projection everything is far outside of the window.
	b := min(max(math.Cos(phi)*math.Sin(lambda), -0.999), 0.999)
	return point{radius * math.Atanh(b), radius * (parallel - math.Atan2(math.Tan(phi), math.Cos(lambda)))}
}

func (p point) degrees() (lat, lon float64) {
	d := parallel - p.y/radius
	phi := math.Asin(math.Sin(d) / math.Cosh(p.x/radius))
	lambda := math.Atan2(math.Sinh(p.x/radius), math.Cos(d))
	return phi * 180 / math.Pi, (lambda + meridian) * 180 / math.Pi
}

// The window of the map, in km. The page fades it out towards its edges.
const (
	west, east   = -560, 860
	north, south = -1060, 840
)

// grain is how fine the map is: finest at the railways.
type grain struct{ stations []point }

func newGrain(day *timetable.Timetable) grain {
	var g grain
	for _, s := range day.Stations {
		g.stations = append(g.stations, project(s.Latitude, s.Longitude))
	}
	return g
}

// least is the smallest area in km² that is worth a point at p.
func (g grain) least(p point) float64 {
	near := math.Inf(1)
	for _, s := range g.stations {
		near = min(near, math.Hypot(s.x-p.x, s.y-p.y))
	}
	switch {
	case near < 25:
		return 0.02
	case near < 350:
		return 0.02 * math.Pow(150, (near-25)/325)
	}
	return 10
}

// simplify leaves out points, the least important first, as long as the triangle with their neighbours is smaller than
// the grain there (Visvalingam and Whyatt, 1993). The ends stay, so that lines that meet still do.
func (g grain) simplify(line []point) []point {
	if len(line) < 3 {
		return line
	}
	line = slices.Clone(line)
	least := make([]float64, len(line))
	for i, p := range line {
		least[i] = g.least(p)
	}
	// The area of a point relative to the grain; a point never counts less than one that went before it.
	floor := 0.0
	weigh := func(i int) float64 { return triangle(line[i-1], line[i], line[i+1]) / least[i] }
	weights := make([]float64, len(line))
	for i := 1; i < len(line)-1; i++ {
		weights[i] = weigh(i)
	}
	for len(line) > 4 {
		at := 1
		for i := 2; i < len(line)-1; i++ {
			if weights[i] < weights[at] {
				at = i
			}
		}
		if weights[at] >= 1 {
			break
		}
		floor = max(floor, weights[at])
		line, least, weights = slices.Delete(line, at, at+1), slices.Delete(least, at, at+1), slices.Delete(weights, at, at+1)
		for _, i := range []int{at - 1, at} {
			if i > 0 && i < len(line)-1 {
				weights[i] = max(weigh(i), floor)
			}
		}
	}
	return line
}

// worth leaves out islands and lakes too small to be seen; factor is how many grains one has to have.
func (g grain) worth(rings [][]point, factor float64) [][]point {
	return slices.DeleteFunc(rings, func(ring []point) bool {
		return len(ring) < 4 || math.Abs(area(ring)) < 10*factor*g.least(ring[0])
	})
}

func triangle(a, b, c point) float64 {
	return math.Abs((b.x-a.x)*(c.y-a.y)-(c.x-a.x)*(b.y-a.y)) / 2
}

func area(ring []point) float64 {
	sum := 0.0
	for i, p := range ring {
		q := ring[(i+1)%len(ring)]
		sum += p.x*q.y - q.x*p.y
	}
	return sum / 2
}

// clipAll cuts rings at the window's edges (Sutherland and Hodgman, 1974).
func clipAll(rings [][]point) [][]point {
	var kept [][]point
	for _, ring := range rings {
		ring = clip(ring, func(p point) float64 { return p.x - west })
		ring = clip(ring, func(p point) float64 { return east - p.x })
		ring = clip(ring, func(p point) float64 { return p.y - north })
		ring = clip(ring, func(p point) float64 { return south - p.y })
		if len(ring) > 3 {
			kept = append(kept, ring)
		}
	}
	return kept
}

// clip keeps what lies where depth is positive.
func clip(ring []point, depth func(point) float64) []point {
	var kept []point
	for i, p := range ring {
		before := ring[(i+len(ring)-1)%len(ring)]
		d0, d1 := depth(before), depth(p)
		if (d0 < 0) != (d1 < 0) {
			f := d0 / (d0 - d1)
			kept = append(kept, point{before.x + (p.x-before.x)*f, before.y + (p.y-before.y)*f})
		}
		if d1 >= 0 {
			kept = append(kept, p)
		}
	}
	return kept
}

// inside keeps the lines of which some point lies in the window.
func inside(lines [][]point) [][]point {
	return slices.DeleteFunc(lines, func(line []point) bool {
		return !slices.ContainsFunc(line, func(p point) bool { return p.x > west && p.x < east && p.y > north && p.y < south })
	})
}
