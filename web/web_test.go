package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(t *testing.T, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryAnswerCarriesThePolicy(t *testing.T) {
	for _, target := range []string{"/", "/app.js", "/style.css", "/client/eventissuer.js", "/data/norway.json", "/data/land.json", "/catalog/", "/catalog/app.js", "/subscriptions/", "/subscriptions/app.js", "/page/dom.js", "/nothing"} {
		res := get(t, "GET", target)
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: policy %q", target, csp)
		}
		if want := map[bool]int{true: 404, false: 200}[target == "/nothing"]; res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", target, res.StatusCode, want)
		}
	}
}

func TestThePagesHaveNoInlineScriptOrStyle(t *testing.T) {
	for _, at := range []string{"/", "/catalog/", "/subscriptions/"} {
		t.Run(at, func(t *testing.T) { noInline(t, body(t, get(t, "GET", at).Body)) })
	}
}

func noInline(t *testing.T, page string) {
	t.Helper()
	for _, part := range strings.Split(page, "<script")[1:] {
		if !strings.HasPrefix(strings.SplitN(part, ">", 2)[1], "</script>") {
			t.Errorf("inline script: %.80s", part)
		}
	}
	if strings.Contains(page, "<style") || strings.Contains(page, "style=") || strings.Contains(page, "onclick=") {
		t.Error("the page has an inline style or handler, which its own policy forbids")
	}
	if strings.Contains(page, "//") && strings.Contains(page, "src=\"http") {
		t.Error("the page loads something from elsewhere")
	}
}

func TestWhatTheClientHasIsNotSentAgain(t *testing.T) {
	for _, encoding := range []string{"", "gzip, br"} {
		first := get(t, "GET", "/data/norway.json", "Accept-Encoding", encoding)
		again := get(t, "GET", "/data/norway.json", "Accept-Encoding", encoding, "If-None-Match", `"other", W/`+first.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || body(t, again.Body) != "" {
			t.Errorf("encoding %q: status %d for the tag just given", encoding, again.StatusCode)
		}
	}
	if res := get(t, "GET", "/data/norway.json", "If-None-Match", `"other"`); res.StatusCode != http.StatusOK {
		t.Errorf("status %d for another tag", res.StatusCode)
	}
}

func TestGzipIsGivenOnlyToWhomCanReadIt(t *testing.T) {
	plain := body(t, get(t, "GET", "/data/norway.json").Body)
	for header, want := range map[string]string{"gzip": "gzip", "br, gzip;q=0.5": "gzip", "gzip;q=0": "", "gzip; q=0.0": "", "br": ""} {
		res := get(t, "GET", "/data/norway.json", "Accept-Encoding", header)
		if got := res.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: got encoding %q, want %q", header, got, want)
			continue
		}
		r := io.Reader(res.Body)
		if want == "gzip" {
			z, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			r = z
		}
		if body(t, r) != plain {
			t.Errorf("Accept-Encoding %q: another body", header)
		}
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	if res := get(t, "POST", "/"); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
	if res := get(t, "HEAD", "/"); res.StatusCode != http.StatusOK || body(t, res.Body) != "" || res.ContentLength == 0 {
		t.Errorf("HEAD: %d", res.StatusCode)
	}
}
