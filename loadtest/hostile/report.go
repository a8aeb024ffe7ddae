package hostile

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// Report is what became of the attacks. Durations are in milliseconds where not said otherwise, sizes in bytes.
type Report struct {
	Target      string    `json:"target"`
	Started     time.Time `json:"started"`
	Connections int       `json:"connections"`    // of an attack at once
	Opens       float64   `json:"opensPerSecond"` // at most
	Bytes       float64   `json:"bytesPerSecond"` // likewise
	Pace        float64   `json:"paceSeconds"`
	Readers     int       `json:"readers"`
	Rate        float64   `json:"eventsPerSecond"`
	Window      float64   `json:"windowSeconds"`
	Rounds      int       `json:"rounds"`
	Attacks     []Outcome `json:"attacks"`
}

// Outcome is what became of one attack.
type Outcome struct {
	Attack  string            `json:"attack"`
	Summary string            `json:"summary"`
	Opened  uint64            `json:"opened"` // connections
	Ends    map[string]uint64 `json:"ends"`   // of connections, by how the server answered or closed them

	// Quiet and Under are the ordinary readers' latencies without and with the attack, each figure the median of the rounds;
	// Ratio is of the p99.
	Quiet Latency `json:"quiet"`
	Under Latency `json:"underAttack"`
	Ratio float64 `json:"p99Ratio"`

	Delivered  uint64 `json:"delivered"` // to ordinary readers
	Lost       uint64 `json:"lost"`
	Disordered uint64 `json:"disordered"`
	Failed     uint64 `json:"failedPublishes"`
	Reconnects uint64 `json:"reconnects"` // of ordinary readers, who should need none

	Server Held `json:"server"`
}

// Latency is from publishing to arrival.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
}

// Held is what the server's process held; zeros where it was not measured.
type Held struct {
	Before Holding `json:"before"`
	Most   Holding `json:"most"`
	After  Holding `json:"after"`
}

// Right says that ordinary readers lost nothing, in order, and that every publish succeeded.
func (r *Report) Right() bool {
	return !slices.ContainsFunc(r.Attacks, func(o Outcome) bool { return o.Lost+o.Disordered+o.Failed > 0 })
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "%s, attacked by %d connections at once, %.0f opened and %s sent a second at most, one act each %gs\n",
		r.Target, r.Connections, r.Opens, loadtest.Bytes(r.Bytes), r.Pace)
	_, _ = fmt.Fprintf(t, "others: %d readers, %.0f events/s; the median of %d windows of %gs each, quiet → under attack\n\n", r.Readers, r.Rate, r.Rounds, r.Window)
	_, _ = fmt.Fprintln(t, "attack\tp50 ms\tp99 ms\tp99.9 ms\tp99 ratio\tlost\tRSS before, most, after\tfiles\tconnections")
	for _, o := range r.Attacks {
		_, _ = fmt.Fprintf(t, "%s\t%.2f → %.2f\t%.2f → %.2f\t%.2f → %.2f\t%.2f\t%d\t%s, %s, %s\t%d, %d, %d\t%d; %s\n",
			o.Attack, o.Quiet.P50, o.Under.P50, o.Quiet.P99, o.Under.P99, o.Quiet.P999, o.Under.P999, o.Ratio, o.Lost,
			loadtest.Bytes(o.Server.Before.RSS), loadtest.Bytes(o.Server.Most.RSS), loadtest.Bytes(o.Server.After.RSS),
			o.Server.Before.Files, o.Server.Most.Files, o.Server.After.Files, o.Opened, counts(o.Ends))
	}
	for _, o := range r.Attacks {
		if o.Disordered+o.Failed+o.Reconnects > 0 {
			_, _ = fmt.Fprintf(t, "%s: %d out of order, %d publishes failed, ordinary readers reconnected %d times\n", o.Attack, o.Disordered, o.Failed, o.Reconnects)
		}
	}
	return t.Flush()
}

// median takes each figure's median over windows.
func median(windows []loadtest.Quantiles) Latency {
	of := func(figure func(q loadtest.Quantiles) float64) float64 {
		var all []float64
		for _, q := range windows {
			all = append(all, figure(q))
		}
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return Latency{
		P50:  of(func(q loadtest.Quantiles) float64 { return q.P50 }),
		P99:  of(func(q loadtest.Quantiles) float64 { return q.P99 }),
		P999: of(func(q loadtest.Quantiles) float64 { return q.P999 }),
	}
}
