// Command compile makes the demo's data files from the published facts of one day: a folder with stations.csv,
// timetable.ndjson and train-events.ndjson. It is run by hand when the facts change, never by a build:
//
//	go run ./internal/demo/timetable/compile -from FOLDER -to internal/demo/timetable
package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const about = "Timetable and delays of 28 August 2018. Contains data under the Norwegian licence for Open Government data (NLOD) " +
	"distributed by Entur and Bane NOR. Stations, times and delays are facts of that day; the tracks between stations are drawn, not surveyed."

func main() {
	from := flag.String("from", ".", "folder with the published facts")
	to := flag.String("to", ".", "folder for the data files")
	flag.Parse()
	if err := compile(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	}
}

type published struct {
	stations []station
	index    map[string]int // of a station's published id
	trains   []train
}

type station struct {
	id, name string
	at       point
}

type train struct {
	Train, Operator, Line, To string
	Stops                     [][3]string
}

func compile(from, to string) error {
	facts, err := readFacts(from)
	if err != nil {
		return err
	}
	net := newNetwork(facts)
	day, err := encodeDay(facts, net)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to, "norway.json"), day, 0o644); err != nil {
		return err
	}
	delays, err := readDelays(filepath.Join(from, "train-events.ndjson"), facts)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "delays.json"), delays, 0o644)
}

func readFacts(folder string) (*published, error) {
	f, err := os.Open(filepath.Join(folder, "stations.csv"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, err
	}
	facts := &published{index: map[string]int{}}
	for _, row := range rows[1:] {
		lat, err1 := strconv.ParseFloat(row[2], 64)
		lon, err2 := strconv.ParseFloat(row[3], 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("station %s has no position", row[0])
		}
		facts.index[row[0]] = len(facts.stations)
		facts.stations = append(facts.stations, station{row[0], stationName(row[1]), point{lat, lon}})
	}
	return facts, eachLine(filepath.Join(folder, "timetable.ndjson"), func(line []byte) error {
		var t train
		if err := json.Unmarshal(line, &t); err != nil {
			return err
		}
		facts.trains = append(facts.trains, t)
		return nil
	})
}

// stationName leaves out what distinguishes a station from its town only in the Swedish data.
func stationName(name string) string {
	name = strings.TrimSuffix(name, " station")
	return strings.TrimSuffix(name, " Centralstation")
}

func eachLine(file string, do func([]byte) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := do(lines.Bytes()); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return lines.Err()
}

// minutes reads a time of the service day, which may be past 24:00.
func minutes(clock string) (int, error) {
	var h, m, s int
	if _, err := fmt.Sscanf(clock, "%d:%d:%d", &h, &m, &s); err != nil {
		return 0, fmt.Errorf("time %q: %w", clock, err)
	}
	return h*60 + m, nil
}

// encodeDay writes one object a line, so that a change of the file can be read.
func encodeDay(facts *published, net *network) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("{\"about\":" + jsonOf(about) + ",\n\"stations\":[\n")
	for i, s := range facts.stations {
		item(&out, i, []any{s.id, s.name, s.at.lat, s.at.lon})
	}
	out.WriteString("\n],\n\"tracks\":[\n")
	for i, t := range net.tracks {
		item(&out, i, []any{t.a, t.b, t.curve})
	}
	out.WriteString("\n],\n\"vias\":[\n")
	for i, v := range net.vias {
		item(&out, i, v)
	}

	patterns := map[string]int{}
	var order []string
	var trains bytes.Buffer
	for i, t := range facts.trains {
		pattern, start, err := patternOf(t, facts)
		if err != nil {
			return nil, err
		}
		if _, ok := patterns[pattern]; !ok {
			patterns[pattern] = len(order)
			order = append(order, pattern)
		}
		item(&trains, i, []any{t.Train, t.Line, t.Operator, t.To, patterns[pattern], start})
	}
	out.WriteString("\n],\n\"patterns\":[\n" + strings.Join(order, ",\n") + "\n],\n\"trains\":[\n")
	out.Write(trains.Bytes())
	out.WriteString("\n]}\n")
	return out.Bytes(), nil
}

// patternOf gives the train's stations with the minutes of driving to each and of standing there:
// [first, next, drive, stand, next, drive, stand, …], and the minute of the first departure.
func patternOf(t train, facts *published) (pattern string, start int, err error) {
	start, err = minutes(t.Stops[0][2])
	if err != nil {
		return "", 0, err
	}
	flat := []int{facts.index[t.Stops[0][0]]}
	at := start
	for _, stop := range t.Stops[1:] {
		arrival, err1 := minutes(stop[1])
		departure, err2 := minutes(stop[2])
		if err1 != nil || err2 != nil || arrival < at || departure < arrival {
			return "", 0, fmt.Errorf("train %s goes back in time at station %s", t.Train, stop[0])
		}
		flat = append(flat, facts.index[stop[0]], arrival-at, departure-arrival)
		at = departure
	}
	return jsonOf(flat), start, nil
}

// readDelays gives each observed train's delays in seconds as [station, delay, …], the last word at each station.
func readDelays(file string, facts *published) ([]byte, error) {
	byName := map[string]int{}
	for i, s := range facts.stations {
		byName[s.name] = i
	}
	seen := map[string][]int{}
	var order []string
	err := eachLine(file, func(line []byte) error {
		var e struct {
			Data struct {
				TrainID, Station string
				DelaySeconds     int
			}
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		at, ok := byName[stationName(e.Data.Station)]
		if !ok {
			return nil
		}
		calls, known := seen[e.Data.TrainID]
		if !known {
			order = append(order, e.Data.TrainID)
		}
		if n := len(calls); n > 0 && calls[n-2] == at {
			calls[n-1] = e.Data.DelaySeconds
		} else {
			calls = append(calls, at, e.Data.DelaySeconds)
		}
		seen[e.Data.TrainID] = calls
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("{\"about\":" + jsonOf(about) + ",\n\"trains\":[\n")
	n := 0
	for _, number := range order {
		if len(seen[number]) < 6 {
			continue // three calls at least make a profile
		}
		item(&out, n, []any{number, seen[number]})
		n++
	}
	out.WriteString("\n]}\n")
	return out.Bytes(), nil
}

func item(out *bytes.Buffer, i int, v any) {
	if i > 0 {
		out.WriteString(",\n")
	}
	out.WriteString(jsonOf(v))
}

func jsonOf(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}
