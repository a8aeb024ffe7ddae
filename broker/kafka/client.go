package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/IBM/sarama"
	gometrics "github.com/rcrowley/go-metrics"
)

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	if c.ClientID == "" {
		c.ClientID = "eventissuer"
	}
	def(&c.AppendDeadline, 10*time.Second)
	def(&c.RequestTimeout, 10*time.Second)
	def(&c.DialTimeout, 5*time.Second)
	def(&c.MetadataEvery, time.Second)
	def(&c.GroupSessionTimeout, 10*time.Second)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	num(&c.MaxMessageBytes, 8<<20)
	num(&c.FetchBytes, 1<<20)
	num(&c.FetchTotalBytes, 8<<20)
	num(&c.ReadConnections, 4)
	return c
}

// dials makes sarama's connections.
type dials struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	timeout time.Duration
}

// Dial implements the proxy dialer interface that sarama takes.
func (d dials) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	return d.dial(ctx, network, address)
}

// sarama returns what all of this process's connections have in common. sarama's own defaults that would lose, move or
// make something silently are changed here, whether or not the part that uses them is in use.
func (c Config) sarama() (*sarama.Config, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("no Kafka brokers given: expected at least one host:port")
	}
	s := sarama.NewConfig()
	s.Version = sarama.V4_1_0_0 // the newest spoken; each connection settles on what its broker knows
	s.ClientID = c.ClientID
	s.RackID = c.Rack
	s.ChannelBufferSize = 64
	s.MetricRegistry = nullRegistry{}
	s.Net.DialTimeout = c.DialTimeout
	s.Net.ReadTimeout = c.RequestTimeout
	s.Net.WriteTimeout = c.RequestTimeout
	s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, dials{c.Dial, c.DialTimeout}
	s.Metadata.AllowAutoTopicCreation = false // a refresh would bring deleted topics back
	s.Metadata.Full = false
	s.Metadata.RefreshFrequency = c.MetadataEvery
	s.Metadata.Retry.Max = 3
	s.Metadata.Retry.Backoff = 100 * time.Millisecond
	s.Metadata.Timeout = c.RequestTimeout
	s.Consumer.IsolationLevel = sarama.ReadCommitted
	s.Consumer.Offsets.AutoCommit.Enable = false
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Return.Errors = true

	if c.TLS.Enable {
		t, err := c.TLS.config()
		if err != nil {
			return nil, err
		}
		s.Net.TLS.Enable, s.Net.TLS.Config = true, t
	}
	if err := c.SASL.apply(s); err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("kafka configuration: %w", err)
	}
	return s, nil
}

func (t TLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities that sign Kafka's certificates: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("a Kafka client certificate needs both its certificate file and its key file")
	}
	if t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("read the Kafka client certificate: %w", err)
		}
		// Read anew for every connection, so that a renewed certificate needs no restart.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &pair, err
		}
	}
	return cfg, nil
}

func (s SASL) apply(cfg *sarama.Config) error {
	mechanism := sarama.SASLMechanism(strings.ToUpper(s.Mechanism))
	if mechanism == "" {
		if s.User != "" || s.Password != "" {
			return errors.New("a Kafka user is given without a SASL mechanism: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
		}
		return nil
	}
	switch mechanism {
	case sarama.SASLTypePlaintext:
	case sarama.SASLTypeSCRAMSHA256:
		cfg.Net.SASL.SCRAMClientGeneratorFunc = newSCRAM256
	case sarama.SASLTypeSCRAMSHA512:
		cfg.Net.SASL.SCRAMClientGeneratorFunc = newSCRAM512
	default:
		return fmt.Errorf("SASL mechanism %q is not known: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", s.Mechanism)
	}
	cfg.Net.SASL.Enable = true
	cfg.Net.SASL.Mechanism = mechanism
	cfg.Net.SASL.User = s.User
	cfg.Net.SASL.Password = s.Password
	return nil
}

// nullRegistry drops sarama's own measurements: its meters keep a goroutine for the life of the process, and a
// histogram per topic and connection costs more than it tells. What this package measures is in metrics.go.
type nullRegistry struct{}

func (nullRegistry) Each(func(string, any))            {}
func (nullRegistry) Get(string) any                    { return nil }
func (nullRegistry) Register(string, any) error        { return nil }
func (nullRegistry) RunHealthchecks()                  {}
func (nullRegistry) Unregister(string)                 {}
func (nullRegistry) UnregisterAll()                    {}
func (nullRegistry) GetAll() map[string]map[string]any { return nil }

func (nullRegistry) GetOrRegister(_ string, metric any) any {
	switch m := metric.(type) {
	case func() gometrics.Meter:
		return gometrics.NilMeter{}
	case func() gometrics.Counter:
		return gometrics.NilCounter{}
	case func() gometrics.Histogram:
		return gometrics.NilHistogram{}
	case func() gometrics.Gauge:
		return gometrics.NilGauge{}
	default:
		return m
	}
}
