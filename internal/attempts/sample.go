package attempts

// sampler decides which attempts are kept: those that failed, the first that did not after one that did, and else one that
// did not in each second of each subscription. It remembers nothing for longer than a second: what it would remember makes
// no difference in the next.
type sampler struct {
	second int64
	seen   map[string]sample // by subscription, in that second
}

type sample struct {
	kept      int
	succeeded bool // a success has been kept since the last failure
}

// samplesMost bounds what a shard remembers of a second.
const samplesMost = 16 << 10

type verdict int

const (
	leave   verdict = iota // one like it is kept
	keep                   // it is one to be seen
	tooMany                // it would be one to be seen, but there are too many
)

func (s *sampler) decide(a *Attempt, second int64, most int) verdict {
	if s.seen == nil {
		s.seen = map[string]sample{}
	}
	if s.second != second {
		s.second = second
		clear(s.seen)
	}
	is, known := s.seen[a.Subscription]
	routine := a.Outcome == Delivered && a.Number <= 1 && !a.Manual
	if routine && is.succeeded {
		return leave
	}
	if !known && len(s.seen) >= samplesMost {
		return tooMany
	}
	v := tooMany
	if is.kept < most || a.Manual {
		v = keep
		is.kept++
	}
	is.succeeded = a.Outcome == Delivered
	s.seen[a.Subscription] = is
	return v
}
