package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

const (
	// stopGrace is how long a replica that is told to stop may take: the drain, and what it waits for besides.
	stopGrace = drainTimeout + 10*time.Second
	// repairPeriod is for a server to be up again, whatever else is away at first.
	repairPeriod = 3 * time.Minute
	// troubledReplicas is how many replicas may be down or stand still at a time.
	troubledReplicas = 2
)

// disturber does what was planned.
type disturber struct {
	cluster *cluster
	journal *Journal
	trim    act // deletes the log's beginning
	under   sync.WaitGroup

	mu     sync.Mutex
	busy   map[string]bool // what something is done to; guarded by mu, as all that follows
	down   int             // replicas that are down or stand still
	counts map[FaultKind]int
	errs   []error
}

func newDisturber(c *cluster, j *Journal, trim act) *disturber {
	return &disturber{cluster: c, journal: j, trim: trim, busy: map[string]bool{}, counts: map[FaultKind]int{}}
}

// run does what was planned until all is done or lasting ends, and returns when everything is repaired, or ctx ends. What
// cannot be repaired is an error.
func (d *disturber) run(ctx, lasting context.Context, faults []Fault) error {
	began := time.Now()
	for _, f := range faults {
		if !clock.Pause(lasting, f.At-time.Since(began)) {
			break
		}
		release, ok := d.occupy(f)
		if !ok {
			d.journal.Note(Entry{What: WhatNote, Text: "left out, as it is in trouble already: " + f.String()})
			continue
		}
		d.under.Go(func() {
			defer release()
			d.do(ctx, lasting, f)
		})
	}
	d.under.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.errs...)
}

// count is how many faults have begun.
func (d *disturber) count() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.counts {
		n += of
	}
	return n
}

// occupy takes what a fault is done to, if nothing is done to it.
func (d *disturber) occupy(f Fault) (release func(), ok bool) {
	name, replica := f.occupies()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[name] || replica && d.down == troubledReplicas {
		return nil, false
	}
	d.busy[name] = true
	d.counts[f.Kind]++
	if replica {
		d.down++
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, name)
		if replica {
			d.down--
		}
	}, true
}

// occupies names what the fault is done to, and tells whether that is a replica. One thing is done to Kafka at a time.
func (f Fault) occupies() (name string, isReplica bool) {
	switch f.Kind {
	case ReplicaKill, ReplicaPause, ReplicaRestart:
		return fmt.Sprintf("replica-%d", f.Target), true
	case ClientsCut, ClientsLatency, ClientsBlackHole, ClientsLimit:
		return fmt.Sprintf("clients of replica-%d", f.Target), false
	case KafkaKill, KafkaPause, KafkaRestart, KafkaOutage, KafkaTrim:
		return "kafka", false
	case KafkaLineCut, KafkaLineLatency, KafkaLineBlackHole:
		return fmt.Sprintf("line of replica-%d to kafka", f.Target), false
	case RedisKill, RedisPause, RedisFlush, RedisEmpty:
		return "redis", false
	case RedisLineCut, RedisLineLatency, RedisLineBlackHole:
		return fmt.Sprintf("line of replica-%d to redis", f.Target), false
	}
	return string(f.Kind), false
}

// do has a fault begin, last and end. It ends early with lasting, and is undone.
func (d *disturber) do(ctx, lasting context.Context, f Fault) {
	who, _ := f.occupies()
	ctx, cancel := context.WithTimeout(ctx, f.For+repairPeriod)
	defer cancel()
	d.journal.Note(Entry{What: WhatFault, Who: who, Text: f.String()})
	begin, end := d.acts(f)
	err := begin(ctx)
	if err == nil {
		clock.Pause(lasting, f.For)
	}
	err = errors.Join(err, end(ctx))
	d.journal.Note(Entry{What: WhatMended, Who: who, Text: f.String()})
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.errs = append(d.errs, fmt.Errorf("%s: %w", f, err))
	}
}

// act does a part of a fault.
type act func(ctx context.Context) error

// acts are what begins a fault, and what ends it.
func (d *disturber) acts(f Fault) (begin, end act) {
	v := d.cluster.replicas[f.Target]
	node := d.cluster.nodes[f.Target%nodeCount]
	redis := d.cluster.redis
	switch f.Kind {
	case ReplicaKill:
		return plain(v.Kill), d.start(v.name, v.Start)
	case ReplicaPause:
		return plain(v.Pause), plain(v.Resume)
	case ReplicaRestart:
		return func(context.Context) error { return d.stopReplica(v) }, d.start(v.name, v.Start)
	case KafkaKill:
		return plain(node.Kill), d.start("kafka", node.Start)
	case KafkaPause:
		return plain(node.Pause), plain(node.Resume)
	case KafkaRestart:
		return plain(node.Stop), d.start("kafka", node.Start)
	case KafkaOutage:
		return d.outage([]*testenv.KafkaProcess{node, d.cluster.nodes[(f.Target+1)%nodeCount]}, f.Draw%2 == 0)
	case KafkaTrim:
		return d.trim, nothing
	case RedisKill:
		return plain(redis.Kill), d.start("redis", redis.Start)
	case RedisPause:
		return plain(redis.Pause), plain(redis.Resume)
	case RedisFlush:
		return redis.Flush, nothing
	case RedisEmpty:
		return plain(func() error { return errors.Join(redis.Kill(), redis.Empty()) }), d.start("redis", redis.Start)
	case ClientsCut, ClientsLatency, ClientsBlackHole, ClientsLimit:
		return d.onLines(f, clientRoute(f.Target))
	case RedisLineCut, RedisLineLatency, RedisLineBlackHole:
		return d.onLines(f, redisRoute(f.Target))
	case KafkaLineCut, KafkaLineLatency, KafkaLineBlackHole:
		if f.Node >= 0 {
			return d.onLines(f, kafkaRoute(f.Target, f.Node))
		}
		var all []string
		for n := range nodeCount {
			all = append(all, kafkaRoute(f.Target, n))
		}
		return d.onLines(f, all...)
	}
	unknown := func(context.Context) error { return fmt.Errorf("expected a fault, got %q", f.Kind) }
	return unknown, unknown
}

func nothing(context.Context) error { return nil }

func plain(do func() error) act { return func(context.Context) error { return do() } }

// start starts a server, over and over while it does not come up for what else is away or how busy the machine is, as
// whatever looks after it would.
func (d *disturber) start(name string, start act) act {
	return func(ctx context.Context) error {
		for {
			err := start(ctx)
			if err == nil {
				return nil
			}
			d.journal.Note(Entry{What: WhatNote, Who: name, Text: cut("it does not start: " + err.Error())})
			if !clock.Pause(ctx, time.Second) {
				return err
			}
		}
	}
}

// stopReplica tells a replica to stop, and notes with which code it ended.
func (d *disturber) stopReplica(v *replica) error {
	code, err := v.Stop(stopGrace)
	if err != nil {
		code = -1
		d.journal.Note(Entry{What: WhatNote, Who: v.name, Text: err.Error()})
	}
	d.journal.Note(Entry{What: WhatExit, Who: v.name, Link: code})
	return nil
}

// outage has nodes killed, or stand still, and all be there again.
func (d *disturber) outage(nodes []*testenv.KafkaProcess, kill bool) (begin, end act) {
	each := func(do func(*testenv.KafkaProcess) error) act {
		return func(context.Context) error {
			var errs []error
			for _, n := range nodes {
				errs = append(errs, do(n))
			}
			return errors.Join(errs...)
		}
	}
	if kill {
		return each((*testenv.KafkaProcess).Kill), func(ctx context.Context) error {
			errs := make([]error, len(nodes))
			var starts sync.WaitGroup
			for i, n := range nodes { // neither may come up without the other
				starts.Go(func() { errs[i] = d.start("kafka", n.Start)(ctx) })
			}
			starts.Wait()
			return errors.Join(errs...)
		}
	}
	return each((*testenv.KafkaProcess).Pause), each((*testenv.KafkaProcess).Resume)
}

// toxic is what toxiproxy does to one way of a line.
type toxic struct {
	way, kind  string
	attributes map[string]any
}

// toxics are those of a fault; none for a cut.
func (f Fault) toxics() []toxic {
	both := []string{"upstream", "downstream"}
	var all []toxic
	switch f.Kind {
	case ClientsLatency, KafkaLineLatency, RedisLineLatency:
		late := 20 + 4*f.Draw
		for _, way := range both {
			all = append(all, toxic{way, "latency", map[string]any{"latency": late, "jitter": late / 2}})
		}
	case ClientsBlackHole, KafkaLineBlackHole, RedisLineBlackHole:
		if f.Way != "" {
			both = []string{f.Way}
		}
		for _, way := range both { // what comes is dropped, and once that is over the connection ends
			all = append(all, toxic{way, "timeout", map[string]any{"timeout": 0}})
		}
	case ClientsLimit:
		all = append(all, toxic{"downstream", "limit_data", map[string]any{"bytes": 500 + 300*f.Draw}})
	case ReplicaKill, ReplicaPause, ReplicaRestart, KafkaKill, KafkaPause, KafkaRestart, KafkaOutage, KafkaTrim, RedisKill, RedisPause,
		RedisFlush, RedisEmpty, ClientsCut, KafkaLineCut, RedisLineCut:
	}
	return all
}

// onLines does what is done to lines.
func (d *disturber) onLines(f Fault, routes ...string) (begin, end act) {
	proxy, toxics := d.cluster.proxy, f.toxics()
	each := func(cut func(ctx context.Context, route string) error, do func(ctx context.Context, route string, t toxic) error) act {
		return func(ctx context.Context) error {
			var errs []error
			for _, route := range routes {
				if len(toxics) == 0 {
					errs = append(errs, cut(ctx, route))
				}
				for _, t := range toxics {
					errs = append(errs, do(ctx, route, t))
				}
			}
			return errors.Join(errs...)
		}
	}
	begin = each(
		func(ctx context.Context, route string) error { return proxy.Enable(ctx, route, false) },
		func(ctx context.Context, route string, t toxic) error {
			return proxy.Afflict(ctx, route, t.way, t.kind, t.attributes)
		})
	end = each(
		func(ctx context.Context, route string) error { return proxy.Enable(ctx, route, true) },
		func(ctx context.Context, route string, t toxic) error {
			return proxy.Relieve(ctx, route, t.way, t.kind)
		})
	return begin, end
}

// cut shortens what is for people.
func cut(text string) string {
	const most = 600
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
