package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// WebhookConfig says who is sent the events of a stream of an Event Issuer, and how they are taken. The server must send
// to loopback addresses.
type WebhookConfig struct {
	Server string // base URL
	Header http.Header
	Run    string // name of the run; default a random one
	// Stream, and Publish.Type of it, are made where they are missing. Default: ones of this run, which are deleted afterwards.
	Stream     string
	Partitions int // of a stream that is made; default 4

	Subscriptions int           // default 1; each gets every event, or with OwnLane those of lane i modulo Publish.Lanes alone
	Types         []string      // of the events; default all of the stream
	OwnLane       bool          // then each has a filter by subject
	Endpoints     int           // ports of the receiver; subscription i is sent to number i modulo this; default one each, at most 100
	Mode          string        // default structured
	Signatures    []string      // v1 and v1a; default v1
	Ordering      string        // none or key; default key
	Batch         int           // events in a message, at most; default 1
	Concurrency   int           // messages of a subscription at a time; default the server's
	Timeout       time.Duration // of a message; default the server's
	Schedule      []string      // after what times a delivery is tried again, such as 5s; default the server's

	Hang   int           // so many endpoints never answer a message
	Fail   float64       // share of the messages that are answered 503
	Delay  time.Duration // before each answer
	Verify float64       // share of the messages whose signatures are verified
	// Outage is for how long all endpoints answer 503 once everything is published, after which they are well again and what
	// they missed is measured; they are down while it is published, too. It needs Publish.Events. 0: there is none.
	Outage time.Duration

	Backlog  bool          // publish first, then subscribe from the oldest event
	Publish  PublishConfig // its URL is the server's; with Events the run ends when these are delivered
	Warmup   time.Duration // published, but not measured; not with Events
	Duration time.Duration // the window; default 10 s; not with Events
	Linger   time.Duration // how long nothing may come until what is outstanding is lost; default 10 s

	Receiver []string       // the command that runs Receive
	PIDs     []int          // processes to measure
	PIDTree  bool           // with their descendants
	Watch    func(Progress) // as RunConfig has it
}

const (
	maxEndpoints = 100
	// proofTime bounds how long subscriptions may take until their endpoints have proven that they want events.
	proofTime = 2 * time.Minute
)

func (c *WebhookConfig) defaults() error {
	set(&c.Run, NewRun())
	set(&c.Subscriptions, 1)
	set(&c.Endpoints, min(c.Subscriptions, maxEndpoints))
	set(&c.Mode, string(webhook.Structured))
	if len(c.Signatures) == 0 {
		c.Signatures = []string{"v1"}
	}
	set(&c.Ordering, "key")
	set(&c.Batch, 1)
	set(&c.Partitions, 4)
	set(&c.Duration, 10*time.Second)
	set(&c.Linger, 10*time.Second)
	c.Server = strings.TrimSuffix(c.Server, "/")
	if c.Publish.Events > 0 {
		c.Warmup = 0
	}
	switch {
	case len(c.Receiver) == 0:
		return errors.New("expected the command of a receiver")
	case c.Subscriptions < c.Endpoints:
		return fmt.Errorf("%d subscriptions are too few for %d endpoints: each needs one", c.Subscriptions, c.Endpoints)
	case c.Hang < 0 || c.Hang >= c.Endpoints:
		return fmt.Errorf("%d of %d endpoints hang: expected fewer, for some are to be measured", c.Hang, c.Endpoints)
	case c.Fail < 0 || c.Fail >= 1 || c.Verify < 0 || c.Verify > 1:
		return fmt.Errorf("shares of %g that fail and %g that are verified: expected 0 up to 1", c.Fail, c.Verify)
	case (c.Backlog || c.Outage > 0) && c.Publish.Events == 0:
		return errors.New("a backlog and an outage need a number of events")
	case c.Backlog && c.Outage > 0:
		return errors.New("expected a backlog or an outage, not both")
	}
	return nil
}

// answers reports whether subscription i has an endpoint that answers.
func (c *WebhookConfig) answers(i int) bool { return i%c.Endpoints >= c.Hang }

// describe names the scenario.
func (c *WebhookConfig) describe() string {
	rate := "as fast as it goes"
	if c.Publish.Rate > 0 {
		rate = fmt.Sprintf("%g/s", c.Publish.Rate)
	}
	text := fmt.Sprintf("%d subscriptions (%s, signed with %s, ordering %s, batches of %d) at %d endpoints, %d hang; %s", c.Subscriptions, c.Mode, strings.Join(c.Signatures, " and "), c.Ordering, c.Batch, c.Endpoints, c.Hang, rate)
	if c.Fail > 0 {
		text += fmt.Sprintf(", %g%% are refused", math.Round(c.Fail*1e4)/100)
	}
	if c.Delay > 0 {
		text += fmt.Sprintf(", answers after %s", c.Delay)
	}
	if c.OwnLane {
		text += ", each sent one lane"
	}
	if c.Backlog {
		text += ", from a backlog"
	}
	if c.Outage > 0 {
		text += fmt.Sprintf(", after an outage that lasted %s longer than the publishing", c.Outage)
	}
	return text
}

// Webhooks has a server send events to endpoints of its own, in a process apart, and reports how many a second arrive, after
// what time, what does not, and what that costs. When ctx ends early the report is of what was until then. What it made is deleted.
func Webhooks(ctx context.Context, c WebhookConfig) (report *WebhookReport, err error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	api := &GroupConfig{Servers: []string{c.Server}, Header: c.Header}
	made := &webhookRun{config: &c, api: api}
	defer func() { err = errors.Join(err, made.remove(ctx)) }()
	if err := made.prepare(ctx); err != nil {
		return nil, err
	}
	if made.publishers, err = newPublishers(c.Run, c.Publish, &made.window); err != nil {
		return nil, err
	}
	secrets := make([]string, c.Subscriptions)
	for i := range secrets {
		secrets[i] = webhook.NewSecret().Text()
	}
	made.receiver, err = startReceiver(c.Receiver, receiverSetup{
		Run: c.Run, Endpoints: c.Endpoints, Hang: c.Hang, Fail: c.Fail, Delay: c.Delay, Lanes: made.publishers.config.Lanes, OwnLane: c.OwnLane, Verify: c.Verify, Secrets: secrets,
	})
	if err != nil {
		return nil, err
	}
	// While the subscriptions are there, so is what they are sent to.
	defer func() { err = errors.Join(err, made.remove(ctx), made.receiver.end()) }()
	return made.run(ctx, secrets)
}
