package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// sharedClasses are archives of Kafka's classes as the JVM has them in memory once they are loaded and checked, one for each
// program: with them a node starts with less than half of the processor time. Where one is missing, or is another JVM's, the
// classes come from the jars as ever.
type sharedClasses struct {
	dir  string
	make bool // write them when the program ends
}

func (s sharedClasses) flags(program string) []string {
	file := filepath.Join(s.dir, program+".jsa")
	if s.make {
		return []string{"-XX:ArchiveClassesAtExit=" + file}
	}
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	return []string{"-XX:SharedArchiveFile=" + file, "-Xlog:cds=off", "-Xlog:cds+dynamic=off"}
}

// ShareKafkaClasses starts and stops a node once, so that those after it start with less work. It blocks for some seconds.
func ShareKafkaClasses(ctx context.Context) (err error) {
	java, err := program(kafkaHow, "java")
	if err != nil {
		return err
	}
	libs, err := kafkaLibs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(libs), "shared-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	c := kafkaCluster{
		java: java, libs: libs, shared: sharedClasses{dir: dir, make: true},
		voters: fmt.Sprintf("1@%s", address(ports[0])), size: 1, options: KafkaOptions{Dir: dir},
	}
	if c.id, err = clusterID(); err != nil {
		return err
	}
	node, err := c.node(ctx, 1, ports)
	if err != nil {
		return err
	}
	if err := node.Start(ctx); err != nil {
		return err
	}
	if err := node.Stop(); err != nil {
		return err
	}
	for _, program := range []string{"format", "node"} {
		if err := os.Rename(filepath.Join(dir, program+".jsa"), filepath.Join(filepath.Dir(libs), program+".jsa")); err != nil {
			return fmt.Errorf("the JVM wrote no archive: %w", err)
		}
	}
	return nil
}
