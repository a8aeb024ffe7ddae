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

// Toxiproxy is a process that connections go through which are to suffer.
type Toxiproxy struct{ api string }

// StartToxiproxy starts one that ends with the test and its subtests.
func StartToxiproxy(t testing.TB) *Toxiproxy {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	path, err := program("run deploy/local/install toxiproxy", filepath.Join(root, ".local/bin/toxiproxy-server"), "toxiproxy-server")
	need(t, "toxiproxy", err)
	addr := address(FreePort(t))
	host, port, _ := net.SplitHostPort(addr)
	x := &Toxiproxy{api: "http://" + addr}
	StartProgram(t, ProgramOptions{
		Name: "toxiproxy", Args: []string{path, "-host", host, "-port", port}, Env: []string{"LOG_LEVEL=warn"}, Dir: t.TempDir(),
		Up: func(ctx context.Context, _ []byte) error { return x.call(ctx, http.MethodGet, "/version", nil) },
	})
	return x
}

// Proxy has connections to the address that it returns go on to another.
func (x *Toxiproxy) Proxy(t testing.TB, name, to string) (from string) {
	t.Helper()
	from = address(FreePort(t))
	x.post(t, "/proxies", map[string]any{"name": name, "listen": from, "upstream": to, "enabled": true})
	return from
}

// Toxic has what comes back through a proxy suffer, by toxiproxy's kinds and their attributes.
func (x *Toxiproxy) Toxic(t testing.TB, proxy, kind string, attributes map[string]any) {
	t.Helper()
	x.post(t, "/proxies/"+proxy+"/toxics", map[string]any{"name": kind, "type": kind, "stream": "downstream", "toxicity": 1, "attributes": attributes})
}

// Disable has a proxy refuse connections, and ends those that there are.
func (x *Toxiproxy) Disable(t testing.TB, proxy string) {
	t.Helper()
	x.post(t, "/proxies/"+proxy, map[string]any{"enabled": false})
}

// Reset has all proxies work, without toxics.
func (x *Toxiproxy) Reset(t testing.TB) {
	t.Helper()
	x.post(t, "/reset", nil)
}

func (x *Toxiproxy) post(t testing.TB, path string, body any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := x.call(ctx, http.MethodPost, path, body); err != nil {
		t.Fatal(err)
	}
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
