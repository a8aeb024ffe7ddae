package loadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// reported is a report that has everything, of a run of so many seconds.
func reported(seconds int) *Report {
	q := &Quantiles{Count: 1_234_567, Mean: 1, P50: 1.5, P90: 2, P99: 30, P999: 400, Max: 5000}
	spread := []Percentile{{0, 0.5}, {50, 1}, {90, 5}, {99, 30}, {99.99, 400}, {100, 5000}}
	r := &Report{
		Run: "r", Scenario: `<script>alert("x")</script>`, Started: time.Unix(1e9, 0), Seconds: float64(seconds - 2),
		Connections: &Connections{Wanted: 30, Live: 29, Failures: map[int]uint64{0: 1, 503: 2}, LastFailure: "503: busy", Stopped: 1},
		Published:   &Published{Events: 10, Rate: 5, Acks: q, Lag: q, Distribution: spread},
		Publishers:  []Published{{Name: "a & b", Events: 4}, {Events: 6, Failed: 1, Answers: map[int]uint64{429: 1}, LastFailure: "429: slow down"}},
		Delivered:   &Delivered{Events: 9, Expected: 10, Lost: 1},
		Latency:     q, LatencySent: q, Distribution: spread,
		Storms:    []Storm{{Readers: "one", At: 2, AllLive: 3, Timeout: true}},
		Processes: []ProcessReport{{PID: 1, Name: "server", Cores: 1, RSSAfter: 5e6}},
		Self:      &SelfReport{Cores: 0.5, RSS: 1e6},
		Readers: []ReaderReport{
			{Name: "one", Transport: "sse", Latency: q, Distribution: spread, Delivered: Delivered{Lost: 1}},
			{Name: "</td>", Transport: "poll", Latency: nil},
		},
	}
	for i := range seconds {
		s := Second{At: float64(i - 2), Published: 5, Delivered: uint64(10 * i), Live: 29, P50: 1, P99: 10, Max: float64(20 + i), AckP50: 1, AckP99: 2, AckMax: 3}
		s.Groups = []GroupSecond{{Delivered: 5, Live: 20, P99: 1}, {}}
		s.Processes = []ProcessSecond{{Cores: 0.5, RSS: 5e6}}
		r.Series = append(r.Series, s)
	}
	return r
}

func written(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// elements counts a page's elements, and fails where something is loaded or run.
func elements(t *testing.T, page string) map[string]int {
	t.Helper()
	n := map[string]int{}
	in := html.NewTokenizer(strings.NewReader(page))
	for {
		switch in.Next() {
		case html.ErrorToken:
			return n
		case html.StartTagToken, html.SelfClosingTagToken:
			tag := in.Token()
			n[tag.Data]++
			for _, a := range tag.Attr {
				if a.Key == "src" || a.Key == "href" || strings.HasPrefix(a.Key, "on") || strings.Contains(a.Val, "url(") {
					t.Errorf("<%s %s=%q> leads elsewhere", tag.Data, a.Key, a.Val)
				}
				if strings.Contains(a.Val, "NaN") || strings.Contains(a.Val, "Inf") || strings.Contains(a.Val, "ZgotmplZ") {
					t.Errorf("<%s %s=%q>", tag.Data, a.Key, a.Val)
				}
			}
		}
	}
}

func TestPageShowsEverythingAndNeedsNothing(t *testing.T) {
	page := written(t, reported(12))
	n := elements(t, page)
	if n["script"]+n["link"]+n["img"]+n["iframe"] != 0 || strings.Contains(page, "@import") {
		t.Errorf("the page has %v", n)
	}
	if n["figure"] != 9 || n["path"] < 15 || n["table"] != 6 {
		t.Errorf("%d charts of %d lines, %d tables", n["figure"], n["path"], n["table"])
	}
	for _, want := range []string{
		"&lt;script&gt;", "a &amp; b", "&lt;/td&gt;", "1 lost", "429: slow down", "503: busy", "no answer: 1, 503: 2", "5\u202f000", "3.00 (not all)", "server (1)",
		`role="img" aria-label="Line chart: Events delivered a second. all at most 110`, "prefers-color-scheme: dark", `name="viewport"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %s", want)
		}
	}
}

func TestPageOfTheLeastThatThereIs(t *testing.T) {
	for name, r := range map[string]*Report{
		"publishers alone": {Scenario: "publish", Seconds: 1, Published: &Published{Events: 3, Acks: &Quantiles{Count: 3, Max: 1}}},
		"nothing came":     {Scenario: "sse", Connections: &Connections{}, Delivered: &Delivered{}, Series: []Second{{At: -1}, {}, {At: 1}}},
		"one second":       {Scenario: "sse", Delivered: &Delivered{}, Series: []Second{{At: 1}}},
		"interrupted":      {Scenario: "sse", Interrupted: "terminated"},
	} {
		page := written(t, r)
		n := elements(t, page)
		if good := strings.Contains(page, "Everything"); n["h1"] != 1 || good == (name == "interrupted") {
			t.Errorf("%s: %v, all is well: %t", name, n, good)
		}
	}
}

func TestPageOfPublishersAloneTellsOfThemAlone(t *testing.T) {
	r := reported(12)
	r.Connections, r.Delivered, r.Latency, r.LatencySent, r.Distribution, r.Storms, r.Readers, r.Publishers = nil, nil, nil, nil, nil, nil, nil, nil
	r.Published.Failed, r.Published.Duplicates, r.Series[7].Failed = 1, 77, 1
	page := written(t, r)
	if n := elements(t, page); n["figure"] != 5 || n["table"] != 3 {
		t.Errorf("%d charts, %d tables", n["figure"], n["table"])
	}
	for want, has := range map[string]bool{
		"1 not published": true, "Acknowledgements, milliseconds. p50 at most 1, p99 at most 2, highest at most 3": true, "not acknowledged at most 1": true,
		"acknowledged, p99": true, "Acknowledgements by percentile": true, "<td>77</td>": true,
		"elivered": false, "Latency": false, "Live": false, ">reconnects<": false,
	} {
		if strings.Contains(page, want) != has {
			t.Errorf("the page says %s: %t, want %t", want, !has, has)
		}
	}
}

func TestPageOfWebhooksCallsWrongWhatTheReportDoes(t *testing.T) {
	for want, r := range map[string]*WebhookReport{
		"Everything arrived": {Delivered: WebhookEvents{Repeated: 3, Disordered: 1}, Messages: Messages{Refused: 4, Hung: 5}}, // it was not ordered
		"1 lost":             {Delivered: WebhookEvents{Lost: 1}},
		"1 out of order":     {Delivered: WebhookEvents{Disordered: 1, ordered: true}},
		"2 unexpected":       {Signatures: Signatures{Wrong: 1}, Messages: Messages{Malformed: 1}},
		"1 foreign":          {Delivered: WebhookEvents{Foreign: 1}},
		"1 not published":    {Published: &Published{Failed: 1}},
	} {
		r.Subscriptions = 2
		var b bytes.Buffer
		if err := r.WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		elements(t, b.String())
		if good := strings.Contains(b.String(), "Everything"); !strings.Contains(b.String(), want) || good != r.Right() {
			t.Errorf("the page does not say %s, all is well: %t", want, good)
		}
		if r.Messages.Hung > 0 && !strings.Contains(b.String(), "hung 5, refused 4") {
			t.Errorf("the page does not tell of %+v", r.Messages)
		}
	}
}

func TestLongRunsAreDrawnInFewPoints(t *testing.T) {
	r := reported(10_000)
	rows, each := thin(r.Series, maxRows)
	var published, delivered, most uint64
	for _, s := range rows {
		published += s.Published
		delivered += s.Delivered
		most = max(most, uint64(s.Max))
	}
	if len(rows) > maxRows || each != 17 || published != 50_000 || delivered != 10*9999*10_000/2 || most != 20+9999 || rows[len(rows)-1].At != 9997 {
		t.Errorf("%d rows of %d s: %d published, %d delivered, at most %d", len(rows), each, published, delivered, most)
	}
	if len(r.Series) != 10_000 || r.Series[0].Published != 5 || r.Series[0].Groups[0].Delivered != 5 {
		t.Error("the series itself was changed")
	}
	if page := written(t, r); len(page) > 1<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

func TestAxesHaveRoundNumbersAroundWhatIsShown(t *testing.T) {
	for highest, want := range map[float64]string{0: "[0 ", 0.31: "[0 0.1 0.2 0.3 0.4]", 7: "[0 2 4 6 8]", 100: "[0 25 50 75 100]", 181_000: "[0 50000 100000 150000 200000]"} {
		at, ticks := linear(0, highest)
		text := fmt.Sprintf("%.6g", ticks)
		if !strings.HasPrefix(text, want) || at(highest) > 1+1e-9 || at(0) != 0 {
			t.Errorf("up to %g: %s, the highest at %g", highest, text, at(highest))
		}
	}
	for _, c := range []struct {
		lowest, highest float64
		want            string
	}{{0.5, 300, "[0.1 1 10 100 1000]"}, {1, 1, "[1 10]"}, {0, 0, "[0.1 1]"}} {
		at, ticks := logarithmic(c.lowest, c.highest)
		if text := fmt.Sprintf("%.6g", ticks); text != c.want || at(c.highest) > 1 || math.IsNaN(at(c.highest)) {
			t.Errorf("%g to %g: %s, want %s", c.lowest, c.highest, text, c.want)
		}
	}
}

func TestLineHasAHoleWhereNothingCame(t *testing.T) {
	r := reported(12)
	r.Series[5].P50, r.Series[5].P99, r.Series[5].Max = 0, 0, 0
	c := r.charts(r.Series)[2]
	if got := strings.Count(c.Lines[0].Path, "M"); got != 2 || !regexp.MustCompile(`^M0\.0 `).MatchString(c.Lines[0].Path) {
		t.Errorf("%s: the line has %d pieces: %s", c.Title, got, c.Lines[0].Path)
	}
}

func TestHistogramsAndTalliesCrossPipesWhole(t *testing.T) {
	a, b := newTally(), newTally()
	for i := range int64(1000) {
		record(a.latency, i*i*1000)
		record(b.latency, i*1_000_000)
		record(b.stormEvent, i*1000)
	}
	a.deliveries, b.deliveries, b.controls["gap"], a.rejected[503], b.rejected[503] = 5, 7, 2, 1, 2
	whole := newTally()
	whole.merge(a)
	whole.merge(b)
	var all wireTally
	for i, one := range []*tally{a, b} {
		w, err := one.wire()
		if err != nil {
			t.Fatal(err)
		}
		p, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var read wireTally
		if err := json.Unmarshal(p, &read); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			all = read
		} else if err := all.merge(&read); err != nil {
			t.Fatal(err)
		}
	}
	got, err := all.tally()
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range got.histograms() {
		if !h.Equals(whole.histograms()[i]) {
			t.Errorf("histogram %d is not the same", i)
		}
	}
	if got.deliveries != 12 || got.controls["gap"] != 2 || got.rejected[503] != 3 {
		t.Errorf("%+v", got)
	}
}
