package main

import (
	"context"

	"github.com/eventissuer/eventissuer/internal/definitions"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
)

// startGroups shares the events of subscriptions among sessions.
func (s *server) startGroups(hubs *fanout.Hubs) error {
	subscriptions := definitions.New(s.catalog, s.log)
	var err error
	s.groups, err = group.New(group.Config{
		Prefix:            s.ownKeys(),
		MaxGroups:         s.config.MaxSubscriptionGroups,
		MemoryBytes:       int64(s.config.MemoryBytes) / 4,
		DeadLetters:       s.ownTopic("dead-letters"),
		ReplicationFactor: s.config.ReplicationFactor,
		Logger:            s.log,
		Registerer:        s.registry,
	}, group.Deps{Log: s.records, Hubs: hubs, Definitions: subscriptions, Redis: s.redisOnce})
	if err != nil {
		return err
	}
	s.life.run("subscriptions", func(ctx context.Context) error {
		defer subscriptions.Watch(s.groups.Changed)()
		return s.groups.Run(ctx)
	})
	return nil
}
