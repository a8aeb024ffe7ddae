package loadtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RunConfig says who publishes what, who reads it and how, and what is measured.
type RunConfig struct {
	Run      string // name of the run; default a random one. Give one to share it with a publisher in another process
	Scenario string // what the report calls it

	Publishers []PublishConfig // of none of them: nobody publishes, or another process under the same Run
	Readers    []ReaderConfig
	Sessions   []SessionsConfig
	Webhooks   []WebhooksConfig

	ConnectTimeout time.Duration // for all to be live; default 60 s, and what the slowest ramp takes
	Settle         time.Duration // from all live until memory is sampled and publishing begins; default 2 s
	Warmup         time.Duration // published, but neither timed nor charged; default 0
	Duration       time.Duration // the window that is measured; default 10 s
	Linger         time.Duration // how long after the last arrival what is outstanding counts as lost; default 3 s

	// Shards is how many processes the readers are spread over; with 1, the default, they are in this one. Shard is the
	// command that runs the function of that name.
	Shards int
	Shard  []string

	PIDs    []int // processes to measure
	PIDTree bool  // with their descendants

	Watch func(Progress) // called about once a second, and not while it runs; nil: nobody watches
}

func (c *RunConfig) defaults() error {
	set(&c.Run, NewRun())
	set(&c.Scenario, "run")
	set(&c.Settle, 2*time.Second)
	set(&c.Duration, 10*time.Second)
	set(&c.Linger, 3*time.Second)
	set(&c.Shards, 1)
	if len(c.Readers)+len(c.Sessions)+len(c.Webhooks) == 0 {
		return errors.New("expected somebody who reads: publishers alone are measured by Publish")
	}
	if len(c.Publishers) == 0 && len(c.Sessions)+len(c.Webhooks) > 0 {
		return errors.New("sessions and webhooks need publishers of the same run")
	}
	if c.Shards < 1 || c.Shards > 1 && len(c.Shard) == 0 {
		return fmt.Errorf("%d shards: expected at least 1, and for more the command that runs one", c.Shards)
	}
	c.Readers, c.Sessions, c.Webhooks = slices.Clone(c.Readers), slices.Clone(c.Sessions), slices.Clone(c.Webhooks)
	slowest := 0.0
	for i := range c.Readers {
		r := &c.Readers[i]
		set(&r.Name, fmt.Sprint(i+1))
		if err := r.defaults(); err != nil {
			return fmt.Errorf("readers %s: %w", r.Name, err)
		}
		if r.Ramp > 0 {
			slowest = max(slowest, float64(r.Connections)/r.Ramp)
		}
	}
	set(&c.ConnectTimeout, time.Minute+seconds(slowest))
	return nil
}

// conductor leads a run. All of it is owned by the goroutine that Run is called by.
type conductor struct {
	config    RunConfig
	lanes     []laneRange // of each group of readers
	besides   []beside    // which those are
	begun     []beside    // of them, those to be ended
	window    *gauges     // of the publishers: the window alone
	crews     []asker
	course    course // its parties are the groups of readers, then the others
	watch     *watch
	self      usage // at the window's begin
	report    *Report
	begin     time.Time  // of the window
	liveAtEnd []int      // of each group, as the window ended
	foreign   bool       // another process publishes, if anybody
	sampled   []sequence // what that had published as the window ended: what any reader has seen, all should see
}

// Run has readers read what publishers publish, and reports. When ctx ends early the report is of what was until then, and
// Interrupted says so; an error is only what kept the run from being one.
func Run(ctx context.Context, c RunConfig) (report *Report, err error) {
	r, err := newConductor(c)
	if err != nil {
		return nil, err
	}
	if err := r.watch.take("before"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	err = r.phases(ctx)
	switch {
	case err == nil:
	case errors.As(err, new(crewError)), ctx.Err() == nil && r.report.Seconds == 0:
		return nil, err
	case ctx.Err() != nil:
		r.report.Interrupted = context.Cause(ctx).Error()
	default: // the window was measured before something went wrong
		r.report.Interrupted = err.Error()
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return r.report, nil
}

// end ends what start began, as far as that came.
func (r *conductor) end() error {
	var errs []error
	for _, crew := range r.crews {
		errs = append(errs, crew.end())
	}
	for _, b := range r.begun {
		errs = append(errs, b.end())
	}
	return errors.Join(errs...)
}

// crewError is why readers could not go on.
type crewError struct{ what string }

// Error implements error.
func (e crewError) Error() string { return e.what }

func newConductor(c RunConfig) (*conductor, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	r := &conductor{config: c, window: &gauges{}, watch: newWatch(c.PIDs, c.PIDTree), foreign: len(c.Publishers) == 0}
	r.course = course{
		run: c.Run, scenario: c.Scenario, watch: c.Watch, measured: servers(c.PIDs), every: 5 * time.Millisecond, series: series{pids: c.PIDs, tree: c.PIDTree},
		ask: func(recent bool) error { return r.ask(crewOrder{Recent: recent}) },
	}
	r.report = &Report{Run: c.Run, Scenario: c.Scenario, Started: time.Now()}
	lanes := 0
	of := map[string]laneRange{}
	for _, config := range c.Publishers {
		p, err := newPublishers(c.Run, config, r.window)
		if err != nil {
			return nil, err
		}
		p.first = lanes
		lanes += p.config.Lanes
		of[config.Name] = laneRange{p.first, p.config.Lanes}
		r.course.publishers = append(r.course.publishers, p)
	}
	lanesOf := func(name, publisher string) (laneRange, error) {
		own, ok := of[publisher]
		switch {
		case r.foreign:
			own = laneRange{0, maxForeignLanes}
		case publisher == "":
			own = laneRange{0, lanes}
		case !ok:
			return own, fmt.Errorf("%s are of publishers %q, which there are not", name, publisher)
		}
		return own, nil
	}
	return r, r.invite(lanesOf)
}

// invite finds out who is to get which lanes.
func (r *conductor) invite(lanesOf func(name, publisher string) (laneRange, error)) error {
	c := &r.config
	for i := range c.Readers {
		g := &c.Readers[i]
		own, err := lanesOf("readers "+g.Name, g.Of)
		if err != nil {
			return err
		}
		r.lanes = append(r.lanes, own)
		r.course.parties = append(r.course.parties, party{
			name: g.Name, transport: g.Transport, client: g.Client, target: g.URL, wanted: g.Connections,
			expected: func(sequences []sequence) uint64 { return g.expected(own, sequences) },
		})
	}
	for i := range c.Sessions {
		g := &c.Sessions[i]
		set(&g.Name, fmt.Sprintf("sessions %d", i+1))
		own, err := lanesOf("sessions "+g.Name, g.Of)
		if err != nil {
			return err
		}
		p, err := newSessionsParty(g, c.Run, own)
		if err != nil {
			return fmt.Errorf("sessions %s: %w", g.Name, err)
		}
		r.besides = append(r.besides, p)
	}
	for i := range c.Webhooks {
		g := &c.Webhooks[i]
		set(&g.Name, fmt.Sprintf("webhooks %d", i+1))
		own, err := lanesOf("webhooks "+g.Name, g.Of)
		if err != nil {
			return err
		}
		p, err := newWebhooksParty(g, i+1, c.Run, own)
		if err != nil {
			return fmt.Errorf("webhooks %s: %w", g.Name, err)
		}
		r.besides = append(r.besides, p)
	}
	for _, b := range r.besides {
		r.course.parties = append(r.course.parties, b.party())
	}
	return nil
}

// maxForeignLanes bounds what a reader accounts for when the publisher is another process, whose lanes are not known.
const maxForeignLanes = 64

// start makes what is to be made, and has all readers connect.
func (r *conductor) start(ctx context.Context) error {
	c := &r.config
	for _, b := range r.besides {
		r.begun = append(r.begun, b)
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	if len(c.Readers) == 0 {
		return nil
	}
	setup := crewSetup{Run: c.Run, Shards: c.Shards, Foreign: r.foreign, Settle: c.Settle}
	before, dials := 0, 0
	for i, g := range c.Readers {
		setup.Groups = append(setup.Groups, crewGroup{Config: g, Before: before, Lanes: r.lanes[i]})
		before += g.Connections
		dials += g.dials(c.Duration)
	}
	for i := range setup.Groups {
		g := &setup.Groups[i].Config
		if len(g.Sources) == 0 {
			target, err := resolve(expand(g.URL, 0, 0))
			if err != nil {
				return err
			}
			g.Sources = loopbackSources(target, dials)
		}
	}
	for i := range c.Shards {
		setup.Shard = i
		if c.Shards > 1 {
			p, err := startShard(c.Shard, setup)
			if err != nil {
				return err
			}
			r.crews = append(r.crews, p)
			continue
		}
		crew, err := newCrew(setup)
		if err != nil {
			return err
		}
		crew.start()
		r.crews = append(r.crews, crew)
	}
	return nil
}

// dials is about how many connections the group makes in a run of which the window is the most.
func (c *ReaderConfig) dials(window time.Duration) int {
	each := 1.0
	for _, s := range c.Storms {
		each += s.Share
	}
	if c.Lifetime > 0 {
		each += min(window, time.Minute).Seconds() / c.Lifetime.Seconds() // closed ones hold their ports for a minute
	}
	return int(float64(c.Connections) * each)
}

// ask asks all crews, and keeps their groups' states.
func (r *conductor) ask(o crewOrder) error {
	groups := make([]groupState, len(r.config.Readers), len(r.course.parties))
	for _, crew := range r.crews {
		a, err := crew.ask(o)
		if err != nil {
			return crewError{err.Error()}
		}
		if a.Failed != "" {
			return crewError{a.Failed}
		}
		if len(a.Groups) != len(groups) {
			return crewError{fmt.Sprintf("a shard told of %d groups, expected %d: is it of another version?", len(a.Groups), len(groups))}
		}
		for i, g := range a.Groups {
			if err := groups[i].merge(g); err != nil {
				return crewError{err.Error()}
			}
		}
	}
	for _, b := range r.besides {
		a, err := b.ask(o)
		if err == nil && a.Failed != "" {
			err = errors.New(a.Failed)
		}
		if err != nil {
			return crewError{err.Error()}
		}
		groups = append(groups, a.Groups...)
	}
	r.course.groups = groups
	return nil
}
