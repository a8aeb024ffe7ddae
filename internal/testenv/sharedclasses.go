package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// sharedClasses are the JVM's flags for an archive of a program's classes as it has them in memory once they are loaded and checked:
// with it a node starts with less than half of the processor time. Where it is missing, or is another JVM's, the classes come
// from the jars as ever.
func (c kafkaCluster) sharedClasses(program string) []string {
	if c.options.archive != "" {
		return []string{"-XX:ArchiveClassesAtExit=" + archiveOf(c.options.archive, program)}
	}
	file := archiveOf(filepath.Dir(c.libs), program)
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	return []string{"-XX:SharedArchiveFile=" + file, "-Xlog:cds=off", "-Xlog:cds+dynamic=off"}
}

func archiveOf(dir, program string) string { return filepath.Join(dir, program+".jsa") }

// ShareKafkaClasses starts and stops a node once, so that those after it start with less work. It blocks for some seconds.
func ShareKafkaClasses(ctx context.Context) (err error) {
	libs, err := kafkaLibs()
	if err != nil {
		return err
	}
	home := filepath.Dir(libs)
	dir, err := os.MkdirTemp(home, "shared-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	node, err := NewKafka(ctx, KafkaOptions{Dir: dir, archive: dir})
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
		if err := os.Rename(archiveOf(dir, program), archiveOf(home, program)); err != nil {
			return fmt.Errorf("the JVM wrote no archive: %w", err)
		}
	}
	return nil
}
