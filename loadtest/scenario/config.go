package scenario

import (
	"cmp"
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
	for _, server := range s.servers()[1:] {
		if err := loadtest.Await(ctx, server, s.Stream, header(s.Header)); err != nil {
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

func (s *Scenario) base() string { return s.servers()[0] }

// servers are the base URLs of the replicas.
func (s *Scenario) servers() []string {
	all := slices.Clone(s.Servers)
	if s.Server != "" || len(all) == 0 {
		all = []string{cmp.Or(s.Server, defaultServer)}
	}
	for i := range all {
		all[i] = strings.TrimSuffix(all[i], "/")
	}
	return all
}

// deal splits a group among the replicas, unless it says where it reads.
func (s *Scenario) deal(r Readers, c loadtest.ReaderConfig) ([]loadtest.ReaderConfig, error) {
	servers := s.servers()
	if r.URL != "" || r.Server != "" {
		servers = []string{r.Server}
	}
	var all []loadtest.ReaderConfig
	for i, server := range servers {
		part := c
		part.First = c.Connections * i / len(servers)
		part.Connections = c.Connections*(i+1)/len(servers) - part.First
		part.Ramp = c.Ramp / float64(len(servers))
		if len(servers) > 1 && c.Name != "" {
			part.Name = fmt.Sprintf("%s (server %d)", c.Name, i+1)
		}
		if part.Connections == 0 {
			continue
		}
		var err error
		if part.URL, err = s.address(r, server); err != nil {
			return nil, err
		}
		all = append(all, part)
	}
	return all, nil
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
		one := loadtest.ReaderConfig{
			Name: r.Name, Header: header(s.Header, r.Header), Transport: r.Transport, Client: r.Client,
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
			one.Storms = append(one.Storms, loadtest.StormConfig{At: w.At, Share: w.Percent / 100, Away: w.Away, Timeout: w.Timeout})
		}
		parts, err := s.deal(r, one)
		if err != nil {
			return c, err
		}
		c.Readers = append(c.Readers, parts...)
	}
	if s.Stream == "" && len(s.Subscriptions)+len(s.Webhooks) > 0 {
		return c, errors.New("expected a stream that subscriptions and webhooks are of")
	}
	for _, r := range s.Subscriptions {
		servers := r.Servers
		if len(servers) == 0 {
			servers = s.servers()
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

// address is where a group reads at a server.
func (s *Scenario) address(r Readers, server string) (string, error) {
	if r.URL != "" {
		return r.URL, nil
	}
	base := strings.TrimSuffix(server, "/")
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
