package main

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/audit"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/dedupe"
	"github.com/eventissuer/eventissuer/internal/quota"
	"github.com/eventissuer/eventissuer/internal/table"
)

type namedTable struct {
	name  string
	table *table.Table
}

func (s *server) startStorage(ctx context.Context) error {
	config := s.config
	var dial func(ctx context.Context, network, address string) (net.Conn, error)
	if config.embedded() {
		servers, err := embedded.Start(ctx, embedded.Config{Dir: config.DataDir, Log: s.log})
		if err != nil {
			return err
		}
		s.life.closing("embedded servers", servers.Close).must = true // Redis is saved
		s.diskFull = servers.Full
		dial, config.KafkaBrokers = servers.Dial, servers.Brokers()
		config.RedisURL = "redis://" + servers.RedisAddr()
	}
	password, err := secret(config.KafkaPasswordFile)
	if err != nil {
		return err
	}
	records, err := kafka.New(kafka.Config{
		Brokers: config.KafkaBrokers,
		Rack:    config.KafkaRack,
		TLS: kafka.TLS{
			Enable:   config.KafkaTLS || config.KafkaTLSCA != "" || config.KafkaTLSCert != "",
			CAFile:   config.KafkaTLSCA,
			CertFile: config.KafkaTLSCert,
			KeyFile:  config.KafkaTLSKey,
		},
		SASL:                kafka.SASL{Mechanism: config.KafkaSASLMechanism, User: config.KafkaUsername, Password: password},
		Dial:                dial,
		GroupSessionTimeout: config.GroupSessionTimeout,
	}, kafka.Deps{Log: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.life.closing("log", records.Close)
	s.records = records
	if s.redis, err = config.redisClient(0); err != nil {
		return err
	}
	s.life.closing("redis", s.redis.Close)
	// A write of a subscription's position that came late, by a retry of the client's own, would land over a newer one.
	if s.redisOnce, err = config.redisClient(-1); err != nil {
		return err
	}
	s.life.closing("subscriptions' redis", s.redisOnce.Close)
	return nil
}

// ownTopic names a topic that the server keeps for itself.
func (s *server) ownTopic(name string) string {
	prefix := s.config.TopicPrefix
	if prefix == "" {
		prefix = "eventissuer."
	}
	return "_" + prefix + name
}

// ownKeys begins the names of all that the server keeps in Redis.
func (s *server) ownKeys() string {
	return strings.TrimPrefix(strings.TrimSuffix(s.ownTopic(""), "."), "_") + ":"
}

func (s *server) newTable(name string, partitions int32) (*table.Table, error) {
	t, err := table.New(table.Config{
		Log:               s.records,
		Topic:             s.ownTopic(name),
		Partitions:        partitions,
		ReplicationFactor: s.config.ReplicationFactor,
		Logger:            s.log,
		Registerer:        s.registry,
	})
	if err == nil {
		s.tables = append(s.tables, namedTable{name, t})
	}
	return t, err
}

func (s *server) startCatalog(context.Context) error {
	definitions, err := s.newTable("catalog", 1)
	if err != nil {
		return err
	}
	s.audit, err = audit.New(audit.Config{Log: s.records, Topic: s.ownTopic("audit"), ReplicationFactor: s.config.ReplicationFactor})
	if err != nil {
		return err
	}
	s.catalog, err = catalog.New(catalog.Config{
		Auditor:           s.audit,
		PublicURL:         s.config.PublicURL,
		Table:             definitions,
		Topics:            s.records,
		TopicPrefix:       s.config.TopicPrefix,
		ReplicationFactor: s.config.ReplicationFactor,
		Keys:              s.keys,
		Sinks:             s.guard,
		Logger:            s.log,
		Registerer:        s.registry,
	})
	if err != nil {
		return err
	}
	s.life.run("catalog's table", definitions.Run)
	s.life.run("catalog", s.catalog.Run)
	return nil
}

// consumerPartitions is fixed for ever: it decides where a consumer lives.
const consumerPartitions = 16

func (s *server) startConsumers(context.Context) error {
	positions, err := s.newTable("consumers", consumerPartitions)
	if err != nil {
		return err
	}
	s.consumers, err = cursor.NewConsumers(cursor.ConsumersConfig{
		Table:      positions,
		Redis:      s.redis,
		Log:        s.log,
		Registerer: s.registry,
		Prefix:     s.ownKeys(),
	})
	if err != nil {
		return err
	}
	s.life.run("consumers' table", positions.Run)
	s.life.run("consumers", s.consumers.Run)
	return nil
}

// startDedupe lets each event in once. Replicas share what they know in Redis; the embedded broker's one publisher keeps
// it in the process, and reads it from the log when it starts.
func (s *server) startDedupe(context.Context) error {
	deps := dedupe.Deps{Log: s.records, Logger: s.log, Registerer: s.registry}
	if !s.config.embedded() {
		deps.Redis = s.redis
	}
	var err error
	lease := s.config.DedupeLease
	s.dedupe, err = dedupe.New(dedupe.Config{
		Lease:       lease,
		Landing:     lease - lease/6, // the rest is the time to get to the append
		Prefix:      s.config.TopicPrefix,
		MemoryBytes: int64(s.config.DedupeBytes),
	}, deps)
	if err != nil {
		return err
	}
	s.life.closing("deduplication", s.dedupe.Close)
	s.life.run("deduplication's start", s.prepareDedupe)
	s.quotas = quota.New(quota.Config{Prefix: s.config.TopicPrefix}, quota.Deps{Redis: deps.Redis, Logger: s.log, Registerer: s.registry})
	s.life.run("quotas", s.quotas.Run)
	return nil
}

// prepareDedupe reads what the streams hold of their windows, before the first event of each comes.
func (s *server) prepareDedupe(ctx context.Context) error {
	select {
	case <-s.catalog.Ready():
	case <-ctx.Done():
		return nil
	}
	windows := map[string]time.Duration{}
	for _, t := range s.catalog.EventTypes() {
		windows[t.Stream] = max(windows[t.Stream], t.DedupeWindow())
	}
	for name, window := range windows {
		stream, ok := s.catalog.Stream(name)
		if !ok || window == 0 {
			continue
		}
		if err := s.dedupe.Prepare(ctx, dedupe.Stream{Name: name, Topic: stream.Topic}, window); err != nil && ctx.Err() == nil {
			s.log.Warn("what a stream holds already is not known yet: its publishers wait for that", "stream", name, "error", err)
		}
	}
	<-ctx.Done()
	return nil
}
