package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Config is everything that can be set, each by a flag, by an environment variable EVENTISSUER_… and by a key of the
// YAML file. A flag wins over a variable, a variable over the file.
type Config struct {
	Config string `placeholder:"FILE" help:"YAML file with these settings, under the flags' names without the dashes before them (listen: 127.0.0.1:8080). Keys that do not exist are errors."`

	Listen         string   `group:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to listen. Port 0 takes a free one. Default: ${default}."`
	InsecureNoAuth bool     `group:"http" help:"Listen on other addresses than loopback although there is no access control yet: whoever reaches the address can read and publish everything. For servers behind something that decides who gets through."`
	PlainStreams   bool     `group:"http" help:"Do not compress SSE and NDJSON streams, nor messages of WebSockets, also where a client takes that."`
	PublicURL      string   `group:"http" name:"public-url" placeholder:"URL" help:"The address under which clients reach the server, where it is not the one they connect to (behind an API manager, under a path). Links in answers begin with it."`
	TrustedProxies []string `group:"http" placeholder:"CIDR" help:"Addresses or networks of proxies in front. Only their X-Forwarded-For and Forwarded headers are believed; they decide a client's address for limits and logs."`
	CorsOrigin     []string `group:"http" name:"cors-origin" placeholder:"ORIGIN" help:"Origins of web pages that may use the server beside its own (https://app.example.org), for CORS and WebSockets alike. '*' allows all."`
	TLSCert        string   `group:"http" name:"tls-cert" placeholder:"FILE" help:"Certificate chain (PEM). With it the server speaks HTTPS, HTTP/2 included. Loaded again when the file changes."`
	TLSKey         string   `group:"http" name:"tls-key" placeholder:"FILE" help:"The certificate's private key (PEM)."`

	DataDir string `group:"storage" default:"./data" placeholder:"DIR" help:"Where the embedded Kafka and Redis keep their data. Not used where --kafka-brokers and --redis-url are given. Default: ${default}."`

	KafkaBrokers       []string `group:"storage" placeholder:"HOST:PORT" help:"Kafka brokers to begin with. Needs --redis-url too; without both, everything runs inside this process."`
	KafkaTLS           bool     `group:"storage" name:"kafka-tls" help:"Speak TLS to Kafka. Implied by the three flags that follow."`
	KafkaTLSCA         string   `group:"storage" name:"kafka-tls-ca" placeholder:"FILE" help:"Authorities (PEM) that sign the brokers' certificates, where they are not the system's."`
	KafkaTLSCert       string   `group:"storage" name:"kafka-tls-cert" placeholder:"FILE" help:"Client certificate (PEM) for Kafka."`
	KafkaTLSKey        string   `group:"storage" name:"kafka-tls-key" placeholder:"FILE" help:"The client certificate's key (PEM)."`
	KafkaSASLMechanism string   `group:"storage" name:"kafka-sasl-mechanism" enum:",PLAIN,SCRAM-SHA-256,SCRAM-SHA-512" default:"" placeholder:"NAME" help:"How to log in to Kafka: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."`
	KafkaUsername      string   `group:"storage" placeholder:"NAME" help:"User for SASL."`
	KafkaPasswordFile  string   `group:"storage" placeholder:"FILE" help:"File with the password for SASL: secrets do not belong on command lines."`
	KafkaRack          string   `group:"storage" placeholder:"NAME" help:"Rack or zone of this process (client.rack): reads prefer a replica nearby."`

	GroupSessionTimeout time.Duration `group:"storage" default:"10s" placeholder:"TIME" help:"After how long without a sign of life a replica loses its share of a pull subscription's events to the others; 1s to 5m. A Kafka takes 6s or more, unless its group.min.session.timeout.ms is lower. Default: ${default}."`

	RedisURL          string `group:"storage" name:"redis-url" placeholder:"URL" help:"Redis: redis://[user:password@]host:port[/db], rediss://… for TLS, redis+cluster://host:port,host:port/…, redis+sentinel://host:port,host:port/master[/db]; rediss+cluster and rediss+sentinel too."`
	RedisPasswordFile string `group:"storage" placeholder:"FILE" help:"File with Redis's password, instead of one in the URL."`

	TopicPrefix       string `group:"storage" default:"eventissuer." placeholder:"PREFIX" help:"How a stream's topic is named by default: this, then the stream's name. Default: '${default}'."`
	ReplicationFactor int16  `group:"storage" default:"-1" placeholder:"N" help:"Replicas of each topic that is made; -1 leaves it to the cluster. Default: ${default}."`

	MaxSessions           int           `group:"limits" default:"50000" placeholder:"N" help:"Long-lived connections of this process. Default: ${default}."`
	MaxSessionsPerAddress int           `group:"limits" default:"20000" placeholder:"N" help:"Long-lived connections from one client address. Many phones share one: be generous. Default: ${default}."`
	Writers               int           `group:"limits" default:"0" placeholder:"N" help:"Goroutines that write to connections without TLS. Default: half of the processors, at least one."`
	MaxSubscriptionGroups int           `group:"limits" default:"1000" placeholder:"N" help:"Subscriptions that have sessions on this process at once: it is a member of a Kafka consumer group for each. Default: ${default}."`
	RingBytes             ByteSize      `group:"limits" default:"32MiB" placeholder:"SIZE" help:"Memory for the recent events of one stream, shared by all its readers. Default: ${default}."`
	MemoryBytes           ByteSize      `group:"limits" default:"512MiB" placeholder:"SIZE" help:"Memory for recent events, the lists of filters' matches, and caches of all streams together; events that subscriptions have not done yet take a quarter of it besides, and pages that are being written an eighth. Default: ${default}."`
	CatchUpReads          int           `group:"limits" default:"128" placeholder:"N" help:"Reads of the log at once for clients that are behind, of all streams together; one stream has half of them at most. Each takes up to 256 KiB, or an event's size, beside --memory-bytes. Default: ${default}."`
	DedupeBytes           ByteSize      `group:"limits" default:"128MiB" placeholder:"SIZE" help:"Memory for the ids of published events, by which the same event again is told, with the embedded broker; about 40 bytes an event. Beyond it the oldest are forgotten before their window is over. With --redis-url they are in Redis. Default: ${default}."`
	DedupeLease           time.Duration `group:"limits" default:"60s" placeholder:"TIME" help:"How long an event is answered 'send it again' when a replica went away half way through writing it; then the log is searched for it. At least 25s, and more than 20s and the brokers' replica.lag.time.max.ms together: so long may a write take to land. The same for all replicas. Default: ${default}."`
	MaxEventBytes         ByteSize      `group:"limits" default:"1MiB" placeholder:"SIZE" help:"The largest event that may be published; 64KiB to 1280KiB. Default: ${default}."`
	MaxBatchBytes         ByteSize      `group:"limits" default:"8MiB" placeholder:"SIZE" help:"The largest batch that may be published. Default: ${default}."`
	MaxBatchEvents        int           `group:"limits" default:"1000" placeholder:"N" help:"Events in one batch at most. Default: ${default}."`

	Role                     string   `group:"push" enum:"all,sessions,push" default:"all" placeholder:"all|sessions|push" help:"What this replica is for: one for sessions delivers to no webhooks; one for push does, and is meant to get no readers from the load balancer. Every replica answers the API. Default: ${default}."`
	SecretKeys               string   `group:"push" placeholder:"FILE" help:"Keys under which the secrets of subscriptions are kept encrypted: a line '<id> <base64 of 32 bytes>' each, the first of which encrypts. The same on all replicas; needed for webhooks, but with the embedded broker, which makes its own."`
	TokenKeys                string   `group:"push" placeholder:"FILE" help:"Private keys (PEM, Ed25519 or P-256) that sign the tokens by which the server says to endpoints who it is; the first signs, all are told at /.well-known/jwks.json. The same on all replicas."`
	WebhookOrigin            string   `group:"push" placeholder:"NAME" help:"Who the server says it is, to endpoints that are asked for their consent (WebHook-Request-Origin). Default: the host of --public-url, or 'eventissuer'."`
	AllowLoopbackSinks       bool     `group:"push" help:"Let subscriptions name endpoints on this machine (127.0.0.0/8, ::1), also without TLS: for development."`
	AllowSinks               []string `group:"push" placeholder:"CIDR|HOST" help:"Private networks (10.2.0.0/16), or names that may have private addresses (*.svc.cluster.local), that endpoints may be in."`
	DenySinks                []string `group:"push" placeholder:"CIDR" help:"Networks that no endpoint may be in, though public or allowed."`
	WebhookProxy             string   `group:"push" placeholder:"URL" help:"Send everything to endpoints through this CONNECT proxy, for a fixed address to come from. It then has to decide which addresses may be reached."`
	WebhookProxyPasswordFile string   `group:"push" placeholder:"FILE" help:"File with the proxy's password."`
	AcceptAnyResponse        bool     `group:"push" help:"Take any 2xx answer for an endpoint's proof that it wants events. Whoever can make subscriptions can then have events sent to any page that answers a POST."`

	DrainTimeout time.Duration `group:"life" default:"30s" placeholder:"TIME" help:"How long the server takes, once told to stop, to send its clients elsewhere one by one. Default: ${default}."`
	LameDuck     time.Duration `group:"life" default:"3s" placeholder:"TIME" help:"How long, of that, the server goes on as before while /readyz already tells that it is stopping, so that a load balancer can notice before anybody is refused: longer than its interval of checks. At most half of --drain-timeout; Ctrl-C skips it. Default: ${default}."`
	LogFormat    string        `group:"life" enum:"text,json" default:"text" placeholder:"text|json" help:"Form of the log on standard error. Default: ${default}."`
	LogLevel     string        `group:"life" enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL" help:"Least level that is logged: debug, info, warn or error. Default: ${default}."`

	Demo     bool   `group:"demo" help:"Publish the trains of Norway, by a real day's timetable, and show them on a map at /."`
	DemoTime string `group:"demo" placeholder:"HH:MM" help:"Where the demo's clock starts. Default: now, in Oslo."`
}

// Validate checks what can be checked without asking anybody.
func (c *Config) Validate() error {
	return errors.Join(
		c.checkListen(),
		c.checkStorage(),
		c.checkHTTP(),
		c.checkLimits(),
		c.checkPush(),
	)
}

func (c *Config) checkListen() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %s: write HOST:PORT, such as 127.0.0.1:8080", c.Listen)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("--listen %s: the port is a number from 0 (a free one) to 65535", c.Listen)
	}
	if c.InsecureNoAuth || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("--listen %s: there is no access control yet, so whoever reaches this address could read and publish everything. "+
		"Listen on 127.0.0.1, or give --insecure-no-auth if something in front of the server decides who gets through", c.Listen)
}

// isLoopback tells whether host can be reached from this machine alone.
func isLoopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// embedded tells whether Kafka and Redis run inside this process.
func (c *Config) embedded() bool { return len(c.KafkaBrokers) == 0 && c.RedisURL == "" }

// The bounds of --group-session-timeout.
const (
	leastGroupSession = time.Second
	mostGroupSession  = 5 * time.Minute
)

func (c *Config) checkStorage() error {
	var errs []error
	switch {
	case len(c.KafkaBrokers) > 0 && c.RedisURL == "":
		errs = append(errs, errors.New("--kafka-brokers without --redis-url: a replica needs both; without both, everything runs inside this process"))
	case len(c.KafkaBrokers) == 0 && c.RedisURL != "":
		errs = append(errs, errors.New("--redis-url without --kafka-brokers: a replica needs both; without both, everything runs inside this process"))
	case c.embedded() && c.DataDir == "":
		errs = append(errs, errors.New("--data-dir is empty: name a folder for the embedded servers' data"))
	}
	if c.RedisURL != "" {
		if _, err := c.redisClient(0); err != nil {
			errs = append(errs, err)
		}
	}
	if (c.KafkaSASLMechanism == "") != (c.KafkaUsername == "") {
		errs = append(errs, errors.New("--kafka-sasl-mechanism and --kafka-username belong together"))
	}
	if c.KafkaSASLMechanism != "" && c.KafkaPasswordFile == "" {
		errs = append(errs, errors.New("--kafka-sasl-mechanism needs --kafka-password-file"))
	}
	if (c.KafkaTLSCert == "") != (c.KafkaTLSKey == "") {
		errs = append(errs, errors.New("--kafka-tls-cert and --kafka-tls-key belong together"))
	}
	if c.embedded() && (c.KafkaTLS || c.KafkaTLSCA != "" || c.KafkaTLSCert != "" || c.KafkaSASLMechanism != "") {
		errs = append(errs, errors.New("settings of a Kafka's security without --kafka-brokers: the embedded one has none"))
	}
	if d := c.GroupSessionTimeout; d < leastGroupSession || d > mostGroupSession {
		errs = append(errs, fmt.Errorf("--group-session-timeout is %s: it must be from %s to %s", d, leastGroupSession, mostGroupSession))
	}
	if !topicPrefix.MatchString(c.TopicPrefix) {
		errs = append(errs, fmt.Errorf("--topic-prefix %q: topics have letters, digits and any of . _ - in their names, and begin with a letter or digit", c.TopicPrefix))
	}
	if c.ReplicationFactor == 0 || c.ReplicationFactor < -1 {
		errs = append(errs, fmt.Errorf("--replication-factor %d: give a number above 0, or -1 for the cluster's default", c.ReplicationFactor))
	}
	return errors.Join(errs...)
}

func (c *Config) checkHTTP() error {
	var errs []error
	if _, err := c.publicURL(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.trustedProxies(); err != nil {
		errs = append(errs, err)
	}
	for _, origin := range c.CorsOrigin {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "") {
			errs = append(errs, fmt.Errorf("--cors-origin %s: an origin is a scheme and a host, such as https://app.example.org", origin))
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key belong together"))
	} else if c.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			errs = append(errs, fmt.Errorf("--tls-cert and --tls-key: %w", err))
		}
	}
	return errors.Join(errs...)
}

// largestEvent is what --max-event-bytes may be at most. A stream's topic takes records of 2 MiB; a payload in the binary
// mode grows by a third, and attributes come on top.
const largestEvent = ByteSize(1280 << 10)

func (c *Config) checkLimits() error {
	var errs []error
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	size := func(n int64) string { return ByteSize(n).String() }
	span := func(n int64) string { return time.Duration(n).String() }
	for _, limit := range []struct {
		flag  string
		value int64
		least int64
		write func(int64) string
		why   string
	}{
		{"max-sessions", int64(c.MaxSessions), 1, number, ""},
		{"max-sessions-per-address", int64(c.MaxSessionsPerAddress), 1, number, ""},
		{"writers", int64(c.Writers), 0, number, ""},
		{"max-subscription-groups", int64(c.MaxSubscriptionGroups), 1, number, ""},
		{"max-batch-events", int64(c.MaxBatchEvents), 1, number, ""},
		{"dedupe-bytes", int64(c.DedupeBytes), 1 << 20, size, ""},
		{"dedupe-lease", int64(c.DedupeLease), int64(leastLease), span, ""},
		{"catch-up-reads", int64(c.CatchUpReads), 1, number, ""},
		{"ring-bytes", int64(c.RingBytes), 64 << 10, size, ""},
		{"memory-bytes", int64(c.MemoryBytes), int64(c.RingBytes), size, ", as --ring-bytes"},
		{"max-event-bytes", int64(c.MaxEventBytes), 64 << 10, size, ""},
		{"max-batch-bytes", int64(c.MaxBatchBytes), int64(c.MaxEventBytes), size, ", as --max-event-bytes"},
		{"drain-timeout", int64(c.DrainTimeout), 0, span, ""},
		{"lame-duck", int64(c.LameDuck), 0, span, ""},
	} {
		if limit.value < limit.least {
			errs = append(errs, fmt.Errorf("--%s is %s: it must be at least %s%s", limit.flag, limit.write(limit.value), limit.write(limit.least), limit.why))
		}
	}
	if c.MaxEventBytes > largestEvent {
		errs = append(errs, fmt.Errorf("--max-event-bytes is %s: it must be at most %s, so that streams' topics take it", c.MaxEventBytes, largestEvent))
	}
	if c.DemoTime != "" && !c.Demo {
		errs = append(errs, errors.New("--demo-time without --demo: there is no clock to set"))
	}
	if c.DemoTime != "" {
		if _, err := time.Parse("15:04", c.DemoTime); err != nil {
			errs = append(errs, fmt.Errorf("--demo-time %s: write a time of day, such as 08:00", c.DemoTime))
		}
	}
	return errors.Join(errs...)
}

// leastLease is as long as an append may take to land where the brokers' replica lag is nothing, and the time to get to it.
const leastLease = 25 * time.Second

// topicPrefix is what the names of streams' topics may begin with.
var topicPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// publicURL gives --public-url, or nil.
func (c *Config) publicURL() (*url.URL, error) {
	if c.PublicURL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("--public-url %s: write an absolute address without a query, such as https://events.example.org", c.PublicURL)
	}
	return u, nil
}

// trustedProxies gives --trusted-proxies as networks.
func (c *Config) trustedProxies() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.TrustedProxies {
		if addr, err := netip.ParseAddr(text); err == nil {
			networks = append(networks, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies %s: write addresses or networks, such as 10.0.0.0/8", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// secret reads a file that holds a secret and nothing else.
func secret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read a password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
