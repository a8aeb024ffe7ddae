package loadtest

import (
	"slices"
	"time"
)

// Progress is how far a run is.
type Progress struct {
	Run, Scenario string
	Phase         string
	Elapsed       time.Duration // of the phase
	Of            time.Duration // how long the phase is to take; 0: nobody knows
	Note          string        // something that happened: then the rest is as it was told before

	Published, Failed     uint64     // since the run began, as all that follows
	Acks                  *Quantiles // how long requests that publish took that ended in the last five seconds
	Delivered, Reconnects uint64
	Expected              uint64 // deliveries, once nothing is published any more; 0: not known yet
	Duplicates            uint64
	Disordered            uint64     // came after an event with a higher number of its lane
	Unexpected            uint64     // of a lane that the reader's filter excludes, or not as they should be
	Failures              uint64     // attempts to connect that brought no stream
	Live, Wanted          int        // 0 wanted: there are publishers alone
	Latency               *Quantiles // of the last five seconds' arrivals
	Seconds               []Second   // the last minute
	Groups                []GroupProgress
	Processes             []string // what each of those that a second tells of is
	LastFailure           string
}

// GroupProgress is how far a group of readers is.
type GroupProgress struct {
	Name         string
	Live, Wanted int
	Delivered    uint64
}

// servers names measured processes, which are all of the server.
func servers(pids []int) []string { return slices.Repeat([]string{"server"}, len(pids)) }

// maxWatched is how many seconds those who watch are told of.
const maxWatched = 60

// tell tells whoever watches.
func (c *course) tell(note string) {
	if c.watch == nil {
		return
	}
	p := Progress{
		Run: c.run, Scenario: c.scenario, Phase: c.phase.name, Elapsed: time.Since(c.phase.began), Of: c.phase.of, Note: note,
		Wanted: c.wanted(), Expected: c.expected, Latency: c.series.recent.quantiles(), Acks: c.series.acks.quantiles(), Processes: c.measured,
		LastFailure: c.why(),
	}
	for _, s := range c.publishers {
		p.Published += s.sent.Load()
		p.Failed += s.failed.Load()
	}
	for i, g := range c.groups {
		p.Live += g.Live
		p.Delivered += g.Deliveries
		p.Reconnects += g.Reconnects
		p.Failures += g.Failures
		p.Duplicates += g.Content.Duplicates
		p.Disordered += g.Content.Disordered
		p.Unexpected += g.Content.Unexpected
		p.Groups = append(p.Groups, GroupProgress{Name: c.parties[i].name, Live: g.Live, Wanted: c.parties[i].wanted, Delivered: g.Deliveries})
	}
	p.Seconds = c.series.all[max(0, len(c.series.all)-maxWatched):]
	c.watch(p)
}
