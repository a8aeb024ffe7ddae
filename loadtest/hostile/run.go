package hostile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// Config says what is attacked how, and who looks on.
type Config struct {
	URL        string   // of the stream that is read
	PublishURL string   // where events are posted
	Attacks    []string // by name; "all" are all that mean something for the URL. Default all

	Connections int           // of the attack at once; default 1000
	Opens       float64       // connections that the attack opens in a second at most; default 200
	Bytes       float64       // that the attack sends in a second at most, over all its connections; default 1 MiB
	Pace        time.Duration // between two acts of one connection; default 1 s
	Warmup      time.Duration // published at the beginning of each window, but not timed; default 500 ms
	Duration    time.Duration // of each window; default 5 s
	Rounds      int           // of a quiet window and one with the attack; default 3
	From        string        // local address of the attack, another than the readers'; default 127.0.66.6 where the target is on loopback

	Readers int // ordinary ones; default 200
	Header  http.Header
	Publish loadtest.PublishConfig // URL is PublishURL; Rate defaults to 50 a second

	PID      int       // of the server, for its memory and descriptors; 0: not measured
	Progress io.Writer // a line for each window; nil: none
}

func (c *Config) defaults() error {
	if c.URL == "" || c.PublishURL == "" {
		return errors.New("expected the URLs of a stream and of where events are published")
	}
	if len(c.Attacks) == 0 {
		c.Attacks = []string{"all"}
	}
	c.Connections = cmp.Or(c.Connections, 1000)
	c.Opens = cmp.Or(c.Opens, 200)
	c.Bytes = cmp.Or(c.Bytes, 1<<20)
	c.Pace = cmp.Or(c.Pace, time.Second)
	c.Warmup = cmp.Or(c.Warmup, 500*time.Millisecond)
	c.Duration = cmp.Or(c.Duration, 5*time.Second)
	c.Rounds = cmp.Or(c.Rounds, 3)
	c.Readers = cmp.Or(c.Readers, 200)
	c.Publish.Rate = cmp.Or(c.Publish.Rate, 50)
	c.Publish.URL = c.PublishURL
	if c.Connections < 1 || c.Opens <= 0 || c.Bytes <= 0 || c.Rounds < 1 || c.Readers < 1 || c.Pace < 0 || c.Warmup < 0 || c.Duration < 0 {
		return errors.New("connections, opens, bytes, pace, warmup, duration, rounds and readers must be above 0")
	}
	return nil
}

// newPlace finds what is attacked.
func newPlace(c Config, attacks []Attack) (*place, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", c.URL, err)
	}
	to, err := url.Parse(c.PublishURL)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", c.PublishURL, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("url %q: expected http:// or https://, and a host", c.URL)
	}
	p := &place{host: u.Host, stream: u.EscapedPath(), nobody: u.EscapedPath() + "?subject=/nobody", publish: to.RequestURI(), tls: u.Scheme == "https"}
	port := cmp.Or(u.Port(), map[bool]string{false: "80", true: "443"}[p.tls])
	p.address = net.JoinHostPort(u.Hostname(), port)
	from := c.From
	if ips, err := net.LookupIP(u.Hostname()); from == "" && err == nil && len(ips) > 0 && ips[0].IsLoopback() && ips[0].To4() != nil {
		from = "127.0.66.6"
	}
	if from != "" {
		ip := net.ParseIP(from)
		if ip == nil {
			return nil, fmt.Errorf("local address %q is no IP address", from)
		}
		p.from = &net.TCPAddr{IP: ip}
	}
	if slices.ContainsFunc(attacks, func(a Attack) bool { return a.bomb }) {
		p.gzipBombs, p.deflateBomb = [2][]byte{gzipBomb(1 << 10), gzipBomb(2)}, deflateBomb()
	}
	return p, nil
}

// Run attacks in each way in turn and reports. Each attack has rounds of a quiet window and one under attack, so that what
// else happens on the machine falls on both. When ctx ends early, the report is of what was until then and the error is ctx's.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	attacks, err := pick(c.Attacks, strings.HasPrefix(c.URL, "https:"))
	if err != nil {
		return nil, err
	}
	p, err := newPlace(c, attacks)
	if err != nil {
		return nil, err
	}
	r := &run{config: c, place: p, report: &Report{
		Target: c.URL, Started: time.Now(), Connections: c.Connections, Opens: c.Opens, Bytes: c.Bytes, Pace: c.Pace.Seconds(),
		Readers: c.Readers, Rate: c.Publish.Rate, Window: c.Duration.Seconds(), Rounds: c.Rounds,
	}}
	for _, a := range attacks {
		if err := r.attack(ctx, a); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

type run struct {
	config Config
	place  *place
	report *Report
}

// attack runs the rounds of one attack and adds its outcome to the report.
func (r *run) attack(ctx context.Context, a Attack) error {
	o := Outcome{Attack: a.Name, Summary: a.Summary, Ends: map[string]uint64{}}
	var err error
	if o.Server.Before, err = r.server(); err != nil {
		return err
	}
	var quiet, under []loadtest.Quantiles
	for range r.config.Rounds {
		if err := r.window(ctx, &o, &quiet); err != nil {
			return err
		}
		if err := r.under(ctx, a, &o, &under); err != nil {
			return err
		}
	}
	if o.Server.After, err = r.calm(ctx, o.Server.Before); err != nil {
		return err
	}
	o.Quiet, o.Under = median(quiet), median(under)
	if o.Quiet.P99 > 0 {
		o.Ratio = o.Under.P99 / o.Quiet.P99
	}
	r.report.Attacks = append(r.report.Attacks, o)
	r.note("%s: p99 %.2f ms quiet, %.2f ms under attack (%.2f times), lost %d; %s\n", o.Attack, o.Quiet.P99, o.Under.P99, o.Ratio, o.Lost, counts(o.Ends))
	return nil
}

// under has a window while the attack is under way.
func (r *run) under(ctx context.Context, a Attack, o *Outcome, got *[]loadtest.Quantiles) error {
	attacking, stop := context.WithCancel(ctx)
	defer stop()
	t := &troop{attack: a, place: r.place, config: r.config, purse: purse{perSecond: r.config.Bytes}, ends: map[string]uint64{}}
	var running sync.WaitGroup
	running.Go(func() { t.run(attacking) })
	running.Go(func() { r.most(attacking, o) })
	// All of its connections are open before the window begins, where they stay open.
	err := sleep(ctx, min(time.Duration(float64(r.config.Connections)/r.config.Opens*float64(time.Second)), time.Minute))
	if err == nil {
		err = r.window(ctx, o, got)
	}
	stop()
	running.Wait()
	o.Opened += t.opened
	for end, n := range t.ends {
		o.Ends[end] += n
	}
	return err
}

// linger is how long nothing may come to ordinary readers until what they lack is lost: under attack it may be late.
const linger = 20 * time.Second

// window has ordinary readers and a publisher, and enters what they saw.
func (r *run) window(ctx context.Context, o *Outcome, got *[]loadtest.Quantiles) error {
	client := loadtest.ClientEpoll
	if r.place.tls {
		client = loadtest.ClientGoroutine
	}
	publish := r.config.Publish
	report, err := loadtest.Subscribe(ctx, loadtest.SubscribeConfig{
		URL: r.config.URL, Header: r.config.Header, Client: client, Connections: r.config.Readers,
		Settle: 200 * time.Millisecond, Warmup: r.config.Warmup, Duration: r.config.Duration, Linger: linger, Publish: &publish,
	})
	if err != nil {
		return fmt.Errorf("%s: ordinary readers: %w", o.Attack, err)
	}
	if report.Interrupted != "" {
		return ctx.Err()
	}
	if d := report.Delivered; d != nil {
		o.Delivered += d.Events
		o.Lost += d.Lost
		o.Disordered += d.Disordered
	}
	if p := report.Published; p != nil {
		o.Failed += p.Failed
	}
	if c := report.Connections; c != nil {
		o.Reconnects += c.Reconnects
	}
	if report.Latency != nil {
		*got = append(*got, *report.Latency)
	}
	return nil
}

// troop is the connections of one attack.
type troop struct {
	attack Attack
	place  *place
	config Config
	purse  purse

	mu     sync.Mutex
	opened uint64            // guarded by mu
	ends   map[string]uint64 // guarded by mu
}

// run keeps the attack's connections until ctx ends: whoever ends is followed by another, at the rate that is allowed.
func (t *troop) run(ctx context.Context) {
	due := time.NewTicker(max(time.Duration(float64(time.Second)/t.config.Opens), time.Microsecond))
	defer due.Stop()
	places := make(chan struct{}, t.config.Connections)
	var hands sync.WaitGroup
	defer hands.Wait()
	for n := uint64(0); ; n++ {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case <-due.C:
		case <-ctx.Done():
			return
		}
		hands.Go(func() {
			defer func() { <-places }()
			t.enter(t.one(ctx, n))
		})
	}
}

// one is one connection of the attack, from its beginning to its end.
func (t *troop) one(ctx context.Context, n uint64) string {
	h, end, err := t.dial(ctx, n)
	if err != nil {
		if ctx.Err() != nil {
			return ""
		}
		return endRefused
	}
	defer end()
	how := t.attack.play(h, ctx)
	if ctx.Err() != nil && how == endOurs {
		return endHeld
	}
	return how
}

func (t *troop) enter(end string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened++
	if end != "" {
		t.ends[end]++
	}
}

// Holding is what the server's process holds.
type Holding struct {
	RSS   int64 `json:"rss"` // bytes
	Files int   `json:"files"`
}

// server looks at the server's process.
func (r *run) server() (Holding, error) {
	if r.config.PID == 0 {
		return Holding{}, nil
	}
	return hold(r.config.PID)
}

func hold(pid int) (Holding, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Holding{}, fmt.Errorf("look at the server's process: %w", err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return Holding{}, fmt.Errorf("look at the server's process: %w", err)
	}
	h := Holding{Files: len(files)}
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return h, fmt.Errorf("VmRSS of process %d: %w", pid, err)
			}
			h.RSS = kib << 10
		}
	}
	return h, nil
}

// most looks at the server's process all the time, until ctx ends.
func (r *run) most(ctx context.Context, o *Outcome) {
	for r.config.PID != 0 && sleep(ctx, 200*time.Millisecond) == nil {
		if h, err := r.server(); err == nil {
			o.Server.Most.RSS, o.Server.Most.Files = max(o.Server.Most.RSS, h.RSS), max(o.Server.Most.Files, h.Files)
		}
	}
}

// calmTime is how long the server may take to be rid of an attack's connections, and calmFiles how many more of them it may
// have than before: files of its log, and connections of ordinary clients that are kept for their next requests.
const (
	calmTime  = 30 * time.Second
	calmFiles = 32
)

// calm waits until the server holds about as many descriptors as before.
func (r *run) calm(ctx context.Context, before Holding) (Holding, error) {
	for end := time.Now().Add(calmTime); ; {
		h, err := r.server()
		if err != nil || h.Files <= before.Files+calmFiles || time.Now().After(end) {
			return h, err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return h, err
		}
	}
}

func (r *run) note(format string, args ...any) {
	if r.config.Progress != nil {
		_, _ = fmt.Fprintf(r.config.Progress, format, args...)
	}
}

// sleep waits for d, or for the end of ctx, whose error it gives.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func counts(m map[string]uint64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s: %d", k, m[k]))
	}
	return strings.Join(out, ", ")
}
