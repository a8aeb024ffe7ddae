package demo

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"time"
)

// stream is a definition as the API takes it.
type stream struct {
	Name        string `json:"name"`
	Partitions  int    `json:"partitions"`
	Retention   string `json:"retention"`
	State       *state `json:"state,omitempty"`
	Description string `json:"description"`
}

type state struct {
	Window   string `json:"window"`
	MaxKeys  int    `json:"maxKeys"`
	MaxBytes string `json:"maxBytes"`
}

func streams() []stream {
	return []stream{
		{
			Name: PositionStream, Partitions: 3, Retention: "24h", Description: "Where each running train of Norway is, every few seconds.",
			// A map begins with it. A train that has said nothing for so long is no longer under way.
			State: &state{Window: "90s", MaxKeys: 5000, MaxBytes: "16MiB"},
		},
		// What happened at a station is history, of which the latest of each train says little: it keeps no state.
		{Name: MovementStream, Partitions: 3, Retention: "168h", Description: "Arrivals, departures and delays of the trains of Norway."},
	}
}

// setUp makes the streams that do not exist yet, and brings the event types to what they are to be. A stream that an earlier
// version made without a state is given one; a state that somebody has changed stays as it is.
func (d *Demo) setUp(ctx context.Context) error {
	for _, s := range streams() {
		found, err := d.api.make(ctx, "/v1/streams", s.Name, s)
		if err != nil {
			return err
		}
		if err := d.giveState(ctx, s, found); err != nil {
			return err
		}
	}
	for _, t := range eventTypes() {
		if err := d.api.keep(ctx, "/v1/event-types/"+url.PathEscape(t.Type), t); err != nil {
			return err
		}
	}
	return nil
}

// giveState gives the stream that was found its state, if it has none.
func (d *Demo) giveState(ctx context.Context, s stream, found json.RawMessage) error {
	if s.State == nil || found == nil {
		return nil
	}
	var is struct {
		State json.RawMessage `json:"state"`
	}
	if err := json.Unmarshal(found, &is); err != nil {
		return fmt.Errorf("read the definition of %s: %w", s.Name, err)
	}
	if is.State != nil {
		return nil
	}
	return d.api.patch(ctx, "/v1/streams/"+url.PathEscape(s.Name), map[string]any{"state": s.State})
}

//go:embed types
var typeFiles embed.FS

// eventType is a registration as the API takes it.
type eventType struct {
	Type          string          `json:"type"`
	Stream        string          `json:"stream"`
	Owner         string          `json:"owner"`
	Description   string          `json:"description"`
	Documentation string          `json:"documentation"`
	Audience      string          `json:"audience"`
	KeyAttribute  string          `json:"keyAttribute"`
	Dedupe        string          `json:"dedupe"`
	Sources       []string        `json:"sources"`
	Attributes    json.RawMessage `json:"attributes"`
	Schema        json.RawMessage `json:"schema"`
	Examples      []any           `json:"examples"`
}

func eventTypes() []eventType {
	types := []eventType{
		{Type: PositionType, Stream: PositionStream, Description: "A running train's position, speed, direction and delay."},
		{Type: ArrivedType, Stream: MovementStream, Description: "A train arrived at a station."},
		{Type: DepartedType, Stream: MovementStream, Description: "A train departed from a station."},
		{Type: DelayedType, Stream: MovementStream, Description: "A train's delay became another by a minute or more."},
	}
	for i := range types {
		t := &types[i]
		t.Owner, t.Audience, t.KeyAttribute, t.Sources = "control-centre", "public", "subject", []string{Source}
		// As long as the publisher repeats what it is not sure of; a day of positions need not be remembered.
		t.Dedupe = "15m"
		t.Attributes = json.RawMessage(`{"type":"object","required":["subject","time","line","operator"],"properties":{"subject":{"type":"string","pattern":"^/train/[0-9]+$"}}}`)
		name := "movement"
		if t.Type == PositionType {
			name = "position"
		}
		t.Schema, t.Documentation = typeFile(name+".schema.json"), string(typeFile(name+".md"))
		t.Examples = []any{example(t.Type)}
	}
	return types
}

// typeFile reads one of the embedded files, which is there.
func typeFile(name string) []byte {
	text, _ := typeFiles.ReadFile("types/" + name)
	return text
}

// example is what the data of a type looks like.
func example(typ string) any {
	train := trainData{Train: "1714", Line: "L1", To: "Lillestrøm", ServiceDate: "2026-08-28", Sequence: 17}
	if typ == PositionType {
		return positionData{
			trainData: train, Latitude: 59.91102, Longitude: 10.7528, Speed: 48, Bearing: 63, DelaySeconds: 35,
			Next: "Oslo S", NextCall: 9, Expected: "2026-08-28T08:14:05+02:00",
		}
	}
	data := movementData{
		trainData: train, StationID: "59872", Station: "Oslo S", Call: 9,
		Aimed: "2026-08-28T08:13:30+02:00", Actual: "2026-08-28T08:14:05+02:00", DelaySeconds: 35,
	}
	if typ == DelayedType {
		was := -20
		data.Aimed, data.Actual, data.PreviousDelay = "", "", &was
	}
	return data
}

// complaint keeps an outage from filling the log: it is told when it begins, once a minute, and when it is over.
type complaint struct{ since, last time.Time }

func (c *complaint) about(log *slog.Logger, what string, err error) {
	now := time.Now()
	if c.since.IsZero() {
		c.since = now
	}
	if now.Sub(c.last) >= time.Minute {
		c.last = now
		log.Warn("the demo waits for the gateway", "to", what, "error", err)
	}
}

func (c *complaint) over(log *slog.Logger) {
	if !c.since.IsZero() {
		log.Info("the demo goes on", "after", time.Since(c.since).Round(time.Second))
		*c = complaint{}
	}
}
