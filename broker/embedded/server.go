// Package embedded is a Kafka broker and a Redis server inside this process, so that one program on one machine needs
// nothing installed. The rest of the program speaks to both as it does to real ones, to Redis over loopback, to Kafka by
// connections that do not leave the process.
//
// What is durable: a record that was acknowledged, offsets, topic ids, consumer groups and their commits outlive the
// end of the process, however it ends (kill -9 included), because they have been handed to the operating system by
// then. A power failure or a crash of the machine may take the last seconds: nothing waits for the disk, so no error of
// a disk that could not write what it took is missed by an acknowledgement. Redis is saved once a minute and at the end:
// what it holds can be rebuilt or earned again.
//
// A disk that is nearly full takes no more records, nor topics: publishers are refused, and all else goes on, until there is
// room again.
//
// It differs from a real Kafka in two ways that a reader can see. Compaction moves the log's start up to the first
// record that is left, so a cursor below it is told a gap though nothing but superseded records has gone. And after a
// kill the broker has forgotten its idempotent producers, so that a producer of another process which repeats an
// unanswered request may write it twice.
//
// One process at a time uses a data folder.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config says where the embedded servers keep their data.
type Config struct {
	Dir       string        // the data folder; it is made where it is missing
	SaveEvery time.Duration // default 1 minute: how often Redis is saved
	KafkaPort int           // on 127.0.0.1; default any that is free
	RedisPort int           // on 127.0.0.1; default any that is free
	Log       *slog.Logger  // default: discards
}

// Server is a running pair of embedded servers.
type Server struct {
	log   *slog.Logger
	lock  *dirLock
	kafka *kfake.Cluster
	links *linkListener // of kafka
	redis *redisServer
	space *space
	addrs []string // of Kafka

	stopping atomic.Bool // what may be refused is

	closing sync.Once
	err     error // of closing
}

// Start starts both servers. They run until Close; ctx bounds only the start. A folder that another process uses gives
// an *InUseError.
func Start(ctx context.Context, cfg Config) (*Server, error) { return start(ctx, cfg, free) }

// start starts both servers, which look by free how much room there is.
func start(ctx context.Context, cfg Config, free func(dir string) (left, size uint64, err error)) (_ *Server, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded servers need a data folder")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SaveEvery <= 0 {
		cfg.SaveEvery = time.Minute
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	s := &Server{log: cfg.Log}
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.redis, err = startRedis(cfg); err != nil {
		return nil, err
	}
	if s.kafka, err = s.startKafka(cfg); err != nil {
		return nil, fmt.Errorf("start the embedded Kafka on %s: %w", filepath.Join(cfg.Dir, "kafka"), err)
	}
	s.space = &space{dir: cfg.Dir, free: free, log: cfg.Log}
	s.guard()
	s.addrs = s.kafka.ListenAddrs()
	cfg.Log.Info("embedded servers started", "dir", cfg.Dir, "kafka", s.Brokers(), "redis", s.RedisAddr())
	return s, nil
}

func (s *Server) startKafka(cfg Config) (*kfake.Cluster, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("eventissuer"),
		kfake.DataDir(filepath.Join(cfg.Dir, "kafka")),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": strconv.Itoa(int(cleanEvery / time.Millisecond))}),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.WithLogger(kafkaLog{cfg.Log}),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			on, err := net.Listen(network, net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.KafkaPort)))
			if err != nil {
				return nil, err
			}
			s.links = listenForLinks(on)
			return s.links, nil
		}),
	}
	return kfake.NewCluster(opts...)
}

// cleanEvery is how often retention and compaction are seen to.
const cleanEvery = 5 * time.Minute

// Brokers returns the addresses of the embedded Kafka.
func (s *Server) Brokers() []string { return slices.Clone(s.addrs) }

// Dial connects to the embedded Kafka within this process where address is its own, which is quicker than the loopback, and to
// all else by the network.
func (s *Server) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if slices.Contains(s.addrs, address) {
		return s.links.dial(ctx)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// RedisAddr returns the address of the embedded Redis.
func (s *Server) RedisAddr() string { return s.redis.addr() }

// Cluster is the embedded Kafka itself, for tests that move leaders, compact or break things.
func (s *Server) Cluster() *kfake.Cluster { return s.kafka }

// Close stops both servers, saves, and lets go of the folder. Only the first call does so.
func (s *Server) Close() error {
	s.closing.Do(func() {
		if s.kafka != nil {
			if err := s.settle(); err != nil {
				s.log.Warn("the embedded Kafka stops amid its writing: what a producer sends again may be on the log twice", "error", err)
			}
			s.kafka.Close()
		}
		if s.redis != nil {
			s.err = s.redis.close()
		}
		s.err = errors.Join(s.err, s.lock.release())
	})
	return s.err
}

// kafkaLog hands the embedded Kafka's own words to slog. Its chatter about each request is left out.
type kafkaLog struct{ log *slog.Logger }

// Logf implements kfake.Logger.
func (l kafkaLog) Logf(level kfake.LogLevel, msg string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("embedded kafka: " + fmt.Sprintf(msg, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("embedded kafka: " + fmt.Sprintf(msg, args...))
	}
}
