package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/gateway"
	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/audit"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/dedupe"
	"github.com/eventissuer/eventissuer/internal/demo"
	"github.com/eventissuer/eventissuer/internal/failing"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/jwks"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/quota"
	"github.com/eventissuer/eventissuer/internal/version"
	"github.com/eventissuer/eventissuer/push"
	"github.com/eventissuer/eventissuer/session"
	"github.com/eventissuer/eventissuer/web"
)

// How long the parts of a stop may take beside --drain-timeout.
const (
	shutdownTime     = 10 * time.Second // requests under way
	endTime          = 5 * time.Second  // everything that takes longer than --drain-timeout, together
	certificateCheck = 10 * time.Second // how often the certificate's files are looked at
)

// server is the whole program, wired. Its parts are fields for those that start after them.
type server struct {
	config   Config
	log      *slog.Logger
	life     *lifecycle
	registry *prometheus.Registry

	listener  net.Listener
	maxConns  int // at once
	records   *kafka.Log
	redis     redis.UniversalClient
	redisOnce redis.UniversalClient // repeats nothing by itself
	tables    []namedTable
	audit     *audit.Log
	catalog   *catalog.Catalog
	dedupe    *dedupe.Deduper
	quotas    *quota.Quotas
	consumers *cursor.Consumers
	sessions  *session.Server
	groups    *group.Groups
	hubs      *fanout.Hubs
	keys      *keyring.Ring // nil: there are no webhooks
	tokenKeys *jwks.Keys    // nil: the server signs no tokens
	guard     *guard.Guard
	letters   *deadletters.Box
	attempts  *attempts.Log
	failing   *failing.Watch
	push      *push.Engine
	demo      *http.Client // how the demo reaches the server

	kafkaReach *reach
	redisReach *reach
	diskFull   func() error // tells why nothing is published; nil without embedded servers
	loaded     func()       // the tables are loaded

	drainer  *drainer
	stopping atomic.Bool // told to stop
	served   bool        // it was ready once
	ended    outcome     // written by the stop
}

// serve runs the server until ctx ends, then drains it and stops it in order. started, if not nil, is told the address
// once the server takes requests. In text mode a few lines for people go to banner.
func serve(ctx context.Context, c Config, log *slog.Logger, banner io.Writer, started func(net.Addr)) error {
	s := &server{
		config:   c,
		log:      log,
		life:     newLifecycle(log),
		registry: prometheus.NewRegistry(),
	}
	promauto.With(s.registry).NewGauge(prometheus.GaugeOpts{
		Name: "eventissuer_build_info", Help: "1, with the program's version.", ConstLabels: prometheus.Labels{"version": version.String()},
	}).Set(1)
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	err := s.start(ctx)
	if err == nil && ctx.Err() == nil {
		if c.LogFormat == "text" {
			s.greet(banner)
		}
		s.served = true
		log.Info("ready", "address", s.address(), "version", version.String())
		if started != nil {
			started(s.listener.Addr())
		}
		select {
		case <-ctx.Done():
			log.Info("stopping: not ready any more, and sessions are sent elsewhere first", "drainTimeout", c.DrainTimeout)
		case <-s.life.failed:
		}
	}
	began := time.Now()
	s.stopping.Store(true)
	stopErr := s.life.stop(s.config.DrainTimeout + endTime)
	log.Info("stopped", "took", time.Since(began).Round(time.Millisecond), "sessionsSentAway", s.ended.sent, "sessionsCut", s.ended.cut)
	if errors.Is(err, context.Canceled) {
		err = nil // told to stop while starting
	}
	return errors.Join(err, stopErr)
}

// start starts all parts, each after those that it needs, and returns when the server takes requests. What was started
// is on s.life, to be stopped in the opposite order.
func (s *server) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.listen,         // first: a port in use should cost nothing
		s.startStorage,   // Kafka and Redis, here or elsewhere
		s.watchStorage,   // tells where they are not
		s.startGuard,     // what subscriptions may name
		s.startCatalog,   // streams, event types
		s.startDedupe,    // each event once, and not more than its type's quota
		s.startConsumers, // named cursors
		s.startSessions,  // fan-out, and the readers and subscriptions on it
		s.startPush,      // webhooks
		s.startHTTP,      // requests are answered; /readyz is not yet ready
		s.startDrain,     // stopped first of these: sessions go elsewhere while requests are still answered
		s.awaitLoaded,    // now it is
		s.startDemo,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("listen on %s: %w: stop what listens there, or give --listen 127.0.0.1:0 for a free port (make run ARGS='--listen 127.0.0.1:0')", s.config.Listen, err)
		}
		return fmt.Errorf("listen on %s: %w", s.config.Listen, err)
	}
	s.listener = shallow{listener}
	s.life.closing("listener", func() error {
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (s *server) startSessions(context.Context) error {
	s.maxConns = s.boundConnections()
	var err error
	s.sessions, err = session.New(session.Config{
		Shards:        s.config.Writers,
		Plain:         s.config.PlainStreams,
		MaxSessions:   s.config.MaxSessions,
		MaxPerAddress: s.config.MaxSessionsPerAddress,
		PageBytes:     int64(s.config.MemoryBytes) / 8,
		Logger:        s.log,
		Registerer:    s.registry,
	})
	if err != nil {
		return err
	}
	s.hubs, err = fanout.New(fanout.Config{
		RingBytes:    int64(s.config.RingBytes),
		MemoryBytes:  int64(s.config.MemoryBytes),
		CatchUpReads: s.config.CatchUpReads,
		Shards:       s.sessions.Shards(),
		Log:          s.records,
		Logger:       s.log,
		Registerer:   s.registry,
	})
	if err != nil {
		return err
	}
	s.life.run("hubs", s.hubs.Run)
	if err := s.startGroups(s.hubs); err != nil {
		return err
	}
	s.sessions.Use(session.Deps{Hubs: s.hubs, Log: s.records, Consumers: s.consumers, Groups: s.groups})
	s.life.run("sessions", s.sessions.Run)
	s.drainer = &drainer{sessions: s.sessions, consumers: s.consumers, timeout: s.config.DrainTimeout, log: s.log}
	return nil
}

func (s *server) startDrain(ctx context.Context) error {
	s.life.closing("sessions' drain", func() error {
		lameDuck := s.config.LameDuck
		if !s.served || errors.Is(context.Cause(ctx), errInterrupted) {
			lameDuck = 0
		}
		s.ended = s.drainer.end(lameDuck)
		return nil
	})
	return nil
}

func (s *server) startHTTP(context.Context) error {
	publicURL, err := s.config.publicURL()
	if err != nil {
		return err
	}
	proxies, err := s.config.trustedProxies()
	if err != nil {
		return err
	}
	var loopback bool
	if addr, ok := s.listener.Addr().(*net.TCPAddr); ok {
		loopback = addr.IP.IsLoopback()
	}
	edge, err := gateway.New(gateway.Config{
		PublicURL:      publicURL,
		TrustedProxies: proxies,
		Origins:        s.config.CorsOrigin,
		Loopback:       loopback,
		MaxEventBytes:  int64(s.config.MaxEventBytes),
		MaxBatchBytes:  int64(s.config.MaxBatchBytes),
		MaxBatchEvents: s.config.MaxBatchEvents,
		MaxConnections: s.maxConns,
		Version:        version.String(),
	}, gateway.Deps{
		Log:       s.records,
		Catalog:   s.catalog,
		Consumers: s.consumers,
		Sessions:  s.sessions,
		Groups:    s.groups,
		Letters:   s.letters,
		Attempts:  s.attempts,
		Push:      s.push,
		TokenKeys: s.tokenKeys,
		Page:      web.Handler(),
		Ready:     s.checks,
		Drain:     s.drainer.begin,
		Audit:     s.audit,
		Dedupe:    s.dedupe,
		Quotas:    s.quotas,
		Undrain:   func() bool { return !s.stopping.Load() && s.drainer.undo() },

		Logger:     s.log,
		Registerer: s.registry,
		Gatherer:   s.registry,
	})
	if err != nil {
		return err
	}
	certificates, err := s.loadCertificates()
	if err != nil {
		return err
	}
	requests := edge.Server(certificates)
	s.life.start("http", func() error {
		if certificates != nil {
			return closed(requests.ServeTLS(s.listener, "", ""))
		}
		return closed(requests.Serve(s.listener))
	}, func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		if err := gateway.Shutdown(ctx, requests); err != nil {
			s.log.Warn("requests were cut", "error", err)
		}
	})
	return nil
}

// loadCertificates gives nil where the server speaks plain HTTP.
func (s *server) loadCertificates() (*gateway.Certificates, error) {
	if s.config.TLSCert == "" {
		s.demo = &http.Client{Transport: &http.Transport{}}
		return nil, nil
	}
	certificates, err := gateway.LoadCertificates(s.config.TLSCert, s.config.TLSKey, s.log)
	if err != nil {
		return nil, err
	}
	s.life.run("certificates", func(ctx context.Context) error { return certificates.Watch(ctx, certificateCheck) })
	s.demo = &http.Client{Transport: &http.Transport{TLSClientConfig: certificates.ClientConfig()}}
	return certificates, nil
}

// closed drops the error that says that a server was shut down as it should.
func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// awaitLoaded waits until the tables are loaded: however long that takes, since a log that is away comes back.
func (s *server) awaitLoaded(ctx context.Context) error {
	patience := time.NewTicker(10 * time.Second)
	defer patience.Stop()
	for _, t := range s.tables {
		for waiting := true; waiting; {
			select {
			case <-t.table.Ready():
				waiting = false
			case <-patience.C:
				s.log.Warn("still waiting for the log", "table", t.name)
			case <-s.life.failed:
				return nil // the stop tells what failed
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	s.loaded()
	return nil
}

// checks tells /readyz what is missing.
func (s *server) checks() []gateway.Check {
	checks := make([]gateway.Check, 0, len(s.tables)+3)
	for _, t := range s.tables {
		check := gateway.Check{Name: t.name}
		select {
		case <-t.table.Ready():
			check.Ready = true
		default:
			check.Reason = "the table is being loaded from the log"
			if err := s.kafkaReach.problem(); err != nil {
				check.Reason += ", which cannot be reached: " + err.Error()
			}
		}
		checks = append(checks, check)
	}
	redis := gateway.Check{Name: "redis", Ready: true} // the server does without, if it has to
	if err := s.redisReach.problem(); err != nil {
		redis.Reason = "it cannot be reached, but is not needed to be ready: " + err.Error()
	}
	checks = append(checks, redis)
	if s.diskFull != nil {
		disk := gateway.Check{Name: "disk", Ready: true} // all but publishing goes on
		if err := s.diskFull(); err != nil {
			disk.Reason = "it is full, and nothing is published: " + err.Error()
		}
		checks = append(checks, disk)
	}
	server := gateway.Check{Name: "server", Ready: true}
	switch {
	case s.stopping.Load():
		server.Ready, server.Reason = false, "the server is stopping"
	case s.drainer.drained():
		server.Ready, server.Reason = false, "an operator has drained this replica"
	}
	return append(checks, server)
}

// startDemo publishes as everybody else does, over HTTP.
func (s *server) startDemo(context.Context) error {
	if !s.config.Demo {
		return nil
	}
	trains, err := demo.New(demo.Config{BaseURL: s.address(), HTTPClient: s.demo, Start: s.config.DemoTime, Log: s.log})
	if err != nil {
		return err
	}
	s.life.run("demo", func(ctx context.Context) error {
		defer s.demo.CloseIdleConnections()
		return trains.Run(ctx)
	})
	return nil
}

// address is where a client on this machine finds the server.
func (s *server) address() string {
	scheme, address := "http", s.listener.Addr().String()
	if s.config.TLSCert != "" {
		scheme = "https"
	}
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("127.0.0.1", port)
		}
	}
	return scheme + "://" + address + "/"
}

// greet tells a person at a terminal what to do next.
func (s *server) greet(w io.Writer) {
	where := "Kafka at " + strings.Join(s.config.KafkaBrokers, ", ")
	if s.config.embedded() {
		where = s.config.DataDir + " (Kafka and Redis run inside this process)"
	}
	what := "Open      "
	if s.config.Demo {
		what = "The trains"
	}
	_, _ = fmt.Fprintf(w, "\n  Event Issuer %s is ready.\n\n  %s  %s\n  Events in   %s\n  API         %sopenapi.json\n  Stop        Ctrl-C\n\n",
		version.String(), what, s.address(), where, s.address())
}
