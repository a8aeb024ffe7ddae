package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// FaultKind is what is done to a server or a line.
type FaultKind string

// All faults. Those of a replica's lines are of one replica: the others do not notice.
const (
	ReplicaKill    FaultKind = "replica-kill"    // kill -9, and started again
	ReplicaPause   FaultKind = "replica-pause"   // SIGSTOP, SIGCONT
	ReplicaRestart FaultKind = "replica-restart" // SIGTERM, and started again

	ClientsCut       FaultKind = "clients-cut"       // connections end, and are refused
	ClientsLatency   FaultKind = "clients-latency"   // both ways
	ClientsBlackHole FaultKind = "clients-blackhole" // one way or both
	ClientsLimit     FaultKind = "clients-limit"     // each connection ends after some bytes, in the middle of whatever

	KafkaKill    FaultKind = "kafka-kill" // of one node, as the two that follow
	KafkaPause   FaultKind = "kafka-pause"
	KafkaRestart FaultKind = "kafka-restart"
	KafkaOutage  FaultKind = "kafka-outage" // two nodes are killed or stand still: nothing can be written

	// KafkaTrim deletes the log's beginning, as retention does.
	KafkaTrim FaultKind = "kafka-trim"

	KafkaLineCut       FaultKind = "kafka-line-cut" // between one replica and one node, or all of them
	KafkaLineLatency   FaultKind = "kafka-line-latency"
	KafkaLineBlackHole FaultKind = "kafka-line-blackhole"

	RedisKill          FaultKind = "redis-kill" // it has what it acknowledged when it comes back
	RedisPause         FaultKind = "redis-pause"
	RedisFlush         FaultKind = "redis-flush" // it forgets all that it had
	RedisEmpty         FaultKind = "redis-empty" // kill -9, and started again with nothing
	RedisLineCut       FaultKind = "redis-line-cut"
	RedisLineLatency   FaultKind = "redis-line-latency"
	RedisLineBlackHole FaultKind = "redis-line-blackhole"
)

// weighted is a kind of fault, how often it is drawn in comparison with the others, and how long it lasts.
type weighted struct {
	kind        FaultKind
	weight      int
	least, most time.Duration
}

// No replica stands still for as long as the lease of deduplication: an event may then be written twice, as is documented.
var allFaults = []weighted{
	{ReplicaKill, 5, 200 * time.Millisecond, 6 * time.Second},
	{ReplicaPause, 4, time.Second, 12 * time.Second},
	{ReplicaRestart, 3, 0, 2 * time.Second},
	{ClientsCut, 2, 100 * time.Millisecond, 5 * time.Second},
	{ClientsLatency, 1, 2 * time.Second, 8 * time.Second},
	{ClientsBlackHole, 2, time.Second, 10 * time.Second},
	{ClientsLimit, 2, 2 * time.Second, 6 * time.Second},
	{KafkaKill, 3, 500 * time.Millisecond, 8 * time.Second},
	{KafkaPause, 3, time.Second, 10 * time.Second},
	{KafkaRestart, 2, 0, 2 * time.Second},
	{KafkaOutage, 1, 2 * time.Second, 8 * time.Second},
	{KafkaTrim, 4, 0, 0},
	{KafkaLineCut, 2, 200 * time.Millisecond, 8 * time.Second},
	{KafkaLineLatency, 1, 2 * time.Second, 8 * time.Second},
	{KafkaLineBlackHole, 2, time.Second, 12 * time.Second},
	{RedisKill, 2, 100 * time.Millisecond, 5 * time.Second},
	{RedisPause, 2, 200 * time.Millisecond, 8 * time.Second},
	{RedisFlush, 2, 0, 0},
	{RedisEmpty, 2, 100 * time.Millisecond, 5 * time.Second},
	{RedisLineCut, 1, 200 * time.Millisecond, 6 * time.Second},
	{RedisLineLatency, 1, time.Second, 6 * time.Second},
	{RedisLineBlackHole, 2, 500 * time.Millisecond, 10 * time.Second},
}

// faultsNamed are those whose names are among these, or begin with one of them and a dash. None named are all.
func faultsNamed(names []string) ([]weighted, error) {
	if len(names) == 0 {
		return allFaults, nil
	}
	var chosen []weighted
	for _, name := range names {
		found := false
		for _, f := range allFaults {
			if string(f.kind) == name || strings.HasPrefix(string(f.kind), name+"-") {
				found = true
				if !slices.Contains(chosen, f) {
					chosen = append(chosen, f)
				}
			}
		}
		if !found {
			var all []string
			for _, f := range allFaults {
				all = append(all, string(f.kind))
			}
			return nil, fmt.Errorf("fault %q: expected one of %s, or what some of them begin with, as replica", name, strings.Join(all, ", "))
		}
	}
	return chosen, nil
}

// CheckFaults returns an error, which says what is expected, where a name is of no fault.
func CheckFaults(names []string) error {
	_, err := faultsNamed(names)
	return err
}

// Fault is one that is planned.
type Fault struct {
	Kind   FaultKind
	At     time.Duration // since the faults began
	For    time.Duration
	Target int    // the replica or node; the first of the two of an outage
	Node   int    // of a line to Kafka; -1: all of them
	Way    string // of a black hole: "upstream", "downstream" or "" for both
	Draw   int    // for what else is drawn, 0 to 99
}

func (f Fault) String() string {
	switch f.Kind {
	case ReplicaKill, ReplicaPause, ReplicaRestart, ClientsCut, ClientsLatency, ClientsBlackHole, ClientsLimit,
		RedisLineCut, RedisLineLatency, RedisLineBlackHole:
		return fmt.Sprintf("%s of replica-%d for %s", f.Kind, f.Target, f.For)
	case KafkaKill, KafkaPause, KafkaRestart, KafkaOutage:
		return fmt.Sprintf("%s of node %d for %s", f.Kind, f.Target+1, f.For)
	case KafkaLineCut, KafkaLineLatency, KafkaLineBlackHole:
		if f.Node < 0 {
			return fmt.Sprintf("%s of replica-%d to all nodes for %s", f.Kind, f.Target, f.For)
		}
		return fmt.Sprintf("%s of replica-%d to node %d for %s", f.Kind, f.Target, f.Node+1, f.For)
	case RedisKill, RedisPause, RedisFlush, RedisEmpty, KafkaTrim:
	}
	return fmt.Sprintf("%s for %s", f.Kind, f.For)
}

// plan draws the faults of a run: one every so long on average, until the end. Equal arguments give equal plans. Each
// kind that was chosen comes once before any comes again, so that a short run meets many. The first replica is never
// started anew, so that it shows what clients leave behind.
func plan(seed uint64, chosen []weighted, every, end time.Duration) []Fault {
	r := rand.New(rand.NewPCG(seed, 1<<32))
	var faults []Fault
	var deck []weighted
	for at := every / 2; at < end; at += every/2 + time.Duration(r.Int64N(int64(every))) {
		if len(deck) == 0 {
			deck = shuffled(r, chosen)
		}
		w := deck[0]
		deck = deck[1:]
		f := Fault{Kind: w.kind, At: at, Target: r.IntN(replicaCount), Node: r.IntN(nodeCount+1) - 1, Draw: r.IntN(100)}
		if w.kind == ReplicaKill || w.kind == ReplicaRestart {
			f.Target = 1 + r.IntN(replicaCount-1)
		}
		f.For = (w.least + time.Duration(r.Int64N(int64(w.most-w.least)+1))).Round(time.Millisecond)
		f.Way = []string{"", "upstream", "downstream"}[r.IntN(3)]
		faults = append(faults, f)
	}
	return faults
}

// shuffled is a round of faults: each as often as it weighs, and each once before any a second time.
func shuffled(r *rand.Rand, chosen []weighted) []weighted {
	var first, rest []weighted
	for _, w := range chosen {
		first = append(first, w)
		for range w.weight - 1 {
			rest = append(rest, w)
		}
	}
	for _, part := range [][]weighted{first, rest} {
		r.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return append(first, rest...)
}
