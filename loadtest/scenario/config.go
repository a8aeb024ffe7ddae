package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/eventissuer/eventissuer/loadtest"
)

func (s Step) to() float64 {
	if s.To == nil {
		return s.Rate
	}
	return *s.To
}

// pace is how the rate changes; nil for a steady one.
func (p *Publisher) pace() *loadtest.Pace {
	r := p.Rate.perSecond
	switch {
	case p.Burst != nil:
		return &loadtest.Pace{Stages: []loadtest.Stage{{From: r, To: r, For: p.Burst.On}, {For: p.Burst.Off}}, Repeat: true}
	case p.Ramp != nil:
		return &loadtest.Pace{Stages: []loadtest.Stage{{From: p.Ramp.From, To: r, For: p.Ramp.Over}}}
	case len(p.Steps) > 0:
		all := &loadtest.Pace{Repeat: p.Repeat}
		for _, s := range p.Steps {
			all.Stages = append(all.Stages, loadtest.Stage{From: s.Rate, To: s.to(), For: s.For})
		}
		return all
	}
	return nil
}

// Prepare makes the stream and the event types that are missing.
func (s *Scenario) Prepare(ctx context.Context) error {
	if s.Stream == "" {
		return nil
	}
	types := []string{}
	for _, p := range s.Publishers {
		if t := s.kind(p); p.URL == "" && !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if len(types) == 0 {
		types = append(types, s.kind(Publisher{}))
	}
	for _, t := range types {
		_, _, err := loadtest.Prepare(ctx, loadtest.PrepareConfig{
			Server: s.base(), Stream: s.Stream, Partitions: s.Partitions, Type: t, Header: header(s.Header),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// kind is the type of a publisher's events. A type belongs to one stream: that of another scenario will not do.
func (s *Scenario) kind(p Publisher) string {
	switch {
	case p.Type != "":
		return p.Type
	case s.Stream != "":
		return s.Stream + ".tick"
	}
	return ""
}

// defaultServer is where an Event Issuer listens by default.
const defaultServer = "http://127.0.0.1:8080"

func (s *Scenario) base() string {
	if s.Server == "" {
		return defaultServer
	}
	return strings.TrimSuffix(s.Server, "/")
}

// Config is what the scenario has Run do.
func (s *Scenario) Config() (loadtest.RunConfig, error) {
	c := loadtest.RunConfig{
		Scenario: s.Name, ConnectTimeout: s.ConnectTimeout, Settle: s.Settle, Warmup: s.Warmup, Duration: s.Duration, Linger: s.Linger,
		Shards: s.Shards, PIDs: s.PIDs, PIDTree: s.PIDTree,
	}
	for _, p := range s.Publishers {
		to := p.URL
		if to == "" {
			to = s.base() + "/v1/events"
		}
		c.Publishers = append(c.Publishers, loadtest.PublishConfig{
			Name: p.Name, URL: to, ContentType: p.ContentType, Header: header(s.Header, p.Header), Body: p.Body, Type: s.kind(p), Source: p.Source,
			Subject: p.Subject, Size: p.Size, Rate: p.Rate.perSecond, Pace: p.pace(), Batch: p.Batch, Publishers: p.Connections, Lanes: p.Lanes,
			Timeout: p.Timeout, Events: p.Events, Scheduled: !p.SentTime,
		})
	}
	for _, r := range s.Readers {
		from, err := s.address(r)
		if err != nil {
			return c, err
		}
		one := loadtest.ReaderConfig{
			Name: r.Name, URL: from, Header: header(s.Header, r.Header), Transport: r.Transport, Client: r.Client,
			Connections: r.Connections, Dials: r.Dials, Ramp: r.Ramp, Wait: r.Wait, Every: r.Every, Lifetime: r.Lifetime, Of: r.Of, Latest: r.Latest,
		}
		for _, q := range r.Query {
			one.Query = append(one.Query, q[0]+"="+q[1])
		}
		if r.Transport == loadtest.TransportWebSocket {
			one.Subprotocol = "eventissuer.v1"
			if r.Subprotocol != nil {
				one.Subprotocol = *r.Subprotocol
			}
		}
		if r.Slow != nil {
			one.Slow = &loadtest.Slowness{BytesPerSecond: r.Slow.BytesPerSecond, Every: r.Slow.Reads, For: r.Slow.Pauses, Buffer: r.Slow.Buffer}
		}
		for _, w := range r.Storms {
			one.Storms = append(one.Storms, loadtest.StormConfig{At: w.At, Share: w.Percent / 100, Timeout: w.Timeout})
		}
		c.Readers = append(c.Readers, one)
	}
	if s.Stream == "" && len(s.Subscriptions)+len(s.Webhooks) > 0 {
		return c, errors.New("expected a stream that subscriptions and webhooks are of")
	}
	for _, r := range s.Subscriptions {
		servers := r.Servers
		if len(servers) == 0 {
			servers = []string{s.base()}
		}
		c.Sessions = append(c.Sessions, loadtest.SessionsConfig{Name: r.Name, Of: r.Of, Group: loadtest.GroupConfig{
			Servers: slices.Clone(servers), Header: header(s.Header), Stream: s.Stream, Types: r.Types, Ordering: r.Ordering, Client: r.Transport,
			Sessions: r.Sessions, MaxUncommitted: r.MaxUncommitted, AckEvery: r.AckEvery, AckAfter: r.AckAfter,
		}})
	}
	for _, r := range s.Webhooks {
		verify := 0.01
		if r.Verify != nil {
			verify = *r.Verify / 100
		}
		c.Webhooks = append(c.Webhooks, loadtest.WebhooksConfig{Name: r.Name, Of: r.Of, Hook: loadtest.WebhookConfig{
			Server: s.base(), Header: header(s.Header), Stream: s.Stream, Types: r.Types, Subscriptions: r.Subscriptions, Endpoints: r.Endpoints,
			Mode: r.Mode, Signatures: r.Signatures, Ordering: r.Ordering, Batch: r.Batch, Concurrency: r.Concurrency, Timeout: r.Timeout,
			Schedule: r.Schedule, Hang: r.Hang, Fail: r.FailPercent / 100, Delay: r.Delay, Verify: verify,
		}})
	}
	return c, nil
}

// address is where a group reads.
func (s *Scenario) address(r Readers) (string, error) {
	if r.URL != "" {
		return r.URL, nil
	}
	base := s.base()
	if r.Server != "" {
		base = strings.TrimSuffix(r.Server, "/")
	}
	switch {
	case r.Path != "":
		return base + "/" + strings.TrimPrefix(r.Path, "/"), nil
	case s.Stream == "":
		return "", fmt.Errorf("expected a stream, or a url or path of each group of readers: %q has none", r.Name)
	}
	return base + "/v1/streams/" + url.PathEscape(s.Stream) + "/events", nil
}

func header(all ...pairs) http.Header {
	h := http.Header{}
	for _, p := range all {
		for _, field := range p {
			h.Add(field[0], field[1])
		}
	}
	return h
}
