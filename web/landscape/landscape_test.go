package main

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestProjectionCanBeUndone(t *testing.T) {
	for _, place := range [][2]float64{{59.91, 10.75}, {71.1, 25.8}, {55, -2}, {62.5, 11.5}, {69.7, 30}} {
		lat, lon := project(place[0], place[1]).degrees()
		if math.Abs(lat-place[0]) > 1e-9 || math.Abs(lon-place[1]) > 1e-9 {
			t.Errorf("%v comes back as %v, %v", place, lat, lon)
		}
	}
}

func TestSimplifyKeepsEndsAndWhatIsLargerThanTheGrain(t *testing.T) {
	g := grain{stations: []point{{0, 0}}}
	// Waves of 20 m, and a bay of 2 km.
	var line []point
	for i := range 200 {
		line = append(line, point{float64(i) / 20, 0.02 * float64(i%2)})
	}
	line[100].y = 2
	got := g.simplify(line)
	if got[0] != line[0] || got[len(got)-1] != line[199] || !slices.Contains(got, line[100]) || len(got) > 12 {
		t.Errorf("%d points are left: %v", len(got), got)
	}
	if again := g.simplify(got); !slices.Equal(again, got) {
		t.Errorf("simplified again: %v", again)
	}
}

func TestClipKeepsWhatIsInside(t *testing.T) {
	far := 1e5
	around := []point{{-far, -far}, {far, -far}, {far, far}, {-far, far}}
	clipped := clipAll([][]point{around, {{far, far}, {far + 1, far}, {far, far + 1}, {far + 1, far + 1}}})
	if len(clipped) != 1 || math.Abs(math.Abs(area(clipped[0]))-(east-west)*(south-north)) > 1 {
		t.Errorf("got %v, want the window", clipped)
	}
}

func TestNeighboursShareTheirBorder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "two.json")
	// Two squares with a side in common.
	doc := map[string]any{
		"transform": map[string]any{"scale": []float64{1, 1}, "translate": []float64{10, 60}},
		"arcs":      [][][2]int{{{1, 0}, {0, 1}}, {{1, 1}, {-1, 0}, {0, -1}, {1, 0}}, {{1, 0}, {1, 0}, {0, 1}, {-1, 0}}},
		"objects": map[string]any{"countries": map[string]any{"geometries": []any{
			map[string]any{"type": "Polygon", "properties": map[string]string{"name": "A"}, "arcs": [][]int{{0, 1}}},
			map[string]any{"type": "MultiPolygon", "properties": map[string]string{"name": "B"}, "arcs": [][][]int{{{2, -1}}}},
		}}},
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	world, err := readTopology(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"A", "B"} {
		rings, err := world.rings(name)
		if err != nil || len(rings) != 1 || rings[0][0] != rings[0][len(rings[0])-1] {
			t.Errorf("%s: %v, %v: want one closed ring", name, rings, err)
		}
		if borders := world.borders(name); len(borders) != 1 || !slices.Equal(borders[0], world.arcs[0]) {
			t.Errorf("%s: borders %v", name, borders)
		}
	}
	if _, err := world.rings("C"); err == nil {
		t.Error("a country that is not there is not missed")
	}
}

func TestOnlyShapefilesOfPolygonsAreRead(t *testing.T) {
	good := make([]byte, 100, 200)
	binary.BigEndian.PutUint32(good, 9994)
	record := make([]byte, 44+4+16*4)
	binary.LittleEndian.PutUint32(record, 5)
	binary.LittleEndian.PutUint32(record[36:], 1)
	binary.LittleEndian.PutUint32(record[40:], 4)
	head := make([]byte, 8)
	binary.BigEndian.PutUint32(head[4:], uint32(len(record)/2))
	good = append(append(good, head...), record...)

	read := func(raw []byte) ([][]point, error) {
		file := filepath.Join(t.TempDir(), "lakes.shp")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return readPolygons(file)
	}
	if rings, err := read(good); err != nil || len(rings) != 1 || len(rings[0]) != 4 {
		t.Errorf("got %v, %v, want one ring of four points", rings, err)
	}
	for name, raw := range map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "no shapefile": make([]byte, 300)} {
		if rings, err := read(raw); err == nil {
			t.Errorf("%s: read as %v", name, rings)
		}
	}
}
