package schema

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// Cases of the suite that are not for us, each with its reason, by "draft/file/schema" or "draft/file/schema/case".
// A line that no longer rules anything out fails the test.
var notForUs = map[string]string{
	"draft2020-12/vocabulary/schema that uses custom metaschema with with no validation vocabulary": "a $schema of one's own is refused: two dialects are taken",
	"draft2020-12/vocabulary/ignore unrecognized optional vocabulary":                               "a $schema of one's own is refused: two dialects are taken",
}

type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

// TestRequiredCasesOfTheJSONSchemaSuitePass runs the suite against the validator as it is wired here.
func TestRequiredCasesOfTheJSONSchemaSuitePass(t *testing.T) {
	dir := testenv.SchemaSuite(t)
	used := map[string]bool{}
	for _, draft := range []string{"draft2020-12", "draft7"} {
		passed, failed, skipped := 0, 0, 0
		eachSuiteGroup(t, dir, draft, func(file string, group suiteGroup) {
			name := draft + "/" + file + "/" + group.Description
			if reason, ok := notForUs[name]; ok {
				used[name] = true
				skipped += len(group.Tests)
				t.Logf("not for us: %s: %s (%d cases)", name, reason, len(group.Tests))
				return
			}
			s, err := Compile(inDraft(group.Schema, draft), Options{
				AnnotateFormat: true, // the required cases want the specification's default
				URI:            "http://localhost:1234/suite/" + file,
				Resolve:        suiteRemotes(dir, draft),
			})
			if err != nil {
				failed += len(group.Tests)
				t.Errorf("%s: %v\n%s", name, err, group.Schema)
				return
			}
			for _, c := range group.Tests {
				if reason, ok := notForUs[name+"/"+c.Description]; ok {
					used[name+"/"+c.Description] = true
					skipped++
					t.Logf("not for us: %s: %s: %s", name, c.Description, reason)
					continue
				}
				if violations := s.Validate(c.Data, Verbatim); (len(violations) == 0) != c.Valid {
					failed++
					t.Errorf("%s: %s: valid is %v, want %v: %v\nschema %s\ndata %s",
						name, c.Description, !c.Valid, c.Valid, violations, group.Schema, c.Data)
					continue
				}
				passed++
			}
		})
		t.Logf("JSON Schema test suite, required cases of %s: %d passed, %d failed, %d skipped", draft, passed, failed, skipped)
		if passed < 800 {
			t.Errorf("only %d cases of %s ran: is the suite whole?", passed, draft)
		}
	}
	for name := range notForUs {
		if !used[name] {
			t.Errorf("nothing in the suite is called %q any more", name)
		}
	}
}

func eachSuiteGroup(t *testing.T, dir, draft string, do func(file string, group suiteGroup)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "tests", draft, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of %s in %s: %v", draft, dir, err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var groups []suiteGroup
		if err := json.Unmarshal(raw, &groups); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, g := range groups {
			do(strings.TrimSuffix(filepath.Base(path), ".json"), g)
		}
	}
}

// inDraft says which draft a schema is of, as the suite's folder does: without $schema it would be 2020-12.
func inDraft(schema json.RawMessage, draft string) []byte {
	var m map[string]json.RawMessage
	if draft == "draft7" && json.Unmarshal(schema, &m) == nil && m["$schema"] == nil {
		m["$schema"] = json.RawMessage(`"http://json-schema.org/draft-07/schema#"`)
		if b, err := json.Marshal(m); err == nil {
			return b
		}
	}
	return schema
}

// suiteRemotes serves what the suite expects at http://localhost:1234/.
func suiteRemotes(dir, draft string) func(string) ([]byte, bool) {
	return func(uri string) ([]byte, bool) {
		name, ok := strings.CutPrefix(uri, "http://localhost:1234/")
		if !ok {
			return nil, false
		}
		raw, err := os.ReadFile(filepath.Join(dir, "remotes", filepath.FromSlash(name)))
		if err != nil {
			return nil, false
		}
		return inDraft(raw, draft), true
	}
}
