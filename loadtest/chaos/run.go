package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// Config says what a run is to be. The zero value of a field is its default.
type Config struct {
	Seed     uint64        // repeats the draws of an earlier run
	Duration time.Duration // of the faults; default 3 min. Starting, repairing and checking come on top
	Every    time.Duration // a fault begins every so long on average; default 4 s
	Faults   []string      // kinds, or what kinds begin with; default all
	Readers  int           // clients that keep their cursors; named consumers, takers and webhooks come on top. Default 24
	Rate     float64       // events published in a second; default 60
	Keys     int           // default 60
	Settle   time.Duration // for all to become whole after the repair; default 2 min
	Dir      string        // where everything is kept; default a temporary folder, which is deleted after a run without violations
	Binary   string        // the server; default the one beside this program, or one that is built
	Progress io.Writer     // what goes on, for people; default nowhere
}

func (c *Config) defaults() {
	set(&c.Duration, 3*time.Minute)
	set(&c.Every, 4*time.Second)
	set(&c.Readers, 24)
	set(&c.Rate, 60)
	set(&c.Keys, 60)
	set(&c.Settle, 2*time.Minute)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

const (
	// warmUp is how long everything is undisturbed at first.
	warmUp = 3 * time.Second
	// tellEvery is how often it is told how far the run is.
	tellEvery = 10 * time.Second
	// finishPeriod is for publishers to have their last events acknowledged after the repair: an event that a replica was
	// half way through writing is answered 'failed' until the lease has run out.
	finishPeriod = 90 * time.Second
)

// Run starts the servers, disturbs them, checks what came of it, and ends the servers. A journal that shows violations
// is no error. The folder is kept where there is an error or a violation.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.defaults()
	chosen, err := faultsNamed(cfg.Faults)
	if err != nil {
		return nil, err
	}
	dir, err := folder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, dir: dir, faults: plan(cfg.Seed, chosen, cfg.Every, cfg.Duration), path: filepath.Join(dir, "journal.ndjson"), began: time.Now()}
	findings, err := r.all(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w (seed %d; the logs are in %s)", err, cfg.Seed, dir)
	}
	report, err := reportOn(r.path, findings)
	if err != nil {
		return nil, err
	}
	if report.Whole() && cfg.Dir == "" {
		report.Journal = ""
		return report, os.RemoveAll(dir)
	}
	return report, nil
}

// Examine checks a journal that was kept.
func Examine(path string) (*Report, error) {
	findings, err := Check(path)
	if err != nil {
		return nil, err
	}
	return reportOn(path, findings)
}

func reportOn(path string, findings *Findings) (*Report, error) {
	led, err := histories(path, findings.Violations)
	return &Report{Findings: findings, Journal: path, histories: led}, err
}

// folder is where a run keeps everything.
func folder(given string) (string, error) {
	if given == "" {
		return os.MkdirTemp("", "eventissuer-chaos-")
	}
	dir, err := filepath.Abs(given)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return "", fmt.Errorf("%s: expected an empty folder: %w", dir, err)
	}
	return dir, nil
}

// run is one run, from start to end.
type run struct {
	cfg    Config
	dir    string
	path   string // of the journal
	faults []Fault
	began  time.Time

	cluster *cluster
	journal *Journal
	dialer  dialer
	parties []party
	trimmer *trimmer
}

// party is a client that reads until its context ends.
type party interface {
	run(ctx context.Context)
	// whole reports whether it was given, and has acknowledged where it does that, all up to the ends.
	whole(ctx context.Context, ends []int64) bool
	title() string
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.cfg.Progress, "%7.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...)) // for people
}

// all is the run and the check.
func (r *run) all(ctx context.Context) (*Findings, error) {
	r.say("seed %d, %d faults in %s; everything is in %s", r.cfg.Seed, len(r.faults), r.cfg.Duration, r.dir)
	binary, err := findBinary(ctx, r.cfg.Binary, r.dir)
	if err != nil {
		return nil, err
	}
	if r.journal, err = NewJournal(r.path); err != nil {
		return nil, err
	}
	r.journal.Note(Entry{What: WhatRun, Text: fmt.Sprint(r.cfg.Seed)})
	r.cluster, err = startCluster(ctx, r.dir, binary)
	if err == nil {
		err = r.disturbed(ctx)
	}
	if r.cluster != nil {
		err = errors.Join(err, r.cluster.stop())
	}
	if err = errors.Join(err, r.journal.Close()); err != nil {
		return nil, err
	}
	r.say("checking")
	return Check(r.path)
}

// disturbed has clients and faults at work, then repairs everything, waits, and notes what is there.
func (r *run) disturbed(ctx context.Context) error {
	if err := r.cluster.define(ctx); err != nil {
		return err
	}
	// Connections are kept, so that clients meet those that are half open.
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	r.dialer = dialer{client}
	p := &publishing{cluster: r.cluster, journal: r.journal, client: client, seed: r.cfg.Seed}
	if err := r.gather(ctx, p); err != nil {
		return err
	}
	log, err := r.cluster.topic()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // it was only read
	r.trimmer = &trimmer{journal: r.journal, log: log}
	r.say("everything is up")
	before, err := r.holdings(ctx)
	if err != nil {
		return err
	}
	if err := r.read(ctx, p); err != nil {
		return err
	}
	client.CloseIdleConnections()
	for _, v := range r.cluster.replicas {
		if err := r.alarmed(v); err != nil {
			return err
		}
	}
	if !r.alive(ctx) {
		return ctx.Err()
	}
	return r.compare(ctx, before)
}

// read has clients read what is published, disturbed, and then until they are whole. It returns when all have gone.
func (r *run) read(ctx context.Context, p *publishing) error {
	reading, stopReading := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stopReading()
	for _, p := range r.parties {
		clients.Go(func() { p.run(reading) })
	}
	publishing, giveUp := context.WithCancel(ctx)
	defer p.workers.Wait()
	defer giveUp()
	stop := make(chan struct{})
	p.begin(publishing, stop, r.cfg.Keys, r.cfg.Rate)
	r.say("%d clients, %.0f events/s of %d keys", len(r.parties), r.cfg.Rate, r.cfg.Keys)
	clock.Pause(ctx, warmUp)

	if err := r.disturb(ctx, p); err != nil {
		return err
	}
	close(stop)
	if !r.wait(ctx, finishPeriod, func() bool { return p.working.Load() == 0 }) {
		r.journal.Note(Entry{What: WhatUnwhole, Who: "publishers", Text: fmt.Sprintf("events are not acknowledged %s after the repair", finishPeriod)})
	}
	giveUp()
	p.workers.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.settle(ctx, stopReading, &clients)
}

// disturb has the faults come and go, and tells how it goes.
func (r *run) disturb(ctx context.Context, p *publishing) error {
	d := newDisturber(r.cluster, r.journal, func(ctx context.Context) error { return r.trimmer.trim(ctx, r.parties) })
	lasting, cancel := context.WithTimeout(ctx, r.cfg.Duration)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		for clock.Pause(lasting, tellEvery) {
			r.say("%d events acknowledged, %d retries, %d faults", p.acked.Load(), p.retries.Load(), d.count())
		}
	}()
	err := d.run(ctx, lasting, r.faults)
	clock.Pause(lasting, r.cfg.Duration) // what is left of it, where the plan ends earlier
	<-told
	r.say("%d faults are over and repaired; %d events acknowledged", d.count(), p.acked.Load())
	return err
}

// settle waits until all clients are whole, ends them, and notes what the log holds.
func (r *run) settle(ctx context.Context, stopReading func(), clients *sync.WaitGroup) error {
	all, err := ends(ctx, r.trimmer.log)
	if err != nil {
		return err
	}
	r.journal.Note(Entry{What: WhatEnds, Cursor: all})
	if !r.alive(ctx) { // then clients cannot be whole, and are not waited for
		stopReading()
		clients.Wait()
		return errors.Join(ctx.Err(), r.trimmer.finish(ctx))
	}
	left := r.parties
	r.wait(ctx, r.cfg.Settle, func() bool {
		var behind []party
		for _, p := range left {
			if !p.whole(ctx, all) {
				behind = append(behind, p)
			}
		}
		left = behind
		return len(left) == 0
	})
	for _, p := range left {
		r.journal.Note(Entry{What: WhatUnwhole, Who: p.title(), Text: fmt.Sprintf("it is not at %v %s after the repair", all, r.cfg.Settle)})
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.say("%d of %d clients are whole", len(r.parties)-len(left), len(r.parties))
	stopReading()
	clients.Wait()
	for _, p := range r.parties {
		if c, ok := p.(*consumer); ok {
			if err := c.finish(ctx); err != nil {
				return err
			}
		}
	}
	return r.trimmer.finish(ctx)
}

// wait waits until done, for so long at most, and reports whether it is.
func (r *run) wait(ctx context.Context, most time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for !done() {
		if !clock.Pause(ctx, 100*time.Millisecond) {
			return false
		}
	}
	return true
}
