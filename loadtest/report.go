package loadtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Quantiles is a distribution of durations, in milliseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

func quantiles(h *hdrhistogram.Histogram) *Quantiles {
	if h.TotalCount() == 0 {
		return nil
	}
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	return &Quantiles{
		Count: h.TotalCount(), Mean: h.Mean() / 1000,
		P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)),
		P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

func (q *Quantiles) String() string {
	if q == nil {
		return "none"
	}
	return fmt.Sprintf("p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms  (%d)", q.P50, q.P90, q.P99, q.P999, q.Max, q.Count)
}

// Report is the outcome of a run. Durations are in milliseconds where not said otherwise, sizes in bytes.
type Report struct {
	Run         string    `json:"run"`
	Scenario    string    `json:"scenario"`
	Client      string    `json:"client,omitempty"`
	Target      string    `json:"target,omitempty"`
	Started     time.Time `json:"started"`
	Interrupted string    `json:"interrupted,omitempty"` // why the run did not go to its end
	Seconds     float64   `json:"seconds"`               // of the measured window

	Connections *Connections    `json:"connections,omitempty"`
	Published   *Published      `json:"published,omitempty"`
	Delivered   *Delivered      `json:"delivered,omitempty"`
	Latency     *Quantiles      `json:"latency,omitempty"`            // from sending (or being due, if scheduled) to arrival, of events of the window
	LatencySent *Quantiles      `json:"latencyFromSending,omitempty"` // of events that were scheduled: from when they were really sent
	Storms      []Storm         `json:"storms,omitempty"`
	Comeback    *Comeback       `json:"comeback,omitempty"` // of each connection, over all storms
	Processes   []ProcessReport `json:"processes,omitempty"`
	Self        *SelfReport     `json:"self,omitempty"`

	Readers      []ReaderReport `json:"readers,omitempty"`      // of each group, where there may be several
	Publishers   []Published    `json:"publishers,omitempty"`   // of each kind, where there are several
	Distribution []Percentile   `json:"distribution,omitempty"` // of Latency
	Series       []Second       `json:"series,omitempty"`
}

// ReaderReport is what one group got: readers, the sessions of a subscription, or webhooks.
type ReaderReport struct {
	Name         string       `json:"name"`
	Transport    string       `json:"transport"`
	Client       string       `json:"client"`
	Target       string       `json:"target"`
	Connections  Connections  `json:"connections"`
	Delivered    Delivered    `json:"delivered"`
	Latency      *Quantiles   `json:"latency,omitempty"`
	LatencySent  *Quantiles   `json:"latencyFromSending,omitempty"`
	Distribution []Percentile `json:"distribution,omitempty"`
	Storms       []Storm      `json:"storms,omitempty"`
	Comeback     *Comeback    `json:"comeback,omitempty"`
}

// Connections says how connecting went.
type Connections struct {
	Wanted      int            `json:"wanted"`
	Live        int            `json:"live"`                     // at the end of the window
	Stopped     int            `json:"stopped"`                  // told by the server to stay away (204, 401, 403, 404, 410)
	ConnectTime float64        `json:"connectSeconds,omitempty"` // of all groups together
	Head        *Quantiles     `json:"head,omitempty"`           // dial to response header
	Block       *Quantiles     `json:"block,omitempty"`          // dial to first block
	Reconnects  uint64         `json:"reconnects"`
	Failures    map[int]uint64 `json:"failures,omitempty"` // attempts that brought no stream, by status; 0: no answer
	LastFailure string         `json:"lastFailure,omitempty"`
}

// Published is the publisher's side.
type Published struct {
	Name        string         `json:"name,omitempty"`
	Events      uint64         `json:"events"`               // acknowledged, all of the run
	Duplicates  uint64         `json:"duplicates,omitempty"` // of those, such as the server says it had already
	Failed      uint64         `json:"failed"`               // refused or in doubt; none of them counts as lost
	Requests    uint64         `json:"requests"`
	Rate        float64        `json:"eventsPerSecond"` // within the window
	Wanted      float64        `json:"wantedPerSecond,omitempty"`
	Batch       int            `json:"batch"`
	Size        int            `json:"size"`
	Publishers  int            `json:"publishers"`
	Lanes       int            `json:"lanes"`
	Acks        *Quantiles     `json:"acks,omitempty"`
	Lag         *Quantiles     `json:"lag,omitempty"` // how late requests began, by their schedule
	Answers     map[int]uint64 `json:"answers,omitempty"`
	LastFailure string         `json:"lastFailure,omitempty"`

	Distribution []Percentile `json:"distribution,omitempty"` // of Acks
}

// Delivered is the readers' side, by content.
type Delivered struct {
	Events     uint64            `json:"events"` // once each, all of the run
	Expected   uint64            `json:"expected,omitempty"`
	Window     uint64            `json:"window"` // arrived within the window
	Rate       float64           `json:"eventsPerSecond"`
	Lost       uint64            `json:"lost"`
	Superseded uint64            `json:"superseded,omitempty"` // did not come, as a later one of its lane took its place, which was agreed
	Duplicates uint64            `json:"duplicates"`
	Disordered uint64            `json:"disordered"` // arrived after an event with a higher number of its lane
	Unexpected uint64            `json:"unexpected"` // of a lane that the reader's filter excludes
	Foreign    uint64            `json:"foreign"`    // not of this run
	Controls   map[string]uint64 `json:"controls,omitempty"`
	Bytes      uint64            `json:"bytes"`
	BytesRate  float64           `json:"bytesPerSecond"`

	alone bool // nobody else's events were to come, so that such as are foreign are a fault
}

// Storm is one round of dropping and reconnecting everybody. Times count from when they come back.
type Storm struct {
	Readers   string  `json:"readers,omitempty"`    // which group's, where there are several
	At        float64 `json:"atSeconds"`            // when it began, from the window's beginning
	AllLive   float64 `json:"allLiveSeconds"`       // until every connection had its response header again
	AllBlocks float64 `json:"allFirstBlockSeconds"` // until every connection had had a block
	Timeout   bool    `json:"timeout,omitempty"`    // that did not happen in time
	Failures  uint64  `json:"failures"`
}

// Comeback is how long single connections took from the drop.
type Comeback struct {
	Head  *Quantiles `json:"head,omitempty"`
	Block *Quantiles `json:"block,omitempty"`
	Event *Quantiles `json:"firstNewEvent,omitempty"` // until the first event that was published after the drop
}

// SelfReport is what the load generator itself used within the window.
type SelfReport struct {
	Cores          float64 `json:"cores"`
	CPUPerDelivery float64 `json:"cpuMicrosPerDelivery,omitempty"`
	RSS            int64   `json:"rss"`
}

// Right says whether nothing was lost, disordered, unexpected, or published without success.
func (r *Report) Right() bool {
	d, p := r.Delivered, r.Published
	return (d == nil || d.Lost+d.Disordered+d.Unexpected == 0) && (p == nil || p.Failed == 0)
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t, name+"\t"+format+"\n", args...)
	}
	line("scenario", "%s, run %s, measured %.1f s", r.Scenario, r.Run, r.Seconds)
	if r.Interrupted != "" {
		line("", "INTERRUPTED: %s; what follows is the report so far", r.Interrupted)
	}
	if r.Target != "" {
		line("target", "%s%s", r.Target, map[bool]string{true: " by client " + r.Client}[r.Client != ""])
	}
	r.textConnections(line)
	if p := r.Published; p != nil {
		p.text(line, "published")
	}
	for _, p := range r.Publishers {
		p.text(line, "  "+p.Name)
	}
	if d := r.Delivered; d != nil {
		line("delivered", "%d events of %d expected, %.0f/s, %s/s; %d bytes in all", d.Events, d.Expected, d.Rate, Bytes(d.BytesRate), d.Bytes)
		line("  content", "%s", d.content())
		if len(d.Controls) > 0 {
			line("  controls", "%s", counts(d.Controls))
		}
	}
	if r.Latency != nil {
		line("latency", "%v", r.Latency)
	}
	if r.LatencySent != nil {
		line("  from sending", "%v", r.LatencySent)
	}
	for _, g := range r.Readers {
		g.text(line)
	}
	for i, s := range r.Storms {
		line(fmt.Sprintf("storm %d", i+1), "%sall live again after %.2f s, all with a first block after %.2f s%s; %d failed attempts", s.whose(), s.AllLive, s.AllBlocks,
			map[bool]string{true: " (NOT ALL: time-out)"}[s.Timeout], s.Failures)
	}
	if c := r.Comeback; c != nil {
		line("  header", "%v", c.Head)
		line("  block", "%v", c.Block)
		line("  event", "%v", c.Event)
	}
	for _, p := range r.Processes {
		p.text(line)
	}
	if s := r.Self; s != nil {
		line("loadtest", "%.2f cores, %.2f µs a delivery, RSS %s", s.Cores, s.CPUPerDelivery, Bytes(float64(s.RSS)))
	}
	return t.Flush()
}

func (r *Report) textConnections(line func(name, format string, args ...any)) {
	c := r.Connections
	if c == nil {
		return
	}
	line("connections", "%d live of %d, connected in %.2f s; %d reconnects", c.Live, c.Wanted, c.ConnectTime, c.Reconnects)
	line("  header", "%v", c.Head)
	line("  block", "%v", c.Block)
	if c.Stopped > 0 {
		line("  stopped", "%d were told to stay away", c.Stopped)
	}
	if len(c.Failures) > 0 {
		line("  failed", "attempts by status %v; last: %s", c.Failures, c.LastFailure)
	}
}

// text writes what one group got.
func (g *ReaderReport) text(line func(name, format string, args ...any)) {
	c := &g.Connections
	line("readers", "%s (%s by %s): %d live of %d, %d reconnects; %d events of %d expected, %.0f/s", g.Name, g.Transport, g.Client, c.Live, c.Wanted,
		c.Reconnects, g.Delivered.Events, g.Delivered.Expected, g.Delivered.Rate)
	line("  content", "%s", g.Delivered.content())
	line("  latency", "%v", g.Latency)
	if g.LatencySent != nil {
		line("  from sending", "%v", g.LatencySent)
	}
	if len(c.Failures) > 0 {
		line("  failed", "attempts by status %v; last: %s", c.Failures, c.LastFailure)
	}
}

// content is what was wrong with what came, and what did not come.
func (d *Delivered) content() string {
	text := fmt.Sprintf("lost %d  duplicates %d  out of order %d  unexpected %d  foreign %d", d.Lost, d.Duplicates, d.Disordered, d.Unexpected, d.Foreign)
	if d.Superseded > 0 {
		text += fmt.Sprintf("  superseded %d", d.Superseded)
	}
	return text
}

// text writes what publishers did.
func (p *Published) text(line func(name, format string, args ...any), name string) {
	wanted := ""
	if p.Wanted > 0 {
		wanted = fmt.Sprintf(" of %.0f wanted", p.Wanted)
	}
	line(name, "%d events, %.1f/s%s; %d failed; %d B each, batch %d, %d publishers, %d lanes", p.Events, p.Rate, wanted, p.Failed, p.Size, p.Batch, p.Publishers, p.Lanes)
	line("  acks", "%v", p.Acks)
	if p.Duplicates > 0 {
		line("  duplicates", "%d events were there already, says the server", p.Duplicates)
	}
	if p.Lag != nil && p.Lag.P99 > 5 {
		line("  behind", "%v  (the publisher did not keep its schedule)", p.Lag)
	}
	if p.LastFailure != "" {
		line("  failed", "answers %v; last: %s", p.Answers, p.LastFailure)
	}
}

// whose begins a line on a storm.
func (s *Storm) whose() string {
	if s.Readers == "" {
		return ""
	}
	return fmt.Sprintf("%s, at %.1f s: ", s.Readers, s.At)
}

func (p ProcessReport) text(line func(name, format string, args ...any)) {
	per := ""
	if p.CPUPerDelivery > 0 {
		per = fmt.Sprintf(", %.2f µs a delivery", p.CPUPerDelivery)
	} else if p.CPUPerPublish > 0 {
		per = fmt.Sprintf(", %.1f µs an event published", p.CPUPerPublish)
	}
	tree := ""
	if p.Tree {
		tree = " and children"
	}
	line("process", "%d (%s%s): %.2f cores (%.2f s)%s", p.PID, p.Name, tree, p.Cores, p.CPUSeconds, per)
	memory := fmt.Sprintf("RSS %s before", Bytes(float64(p.RSSBefore)))
	if p.RSSConnected > 0 {
		memory += fmt.Sprintf(", %s connected (%.2f KB a connection; PSS %.2f KB)", Bytes(float64(p.RSSConnected)), p.KBPerConnection, p.PSSKBPerConnection)
	}
	if p.RSSAfter > 0 {
		memory += fmt.Sprintf(", %s after; PSS %s", Bytes(float64(p.RSSAfter)), Bytes(float64(p.PSSAfter)))
	}
	if p.RSSMost > 0 {
		memory += fmt.Sprintf("; %s at most", Bytes(float64(p.RSSMost)))
	}
	line("  memory", "%s", memory)
}

// Bytes is a number of bytes that prints as kB or MB (of 1000).
type Bytes float64

func (b Bytes) String() string {
	switch {
	case b >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(b)/1e9)
	case b >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(b)/1e6)
	case b >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(b)/1e3)
	}
	return fmt.Sprintf("%.0f B", float64(b))
}

func counts(m map[string]uint64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(out, ", ")
}
