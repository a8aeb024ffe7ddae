package loadtest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// chart is a picture of lines, as the page's template draws it: in a square of 1,000 by 1,000 that is stretched, with its
// labels outside, so that text keeps its size on any screen.
type chart struct {
	Title string
	Note  string
	Lines []chartLine
	Y, X  []tick
	Marks []float64 // vertical lines, in percent of the width
	// From and To are the window that was measured, in percent of the width.
	From, To float64
	Alt      string // what it shows, for those who do not see it
}

// Width is the window's, in percent.
func (c chart) Width() string { return strconv.FormatFloat(max(0, c.To-c.From), 'f', 2, 64) }

type chartLine struct {
	Name string
	N    int // its colour and pattern, from 1
	Path string
}

type tick struct {
	Label string
	At    float64 // percent, from the left or the bottom
	Last  bool    // the label ends here, lest it go beyond the picture
}

// FromTop is where the tick is in the drawing, which counts from the top.
func (t tick) FromTop() string { return strconv.FormatFloat(1000-10*t.At, 'f', 1, 64) }

// maxLines is how many lines a chart tells apart.
const maxLines = 8

// values are one line's, nil where there is nothing to show.
type values struct {
	name string
	at   []float64
}

// charts are those of a report, of what was recorded of it: of events, then of what they cost.
func (r *Report) charts(rows []Second) []chart {
	var events, acks, costs []chart
	if len(rows) > 1 {
		events, acks, costs = r.overTime(rows)
	}
	events = append(events, r.latencyByPercentile()...)
	acks = append(acks, r.acksByPercentile()...)
	return slices.Concat(events, acks, costs)
}

// overTime are the charts of the rows.
func (r *Report) overTime(rows []Second) (events, acks, costs []chart) {
	of := func(name string, get func(i int, s Second) float64) values {
		v := values{name: name}
		for i, s := range rows {
			v.at = append(v.at, get(i, s))
		}
		return v
	}
	each := func(i int) float64 {
		if i == 0 {
			return 1
		}
		return max(0.1, rows[i].At-rows[i-1].At)
	}
	groups := func(all values, get func(i int, g GroupSecond) float64) []values {
		lines := []values{all}
		for n, g := range r.Readers {
			if len(r.Readers) < 2 || len(lines) == maxLines {
				break
			}
			lines = append(lines, of(g.Name, func(i int, s Second) float64 {
				if n >= len(s.Groups) {
					return 0
				}
				return get(i, s.Groups[n])
			}))
		}
		return lines
	}
	published := []values{of("published", func(i int, s Second) float64 { return float64(s.Published) / each(i) })}
	if p := r.Published; p != nil && p.Failed > 0 {
		published = append(published, of("not acknowledged", func(i int, s Second) float64 { return float64(s.Failed) / each(i) }))
	}
	events = append(events, r.timeChart("Events published a second", "", rows, linear, published))
	if r.Published != nil {
		acks = append(acks, r.timeChart("Acknowledgements, milliseconds", "of the requests that ended in each second; logarithmic", rows, logarithmic, []values{
			of("p50", func(_ int, s Second) float64 { return s.AckP50 }), of("p99", func(_ int, s Second) float64 { return s.AckP99 }),
			of("highest", func(_ int, s Second) float64 { return s.AckMax }),
		}))
	}
	if r.Delivered == nil { // nobody reads
		return events, acks, r.processes(rows, of)
	}
	delivered := of("all", func(i int, s Second) float64 { return float64(s.Delivered) / each(i) })
	live := of("all", func(_ int, s Second) float64 { return float64(s.Live) })
	events = append(events,
		r.timeChart("Events delivered a second", "", rows, linear,
			groups(delivered, func(i int, g GroupSecond) float64 { return float64(g.Delivered) / each(i) })),
		r.timeChart("Latency, milliseconds", "of what arrived in each second; logarithmic", rows, logarithmic, []values{
			of("p50", func(_ int, s Second) float64 { return s.P50 }), of("p99", func(_ int, s Second) float64 { return s.P99 }),
			of("highest", func(_ int, s Second) float64 { return s.Max }),
		}))
	costs = append(costs, r.timeChart("Live connections", "", rows, linear, groups(live, func(_ int, g GroupSecond) float64 { return float64(g.Live) })))
	return events, acks, append(costs, r.processes(rows, of)...)
}

// processes are the charts of what the measured processes used.
func (r *Report) processes(rows []Second, of func(name string, get func(i int, s Second) float64) values) []chart {
	if len(r.Processes) == 0 {
		return nil
	}
	var cores, memory []values
	for n, p := range r.Processes {
		if n == maxLines {
			break
		}
		name := fmt.Sprintf("%s (%d)", p.Name, p.PID)
		used := func(s Second) ProcessSecond {
			if n < len(s.Processes) {
				return s.Processes[n]
			}
			return ProcessSecond{}
		}
		cores = append(cores, of(name, func(_ int, s Second) float64 { return used(s).Cores }))
		memory = append(memory, of(name, func(_ int, s Second) float64 { return float64(used(s).RSS) / 1e6 }))
	}
	return []chart{
		r.timeChart("Processor, cores", "of what was measured", rows, linear, cores),
		r.timeChart("Memory, MB", "resident, of what was measured", rows, linear, memory),
	}
}

// scale says where values lie between the bottom (0) and the top (1), and which of them are labelled.
type scale func(lowest, highest float64) (at func(v float64) float64, ticks []float64)

// linear goes from 0 to a round number.
func linear(_, highest float64) (func(float64) float64, []float64) {
	step := roundUp(max(highest, 1e-9) / 4)
	top := step * math.Ceil(max(highest, 1e-9)/step-1e-9)
	var ticks []float64
	for v := 0.0; v <= top+step/2; v += step {
		ticks = append(ticks, v)
	}
	return func(v float64) float64 { return v / top }, ticks
}

// roundUp is the next of 1, 2, 2.5 and 5 times a power of ten.
func roundUp(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if v <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// logarithmic goes from one power of ten to another.
func logarithmic(lowest, highest float64) (func(float64) float64, []float64) {
	if lowest <= 0 {
		lowest, highest = 0.1, max(highest, 1)
	}
	from, to := math.Floor(math.Log10(lowest)), math.Ceil(math.Log10(highest))
	to = max(to, from+1)
	var ticks []float64
	for e := from; e <= to; e++ {
		ticks = append(ticks, math.Pow(10, e))
	}
	return func(v float64) float64 { return (math.Log10(v) - from) / (to - from) }, ticks
}

// timeChart draws values of the rows over time. On a logarithmic scale 0 is nothing: the line has a hole.
func (r *Report) timeChart(title, note string, rows []Second, by scale, lines []values) chart {
	c := chart{Title: title, Note: note}
	first, last := rows[0].At, rows[len(rows)-1].At
	x := func(at float64) float64 { return 100 * (at - first) / (last - first) }
	lowest, highest := math.Inf(1), 0.0
	for _, l := range lines {
		for _, v := range l.at {
			highest = max(highest, v)
			if v > 0 {
				lowest = min(lowest, v)
			}
		}
	}
	if math.IsInf(lowest, 1) {
		lowest = 0
	}
	y, ticks := by(lowest, highest)
	zero := y(0) == 0
	for i, l := range lines {
		var path pathText
		for j, v := range l.at {
			path.point(x(rows[j].At)*10, y(v)*1000, v > 0 || zero)
		}
		c.Lines = append(c.Lines, chartLine{l.name, i + 1, path.String()})
	}
	for _, v := range ticks {
		c.Y = append(c.Y, tick{Label: tickLabel(v), At: 100 * y(v)})
	}
	step := timeStep(last - first)
	for at := math.Ceil(first/step) * step; at <= last; at += step {
		c.X = append(c.X, tick{Label: clock(at), At: x(at), Last: x(at) > 92})
	}
	within := func(p float64) float64 { return max(0, min(100, p)) }
	c.From, c.To = within(x(0)), within(x(r.Seconds))
	for _, s := range r.Storms {
		c.Marks = append(c.Marks, within(x(s.At)))
	}
	c.Alt = describe(title, lines)
	return c
}

// describe says what lines show.
func describe(title string, lines []values) string {
	var all []string
	for _, l := range lines {
		most := 0.0
		for _, v := range l.at {
			most = max(most, v)
		}
		all = append(all, fmt.Sprintf("%s at most %s", l.name, significant(most)))
	}
	return "Line chart: " + title + ". " + strings.Join(all, ", ") + ". The table of seconds below has the numbers."
}

// tickLabel is a round number, in as many digits as it has.
func tickLabel(v float64) string {
	if v >= 1000 {
		return grouped(uint64(v + 0.5))
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// timeStep is how far apart the labels of a time axis are, in seconds.
func timeStep(length float64) float64 {
	for _, s := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200} {
		if length/s <= 6 {
			return s
		}
	}
	return 4 * 3600
}

// clock is a time from the window's beginning.
func clock(seconds float64) string {
	d := time.Duration(math.Round(seconds)) * time.Second
	if d.Abs() < time.Minute {
		return strconv.Itoa(int(d/time.Second)) + " s"
	}
	return strings.TrimSuffix(d.String(), "0s")
}

// spread is one line's distribution.
type spread struct {
	name string
	of   []Percentile
}

// latencyByPercentile draws how long what share of the events took, towards the rarest.
func (r *Report) latencyByPercentile() []chart {
	all := []spread{{"all", r.Distribution}}
	for _, g := range r.Readers {
		if len(r.Readers) > 1 {
			all = append(all, spread{g.Name, g.Distribution})
		}
	}
	return percentileChart("Latency by percentile, milliseconds", "percent of the window's events; logarithmic both ways", all)
}

// acksByPercentile draws the same of the requests that published them.
func (r *Report) acksByPercentile() []chart {
	var all []spread
	if r.Published != nil {
		all = append(all, spread{"all", r.Published.Distribution})
	}
	for i, p := range r.Publishers {
		set(&p.Name, strconv.Itoa(i+1)) // as the table has it
		all = append(all, spread{p.Name, p.Distribution})
	}
	return percentileChart("Acknowledgements by percentile, milliseconds", "percent of the window's requests; logarithmic both ways", all)
}

// percentileChart draws distributions, where there is any.
func percentileChart(title, note string, all []spread) []chart {
	all = slices.DeleteFunc(all, func(s spread) bool { return len(s.of) == 0 })
	if len(all) == 0 {
		return nil
	}
	all = all[:min(len(all), maxLines)]
	lowest, highest, nines := math.Inf(1), 0.0, 1.0
	for _, l := range all {
		for _, p := range l.of {
			lowest, highest = min(lowest, max(p.Value, 1e-3)), max(highest, p.Value)
			if p.Percent < 100 {
				nines = max(nines, -math.Log10(1-p.Percent/100))
			}
		}
	}
	nines = math.Ceil(nines + 0.1)
	y, ticks := logarithmic(lowest, highest)
	c := chart{Title: title, Note: note, To: 100}
	for i, l := range all {
		var path pathText
		for _, p := range l.of {
			x := nines
			if p.Percent < 100 {
				x = -math.Log10(1 - p.Percent/100)
			}
			path.point(1000*x/nines, 1000*y(max(p.Value, 1e-3)), true)
		}
		c.Lines = append(c.Lines, chartLine{l.name, i + 1, path.String()})
	}
	for _, v := range ticks {
		c.Y = append(c.Y, tick{Label: tickLabel(v), At: 100 * y(v)})
	}
	for n := 0.0; n <= nines; n++ {
		if n > 4 && n < nines { // there is no room for so many digits on a phone
			continue
		}
		label := "0"
		switch {
		case n == nines:
			label = "max"
		case n > 0:
			label = strconv.FormatFloat(100*(1-math.Pow(10, -n)), 'f', max(0, int(n)-2), 64)
		}
		c.X = append(c.X, tick{Label: label, At: 100 * n / nines, Last: n == nines})
	}
	c.Alt = "Line chart: " + title + ". The tables below have the numbers."
	return []chart{c}
}

// pathText is the drawing of a line, from the bottom up.
type pathText struct {
	strings.Builder
	drawing bool
}

// point goes on to a point; where there is none, the line begins anew after it.
func (p *pathText) point(x, y float64, there bool) {
	if !there {
		p.drawing = false
		return
	}
	command := "M"
	if p.drawing {
		command = "L"
	}
	p.drawing = true
	fmt.Fprintf(p, "%s%.1f %.1f", command, x, 1000-y)
}
