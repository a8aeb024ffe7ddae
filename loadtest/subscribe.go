package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// SubscribeConfig is a run of one group of readers, and of one publisher.
type SubscribeConfig struct {
	Run    string // name of the run; default a random one. Give one to share it with a publisher in another process
	URL    string // of the stream; {i} and {lane} stand for the connection's number, and that modulo the lanes
	Query  []string
	Header http.Header
	Client string // ClientEpoll…; default ClientEpoll
	// Subprotocol is asked for by ClientWebSocket; default none.
	Subprotocol string

	Connections    int           // default 1000
	Dials          int           // being opened at once; default 256
	Ramp           float64       // connections begun in a second; 0: no limit
	Sources        []string      // local addresses; default enough of 127.0.0.0/8 for the ports needed, where the target is loopback
	ConnectTimeout time.Duration // for all to be live; default 60 s
	Settle         time.Duration // from all live until memory is sampled and publishing begins; default 2 s

	Publish  *PublishConfig // nil: nobody, or another process under the same Run
	Warmup   time.Duration  // published, but neither timed nor charged; default 0
	Duration time.Duration  // the window that is measured; default 10 s
	Linger   time.Duration  // how long after the last arrival what is outstanding counts as lost; default 3 s

	Storms       int           // rounds of dropping everybody within the window
	StormTimeout time.Duration // for all to be back; default 60 s

	Shards int      // as RunConfig has them
	Shard  []string // likewise

	PIDs    []int // processes to measure
	PIDTree bool  // with their descendants

	Watch func(Progress) // as RunConfig has it
}

// Subscribe runs the readers, and the publisher if there is one, and reports, as Run does.
func Subscribe(ctx context.Context, c SubscribeConfig) (*Report, error) {
	if c.URL == "" {
		return nil, errors.New("no URL to read from")
	}
	set(&c.Client, ClientEpoll)
	set(&c.Connections, 1000)
	set(&c.Duration, 10*time.Second)
	readers := ReaderConfig{
		URL: c.URL, Query: c.Query, Header: c.Header, Transport: TransportSSE, Client: c.Client, Subprotocol: c.Subprotocol,
		Connections: c.Connections, Dials: c.Dials, Ramp: c.Ramp, Sources: c.Sources,
	}
	scenario := "sse"
	if c.Client == ClientWebSocket {
		readers.Transport, scenario = TransportWebSocket, "ws"
	}
	for i := range c.Storms {
		scenario = "storm"
		at := c.Duration / time.Duration(c.Storms) * time.Duration(i)
		readers.Storms = append(readers.Storms, StormConfig{At: at, Timeout: c.StormTimeout})
	}
	run := RunConfig{
		Run: c.Run, Scenario: scenario, Readers: []ReaderConfig{readers}, ConnectTimeout: c.ConnectTimeout, Settle: c.Settle, Warmup: c.Warmup,
		Duration: c.Duration, Linger: c.Linger, Shards: c.Shards, Shard: c.Shard, PIDs: c.PIDs, PIDTree: c.PIDTree, Watch: c.Watch,
	}
	if c.Publish != nil {
		run.Publishers = []PublishConfig{*c.Publish}
	}
	report, err := Run(ctx, run)
	if report == nil {
		return nil, err
	}
	report.Client, report.Target = c.Client, c.URL
	report.Readers = nil // the one group is the whole
	return report, err
}

// Lines gives what a run's progress is told by: a line for each second.
func Lines(w io.Writer) func(Progress) {
	var before, sent uint64
	return func(p Progress) {
		if p.Note != "" {
			_, _ = fmt.Fprintln(w, p.Note)
			return
		}
		if p.Wanted == 0 {
			_, _ = fmt.Fprintf(w, "published %d (+%d)  failed %d\n", p.Published, p.Published-sent, p.Failed)
			sent = p.Published
			return
		}
		_, _ = fmt.Fprintf(w, "live %d/%d  published %d (%d failed)  delivered %d (+%d)  reconnects %d  failures %d\n",
			p.Live, p.Wanted, p.Published, p.Failed, p.Delivered, p.Delivered-before, p.Reconnects, p.Failures)
		before = p.Delivered
	}
}
