package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/failing"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/jwks"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/leases"
	"github.com/eventissuer/eventissuer/internal/operations"
	"github.com/eventissuer/eventissuer/internal/version"
	"github.com/eventissuer/eventissuer/internal/webhook"
	"github.com/eventissuer/eventissuer/push"
)

// What a replica does.
const (
	roleAll      = "all"
	roleSessions = "sessions"
	rolePush     = "push"
)

// tokenLife is how long the tokens are good by which the server says to endpoints who it is.
const tokenLife = 5 * time.Minute

// startGuard loads the keys, and makes the one way out to what customers name.
func (s *server) startGuard(context.Context) error {
	var err error
	switch {
	case s.config.SecretKeys != "":
		s.keys, err = keyring.Load(s.config.SecretKeys)
	case s.config.embedded():
		if err = os.MkdirAll(s.config.DataDir, 0o700); err == nil {
			s.keys, err = keyring.LoadOrCreate(filepath.Join(s.config.DataDir, "secret-keys"))
		}
	}
	if err != nil {
		return fmt.Errorf("--secret-keys: %w", err)
	}
	switch {
	case s.config.TokenKeys != "":
		s.tokenKeys, err = jwks.Load(s.config.TokenKeys)
	case s.config.embedded():
		s.tokenKeys, err = jwks.LoadOrCreate(filepath.Join(s.config.DataDir, "token-keys.pem"))
	}
	if err != nil {
		return fmt.Errorf("--token-keys: %w", err)
	}
	c := guard.Config{
		AllowLoopback: s.config.AllowLoopbackSinks,
		UserAgent:     "EventIssuer/" + version.String(),
		Metrics:       s.registry,
	}
	if c.Allow, c.AllowHosts, err = s.config.allowedSinks(); err != nil {
		return err
	}
	if c.Deny, err = s.config.deniedSinks(); err != nil {
		return err
	}
	if c.Proxy, err = s.config.webhookProxy(); err != nil {
		return err
	}
	if s.tokenKeys != nil {
		name := s.config.PublicURL
		if name == "" {
			name = s.origin()
		}
		issuer, err := jwks.NewIssuer(s.tokenKeys, name, tokenLife)
		if err != nil {
			return err
		}
		c.Tokens = issuer
	}
	if s.guard, err = guard.New(c); err != nil {
		return err
	}
	s.life.closing("ways out to endpoints", func() error { s.guard.Close(); return nil })
	return nil
}

// origin is who the server says it is, to endpoints.
func (s *server) origin() string {
	if s.config.WebhookOrigin != "" {
		return s.config.WebhookOrigin
	}
	if u, err := s.config.publicURL(); err == nil && u != nil {
		return u.Host
	}
	return "eventissuer"
}

// startPush delivers to webhooks.
func (s *server) startPush(context.Context) error {
	letters, err := deadletters.New(deadletters.Config{
		Log: s.records, Topic: s.ownTopic("dead-letters"), ReplicationFactor: s.config.ReplicationFactor,
		Redis: s.redis, Prefix: s.ownKeys(), Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.letters = letters
	s.attempts, err = attempts.New(attempts.Config{
		Topic: s.ownTopic("attempts"), ReplicationFactor: s.config.ReplicationFactor, Prefix: s.ownKeys(),
	}, attempts.Deps{Log: s.records, Redis: s.redis, Logger: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.life.run("attempts", s.attempts.Run)
	definitions := push.FromCatalog(s.catalog, s.log)
	said, err := operations.New(operations.Config{}, operations.Deps{Log: s.records, Catalog: s.catalog})
	if err != nil {
		return err
	}
	s.failing, err = failing.New(failing.Config{Prefix: s.ownKeys()}, failing.Deps{
		Redis: s.redis, Definitions: failingPolicies{definitions}, Publisher: said, Logger: s.log, Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	s.life.run("failing endpoints", s.failing.Run)
	shares, err := leases.New(leases.Config{Prefix: s.ownKeys()}, leases.Deps{
		Redis: s.redis, Granted: func(key string) { s.push.Granted(key) }, Logger: s.log, Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	deps := push.Deps{
		Log: s.records, Hubs: s.hubs, Definitions: announced{definitions, said, s.log}, Health: health{s.failing}, Leases: shares, Sender: s.sender, Letters: pushLetters{letters},
		Callback: s.consentCallback, Record: s.attempts.Record,
	}
	if s.keys != nil {
		deps.Codes = s.keys
	}
	s.push, err = push.New(push.Config{
		Positions:         s.ownTopic("positions"),
		Group:             strings.TrimPrefix(s.ownTopic("push."), "_"),
		ReplicationFactor: s.config.ReplicationFactor,
		Origin:            s.origin(),
		MemoryBytes:       int64(s.config.MemoryBytes) / 8,
		AnyResponse:       s.config.AcceptAnyResponse,
		Idle:              s.config.Role == roleSessions,
		Logger:            s.log,
		Registerer:        s.registry,
	}, deps)
	if err != nil {
		return err
	}
	s.life.run("endpoints' leases", shares.Run)
	s.life.run("push", func(ctx context.Context) error {
		select {
		case <-s.catalog.Ready():
		case <-ctx.Done():
			return nil
		}
		return s.push.Run(ctx)
	})
	s.life.run("operational events", func(ctx context.Context) error { return s.prepareOperations(ctx, said) })
	return nil
}

// prepareOperations makes the stream of the server's own events once there is a webhook that they may be about, so that it
// can be subscribed to before the first of them.
func (s *server) prepareOperations(ctx context.Context, said *operations.Publisher) error {
	wanted := make(chan struct{}, 1)
	want := func() {
		select {
		case wanted <- struct{}{}:
		default:
		}
	}
	defer s.catalog.Watch(func(c catalog.Change) {
		if sink, _ := s.catalog.HasSink(c.Subscription); sink {
			want()
		}
	})()
	for _, id := range s.catalog.SubscriptionIDs() {
		if sink, _ := s.catalog.HasSink(id); sink {
			want()
			break
		}
	}
	for {
		select {
		case <-wanted:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := said.Prepare(ctx)
		if err == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		s.log.Warn("the stream of operational events is not there yet", "error", err)
	}
}

// announced tells by an operational event that a subscription was disabled since its endpoint is gone.
type announced struct {
	*push.Catalogued
	said *operations.Publisher
	log  *slog.Logger
}

// Disable implements push.Definitions.
func (a announced) Disable(ctx context.Context, id string, incarnation uuid.UUID, reason string) error {
	if err := a.Catalogued.Disable(ctx, id, incarnation, reason); err != nil {
		return err
	}
	err := a.said.Publish(ctx, operations.Event{
		ID: incarnation.String() + "-gone", Type: operations.SubscriptionDisabled, Subject: id,
		Data: operations.Disabled{Subscription: id, Owner: a.Owner(id), Cause: reason},
	})
	if err != nil { // the subscription says so itself
		a.log.Warn("an operational event could not be published", "subscription", id, "error", err)
	}
	return nil
}

// sender makes the way out to an endpoint.
func (s *server) sender(owner string, c webhook.Credential) (push.Sender, error) {
	return s.guard.Client(owner, c)
}

// consentCallback is where an endpoint may consent later, if the server knows the address under which it can be reached.
func (s *server) consentCallback(id, code string) string {
	u, err := s.config.publicURL()
	if err != nil || u == nil {
		return ""
	}
	return u.JoinPath("v1", "subscriptions", id+":consent").String() + "?code=" + url.QueryEscape(code)
}

// failingPolicies implement failing.Definitions.
type failingPolicies struct{ *push.Catalogued }

// Policy implements failing.Definitions.
func (p failingPolicies) Policy(id string, incarnation uuid.UUID) (policy failing.Policy, ok bool) {
	policy.Owner, policy.DisableAfter, policy.LongestWait, ok = p.Catalogued.Policy(id, incarnation)
	return policy, ok
}

// health implements push.Health.
type health struct{ *failing.Watch }

// Failing implements push.Health.
func (h health) Failing(incarnation uuid.UUID) (since time.Time, cause string, ok bool) {
	period, ok := h.Watch.Failing(incarnation)
	return period.Since, period.Cause, ok
}

// pushLetters writes the dead letters of pushed subscriptions.
type pushLetters struct{ box *deadletters.Box }

// Write implements push.Letters.
func (p pushLetters) Write(ctx context.Context, letters []push.Letter) []error {
	all := make([]deadletters.Letter, len(letters))
	for i, l := range letters {
		all[i] = deadletters.Letter{
			Subscription: l.Subscription, Incarnation: l.Incarnation.String(), Stream: l.Stream, Partition: l.Partition,
			Offset: l.Offset, Attempts: l.Attempts, Reason: l.Reason, At: l.At, Event: l.Event,
		}
	}
	errs := make([]error, len(letters))
	for i, ack := range p.box.Write(ctx, all) {
		errs[i] = ack.Err
	}
	return errs
}

// checkPush checks the settings of what is sent to webhooks.
func (c *Config) checkPush() error {
	var errs []error
	if _, _, err := c.allowedSinks(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.deniedSinks(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.webhookProxy(); err != nil {
		errs = append(errs, err)
	}
	if c.Role != "" && c.Role != roleAll && c.embedded() {
		errs = append(errs, fmt.Errorf("--role %s without --kafka-brokers: one process with everything inside does all of it", c.Role))
	}
	return errors.Join(errs...)
}

// allowedSinks gives --allow-sinks: networks, and hosts.
func (c *Config) allowedSinks() (networks []netip.Prefix, hosts []string, err error) {
	for _, text := range c.AllowSinks {
		if network, ok := asNetwork(text); ok {
			networks = append(networks, network)
		} else {
			hosts = append(hosts, text)
		}
	}
	if _, err := guard.New(guard.Config{Allow: networks, AllowHosts: hosts}); err != nil {
		return nil, nil, fmt.Errorf("--allow-sinks: %w", err)
	}
	return networks, hosts, nil
}

func (c *Config) deniedSinks() (networks []netip.Prefix, err error) {
	for _, text := range c.DenySinks {
		network, ok := asNetwork(text)
		if !ok {
			return nil, fmt.Errorf("--deny-sinks %s: write addresses or networks, such as 10.0.0.0/8", text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

func asNetwork(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), true
	}
	network, err := netip.ParsePrefix(text)
	return network.Masked(), err == nil
}

// webhookProxy gives --webhook-proxy with its password, or nil.
func (c *Config) webhookProxy() (*url.URL, error) {
	if c.WebhookProxy == "" {
		return nil, nil
	}
	u, err := url.Parse(c.WebhookProxy)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("--webhook-proxy: write the proxy's address, such as http://user@proxy.example.org:3128; the password goes into --webhook-proxy-password-file")
	}
	if c.WebhookProxyPasswordFile == "" {
		return u, nil
	}
	password, err := secret(c.WebhookProxyPasswordFile)
	if err != nil {
		return nil, fmt.Errorf("--webhook-proxy-password-file: %w", err)
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u, nil
}
