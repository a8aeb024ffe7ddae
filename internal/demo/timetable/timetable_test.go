package timetable

import (
	"math"
	"testing"
	"time"
)

func load(t *testing.T) *Timetable {
	t.Helper()
	day, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return day
}

func TestEveryTrainHasATrackToEachOfItsCalls(t *testing.T) {
	day := load(t)
	if len(day.Stations) != 324 || len(day.Trains) != 1277 {
		t.Fatalf("%d stations and %d trains, want 324 and 1277", len(day.Stations), len(day.Trains))
	}
	for _, train := range day.Trains {
		for i := 1; i < len(train.Calls); i++ {
			from, to := train.Calls[i-1], train.Calls[i]
			way := day.Way(from.Station, to.Station)
			if way == nil {
				t.Fatalf("train %s: no track from %s to %s", train.Number, day.Stations[from.Station].Name, day.Stations[to.Station].Name)
			}
			if to.Arrival < from.Departure || to.Departure < to.Arrival {
				t.Fatalf("train %s goes back in time at call %d", train.Number, i)
			}
			// Aimed times are whole minutes, so half a minute of doubt at each end.
			hours := (to.Arrival - from.Departure + time.Minute).Hours()
			if kmh := way.Length() / 1000 / hours; kmh > 260 {
				t.Errorf("train %s would have to run %.0f km/h from %s to %s (%.1f km)", train.Number, kmh,
					day.Stations[from.Station].Name, day.Stations[to.Station].Name, way.Length()/1000)
			}
		}
	}
}

func TestAWayBeginsAndEndsAtItsStations(t *testing.T) {
	day := load(t)
	for ends, way := range day.ways {
		for i, metres := range []float64{0, way.Length()} {
			lat, lon, bearing := way.At(metres)
			s := day.Stations[ends[i]]
			if math.Abs(lat-s.Latitude) > 1e-4 || math.Abs(lon-s.Longitude) > 1e-4 {
				t.Fatalf("end %d of the way %v is %f, %f, not %s", i, ends, lat, lon, s.Name)
			}
			if bearing < 0 || bearing >= 360 {
				t.Fatalf("bearing %f", bearing)
			}
		}
	}
}

func TestAboutAHundredTrainsRunByDay(t *testing.T) {
	day := load(t)
	for hour := 7; hour <= 19; hour++ {
		at, running := time.Duration(hour)*time.Hour, 0
		for _, train := range day.Trains {
			if train.Calls[0].Departure <= at && at < train.Calls[len(train.Calls)-1].Arrival {
				running++
			}
		}
		if running < 85 || running > 120 {
			t.Errorf("%d trains run at %d:00", running, hour)
		}
	}
}
