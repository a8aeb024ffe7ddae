package loadtest

import (
	"fmt"
	"io"
	"maps"
	"text/tabwriter"
	"time"
)

// WebhookReport is the outcome of a run of Webhooks. Latency is from the time that an event was due until it came, in
// milliseconds.
type WebhookReport struct {
	Run         string    `json:"run"`
	Scenario    string    `json:"scenario"`
	Started     time.Time `json:"started"`
	Interrupted string    `json:"interrupted,omitempty"`
	Seconds     float64   `json:"seconds"`           // of the measured window; where the events are a number: until the last had come
	Backlog     bool      `json:"backlog,omitempty"` // it was published before it could be delivered

	Subscriptions int     `json:"subscriptions"`
	Endpoints     int     `json:"endpoints"`
	Hanging       int     `json:"hanging"`
	Proven        float64 `json:"provenSeconds"` // from the first request to subscribe until all may be sent events

	Published  *Published    `json:"published"`
	Delivered  WebhookEvents `json:"delivered"`
	Messages   Messages      `json:"messages"`
	Signatures Signatures    `json:"signatures"`
	Latency    *Quantiles    `json:"latency,omitempty"`
	// Processes are those that were named, and the receiver.
	Processes []ProcessReport `json:"processes"`
	Self      *SelfReport     `json:"self,omitempty"`

	Distribution []Percentile `json:"distribution,omitempty"` // of Latency
	Series       []Second     `json:"series,omitempty"`
}

// WebhookEvents is what arrived at the endpoints that answer, by content.
type WebhookEvents struct {
	Events     uint64  `json:"events"` // once each, all of the run
	Expected   uint64  `json:"expected"`
	Window     uint64  `json:"window"`
	Rate       float64 `json:"eventsPerSecond"`
	Lost       uint64  `json:"lost"`
	Repeated   uint64  `json:"repeated"`
	Disordered uint64  `json:"disordered"` // came after an event with a higher number of its lane
	Unexpected uint64  `json:"unexpected"`
	Foreign    uint64  `json:"foreign"` // messages without an event of this run
	ordered    bool    // disorder is a fault
}

// delivered is the same as of readers. What was wrong with messages was unexpected.
func (r *WebhookReport) delivered() *Delivered {
	d, m := r.Delivered, r.Messages
	out := &Delivered{
		Events: d.Events, Expected: d.Expected, Window: d.Window, Rate: d.Rate, Lost: d.Lost, Duplicates: d.Repeated,
		Unexpected: d.Unexpected + r.Signatures.Wrong + m.Malformed, Foreign: d.Foreign,
		Controls: controls(m.Refused, m.Hung, r.Signatures.Wrong, m.Malformed), alone: true,
	}
	if d.ordered {
		out.Disordered = d.Disordered
	}
	return out
}

// controls names the messages that are told of beside events.
func controls(refused, hung, forged, malformed uint64) map[string]uint64 {
	all := map[string]uint64{"refused": refused, "hung": hung, "wrongly signed": forged, "malformed": malformed}
	maps.DeleteFunc(all, func(_ string, n uint64) bool { return n == 0 })
	return all
}

// WriteHTML writes the report as a page, as that of Run is.
func (r *WebhookReport) WriteHTML(w io.Writer) error {
	all := Report{
		Run: r.Run, Scenario: r.Scenario, Started: r.Started, Interrupted: r.Interrupted, Seconds: r.Seconds,
		Connections: &Connections{Wanted: r.Subscriptions, Live: r.Subscriptions}, Published: r.Published, Delivered: r.delivered(),
		Latency: r.Latency, Distribution: r.Distribution, Processes: r.Processes, Self: r.Self, Series: r.Series,
	}
	return all.WriteHTML(w)
}

// Messages are the requests that the receiver got, all of the run.
type Messages struct {
	Taken       uint64 `json:"taken"`
	Refused     uint64 `json:"refused"`
	Hung        uint64 `json:"hung"`
	Malformed   uint64 `json:"malformed"`
	Consents    uint64 `json:"consents"`
	Connections uint64 `json:"connections"`
	LastFault   string `json:"lastFault,omitempty"`
}

// Signatures are those that were looked at.
type Signatures struct {
	Verified uint64 `json:"verified"`
	Wrong    uint64 `json:"wrong"`
}

func (r *WebhookReport) take(c *WebhookConfig, got receiverReport, expected uint64) error {
	r.Delivered = WebhookEvents{
		Events: got.Events, Expected: expected, Window: got.Window, Lost: got.Lost, Repeated: got.Repeated, Disordered: got.Disordered,
		Unexpected: got.Unexpected, Foreign: got.Foreign, ordered: c.Ordering != "none",
	}
	if r.Seconds > 0 {
		r.Delivered.Rate = float64(got.Window) / r.Seconds
	}
	r.Messages = Messages{
		Taken: got.Requests, Refused: got.Refused, Hung: got.Hung, Malformed: got.Malformed, Consents: got.Consents,
		Connections: got.Connections, LastFault: got.LastFault,
	}
	r.Signatures = Signatures{Verified: got.Verified, Wrong: got.Forged}
	if r.Backlog { // then it tells how long they lay there
		return nil
	}
	latency := newHistogram()
	if err := mergeEncoded(latency, got.Histogram); err != nil {
		return err
	}
	r.Latency, r.Distribution = quantiles(latency), distribution(latency)
	return nil
}

// Right says whether nothing was lost, disordered, forged, or published without success.
func (r *WebhookReport) Right() bool {
	d := r.Delivered
	return d.Lost+d.Unexpected+d.Foreign+r.Signatures.Wrong+r.Messages.Malformed == 0 && (!d.ordered || d.Disordered == 0) &&
		(r.Published == nil || r.Published.Failed == 0)
}

// WriteText writes the report for people.
func (r *WebhookReport) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t, name+"\t"+format+"\n", args...)
	}
	line("scenario", "%s; run %s, measured %.2f s", r.Scenario, r.Run, r.Seconds)
	if r.Interrupted != "" {
		line("", "INTERRUPTED: %s; what follows is the report so far", r.Interrupted)
	}
	line("proven", "all subscriptions active after %.2f s", r.Proven)
	if p := r.Published; p != nil {
		line("published", "%d events, %.0f/s; %d failed; %d B each, batch %d, %d publishers, %d lanes", p.Events, p.Rate, p.Failed, p.Size, p.Batch, p.Publishers, p.Lanes)
		line("  acks", "%v", p.Acks)
		if p.Lag != nil && p.Lag.P99 > 5 {
			line("  behind", "%v  (the publisher did not keep its schedule; latencies count that in)", p.Lag)
		}
		if p.LastFailure != "" {
			line("  failed", "answers %v; last: %s", p.Answers, p.LastFailure)
		}
	}
	d, m := r.Delivered, r.Messages
	line("delivered", "%d events of %d expected, %.0f/s within the window", d.Events, d.Expected, d.Rate)
	line("  content", "lost %d  repeated %d  out of order %d  unexpected %d  foreign %d", d.Lost, d.Repeated, d.Disordered, d.Unexpected, d.Foreign)
	line("messages", "%d taken, %d refused, %d hung, %d malformed; %d consents, %d connections", m.Taken, m.Refused, m.Hung, m.Malformed, m.Consents, m.Connections)
	if m.LastFault != "" {
		line("  last", "%s", m.LastFault)
	}
	line("signatures", "%d verified, %d wrong", r.Signatures.Verified, r.Signatures.Wrong)
	if !r.Backlog {
		line("latency", "%v", r.Latency)
	}
	for _, p := range r.Processes {
		p.text(line)
	}
	if s := r.Self; s != nil {
		line("publisher", "%.2f cores, %.2f µs a delivery, RSS %s", s.Cores, s.CPUPerDelivery, Bytes(float64(s.RSS)))
	}
	return t.Flush()
}
