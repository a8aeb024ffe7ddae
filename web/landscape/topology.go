package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// topology is a TopoJSON file of countries: neighbours share the arcs between them.
type topology struct {
	arcs      [][]point
	countries map[string][][]int // its rings, each a row of arcs; ^i is arc i backwards
}

func readTopology(file string) (*topology, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Transform struct{ Scale, Translate [2]float64 }
		Arcs      [][][2]float64
		Objects   struct {
			Countries struct {
				Geometries []struct {
					Type       string
					Properties struct{ Name string }
					Arcs       json.RawMessage
				}
			}
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	t := &topology{countries: map[string][][]int{}}
	for _, arc := range doc.Arcs {
		var x, y float64
		line := make([]point, len(arc))
		for i, d := range arc {
			x, y = x+d[0], y+d[1]
			line[i] = project(y*doc.Transform.Scale[1]+doc.Transform.Translate[1], x*doc.Transform.Scale[0]+doc.Transform.Translate[0])
		}
		t.arcs = append(t.arcs, line)
	}
	for _, country := range doc.Objects.Countries.Geometries {
		var polygons [][][]int
		switch country.Type {
		case "Polygon":
			polygons = make([][][]int, 1)
			err = json.Unmarshal(country.Arcs, &polygons[0])
		case "MultiPolygon":
			err = json.Unmarshal(country.Arcs, &polygons)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, country.Properties.Name, err)
		}
		t.countries[country.Properties.Name] = slices.Concat(polygons...)
	}
	return t, nil
}

// rings gives the closed lines of a country.
func (t *topology) rings(country string) ([][]point, error) {
	rows := t.countries[country]
	if rows == nil {
		return nil, fmt.Errorf("the file has no country %q", country)
	}
	rings := make([][]point, 0, len(rows))
	for _, row := range rows {
		var ring []point
		for _, i := range row {
			arc := t.arcs[max(i, ^i)]
			if i < 0 {
				arc = slices.Clone(arc)
				slices.Reverse(arc)
			}
			if len(ring) > 0 {
				arc = arc[1:]
			}
			ring = append(ring, arc...)
		}
		rings = append(rings, ring)
	}
	return rings, nil
}

// borders gives the arcs that a country shares with another.
func (t *topology) borders(country string) [][]point {
	uses := map[int]int{}
	for _, rows := range t.countries {
		for _, i := range slices.Concat(rows...) {
			uses[max(i, ^i)]++
		}
	}
	var lines [][]point
	for _, i := range slices.Concat(t.countries[country]...) {
		if uses[max(i, ^i)] > 1 {
			lines = append(lines, t.arcs[max(i, ^i)])
		}
	}
	return lines
}

// readPolygons gives the rings of a shapefile of polygons, each with its islands.
func readPolygons(file string) ([][]point, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	broken := fmt.Errorf("%s: %w", file, errors.New("expected a shapefile of polygons"))
	if len(raw) < 100 || binary.BigEndian.Uint32(raw) != 9994 {
		return nil, broken
	}
	var rings [][]point
	for rest := raw[100:]; len(rest) > 8; {
		size := 2 * int(binary.BigEndian.Uint32(rest[4:]))
		if len(rest) < 8+size || size < 44 || binary.LittleEndian.Uint32(rest[8:]) != 5 {
			return nil, broken
		}
		record := rest[8 : 8+size]
		rest = rest[8+size:]
		parts, points := int(binary.LittleEndian.Uint32(record[36:])), int(binary.LittleEndian.Uint32(record[40:]))
		if size != 44+4*parts+16*points {
			return nil, broken
		}
		begins := []int{}
		for i := range parts {
			begins = append(begins, int(binary.LittleEndian.Uint32(record[44+4*i:])))
		}
		begins = append(begins, points)
		coordinates := record[44+4*parts:]
		for i := range parts {
			var ring []point
			for j := begins[i]; j < begins[i+1]; j++ {
				lon := math.Float64frombits(binary.LittleEndian.Uint64(coordinates[16*j:]))
				lat := math.Float64frombits(binary.LittleEndian.Uint64(coordinates[16*j+8:]))
				ring = append(ring, project(lat, lon))
			}
			rings = append(rings, ring)
		}
	}
	return rings, nil
}
