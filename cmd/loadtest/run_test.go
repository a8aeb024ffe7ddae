package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// runReport runs the command, which is to go well, and returns its report.
func runReport(t *testing.T, args ...string) loadtest.Report {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{"run", "--json", "--quiet"}, args...), &out, &errs)
	var r loadtest.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, &out, &errs)
	}
	return r
}

func TestRunOfAScenarioIsReportedAsJSONAndAsAPage(t *testing.T) {
	s := echo(t)
	dir := t.TempDir()
	file, page := filepath.Join(dir, "x.yaml"), filepath.Join(dir, "x.html")
	err := os.WriteFile(file, []byte(`
stream: lt
settle: 1ms
duration: 1h
linger: 1s
publishers: [{rate: 100, lanes: 2}]
readers: [{name: a, connections: 4}, {name: b, connections: 20}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := runReport(t, file, "--server", s.URL, "-d", "300ms", "--scale", "0.5", "--shards", "2", "--html", page, "--run", "abc", "--pid", fmt.Sprint(os.Getpid()))
	if r.Scenario != "x" || r.Run != "abc" || len(r.Readers) != 2 || r.Connections.Wanted != 12 || r.Delivered.Events != 12*r.Published.Events || r.Published.Events < 10 || len(r.Processes) != 1 {
		t.Errorf("%+v", r)
	}
	if r.LatencySent == nil || r.Published.Lanes != 2 {
		t.Errorf("latency from sending %v, published %+v", r.LatencySent, r.Published)
	}
	html, err := os.ReadFile(page)
	if err != nil || !bytes.Contains(html, []byte("Everything arrived")) {
		t.Errorf("the page: %v, %.200s", err, html)
	}
}

func TestRunByFlagsAlone(t *testing.T) {
	s := echo(t)
	r := runReport(t, "--server", s.URL, "--stream", "lt", "--reader", "{transport: sse, connections: 3}", "--publisher", "{rate: 50}", "-d", "300ms")
	if r.Delivered.Events != 3*r.Published.Events || r.Published.Events < 10 {
		t.Errorf("%+v", r)
	}
}

func TestWrongScenarioIsWrongUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte("readers:\n  - connections: none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"run " + file:                     "x.yaml:2: readers[0].connections: expected a whole number",
		"run":                             "expected a scenario's file, or --reader",
		"run --reader {}":                 "--reader:1: connections: expected at least 1",
		"run --publisher {rate:} " + file: "x.yaml:2",
		`run --reader {"connections":1} --scale 0`: "--scale",
		"run /nowhere.yaml":                        "nowhere",
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 2 || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: exit code %d, %s, want %s", args, code, &errs, want)
		}
	}
	if err := os.WriteFile(file, []byte("readers: [{connections: 1, url: 'http://127.0.0.1:1/'}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"run", file, "--check"}, &out, &out); code != 0 || out.Len() > 0 {
		t.Errorf("a check: exit code %d, %s", code, &out)
	}
}

// issuer builds and starts an Event Issuer with its embedded broker.
func issuer(t *testing.T) (url string, pid int) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "eventissuer")
	if text, err := exec.Command("go", "build", "-o", program, "../eventissuer").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v: %s", err, text)
	}
	server := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"), "--drain-timeout", "1s", "--allow-loopback-sinks")
	server.Stdout = os.Stderr
	out, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "Open "); ok {
			go func() {
				for lines.Scan() { // what it says is not of interest, but is to be read
				}
			}()
			return strings.TrimSuffix(strings.TrimSpace(after), "/"), server.Process.Pid
		}
	}
	t.Fatal("the server did not say where it listens")
	return "", 0
}

// pageReport runs a command, which is to go well, and returns its report as JSON and as a page.
func pageReport(t *testing.T, report any, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	var out, errs bytes.Buffer
	code := run(t.Context(), append(args, "--json", "--quiet", "--html", file), &out, &errs)
	if err := json.Unmarshal(out.Bytes(), report); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, &out, &errs)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestPublishersAndWebhooksAreReportedAsJSONAndAsAPage(t *testing.T) {
	url, pid := issuer(t)
	var p loadtest.Report
	page := pageReport(t, &p, strings.Fields("publish --server "+url+" --stream lt --rate 100 -d 2s --warmup 100ms --pid "+fmt.Sprint(pid))...)
	if p.Published.Events < 100 || len(p.Series) < 1 || len(p.Processes) != 1 || !strings.Contains(page, "Everything was acknowledged") {
		t.Errorf("%+v: %.300s", p, page)
	}
	var w loadtest.WebhookReport
	page = pageReport(t, &w, strings.Fields("webhook --server "+url+" -n 2 --rate 50 -d 2s --warmup 100ms --pid "+fmt.Sprint(pid))...)
	if w.Delivered.Events != 2*w.Published.Events || w.Published.Events < 50 || len(w.Series) < 1 || len(w.Processes) != 2 || !strings.Contains(page, "Everything arrived") {
		t.Errorf("%+v: %.300s", w, page)
	}
}

func TestShippedScenariosRunAgainstTheServer(t *testing.T) {
	files, err := filepath.Glob("../../loadtest/scenarios/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	url, pid := issuer(t)
	for _, file := range files {
		r := runReport(t, file, "--server", url, "--pid", fmt.Sprint(pid), "--scale", "0.01", "--time-scale", "0.04")
		if d := r.Delivered; d.Events == 0 || d.Events != d.Expected || d.Foreign != 0 {
			t.Errorf("%s: %+v", file, d)
		}
		for _, g := range r.Readers {
			c := g.Connections
			away := 0 // may be coming back as the window ends, where readers leave after a while
			if c.Reconnects > 0 {
				away = c.Wanted / 4
			}
			if g.Delivered.Events == 0 || g.Latency == nil || c.Live > c.Wanted || c.Live < c.Wanted-away {
				t.Errorf("%s: readers %s: %+v", file, g.Name, g)
			}
		}
		if len(r.Series) < 2 || time.Duration(r.Seconds*float64(time.Second)) < time.Second {
			t.Errorf("%s: %d seconds of %.1f", file, len(r.Series), r.Seconds)
		}
	}
}
