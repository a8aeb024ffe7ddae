package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// serverProgram builds the server once, into a folder that the last test leaves to the system's cleaning.
var serverProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "eventctl-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "eventissuer")
	if out, err := exec.Command("go", "build", "-o", path, "../eventissuer").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// startServer starts a real server and returns its address.
func startServer(t *testing.T) string {
	t.Helper()
	path, err := serverProgram()
	if err != nil {
		t.Fatal(err)
	}
	listen := "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))
	testenv.StartProgram(t, testenv.ProgramOptions{
		Name: "server", Args: []string{path, "serve", "--listen", listen, "--data-dir", t.TempDir()}, Dir: t.TempDir(),
		Up: func(ctx context.Context, _ []byte) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		},
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return "http://" + listen
}

// at calls the program against a server, and checks what it exits with.
func at(t *testing.T, server string, code int, stdin string, args ...string) outcome {
	t.Helper()
	o := eventctl(t.Context(), stdin, append([]string{"--server", server}, args...)...)
	if o.code != code {
		t.Fatalf("%v exits with %d instead of %d\n%s%s", args, o.code, code, o.out, o.err)
	}
	return o
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	speedSchema  = `{"type":"object","properties":{"speed":{"type":"integer"}},"required":["speed"],"additionalProperties":false}`
	speedSchema2 = `{"type":"object","properties":{"speed":{"type":"number"},"at":{"type":"string"}},"required":["speed"],"additionalProperties":false}`
	speedBroken  = `{"type":"object","properties":{"speed":{"type":"string"}},"required":["speed"],"additionalProperties":false}`
)

func TestSchemaIsCheckedForPipelines(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains")
	at(t, server, 0, speedSchema, "types", "register", "train.speed", "--stream", "trains", "--schema", "-", "--source", "/trains/", "--promote", "speed=/speed", "--documentation", file(t, "# Speed"))
	if o := at(t, server, 0, speedSchema2, "schemas", "check", "train.speed", "-"); !strings.HasPrefix(o.out, "compatible with version 1 (backward)") {
		t.Error(o.out)
	}
	o := at(t, server, 5, speedBroken, "schemas", "check", "train.speed", "-")
	if !strings.HasPrefix(o.out, "incompatible with version 1 (backward)\n  ") || !strings.Contains(o.out, "/speed") {
		t.Error(o.out)
	}
	var v verdict
	if err := json.Unmarshal([]byte(at(t, server, 5, speedBroken, "schemas", "check", "train.speed", "-", "--json").out), &v); err != nil || v.Verdict != "incompatible" {
		t.Errorf("%+v %v", v, err)
	}
	if o := at(t, server, 4, speedBroken, "schemas", "register", "train.speed", "-"); !strings.Contains(o.err, "/speed") {
		t.Error(o.err)
	}
	at(t, server, 4, `{"type":"thing"}`, "schemas", "check", "train.speed", "-")
	at(t, server, 2, `{`, "schemas", "check", "train.speed", "-")
	at(t, server, 2, "", "schemas", "check", "train.speed", "/no/such/file")
	at(t, server, 0, speedSchema2, "schemas", "register", "train.speed", "-")
	if o := at(t, server, 0, "", "schemas", "list", "train.speed"); strings.Count(o.out, "2020-12") != 2 || !strings.Contains(o.out, "local") {
		t.Error(o.out)
	}
	if o := at(t, server, 0, "", "schemas", "show", "train.speed", "1"); !strings.Contains(o.out, `"integer"`) {
		t.Error(o.out)
	}
	// A change of one member leaves the others.
	at(t, server, 0, "", "types", "register", "train.speed", "--replace", "--owner", "banenor")
	var typ map[string]any
	if err := json.Unmarshal([]byte(at(t, server, 0, "", "types", "show", "train.speed").out), &typ); err != nil {
		t.Fatal(err)
	}
	if typ["owner"] != "banenor" || typ["documentation"] != "# Speed" || typ["latestVersion"] != 2.0 || len(typ["promote"].(map[string]any)) != 1 {
		t.Errorf("%v", typ)
	}
	if o := at(t, server, 0, "", "types", "list", "--search", "speed BANENOR"); !strings.Contains(o.out, "train.speed") {
		t.Error(o.out)
	}
}

func TestDefinitionsMoveBetweenEnvironmentsAsFiles(t *testing.T) {
	from, to := startServer(t), startServer(t)
	at(t, from, 0, "", "streams", "create", "trains", "--partitions", "3", "--retention", "24h")
	at(t, from, 0, speedSchema, "types", "register", "train.speed", "--stream", "trains", "--schema", "-")
	at(t, from, 0, speedSchema2, "schemas", "register", "train.speed", "-")
	at(t, from, 0, "", "types", "register", "train.speed", "--replace", "--example", file(t, `{"speed":1.5,"at":"Oslo S"}`))
	at(t, from, 0, "", "types", "register", "app.*", "--stream", "trains")

	dir := t.TempDir()
	at(t, from, 0, "", "types", "export", dir)
	at(t, from, 0, "", "types", "diff", dir)
	written := read(t, dir)
	if len(written) != 3 || written["types/app.%.json"] == "" || strings.Contains(written["types/train.speed.json"], "created") {
		t.Errorf("%v", written)
	}

	o := at(t, to, 5, "", "types", "diff", dir)
	if o.out != "+ stream trains\n+ event type app.*\n+ event type train.speed\n    schema 1 is to be registered\n    schema 2 is to be registered\n" {
		t.Error(o.out)
	}
	at(t, to, 0, "", "types", "apply", dir, "--dry-run")
	at(t, to, 5, "", "types", "diff", dir) // nothing was done
	at(t, to, 0, "", "types", "apply", dir)
	at(t, to, 0, "", "types", "diff", dir)
	at(t, to, 0, "", "types", "import", dir) // again is no change
	other := t.TempDir()
	at(t, to, 0, "", "types", "export", other)
	if diff := cmp.Diff(written, read(t, other)); diff != "" {
		t.Errorf("what came out differs from what went in (-in +out)\n%s", diff)
	}

	// A schema that breaks is told before anything is done.
	path := filepath.Join(dir, "types", "train.speed.json")
	text := strings.Replace(written["types/train.speed.json"], `"schemas": [`, `"schemas": [`+speedBroken+`,`, 1)
	text = strings.Replace(text, `"audience": "internal"`, `"audience": "public"`, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o = at(t, to, 5, "", "types", "apply", dir, "--dry-run")
	if !strings.Contains(o.out, `audience: "internal" -> "public"`) || !strings.Contains(o.out, "incompatible with version 2") {
		t.Error(o.out)
	}
	at(t, to, 4, "", "types", "apply", dir)
	at(t, to, 2, "", "types", "apply", t.TempDir())
}

// read gives the files of a folder by their names.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"streams/*.json", "types/*.json"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(text)
		}
	}
	return files
}
