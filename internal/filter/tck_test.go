package filter

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/eventissuer/eventissuer/internal/event"
)

type tckFile struct {
	Name  string    `yaml:"name"`
	Tests []tckCase `yaml:"tests"`
}

type tckCase struct {
	Name       string         `yaml:"name"`
	Expression string         `yaml:"expression"`
	Result     any            `yaml:"result"`
	Error      string         `yaml:"error"`
	Event      map[string]any `yaml:"event"`
	Overrides  map[string]any `yaml:"eventOverrides"`
}

// tck reads the compatibility kit of CESQL from the SDK's module.
func tck(t testing.TB) []tckFile {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudevents/sdk-go/sql/v2").Output()
	if err != nil {
		t.Fatalf("the SDK's module cannot be found: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "test", "tck", "*.yaml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("the SDK's module has no compatibility kit: %v", err)
	}
	files := make([]tckFile, len(names))
	for i, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &files[i]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return files
}

// input is the event of a case: its own, or any with the overrides.
func (c tckCase) input(t testing.TB) event.Event {
	t.Helper()
	attributes := c.Event
	if attributes == nil {
		attributes = map[string]any{"specversion": "1.0", "id": "1", "source": "/source", "type": "type"}
	}
	for name, value := range c.Overrides {
		attributes[name] = value
	}
	for name, value := range attributes {
		attributes[name] = plainValue(value)
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// plainValue undoes what YAML makes of an unquoted time.
func plainValue(v any) any {
	if t, ok := v.(time.Time); ok {
		return t.Format(time.RFC3339Nano)
	}
	return v
}

func TestCESQLPassesItsCompatibilityKit(t *testing.T) {
	kinds := map[string]func(error) bool{
		"math": sqlerrors.IsMathError, "cast": sqlerrors.IsCastError, "missingAttribute": sqlerrors.IsMissingAttributeError,
		"missingFunction": sqlerrors.IsMissingFunctionError, "functionEvaluation": sqlerrors.IsFunctionEvaluationError,
		"generic": sqlerrors.IsGenericError,
	}
	cases := 0
	for _, file := range tck(t) {
		for _, c := range file.Tests {
			cases++
			t.Run(file.Name+"/"+c.Name, func(t *testing.T) {
				f, compileErr := Compile(Query{SQL: c.Expression})
				if c.Error == "parse" || c.Error == "missingFunction" {
					if compileErr == nil {
						t.Fatalf("%s compiles, where a %s error is expected", c.Expression, c.Error)
					}
					if c.Error == "parse" {
						return
					}
				} else if compileErr != nil {
					t.Fatalf("%s does not compile: %v", c.Expression, compileErr)
				}
				x, err := (&compiler{nodes: maxNodes}).parseCESQL(c.Expression)
				if err != nil {
					t.Fatal(err)
				}
				e := c.input(t)
				got, err := build(x).Evaluate(cloudevents.Event{Context: &view{event: &e}})
				switch {
				case c.Error == "" && err != nil:
					t.Fatalf("%s fails: %v", c.Expression, err)
				case c.Error != "" && !kinds[c.Error](err):
					t.Fatalf("%s fails with %v, where a %s error is expected", c.Expression, err, c.Error)
				}
				want := plainValue(c.Result)
				if n, ok := want.(int); ok {
					want = int32(n)
				}
				if n, ok := got.(int); ok { // the SDK's own zero of Integer
					got = int32(n)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s (-want +got):\n%s", c.Expression, diff)
				}
				if compileErr != nil {
					return
				}
				truth, castErr := utils.Cast(got, cesql.BooleanType)
				if should := err == nil && castErr == nil && truth == true; f.Match(&e) != should {
					t.Fatalf("the filter %s matches: %v, want %v", c.Expression, !should, should)
				}
			})
		}
	}
	if cases < 150 {
		t.Fatalf("the kit has %d cases: too few to be whole", cases)
	}
	t.Logf("%d cases", cases)
}
