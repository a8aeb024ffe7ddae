package loadtest

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestEventsAreDueAsThePaceSays(t *testing.T) {
	for name, c := range map[string]struct {
		pace Pace
		due  map[float64]float64 // event: seconds; -1 for never
	}{
		"steady": {Pace{Stages: []Stage{{10, 10, time.Second}}}, map[float64]float64{0: 0, 1: 0.1, 9: 0.9, 10: 1, 105: 10.5}},
		"bursts": {
			Pace{Stages: []Stage{{100, 100, 2 * time.Second}, {0, 0, 8 * time.Second}}, Repeat: true},
			map[float64]float64{0: 0, 199: 1.99, 200: 10, 399: 11.99, 400: 20},
		},
		"ramp":     {Pace{Stages: []Stage{{0, 100, 10 * time.Second}}}, map[float64]float64{0: 0, 125: 5, 500: 10, 600: 11}},
		"downward": {Pace{Stages: []Stage{{100, 0, 10 * time.Second}}}, map[float64]float64{0: 0, 375: 5, 499.99: 9.9553, 500: -1}},
		"steps": {
			Pace{Stages: []Stage{{10, 10, time.Second}, {0, 0, time.Second}, {100, 100, time.Second}}},
			map[float64]float64{9: 0.9, 10: 2, 60: 2.5, 110: 3, 210: 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.pace.check(); err != nil {
				t.Fatal(err)
			}
			for n, want := range c.due {
				got, ok := c.pace.due(n)
				if ok != (want >= 0) || ok && math.Abs(got.Seconds()-want) > 0.002 {
					t.Errorf("event %g is due at %s (%t), want %g s", n, got, ok, want)
				}
			}
		})
	}
}

func TestPaceThatHasNoEventsIsRefused(t *testing.T) {
	for _, p := range []Pace{
		{},
		{Stages: []Stage{{0, 0, time.Second}}},
		{Stages: []Stage{{0, 0, time.Second}}, Repeat: true},
		{Stages: []Stage{{-1, 1, time.Second}}},
		{Stages: []Stage{{1, 1, 0}}},
		{Stages: []Stage{{math.Inf(1), 1, time.Second}}},
	} {
		if err := p.check(); err == nil || strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%+v was taken", p)
		}
	}
}
