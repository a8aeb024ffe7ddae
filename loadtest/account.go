package loadtest

import "github.com/HdrHistogram/hdrhistogram-go"

// finish has the readers stop, and enters in the report what they and the publishers counted.
func (r *conductor) finish() error {
	if r.liveAtEnd == nil { // the window was not reached, or not its end
		r.noteLive()
	}
	if r.begin.IsZero() {
		r.begin = r.report.Started
	}
	sequences := r.sequences()
	if err := r.ask(crewOrder{Sequences: wire(sequences)}); err != nil {
		return err
	}
	out := r.report
	all := newTally()
	total := Delivered{}
	c := out.Connections
	for i, g := range r.course.groups {
		t, err := g.Result.Tally.tally()
		if err != nil {
			return err
		}
		one := r.readerReport(i, g, t)
		if !r.foreign {
			one.Delivered.Expected = r.course.parties[i].expected(sequences)
		}
		out.Readers = append(out.Readers, one)
		all.merge(t)
		total.Expected += one.Delivered.Expected
		total.Lost += one.Delivered.Lost
		total.Superseded += one.Delivered.Superseded
		c.Stopped += g.Stopped
		c.Reconnects += g.Reconnects
		for _, s := range one.Storms {
			if len(r.course.groups) > 1 {
				s.Readers = one.Name
			}
			out.Storms = append(out.Storms, s)
		}
	}
	c.Wanted = r.course.wanted()
	c.Head, c.Block, c.Failures, c.LastFailure = quantiles(all.connect), quantiles(all.block), all.rejected, r.course.why()
	total.count(all, out.Seconds)
	out.Delivered, out.Latency, out.LatencySent = &total, quantiles(all.latency), quantiles(all.sent)
	out.Distribution = distribution(all.latency)
	out.Comeback = comeback(all, out.Storms)
	out.Series = r.course.series.since(r.begin)
	r.published()
	var published uint64
	for _, p := range r.course.publishers {
		published += p.inWindow
	}
	out.Processes = r.watch.report(c.Live, all.inWindow, published, seconds(out.Seconds))
	if out.Self != nil && all.inWindow > 0 {
		out.Self.CPUPerDelivery = out.Self.Cores * out.Seconds * 1e6 / float64(all.inWindow)
	}
	return nil
}

// readerReport is what one group got.
func (r *conductor) readerReport(i int, g groupState, t *tally) ReaderReport {
	p := &r.course.parties[i]
	one := ReaderReport{
		Name: p.name, Transport: p.transport, Client: p.client, Target: p.target,
		Connections: Connections{
			Wanted: p.wanted, Live: g.Live, Stopped: g.Stopped, Reconnects: g.Reconnects,
			Head: quantiles(t.connect), Block: quantiles(t.block), Failures: t.rejected, LastFailure: g.Why,
		},
		Delivered: Delivered{Lost: g.Result.Lost, Superseded: g.Result.Superseded},
		Latency:   quantiles(t.latency), LatencySent: quantiles(t.sent), Distribution: distribution(t.latency),
		Storms: g.Result.Storms, Comeback: comeback(t, g.Result.Storms),
	}
	one.Connections.Live = r.liveAtEnd[i]
	one.Delivered.count(t, r.report.Seconds)
	return one
}

// count enters what a tally counted.
func (d *Delivered) count(t *tally, seconds float64) {
	d.Events, d.Window, d.Duplicates, d.Disordered = t.deliveries, t.inWindow, t.duplicates, t.late
	d.Unexpected, d.Foreign, d.Controls, d.Bytes = t.unexpected, t.foreign, t.controls, t.bytes
	if seconds > 0 {
		d.Rate, d.BytesRate = float64(t.inWindow)/seconds, float64(t.bytesIn)/seconds
	}
}

func comeback(t *tally, storms []Storm) *Comeback {
	if len(storms) == 0 {
		return nil
	}
	return &Comeback{Head: quantiles(t.stormHead), Block: quantiles(t.stormBlock), Event: quantiles(t.stormEvent)}
}

// published enters the publishers' side.
func (r *conductor) published() {
	if len(r.course.publishers) == 0 {
		return
	}
	sum := &Published{Answers: map[int]uint64{}}
	acks, lag := newHistogram(), newHistogram()
	for _, p := range r.course.publishers {
		one := p.report(r.report.Seconds)
		if len(r.course.publishers) == 1 {
			r.report.Published = one
			return
		}
		r.report.Publishers = append(r.report.Publishers, *one)
		acks.Merge(p.acks)
		lag.Merge(p.lag)
		sum.add(one)
	}
	sum.Acks, sum.Lag, sum.Distribution = quantiles(acks), quantiles(lag), distribution(acks)
	r.report.Published = sum
}

// add adds another publisher's counts. Size and batch are those of the largest.
func (p *Published) add(o *Published) {
	p.Events += o.Events
	p.Duplicates += o.Duplicates
	p.Failed += o.Failed
	p.Requests += o.Requests
	p.Rate += o.Rate
	p.Wanted += o.Wanted
	p.Batch, p.Size = max(p.Batch, o.Batch), max(p.Size, o.Size)
	p.Publishers += o.Publishers
	p.Lanes += o.Lanes
	for status, n := range o.Answers {
		p.Answers[status] += n
	}
	set(&p.LastFailure, o.LastFailure)
}

// Percentile is a point of a distribution of durations: so many percent took so long or less, in milliseconds.
type Percentile struct {
	Percent float64 `json:"percent"`
	Value   float64 `json:"value"`
}

// distribution is what a chart of a histogram by percentile needs: points that grow denser towards 100.
func distribution(h *hdrhistogram.Histogram) []Percentile {
	if h.TotalCount() == 0 {
		return nil
	}
	var out []Percentile
	// As many points for each half of what is left, as HdrHistogram's own charts have.
	const each = 5
	last := 1 - 1/float64(h.TotalCount())
	for below := 0.0; below < 1; below += (1 - below) / each / 2 {
		if below > last {
			break
		}
		out = append(out, Percentile{100 * below, float64(h.ValueAtQuantile(100*below)) / 1000})
	}
	return append(out, Percentile{100, float64(h.Max()) / 1000})
}
