// Package timetable holds one real day of the trains of Norway: stations, tracks, trains with their calls, and how late
// the trains were that were observed.
//
// The data are facts of 28 August 2018 under the Norwegian licence for Open Government data (NLOD), distributed by Entur
// and Bane NOR. They are embedded; nothing is read at run time. What Load gives is never changed and may be shared.
package timetable

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"
)

//go:embed norway.json
var norwayJSON []byte

//go:embed delays.json
var delaysJSON []byte

// JSON is the timetable as it is served to pages. It must not be changed.
func JSON() []byte { return norwayJSON }

// Timetable is one day.
type Timetable struct {
	Stations []Station
	Trains   []Train
	Profiles []Profile // of the observed trains

	ways map[[2]int]*Way
}

// Station is where trains call. Its position is in degrees (WGS 84).
type Station struct {
	ID, Name  string
	Latitude  float64
	Longitude float64
}

// Train is one train of the day.
type Train struct {
	Number, Line, Operator string
	To                     string // where its signs say it goes
	Calls                  []Call
}

// Call is a train at a station. Times count from the service day's midnight and may pass 24 hours.
// The first call has no arrival of its own, the last no departure: both times are equal there.
type Call struct {
	Station            int // index in Stations
	Arrival, Departure time.Duration
}

// Profile is how late an observed train was, call by call.
type Profile struct {
	Train string
	Calls []Delay
}

// Delay is how late a train left a station, or came there last.
type Delay struct {
	Station int
	By      time.Duration
}

// Load reads the embedded day.
func Load() (*Timetable, error) {
	t := &Timetable{}
	var doc struct {
		Stations [][]any
		Tracks   [][3]json.RawMessage
		Vias     [][]int
		Patterns [][]int
		Trains   [][]any
	}
	if err := json.Unmarshal(norwayJSON, &doc); err != nil {
		return nil, fmt.Errorf("timetable: %w", err)
	}
	for _, s := range doc.Stations {
		t.Stations = append(t.Stations, Station{s[0].(string), s[1].(string), s[2].(float64), s[3].(float64)})
	}
	for _, row := range doc.Trains {
		calls := callsOf(doc.Patterns[int(row[4].(float64))], int(row[5].(float64)))
		t.Trains = append(t.Trains, Train{row[0].(string), row[1].(string), row[2].(string), row[3].(string), calls})
	}
	var delays struct{ Trains [][2]json.RawMessage }
	if err := json.Unmarshal(delaysJSON, &delays); err != nil {
		return nil, fmt.Errorf("timetable: delays: %w", err)
	}
	for _, row := range delays.Trains {
		var p Profile
		var flat []int
		if err := unmarshalAll(row[:], &p.Train, &flat); err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(flat); i += 2 {
			p.Calls = append(p.Calls, Delay{flat[i], time.Duration(flat[i+1]) * time.Second})
		}
		t.Profiles = append(t.Profiles, p)
	}
	return t, t.layTracks(doc.Tracks, doc.Vias)
}

// callsOf reads [first, next, drive, stand, next, drive, stand, …] in minutes.
func callsOf(pattern []int, start int) []Call {
	at := time.Duration(start) * time.Minute
	calls := []Call{{pattern[0], at, at}}
	for i := 1; i+2 < len(pattern); i += 3 {
		arrival := at + time.Duration(pattern[i+1])*time.Minute
		at = arrival + time.Duration(pattern[i+2])*time.Minute
		calls = append(calls, Call{pattern[i], arrival, at})
	}
	return calls
}

func unmarshalAll(raw []json.RawMessage, into ...any) error {
	for i, v := range into {
		if err := json.Unmarshal(raw[i], v); err != nil {
			return fmt.Errorf("timetable: %w", err)
		}
	}
	return nil
}
