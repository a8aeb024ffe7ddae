package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// configurationDocument is where the settings are documented: made of the help texts, so that nothing is said twice.
var configurationDocument = filepath.Join("..", "..", "docs", "configuration.md")

const configurationHead = `# Configuration

Every setting can be given as a flag, as an environment variable, or as a key of a YAML file. A flag wins over a
variable, a variable over the file. Keys of the file that do not exist are errors, so that a typing error is not a
default; variables EVENTISSUER_… that do not exist are told at the start.

` + "```sh" + `
eventissuer serve --data-dir /var/lib/eventissuer
EVENTISSUER_DATA_DIR=/var/lib/eventissuer eventissuer serve
eventissuer serve --config eventissuer.yaml     # data-dir: /var/lib/eventissuer
eventissuer config --config eventissuer.yaml    # what is in effect, without secrets, as such a file
` + "```" + `

Sizes are written as ` + "`64KiB`, `256MiB`, `2GiB`" + `, times as ` + "`10s`, `5m`" + `. Lists are separated by commas, or are YAML
lists. Exit codes: 0 after a drain, 1 when the server could not start or had to stop, 2 when the configuration is wrong.

This page is made from the help texts (` + "`go test ./cmd/eventissuer -run ConfigurationDocument -update`" + `).
`

func describeConfiguration(t *testing.T) string {
	t.Helper()
	var c cli
	parser, err := newParser(&c, &bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	doc.WriteString(configurationHead)
	for _, command := range parser.Model.Children {
		if command.Name != "serve" {
			continue
		}
		title := ""
		for _, f := range command.Flags {
			if f.Name == "help" {
				continue
			}
			group := "The file"
			if f.Group != nil {
				group = strings.TrimSuffix(f.Group.Title, ":")
			}
			if group != title {
				title = group
				fmt.Fprintf(&doc, "\n## %s\n\n| setting | variable | |\n| --- | --- | --- |\n", title)
			}
			placeholder := f.PlaceHolder
			if placeholder != "" && !f.IsBool() {
				placeholder = " " + placeholder
			} else {
				placeholder = ""
			}
			help := strings.NewReplacer("|", "\\|", "${default}", f.Default).Replace(f.Help)
			fmt.Fprintf(&doc, "| `--%s%s` | `%s` | %s |\n", f.Name, strings.ReplaceAll(placeholder, "|", "\\|"), strings.Join(f.Envs, ", "), help)
		}
	}
	return doc.String()
}

func TestConfigurationDocumentIsWhatTheHelpSays(t *testing.T) {
	want := describeConfiguration(t)
	if *update {
		if err := os.WriteFile(configurationDocument, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(configurationDocument)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/configuration.md is not what the help says (go test ./cmd/eventissuer -run ConfigurationDocument -update):\n%s", diff)
	}
}
