package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// Toxiproxy is a process that connections go through which are to suffer. Its methods may be called concurrently.
type Toxiproxy struct {
	*Program
	api string
}

// toxiproxyPatience is for one answer of its API.
const toxiproxyPatience = 10 * time.Second

// NewToxiproxy prepares one, whose log goes to dir, without starting it. A *[MissingError] says that the machine has none.
func NewToxiproxy(dir string) (*Toxiproxy, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	path, err := program("run deploy/local/install toxiproxy", filepath.Join(root, ".local/bin/toxiproxy-server"), "toxiproxy-server")
	if err != nil {
		return nil, err
	}
	free, err := FreeAddresses(1)
	if err != nil {
		return nil, fmt.Errorf("prepare toxiproxy: %w", err)
	}
	host, port, _ := net.SplitHostPort(free[0])
	x := &Toxiproxy{api: "http://" + free[0]}
	x.Program = NewProgram(ProgramOptions{
		Name: "toxiproxy", Args: []string{path, "-host", host, "-port", port}, Env: []string{"LOG_LEVEL=warn"}, Dir: dir,
		Up: func(ctx context.Context, _ []byte) error { return x.call(ctx, http.MethodGet, "/version", nil) },
	})
	return x, nil
}

// StartToxiproxy starts one that ends with the test and its subtests.
func StartToxiproxy(t testing.TB) *Toxiproxy {
	t.Helper()
	x, err := NewToxiproxy(t.TempDir())
	Need(t, "toxiproxy", err)
	t.Cleanup(func() {
		if err := x.Kill(); err != nil {
			t.Errorf("stop toxiproxy: %v", err)
		}
	})
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

// Route has connections to one address go on to another.
func (x *Toxiproxy) Route(ctx context.Context, name, from, to string) error {
	return x.do(ctx, http.MethodPost, "/proxies", map[string]any{"name": name, "listen": from, "upstream": to, "enabled": true})
}

// Afflict has what goes through a proxy one way, "upstream" or "downstream", suffer, by toxiproxy's kinds and their attributes.
func (x *Toxiproxy) Afflict(ctx context.Context, proxy, stream, kind string, attributes map[string]any) error {
	return x.do(ctx, http.MethodPost, "/proxies/"+proxy+"/toxics", map[string]any{
		"name": kind + "-" + stream, "type": kind, "stream": stream, "toxicity": 1, "attributes": attributes,
	})
}

// Relieve ends what Afflict began.
func (x *Toxiproxy) Relieve(ctx context.Context, proxy, stream, kind string) error {
	return x.do(ctx, http.MethodDelete, "/proxies/"+proxy+"/toxics/"+kind+"-"+stream, nil)
}

// Enable has a proxy work, or refuse connections and end those that there are.
func (x *Toxiproxy) Enable(ctx context.Context, proxy string, works bool) error {
	return x.do(ctx, http.MethodPost, "/proxies/"+proxy, map[string]any{"enabled": works})
}

// Mend has all proxies work, without toxics.
func (x *Toxiproxy) Mend(ctx context.Context) error { return x.do(ctx, http.MethodPost, "/reset", nil) }

// Proxy has connections to the address that it returns go on to another.
func (x *Toxiproxy) Proxy(t testing.TB, name, to string) (from string) {
	t.Helper()
	from = address(FreePort(t))
	must(t, x.Route(t.Context(), name, from, to))
	return from
}

// Toxic has what comes back through a proxy suffer, by toxiproxy's kinds and their attributes.
func (x *Toxiproxy) Toxic(t testing.TB, proxy, kind string, attributes map[string]any) {
	t.Helper()
	must(t, x.Afflict(t.Context(), proxy, "downstream", kind, attributes))
}

// Disable has a proxy refuse connections, and ends those that there are.
func (x *Toxiproxy) Disable(t testing.TB, proxy string) {
	t.Helper()
	must(t, x.Enable(t.Context(), proxy, false))
}

// Reset has all proxies work, without toxics.
func (x *Toxiproxy) Reset(t testing.TB) {
	t.Helper()
	must(t, x.Mend(t.Context()))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (x *Toxiproxy) do(ctx context.Context, method, path string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, toxiproxyPatience)
	defer cancel()
	return x.call(ctx, method, path, body)
}

func (x *Toxiproxy) call(ctx context.Context, method, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, x.api+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Close = true // no connection is left when the process ends
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("toxiproxy answers %s to %s %s", resp.Status, method, path)
	}
	return nil
}
