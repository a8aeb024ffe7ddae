package loadtest

import "time"

// finish merges what the readers counted. They must have stopped.
func (s *subscription) finish(live int) {
	t := newTally()
	for _, shard := range s.fleet.tallies {
		t.merge(shard)
	}
	r := s.report
	if r.Connections == nil {
		r.Connections = &Connections{}
	}
	c := r.Connections
	c.Wanted, c.Live, c.Stopped = s.config.Connections, live, int(s.all.stopped.Load())
	c.Head, c.Block, c.Reconnects = quantiles(t.connect), quantiles(t.block), s.all.reconnects.Load()
	c.Failures, c.LastFailure = t.rejected, s.why()
	d := &Delivered{
		Events: t.deliveries, Window: t.inWindow, Duplicates: t.duplicates, Disordered: t.late,
		Unexpected: t.unexpected, Foreign: t.foreign, Controls: t.controls, Bytes: t.bytes,
	}
	if r.Seconds > 0 {
		d.Rate, d.BytesRate = float64(t.inWindow)/r.Seconds, float64(t.bytesIn)/r.Seconds
	}
	var published uint64
	if p := s.publishers; p != nil {
		d.Expected = s.expected()
		for _, reader := range s.fleet.readers {
			d.Lost += reader.ledger.lost(p.sequences())
		}
		r.Published, published = p.report(r.Seconds), p.inWindow
	} else {
		for _, reader := range s.fleet.readers {
			d.Lost += reader.ledger.lost(s.foreign)
		}
	}
	r.Delivered, r.Latency = d, quantiles(t.latency)
	if len(r.Storms) > 0 {
		r.Comeback = &Comeback{Head: quantiles(t.stormHead), Block: quantiles(t.stormBlock), Event: quantiles(t.stormEvent)}
	}
	r.Processes = s.watch.report(live, t.inWindow, published, time.Duration(r.Seconds*float64(time.Second)))
	if r.Self != nil && t.inWindow > 0 {
		r.Self.CPUPerDelivery = r.Self.Cores * r.Seconds * 1e6 / float64(t.inWindow)
	}
}

// expected is how many deliveries everything surely published makes.
func (s *subscription) expected() uint64 {
	var n uint64
	sequences := s.publishers.sequences()
	for _, r := range s.fleet.readers {
		for i := range r.ledger.lanes {
			q := sequences[r.ledger.first+i]
			n += q.end - uint64(len(q.doubts))
		}
	}
	return n
}

// sampleForeign notes how far another process had published by now: what any reader has seen, all should see.
func (s *subscription) sampleForeign() {
	s.foreign = make([]sequence, maxForeignLanes)
	for i := range s.foreign {
		s.foreign[i].end = s.all.highest[i].Load()
	}
}
