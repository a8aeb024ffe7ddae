package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what a run shows.
type Report struct {
	*Findings
	Journal string `json:"journal,omitempty"` // the file, where it is kept

	histories []History
}

// Whole reports whether every promise was kept.
func (r *Report) Whole() bool { return len(r.Violations) == 0 }

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %s, %s\n", r.Seed, r.Took.Round(time.Second))
	fmt.Fprintf(&b, "faults      %s\n", counts(r.Faults))
	fmt.Fprintf(&b, "events      %d acknowledged, %d on the log, %d of them copies, and %d tombstones; sent again %d times\n",
		r.Acked, r.Events, r.Copies, r.Tombstones, r.Doubts)
	fmt.Fprintf(&b, "clients     %d, %d connections, %d gaps told\n", r.Clients, r.Connects, r.Gaps)
	fmt.Fprintf(&b, "deliveries  %s\n", counts(r.Deliveries))
	if r.Silence.Took > 0 {
		fmt.Fprintf(&b, "silence     %s at most, until %s, %s\n", r.Silence.Took.Round(time.Millisecond), r.Silence.At.Round(time.Millisecond), r.Silence.Who)
	}
	if r.Whole() {
		fmt.Fprintln(&b, "violations  none")
	} else {
		all := map[string]int{}
		for p, n := range r.Broken {
			all[string(p)] = n
		}
		fmt.Fprintf(&b, "violations  %s\n", counts(all))
	}
	for _, h := range r.histories {
		fmt.Fprintf(&b, "\n%s", h)
	}
	if r.Journal != "" {
		fmt.Fprintf(&b, "\nThe journal is %s, and the servers' logs are beside it.\n", r.Journal)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// counts writes numbers, by what they are of.
func counts(of map[string]int) string {
	total := 0
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(of)) {
		total += of[what]
		parts = append(parts, fmt.Sprintf("%s %d", what, of[what]))
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}
