package webhook_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// pointersOf are where problems are.
func pointersOf(problems []webhook.Problem) []string {
	at := []string{}
	for _, p := range problems {
		at = append(at, p.Pointer)
	}
	return at
}

func TestHeadersThatAreOursCannotBeSet(t *testing.T) {
	for _, name := range []string{
		"Host", "host", "Content-Type", "CONTENT-LENGTH", "content-encoding", "Transfer-Encoding", "Connection", "Keep-Alive",
		"Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "TE", "Trailer", "Upgrade", "HTTP2-Settings", "Expect",
		"Authorization", "webhook-id", "Webhook-Signature", "WebHook-Request-Origin", "ce-id", "Ce-Specversion",
		"", "a b", "a:", "ä", "a\r\nb", "a(b)", `"a"`, "a/b",
	} {
		problems := webhook.CheckHeaders(map[string]string{name: "value"})
		want := []string{"/" + strings.ReplaceAll(name, "/", "~1")}
		if diff := cmp.Diff(want, pointersOf(problems)); diff != "" {
			t.Errorf("%q: %v", name, problems)
		}
	}
}

func TestHeadersAreHeldToHTTPAndBounds(t *testing.T) {
	many := map[string]string{}
	for i := range webhook.MaxHeaders + 1 {
		many[fmt.Sprint("X-", i)] = "v"
	}
	for name, test := range map[string]struct {
		headers map[string]string
		want    []string
	}{
		"none":              {nil, []string{}},
		"usual ones":        {map[string]string{"X-Api-Version": "2", "User-Agent": "us (v1; \"x\")", "cookie": "a=b; c=\td"}, []string{}},
		"an empty value":    {map[string]string{"X-A": ""}, []string{"/X-A"}},
		"space around":      {map[string]string{"X-A": " a", "X-B": "b\t"}, []string{"/X-A", "/X-B"}},
		"a line break":      {map[string]string{"X-A": "a\r\nX-B: c"}, []string{"/X-A"}},
		"a zero":            {map[string]string{"X-A": "a\x00"}, []string{"/X-A"}},
		"beyond ASCII":      {map[string]string{"X-A": "é"}, []string{"/X-A"}},
		"the same twice":    {map[string]string{"X-A": "a", "x-a": "b"}, []string{"/x-a"}},
		"too many":          {many, []string{""}},
		"as large as may":   {map[string]string{"X-A": strings.Repeat("a", webhook.MaxHeaderBytes-3)}, []string{}},
		"larger than may":   {map[string]string{"X-A": strings.Repeat("a", webhook.MaxHeaderBytes-2)}, []string{""}},
		"in order, and all": {map[string]string{"X-C": "", "Host": "h", "X-A": "a"}, []string{"/Host", "/X-C"}},
	} {
		problems := webhook.CheckHeaders(test.headers)
		if diff := cmp.Diff(test.want, pointersOf(problems)); diff != "" {
			t.Errorf("%s: %v: %s", name, problems, diff)
		}
		for _, p := range problems {
			if strings.Contains(p.Message, "X-B: c") {
				t.Errorf("%s: a value is shown: %s", name, p.Message)
			}
		}
	}
}

// FuzzCheckHeaders holds what is accepted against net/http on both sides.
func FuzzCheckHeaders(f *testing.F) {
	f.Add("X-Api-Version", "2")
	f.Add("x_a", "a\tb")
	f.Add("Connection", "close")
	f.Add("X-A", "a\r\nX-B: c")
	f.Add("x", "~")
	arrived := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header }))
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, name, value string) {
		if webhook.CheckHeaders(map[string]string{name: value}) != nil {
			return
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(name, value)
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatalf("%q: %q was accepted and cannot be sent: %v", name, value, err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%q: %q is answered %s", name, value, answer.Status)
		}
		if got := (<-arrived).Get(name); got != value {
			t.Errorf("%q: %q arrives as %q", name, value, got)
		}
	})
}
