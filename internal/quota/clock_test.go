package quota

import (
	"testing"
	"time"
)

// Numbers of seconds go back, by a day or to before 1970, where a clock is set, and on. Nobody is kept out for longer than
// without that, and nothing of the seconds before counts for those after.
func TestSecondsThatGoBackKeepNobodyOut(t *testing.T) {
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, to := range map[string]time.Time{
		"an hour on": start.Add(time.Hour), "an hour back": start.Add(-time.Hour), "a day back": start.Add(-24 * time.Hour),
		"to 1970": time.Unix(0, 0), "to before it": time.Unix(-5, 0),
	} {
		e := newEntry("k")
		e.fit(Limit{Events: 10, Burst: 3 * time.Second})
		m := &e.meters[0]
		for _, now := range []time.Time{start, to, to.Add(time.Second), start} {
			if held := m.held(now.Unix()); held != 0 && !now.Equal(start) {
				t.Errorf("%s: %d tokens are good that nobody has leased", name, held)
			}
			e.note(now.Unix(), amounts{5, 0})
			s := m.slot(now.Unix())
			s.tokens, s.leased = s.tokens+5, s.leased+5
			if d, waiting := e.decide(now, amounts{5, 0}, true, func() int64 { return 1 }); !d.Allowed || waiting {
				t.Errorf("%s: what was leased for the second is not given: %+v", name, d)
			}
		}
	}
}
