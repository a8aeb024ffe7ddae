package loadtest

import (
	_ "embed" // for the page's template
	"fmt"
	html "html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// WriteHTML writes the report as one page that needs nothing else: no script, no other file and no network.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := html.New("page").Funcs(html.FuncMap{
		"ms": func(v float64) string { return significant(v) }, "count": grouped, "bytes": func(n int64) string { return Bytes(n).String() },
		"add": func(a, b int) int { return a + b }, "per": func(v float64) string { return significant(v) }, "join": statuses, "counts": counts,
	}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	return t.Execute(w, r.page())
}

// page is what the template is given.
type page struct {
	*Report
	Started  string
	Verdict  string
	Good     bool
	Groups   []ReaderReport
	Kinds    []Published
	Charts   []chart
	Rows     []Second
	Each     int // seconds that a row, and a point of a chart, stands for
	Percents []percentRow
}

type percentRow struct {
	Name string
	Q    *Quantiles
	Sent *Quantiles
}

// maxRows is how many points and rows a page has of a series.
const maxRows = 600

func (r *Report) page() page {
	p := page{Report: r, Started: r.Started.Format(time.RFC1123), Groups: r.Readers, Kinds: r.Publishers}
	p.Verdict, p.Good = r.verdict()
	if p.Kinds == nil && r.Published != nil {
		p.Kinds = []Published{*r.Published}
	}
	p.Rows, p.Each = thin(r.Series, maxRows)
	p.Percents = append(p.Percents, percentRow{"all", r.Latency, r.LatencySent})
	if len(r.Readers) > 1 {
		for _, g := range r.Readers {
			p.Percents = append(p.Percents, percentRow{g.Name, g.Latency, g.LatencySent})
		}
	}
	p.Charts = r.charts(p.Rows)
	return p
}

// verdict says in a sentence whether everything that was published arrived as it should.
func (r *Report) verdict() (string, bool) {
	var wrong []string
	say := func(n uint64, what string) {
		if n > 0 {
			wrong = append(wrong, grouped(n)+" "+what)
		}
	}
	if d := r.Delivered; d != nil {
		say(d.Lost, "lost")
		say(d.Disordered, "out of order")
		say(d.Unexpected, "unexpected")
		if d.alone {
			say(d.Foreign, "foreign")
		}
	}
	if p := r.Published; p != nil {
		say(p.Failed, "not published")
	}
	switch {
	case r.Interrupted != "":
		wrong = append([]string{"the run was interrupted (" + r.Interrupted + ")"}, wrong...)
	case len(wrong) == 0 && r.Delivered != nil:
		return "Everything arrived: nothing lost, nothing out of order.", true
	case len(wrong) == 0:
		return "Everything was acknowledged.", true
	}
	return "Not everything went right: " + strings.Join(wrong, ", ") + ".", false
}

// thin joins seconds until there are no more than most: counts are summed, levels and latencies the highest.
func thin(all []Second, most int) ([]Second, int) {
	each := max(1, (len(all)+most-1)/most)
	if each == 1 {
		return all, 1
	}
	var out []Second
	for part := range slices.Chunk(all, each) {
		one := part[0]
		one.Groups, one.Processes = slices.Clone(one.Groups), slices.Clone(one.Processes)
		for _, s := range part[1:] {
			one.join(s)
		}
		out = append(out, one)
	}
	return out, each
}

func (s *Second) join(o Second) {
	s.At = o.At
	s.Published += o.Published
	s.Failed += o.Failed
	s.Delivered += o.Delivered
	s.Reconnects += o.Reconnects
	s.Failures += o.Failures
	s.Live, s.P50, s.P99, s.Max = max(s.Live, o.Live), max(s.P50, o.P50), max(s.P99, o.P99), max(s.Max, o.Max)
	s.AckP50, s.AckP99, s.AckMax = max(s.AckP50, o.AckP50), max(s.AckP99, o.AckP99), max(s.AckMax, o.AckMax)
	for i := range min(len(s.Groups), len(o.Groups)) {
		g := &s.Groups[i]
		g.Delivered += o.Groups[i].Delivered
		g.Live, g.P99 = max(g.Live, o.Groups[i].Live), max(g.P99, o.Groups[i].P99)
	}
	for i := range min(len(s.Processes), len(o.Processes)) {
		p := &s.Processes[i]
		p.Cores, p.RSS = max(p.Cores, o.Processes[i].Cores), max(p.RSS, o.Processes[i].RSS)
	}
}

// significant is a number with about three digits that mean something.
func significant(v float64) string {
	switch {
	case v >= 1000:
		return grouped(uint64(v + 0.5))
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v == float64(int(v)):
		return strconv.Itoa(int(v))
	case v >= 0.01:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// grouped is a whole number with thin spaces between thousands.
func grouped(n any) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// statuses lists answers by status.
func statuses(m map[int]uint64) string {
	var out []string
	for _, status := range slices.Sorted(maps.Keys(m)) {
		name := strconv.Itoa(status)
		if status == 0 {
			name = "no answer"
		}
		out = append(out, name+": "+grouped(m[status]))
	}
	return strings.Join(out, ", ")
}
