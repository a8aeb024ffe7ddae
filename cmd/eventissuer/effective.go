package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// printConfig writes all settings as they are in effect, under the keys of the configuration file, with the help
// texts as comments. It can be read back; only passwords are masked.
func printConfig(w io.Writer, command *kong.Context) error {
	node := command.Selected()
	if node == nil {
		return errNoConfig
	}
	doc := &yaml.Node{Kind: yaml.MappingNode}
	for _, flag := range node.Flags {
		if flag.Name == "help" || flag.Name == "config" {
			continue
		}
		var value yaml.Node
		if err := value.Encode(printable(flag.Name, command.FlagValue(flag))); err != nil {
			return fmt.Errorf("print %s: %w", flag.Name, err)
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: flag.Name, HeadComment: firstSentence(flag.Help)}
		doc.Content = append(doc.Content, key, &value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	return enc.Close()
}

func printable(name string, value any) any {
	switch v := value.(type) {
	case []string:
		if v == nil {
			return []string{}
		}
		return v
	case time.Duration:
		return v.String()
	case ByteSize:
		return v.String()
	case string:
		if name == "redis-url" {
			return withoutPassword(v)
		}
	}
	return value
}

func firstSentence(help string) string {
	sentence, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(sentence, ".") + "."
}
