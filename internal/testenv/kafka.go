package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// KafkaVersion is the release that deploy/local/install fetches.
const KafkaVersion = "4.1.1"

// The one user of a node with [KafkaOptions].Secure, by SASL PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
const (
	KafkaUser     = "alice"
	KafkaPassword = "wonderland"
)

const (
	kafkaStart = 60 * time.Second // a JVM that shares two cores with the tests
	kafkaStop  = 30 * time.Second
	kafkaHow   = "run deploy/local/install kafka, which needs Java 17 or newer and Maven"
)

// KafkaOptions are what a test may ask of its own node. The zero value is one plain node on a free port.
type KafkaOptions struct {
	Dir        string            // the folder of data, configuration and log; must be absolute. StartKafka gives a temporary one
	Port       int               // of the plain listener; 0 takes a free one
	Properties map[string]string // server.properties added to ours, or put in their place
	HeapMB     int               // the JVM's heap; default 512
	LongLived  bool              // compile what runs often as well as the JVM can, as in production: that pays after minutes
	Secure     bool              // also listen with TLS, and with TLS and SASL
	Racks      []string          // each node's rack, by its place; readers may then fetch from the nearest replica
	// Proxied is how many more plain listeners each node has, each advertised at an address of its own, where a proxy is
	// to listen: whoever begins at such addresses reaches the cluster through the proxies alone.
	Proxied int

	archive string // a folder that archives of the node's classes are written to when it ends; else it starts from those there are
}

// KafkaProcess is one node, broker and controller in one. Its methods may be called concurrently.
type KafkaProcess struct {
	process         process
	id              int
	port            int
	tlsPort, saslPt int
	proxied         []proxiedPort
	ca              string
}

// proxiedPort is a listener that is advertised elsewhere.
type proxiedPort struct{ listen, advertised int }

// Addr is the address of the plain listener. It stays the same over restarts.
func (k *KafkaProcess) Addr() string { return address(k.port) }

// TLSAddr is the address of the listener with TLS and no SASL; only with KafkaOptions.Secure.
func (k *KafkaProcess) TLSAddr() string { return address(k.tlsPort) }

// SASLAddr is the address of the listener with TLS and SASL; only with KafkaOptions.Secure.
func (k *KafkaProcess) SASLAddr() string { return address(k.saslPt) }

// Proxied is where the node listens for a proxy, and where it says that it does: the proxy's own address. Counted from 0;
// only with KafkaOptions.Proxied.
func (k *KafkaProcess) Proxied(i int) (listens, advertised string) {
	return address(k.proxied[i].listen), address(k.proxied[i].advertised)
}

// CAFile is the PEM file of the certificate that signed the secure listeners' certificate.
func (k *KafkaProcess) CAFile() string { return k.ca }

// ID is the node's id: 1 for the first.
func (k *KafkaProcess) ID() int32 { return int32(k.id) }

// Pid is the process id, 0 while the node is stopped.
func (k *KafkaProcess) Pid() int { return k.process.pid() }

// LogFile is where the node's log goes.
func (k *KafkaProcess) LogFile() string { return k.process.log }

// Start starts a stopped node on its port and data, and blocks until it answers as a registered broker.
func (k *KafkaProcess) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaStart)
	defer cancel()
	return k.process.start(ctx)
}

// Kill is kill -9: nothing is flushed but what the page cache keeps. It returns when the process is gone.
func (k *KafkaProcess) Kill() error { return k.process.stop(syscall.SIGKILL, kafkaStop) }

// Stop is an orderly shutdown; it blocks for up to half a minute, then kills.
func (k *KafkaProcess) Stop() error { return k.process.stop(syscall.SIGTERM, kafkaStop) }

// Pause freezes the node as a long garbage collection would: connections stay open and nothing answers.
func (k *KafkaProcess) Pause() error { return k.process.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (k *KafkaProcess) Resume() error { return k.process.signal(syscall.SIGCONT) }

// NewKafka prepares one formatted node in o.Dir without starting it. A folder that was formatted before is taken as
// it is. A *[MissingError] says that the machine cannot run Kafka.
func NewKafka(ctx context.Context, o KafkaOptions) (*KafkaProcess, error) {
	nodes, err := NewKafkaCluster(ctx, 1, o)
	if err != nil {
		return nil, err
	}
	return nodes[0], nil
}

// NewKafkaCluster prepares n nodes that are broker and controller each, in folders under o.Dir, without starting them:
// [StartNodes] does. Topics have as many replicas as there are nodes, 3 at most.
func NewKafkaCluster(ctx context.Context, n int, o KafkaOptions) ([]*KafkaProcess, error) {
	java, err := program(kafkaHow, "java")
	if err != nil {
		return nil, err
	}
	libs, err := kafkaLibs()
	if err != nil {
		return nil, err
	}
	perNode := 4 + 2*o.Proxied
	ports, err := freePorts(n * perNode)
	if err != nil {
		return nil, err
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, address(ports[i*perNode])))
	}
	c := kafkaCluster{java: java, libs: libs, voters: strings.Join(voters, ","), size: n, options: o}
	if c.id, err = clusterID(); err != nil {
		return nil, err
	}
	nodes := make([]*KafkaProcess, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range nodes {
		p := ports[i*perNode : (i+1)*perNode]
		if o.Port != 0 {
			p[1] = o.Port + i
		}
		wg.Go(func() { nodes[i], errs[i] = c.node(ctx, i+1, p) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("prepare Kafka: %w", err)
	}
	return nodes, nil
}

// StartNodes starts the nodes of a cluster all at once, since none answers before the quorum has a majority.
func StartNodes(ctx context.Context, nodes []*KafkaProcess) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() { errs[i] = node.Start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// kafkaLibs is the folder of Kafka's jars.
func kafkaLibs() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	libs := filepath.Join(root, ".local", "kafka-"+KafkaVersion, "libs")
	if _, err := os.Stat(filepath.Join(libs, "kafka_2.13-"+KafkaVersion+".jar")); err != nil {
		return "", &MissingError{What: "Kafka's jars", How: kafkaHow}
	}
	return libs, nil
}

// clusterID is a random UUID in Kafka's text form.
func clusterID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	b[0] &= 0x7f // the text must not begin with a dash, which Kafka's tool takes for an option
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}
