package kafka

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how to reach a Kafka cluster.
type Config struct {
	Brokers  []string // host:port of at least one broker to begin with
	ClientID string   // default "eventissuer"
	Rack     string   // the rack or zone of this process; with it, reads prefer a replica nearby. Default none

	TLS  TLS  // default off
	SASL SASL // default none

	AppendDeadline  time.Duration // default 10 s: the longest that Append waits, queueing and retries included
	RequestTimeout  time.Duration // default 10 s: of any other request
	DialTimeout     time.Duration // default 5 s
	MetadataEvery   time.Duration // default 1 s: how often leaders, partitions and topic ids in use are looked up
	MaxMessageBytes int           // default 8 MiB: the largest batch sent, whatever a topic would take
	FetchBytes      int           // default 1 MiB: per partition and fetch of a tail
	FetchTotalBytes int           // default 8 MiB: per fetch of a tail and leader, shared by its partitions; a single larger batch still comes
	ReadConnections int           // default 4: connections per broker for random reads

	// Dial makes the connections; default by the network, as [net.Dialer] does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// GroupSessionTimeout is after how long a silent member of a consumer group loses its partitions. Default 10 s. The
	// cluster must allow it (group.min.session.timeout.ms, 6 s by default).
	GroupSessionTimeout time.Duration
}

// TLS says how connections are secured. There is no way to switch verification off.
type TLS struct {
	Enable   bool   // default off
	CAFile   string // PEM; default the system's authorities
	CertFile string // PEM; with KeyFile a client certificate. Default none
	KeyFile  string
}

// SASL says how this client proves who it is.
type SASL struct {
	Mechanism string // "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"; default "": no SASL
	User      string
	Password  string
}

// Deps are what the log works with.
type Deps struct {
	Log        *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}
