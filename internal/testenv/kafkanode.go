package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kafkaCluster is what the nodes of one cluster have in common.
type kafkaCluster struct {
	java, libs string
	id         string
	voters     string // controller.quorum.voters
	size       int
	options    KafkaOptions
}

// node writes and formats the folder of one node. Its ports: controller, plain, TLS, TLS with SASL, and for each proxied
// listener its own and the one that it is advertised at.
func (c kafkaCluster) node(ctx context.Context, id int, ports []int) (*KafkaProcess, error) {
	dir := c.options.Dir
	if c.size > 1 {
		dir = filepath.Join(dir, fmt.Sprintf("node-%d", id))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	k := &KafkaProcess{id: id, port: ports[1]}
	properties := c.properties(id, ports, filepath.Join(dir, "data"))
	if c.options.Secure {
		k.tlsPort, k.saslPt = ports[2], ports[3]
		pair, err := newCertificate()
		if err != nil {
			return nil, err
		}
		if k.ca, err = writeFile(dir, "ca.pem", pair.chain); err != nil {
			return nil, err
		}
		store, err := writeFile(dir, "keystore.pem", pair.key+pair.chain)
		if err != nil {
			return nil, err
		}
		secure(properties, ports, store)
	}
	for i := range c.options.Proxied {
		k.proxied = append(k.proxied, proxiedPort{ports[4+2*i], ports[5+2*i]})
	}
	proxied(properties, k.proxied)
	maps.Copy(properties, c.options.Properties)
	config, err := writeFile(dir, "server.properties", render(properties))
	if err != nil {
		return nil, err
	}
	logging, err := writeFile(dir, "log4j2.xml", kafkaLogging)
	if err != nil {
		return nil, err
	}
	if err := c.format(ctx, dir, config, logging); err != nil {
		return nil, err
	}
	args := append([]string{c.java}, c.sharedClasses("node")...)
	heap := c.options.HeapMB
	if heap == 0 {
		heap = 512
	}
	if !c.options.LongLived {
		args = append(args, "-XX:TieredStopAtLevel=1")
	}
	k.process = process{
		name: fmt.Sprintf("Kafka node %d", id),
		dir:  dir,
		log:  filepath.Join(dir, "kafka.log"),
		args: append(args, fmt.Sprintf("-Xmx%dm", heap), "-XX:+UseSerialGC", "-Djava.awt.headless=true",
			"-Dlog4j2.configurationFile="+logging, "-cp", filepath.Join(c.libs, "*"), "kafka.Kafka", config),
		// Its ports answer before the cluster has let it in, so it is asked for its own word.
		up: func(_ context.Context, printed []byte) error {
			if !bytes.Contains(printed, []byte("Kafka Server started")) {
				return errors.New("it has not said that it has started")
			}
			return nil
		},
	}
	return k, nil
}

// properties are those of a small node that answers soon: no waiting for group members, few internal partitions,
// retention and compaction at work within a second or so, so that tests of them need not wait for minutes.
func (c kafkaCluster) properties(id int, ports []int, data string) map[string]string {
	replicas, inSync := fmt.Sprint(min(c.size, 3)), "1"
	if c.size >= 3 {
		inSync = "2"
	}
	p := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          fmt.Sprint(id),
		"controller.quorum.voters":                         c.voters,
		"controller.listener.names":                        "CONTROLLER",
		"inter.broker.listener.name":                       "PLAIN",
		"listeners":                                        "PLAIN://" + address(ports[1]) + ",CONTROLLER://" + address(ports[0]),
		"advertised.listeners":                             "PLAIN://" + address(ports[1]),
		"listener.security.protocol.map":                   "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL",
		"log.dirs":                                         data,
		"auto.create.topics.enable":                        "false",
		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replicas,
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,
		"share.coordinator.state.topic.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":                 "0",
		"log.initial.task.delay.ms":                        "500",
		"log.retention.check.interval.ms":                  "500",
		"log.cleaner.backoff.ms":                           "500",
		"log.segment.delete.delay.ms":                      "500",
		// A killed node is let in again, and its partitions get new leaders, only when its old session has run out.
		"broker.session.timeout.ms":    "3000",
		"broker.heartbeat.interval.ms": "500",
		"controlled.shutdown.enable":   fmt.Sprint(c.size > 1),
	}
	if id <= len(c.options.Racks) {
		p["broker.rack"] = c.options.Racks[id-1]
		p["replica.selector.class"] = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
	}
	return p
}

// proxied adds listeners that are advertised elsewhere.
func proxied(p map[string]string, ports []proxiedPort) {
	for i, port := range ports {
		name := fmt.Sprintf("PROXIED%d", i)
		p["listeners"] += "," + name + "://" + address(port.listen)
		p["advertised.listeners"] += "," + name + "://" + address(port.advertised)
		p["listener.security.protocol.map"] += "," + name + ":PLAINTEXT"
	}
}

// secure adds listeners with TLS and with TLS and SASL.
func secure(p map[string]string, ports []int, keystore string) {
	more := ",TLS://" + address(ports[2]) + ",SASL://" + address(ports[3])
	p["listeners"] += more
	p["advertised.listeners"] += more
	p["ssl.keystore.type"] = "PEM"
	p["ssl.keystore.location"] = keystore
	p["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
	for mechanism, module := range map[string]string{
		"plain": fmt.Sprintf("org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=%q;",
			KafkaUser, KafkaPassword),
		"scram-sha-256": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"scram-sha-512": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
	} {
		p["listener.name.sasl."+mechanism+".sasl.jaas.config"] = module
	}
}

// format lays out the data folder unless it is already.
func (c kafkaCluster) format(ctx context.Context, dir, config, logging string) error {
	if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); err == nil {
		return nil
	}
	args := append(c.sharedClasses("format"), "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile="+logging, "-cp", filepath.Join(c.libs, "*"),
		"kafka.tools.StorageTool", "format", "--cluster-id", c.id, "--config", config)
	if c.options.Secure {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, KafkaUser, KafkaPassword))
		}
	}
	cmd := exec.CommandContext(ctx, c.java, args...)
	cmd.Dir, cmd.SysProcAttr = dir, dieWithParent()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format %s: %w\n%s", dir, err, out)
	}
	return nil
}

// render writes properties in a fixed order.
func render(p map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", name, p[name])
	}
	return b.String()
}

const kafkaLogging = `<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="OFF">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %-5p %c{1}: %m%n"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
`
