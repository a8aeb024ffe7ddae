// Loadtest measures servers that stream events. See the package loadtest.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/eventissuer/eventissuer/internal/version"
	"github.com/eventissuer/eventissuer/loadtest"
)

const description = `Measures servers that stream events: latency from publishing to arrival, losses, duplicates and disorder by content, and what it costs the server.

A scenario in YAML says who publishes what and who reads it, by which transport and how; the other commands are single measurements by flags.

Examples:

  loadtest run loadtest/scenarios/day.yaml --pid $(pidof eventissuer) --html day.html
      publishers and readers of every kind at once, with a page of charts; --scale 0.01 --time-scale 0.1 tries it in miniature

  loadtest run --stream lt --publisher '{rate: 100}' --reader '{transport: sse, connections: 15000}' --reader '{transport: poll, connections: 3000}' --shards 2
      18,000 readers, which are more than one process can connect

  loadtest sse --stream loadtest -n 1000 --rate 100 --pid $(pidof eventissuer)
      1,000 SSE readers of a stream of the Event Issuer at 127.0.0.1:8080 (it is created), 100 events/s

  loadtest sse -n 10000 --rate 0 --stream loadtest --pid 4711
      memory of 10,000 idle connections

  loadtest sse --url http://127.0.0.1:8081/sub?id=x --publish-url http://127.0.0.1:8081/pub?id=x --pid 4711 --pid-tree
      the same client against nginx with nchan, its workers counted in

  loadtest sse --stream loadtest --lanes 100 --query subject=/loadtest/{lane}
      each reader filters one of 100 subjects

  loadtest ws --stream loadtest --subprotocol eventissuer.v1
  loadtest publish --stream loadtest --rate 0 --concurrency 8 --batch 100
  loadtest storm --stream loadtest -n 10000 --rounds 3
  loadtest groups --stream loadtest -n 10 --pid 4711
  loadtest webhook -n 100 --hang 20 --rate 50 --pid 4711
  loadtest hostile --stream loadtest --attack slow-headers,half-open -n 2000 --pid 4711
  loadtest rebalance --stream loadtest --server http://127.0.0.1:8080 --server http://127.0.0.1:8081 --spread 10,10
  loadtest chaos --duration 3m
      three Kafka nodes, a Redis and three replicas of its own, to which all kinds of faults are done

Ctrl-C ends a run and prints the report so far. Exit codes: 0 the run went to its end and content was right (nothing lost or disordered); 1 it could not run; 2 wrong usage; 3 something was lost, disordered or unexpected, a promise was broken, or published without success; 130 interrupted.`

type cli struct {
	Run     runCommand     `cmd:"" help:"A scenario: any number of publishers, and of readers on SSE, WebSocket, NDJSON and pages."`
	SSE     sseCommand     `cmd:"" name:"sse" help:"Readers on SSE, and a publisher."`
	WS      wsCommand      `cmd:"" name:"ws" help:"Readers on WebSocket, and a publisher."`
	Publish publishCommand `cmd:"" help:"Publishers alone: acknowledgements per second and how long they take."`
	Storm   stormCommand   `cmd:"" help:"SSE readers that are all dropped at once and come back with their cursors."`

	Groups    groupsCommand    `cmd:"" help:"Sessions of a new subscription that take and acknowledge everything that a stream holds."`
	Rebalance rebalanceCommand `cmd:"" help:"Sessions of a subscription, of which one leaves and comes back: how long the others are given nothing."`
	Consume   consumeCommand   `cmd:"" help:"A plain Kafka consumer group that reads everything that a topic holds, to compare with."`

	Hostile hostileCommand `cmd:"" help:"Attack a server in the ways of hostile and broken clients, beside ordinary readers: what they notice of it, and what it costs."`

	Webhook         webhookCommand         `cmd:"" help:"Subscriptions whose events are sent to endpoints of loadtest's own, and a publisher."`
	Shard           shardCommand           `cmd:"" hidden:"" help:"A process that some of a run's readers are in, which starts it."`
	WebhookReceiver webhookReceiverCommand `cmd:"" hidden:"" help:"The endpoints of webhook, which starts it."`

	Chaos chaosCommand `cmd:"" help:"Kafka, Redis and three replicas that are killed, paused and cut while clients read: checks that every promise is kept."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`
}

// target is shared by all commands.
type target struct {
	Server     string   `placeholder:"URL" default:"http://127.0.0.1:8080" env:"EVENTCTL_SERVER" help:"Event Issuer, for --stream (${default})."`
	Stream     string   `help:"Stream of the Event Issuer to read and publish to. It and the event type are created if missing. Stands for --url and --publish-url."`
	Partitions int      `default:"1" help:"Partitions of a stream that is created (${default})."`
	Header     []string `short:"H" sep:"none" placeholder:"'Name: value'" help:"Header field of every request that reads. Repeatable."`
	PID        []int    `name:"pid" help:"Process whose processor time and memory to measure. Repeatable."`
	PIDTree    bool     `name:"pid-tree" help:"Count each process's descendants in."`
	reporting  `embed:""`
	RunName    string `name:"run" help:"Name of the run, to share with a publisher in another process (letters and digits; default random)."`
}

type publisher struct {
	PublishURL         string   `name:"publish-url" placeholder:"URL" help:"Where events are POSTed. {lane} may occur."`
	PublishCmd         string   `name:"publish-cmd" placeholder:"COMMAND" help:"Shell command that takes one event a line on its standard input."`
	PublishContentType string   `name:"publish-content-type" placeholder:"TYPE" help:"Default application/cloudevents+json, or -batch+json with --batch."`
	PublishHeader      []string `name:"publish-header" sep:"none" placeholder:"'Name: value'" help:"Header field of every request that publishes. Repeatable."`
	PublishBody        string   `name:"publish-body" placeholder:"TEMPLATE" help:"An event, with {mark} (needed), {id} {lane} {seq} {time} {pad} {source} {type} {subject}. Default a CloudEvent."`
	PublishTimeout     duration `name:"publish-timeout" default:"10s" help:"Of a request (${default})."`
	Type               string   `default:"loadtest.tick" help:"Event type (${default})."`
	Source             string   `default:"/loadtest" help:"Event source (${default})."`
	Subject            string   `default:"/loadtest/{lane}" help:"Event subject (${default})."`
	Size               int      `default:"400" help:"Bytes of an event, about (${default})."`
	Batch              int      `default:"1" help:"Events in a request (${default})."`
	Lanes              int      `help:"Numbered sequences, each with an order of its own. Default one for each publisher."`
}

func (p *publisher) config(rate float64, publishers int) (loadtest.PublishConfig, error) {
	h, err := fields(p.PublishHeader)
	return loadtest.PublishConfig{
		URL: p.PublishURL, Command: p.PublishCmd, ContentType: p.PublishContentType, Header: h, Body: p.PublishBody,
		Type: p.Type, Source: p.Source, Subject: p.Subject, Size: p.Size, Rate: rate, Batch: p.Batch,
		Publishers: publishers, Lanes: p.Lanes, Timeout: p.PublishTimeout.Duration,
	}, err
}

func fields(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, l := range lines {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return nil, usageError(fmt.Sprintf("header %q: expected 'Name: value'", l))
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}

// prepare resolves --stream to the URLs that it stands for.
func (t *target) prepare(ctx context.Context, read *string, p *publisher) error {
	if t.Stream == "" {
		return nil
	}
	h, err := fields(append(append([]string{}, t.Header...), p.PublishHeader...))
	if err != nil {
		return err
	}
	reading, publishing, err := loadtest.Prepare(ctx, loadtest.PrepareConfig{
		Server: t.Server, Stream: t.Stream, Partitions: t.Partitions, Type: p.Type, Header: h,
	})
	if err != nil {
		return err
	}
	if read != nil && *read == "" {
		*read = reading
	}
	if p.PublishURL == "" && p.PublishCmd == "" {
		p.PublishURL = publishing
	}
	return nil
}

// usageError is a mistake on the command line that parsing alone does not find.
type usageError string

// Error implements error.
func (e usageError) Error() string { return string(e) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// helpShown ends parsing after --help.
type helpShown struct{}

// run is the whole program but its exit.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	var c cli
	parser := kong.Must(&c, kong.Name("loadtest"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { panic(helpShown{}) }),
		kong.Vars{"client": defaultClient(), "attacks": attackNames(), "version": "loadtest " + version.String()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	defer func() {
		if p := recover(); p != nil {
			if _, help := p.(helpShown); !help {
				panic(p)
			}
			code = 0
		}
	}()
	k, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\nTry 'loadtest --help', or --help after any command.\n", err)
		return 2
	}
	k.BindTo(ctx, (*context.Context)(nil))
	k.BindTo(stdout, (*io.Writer)(nil))
	switch err := k.Run(); {
	case err == nil:
		return 0
	case errors.Is(err, errContent):
		return 3
	case errors.As(err, new(usageError)):
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\nTry 'loadtest --help', or --help after any command.\n", err)
		return 2
	case errors.Is(err, context.Canceled):
		return 130
	default:
		_, _ = fmt.Fprintln(stderr, "loadtest:", err)
		return 1
	}
}

func defaultClient() string {
	if runtime.GOOS == "linux" {
		return loadtest.ClientEpoll
	}
	return loadtest.ClientGoroutine
}
