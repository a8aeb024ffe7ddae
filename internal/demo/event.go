package demo

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// cloudEvent is the structured form of what is published.
type cloudEvent struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Line            string `json:"line"`
	Operator        string `json:"operator"`
	Data            any    `json:"data"`
}

// trainData is what every event says of its train.
type trainData struct {
	Train       string `json:"train"`
	Line        string `json:"line"`
	To          string `json:"to"`
	ServiceDate string `json:"serviceDate"`
	Sequence    int64  `json:"sequence"` // counts this train's events of this stream
}

type positionData struct {
	trainData
	Latitude     float64 `json:"latitude"`
	Longitude    float64 `json:"longitude"`
	Speed        int     `json:"speed"`   // km/h
	Bearing      int     `json:"bearing"` // degrees from north
	DelaySeconds int     `json:"delaySeconds"`
	At           string  `json:"at,omitempty"` // the station where it stands
	Next         string  `json:"next"`         // the station it goes to
	NextCall     int     `json:"nextCall"`     // its place in the timetable
	Expected     string  `json:"expected"`     // when it arrives there
}

type movementData struct {
	trainData
	StationID     string `json:"stationId"`
	Station       string `json:"station"`
	Call          int    `json:"call"`
	Aimed         string `json:"aimed,omitempty"`
	Actual        string `json:"actual,omitempty"`
	DelaySeconds  int    `json:"delaySeconds"`
	PreviousDelay *int   `json:"previousDelaySeconds,omitempty"`
	Final         bool   `json:"final,omitempty"`
}

// item is an event on its way out.
type item struct {
	key   numberKey
	at    time.Time
	event cloudEvent
	data  func(sequence int64) any
	json  []byte
}

func (d *Demo) newItem(j *journey, stream, eventType, id string, at time.Duration) item {
	when := j.day.midnight.Add(at)
	return item{
		key: numberKey{stream, j.train.Number},
		at:  when,
		event: cloudEvent{
			SpecVersion: "1.0", ID: j.day.date + "-" + j.train.Number + "-" + id + d.clock.mark(),
			Source: Source, Type: eventType, Subject: "/train/" + j.train.Number, Time: d.stamp(when),
			DataContentType: "application/json", Line: j.train.Line, Operator: j.train.Operator,
		},
	}
}

// stamp writes whole seconds where they are whole.
func (d *Demo) stamp(t time.Time) string {
	return t.In(d.oslo).Truncate(time.Millisecond).Format(time.RFC3339Nano)
}

func (j *journey) data(sequence int64) trainData {
	return trainData{j.train.Number, j.train.Line, j.train.To, j.day.date, sequence}
}

func seconds(d time.Duration) int { return int(math.Round(d.Seconds())) }

func (d *Demo) position(j *journey, at time.Duration) item {
	p := j.placeAt(d.day, at)
	it := d.newItem(j, PositionStream, PositionType, fmt.Sprintf("p%d", at.Milliseconds()), at)
	next := j.train.Calls[p.next]
	data := positionData{
		Latitude: math.Round(p.latitude*1e5) / 1e5, Longitude: math.Round(p.longitude*1e5) / 1e5,
		Speed: int(math.Round(p.speed * 3.6)), Bearing: int(math.Round(p.bearing)) % 360, DelaySeconds: seconds(p.late),
		Next: d.day.Stations[next.Station].Name, NextCall: p.next,
		Expected: d.stamp(j.day.midnight.Add(max(next.Arrival+p.late, at)).Truncate(time.Second)),
	}
	if p.at >= 0 {
		data.At = d.day.Stations[j.train.Calls[p.at].Station].Name
	}
	it.data = func(sequence int64) any {
		data.trainData = j.data(sequence)
		return data
	}
	return it
}

func (d *Demo) movement(j *journey, m movement) item {
	types := map[movementKind]string{arrival: ArrivedType, departure: DepartedType, lateness: DelayedType}
	id := fmt.Sprintf("%c%d", m.kind, m.call)
	if m.kind == lateness {
		// A change may be told at the arrival and again at the departure.
		id += fmt.Sprintf("-%d", seconds(m.late))
	}
	it := d.newItem(j, MovementStream, types[m.kind], id, m.at)
	call := j.train.Calls[m.call]
	station := d.day.Stations[call.Station]
	data := movementData{
		StationID: station.ID, Station: station.Name, Call: m.call, DelaySeconds: seconds(m.late),
	}
	switch m.kind {
	case arrival:
		data.Aimed, data.Actual = d.stamp(j.day.midnight.Add(call.Arrival)), it.event.Time
		data.Final = m.call == len(j.calls)-1
	case departure:
		data.Aimed, data.Actual = d.stamp(j.day.midnight.Add(call.Departure)), it.event.Time
	case lateness:
		was := seconds(m.was)
		data.PreviousDelay = &was
	}
	it.data = func(sequence int64) any {
		data.trainData = j.data(sequence)
		return data
	}
	return it
}

// number gives the item the next number of its train, and with that its final form.
func (d *Demo) number(it *item) error {
	d.numbers[it.key]++
	it.event.Data = it.data(d.numbers[it.key])
	var err error
	it.json, err = json.Marshal(it.event)
	return err
}
