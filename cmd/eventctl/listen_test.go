package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// hook is a developer's server: it notes what is posted to it.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	posts  []hookPost
	answer func(n int, w http.ResponseWriter, r *http.Request) // n counts posts from 0; nil: 204
}

type hookPost struct {
	header http.Header
	body   []byte
}

func newHook(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *hook {
	t.Helper()
	h := &hook{answer: answer}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		n := len(h.posts)
		h.posts = append(h.posts, hookPost{r.Header, body})
		h.mu.Unlock()
		if h.answer != nil {
			h.answer(n, w, r)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) got() []hookPost {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]hookPost{}, h.posts...)
}

// announced is what listen prints at the start.
var announced = regexp.MustCompile(`^signing secret +(whsec_\S+)\npublic key +(whpk_\S+)\nforwarding to +(\S+);`)

// verify holds every post against the secret, and against the key, that were printed.
func (h *hook) verify(t *testing.T, printed string) []hookPost {
	t.Helper()
	m := announced.FindStringSubmatch(printed)
	if m == nil {
		t.Fatalf("printed %q, expected the secret and the key first", printed)
	}
	secret, err := webhook.ParseSecret(m[1])
	if err != nil {
		t.Fatal(err)
	}
	key, err := webhook.ParsePublicKey(m[2])
	if err != nil {
		t.Fatal(err)
	}
	posts := h.got()
	for i, p := range posts {
		if err := webhook.Verify(p.header, p.body, []webhook.Secret{secret}, nil, time.Now(), time.Minute); err != nil {
			t.Errorf("post %d by the secret: %v", i, err)
		}
		if err := webhook.Verify(p.header, p.body, nil, []ed25519.PublicKey{key}, time.Now(), time.Minute); err != nil {
			t.Errorf("post %d by the key: %v", i, err)
		}
	}
	return posts
}

func order(id, kind, subject string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":%q,"subject":%q,"datacontenttype":"application/json","data":{"n":%q}}`+"\n", id, kind, subject, id)
}

func TestListenPostsWhatAnEndpointWouldGetAndSignsIt(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "orders")
	at(t, server, 0, "", "types", "register", "order.*", "--stream", "orders")
	at(t, server, 0, order("1", "order.placed", "/a")+order("2", "order.placed", "/a")+order("3", "order.paid", "/a"), "publish", "-")

	for mode, check := range map[string]func(*testing.T, hookPost, string){
		"structured": func(t *testing.T, p hookPost, id string) {
			var e struct{ ID string }
			if err := json.Unmarshal(p.body, &e); err != nil || e.ID != id || !strings.HasPrefix(p.header.Get("Content-Type"), "application/cloudevents+json") {
				t.Errorf("posted %v %s, want event %s", p.header, p.body, id)
			}
		},
		"binary": func(t *testing.T, p hookPost, id string) {
			if p.header.Get("Ce-Id") != id || p.header.Get("Content-Type") != "application/json" || string(p.body) != `{"n":"`+id+`"}` {
				t.Errorf("posted %v %s, want event %s", p.header, p.body, id)
			}
		},
		"batch": func(t *testing.T, p hookPost, id string) {
			var all []struct{ ID string }
			if err := json.Unmarshal(p.body, &all); err != nil || len(all) != 1 || all[0].ID != id {
				t.Errorf("posted %v %s, want event %s", p.header, p.body, id)
			}
		},
	} {
		t.Run(mode, func(t *testing.T) {
			h := newHook(t, nil)
			o := at(t, server, 0, "", "listen", "--forward-to", h.URL+"/hook", "--stream", "orders", "--from", "oldest", "--mode", mode, "-n", "3")
			posts := h.verify(t, o.out)
			if len(posts) != 3 {
				t.Fatalf("%d posts, want 3\n%s%s", len(posts), o.out, o.err)
			}
			for i, p := range posts {
				check(t, p, fmt.Sprint(i+1))
				if p.header.Get("WebHook-Request-Origin") != "127.0.0.1" {
					t.Errorf("the origin is %q", p.header.Get("WebHook-Request-Origin"))
				}
			}
			if got := strings.Count(o.out, "→ 204 No Content"); got != 3 || !regexp.MustCompile(`\n\d\d:\d\d:\d\d  order\.paid  /a  → 204 No Content  \S+s\n`).MatchString(o.out) {
				t.Errorf("printed %s, want a line an event", o.out)
			}
		})
	}
}

func TestListenReadsBesideASubscription(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "orders")
	at(t, server, 0, "", "types", "register", "order.*", "--stream", "orders")
	at(t, server, 0, "", "subscriptions", "create", "billing", "--stream", "orders", "--type", "order.placed", "--filter", "subject = '/a'", "--from", "oldest")
	at(t, server, 0, order("1", "order.placed", "/a")+order("2", "order.placed", "/b")+order("3", "order.paid", "/a")+order("4", "order.placed", "/a"), "publish", "-")
	before := at(t, server, 0, "", "subscriptions", "stats", "billing", "--json").out

	h := newHook(t, nil)
	o := at(t, server, 0, "", "listen", "--forward-to", h.URL, "--subscription", "billing", "--from", "oldest", "-n", "2")
	var ids []string
	for _, p := range h.verify(t, o.out) {
		var e struct{ ID string }
		if err := json.Unmarshal(p.body, &e); err != nil {
			t.Error(err)
		}
		ids = append(ids, e.ID)
	}
	if diff := cmp.Diff([]string{"1", "4"}, ids); diff != "" {
		t.Errorf("posted other events than the subscription's (-want +got):\n%s", diff)
	}
	lag := regexp.MustCompile(`"lag":\s*\d+`)
	after := at(t, server, 0, "", "subscriptions", "stats", "billing", "--json").out
	if lag.FindString(before) == "" || lag.FindString(after) != lag.FindString(before) {
		t.Errorf("the subscription had %s before and has %s after", lag.FindString(before), lag.FindString(after))
	}
}

func TestListenTakesTheModeOfASubscription(t *testing.T) {
	for name, c := range map[string]struct{ settings, config, want string }{
		"binary":                     {`{"mode":"binary"}`, `{}`, "application/json"},
		"structured":                 {`{"mode":"structured"}`, `{"batch":{"max":1}}`, "application/cloudevents+json; charset=UTF-8"},
		"batch":                      {`{"mode":"structured"}`, `{"batch":{"max":20}}`, "application/cloudevents-batch+json"},
		"one that sessions read":     {`{}`, `{}`, "application/cloudevents+json; charset=UTF-8"},
		"a flag that says so itself": {`{"mode":"binary"}`, `{}`, "application/cloudevents+json; charset=UTF-8"},
	} {
		f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
			if r.Method == http.MethodPost {
				saying(w, r, "id: c1\ndata: "+order("1", "order.placed", "/a")+"\n", true)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"id":"s1","streams":["orders"],"types":["order.*"],"filters":[{"exact":{"subject":"/a"}}],"sink":"https://x.example","protocolsettings":%s,"config":%s}`, c.settings, c.config)
		})
		h := newHook(t, nil)
		args := []string{"--server", f.URL, "listen", "--forward-to", h.URL, "--subscription", "s1", "-n", "1"}
		if strings.HasPrefix(name, "a flag") {
			args = append(args, "--mode", "structured")
		}
		o := eventctl(t.Context(), "", args...)
		posts := h.verify(t, o.out)
		if o.code != exitDone || len(posts) != 1 || posts[0].header.Get("Content-Type") != c.want {
			t.Errorf("%s: exit code %d, posted %v, want %s; %s", name, o.code, posts, c.want, o.err)
		}
		all := f.requests()
		last := all[len(all)-1]
		if want := `{"streams":["orders"],"types":["order.*"],"filters":[{"exact":{"subject":"/a"}}]}`; last.uri != "/v1/events:query" || string(last.body) != want {
			t.Errorf("%s: asked %s for %s, want %s", name, last.uri, last.body, want)
		}
	}
}

func TestListenPostsAgainAndThenGoesOn(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, "id: c1\ndata: "+order("1", "t.a", "/a")+"\nid: c2\ndata: "+order("2", "t.b", "/b")+"\nid: c3\ndata: "+order("3", "t.c", "")+"\n", true)
	})
	h := newHook(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 0:
			http.Error(w, "no", http.StatusInternalServerError)
		case 2:
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case 3:
			panic(http.ErrAbortHandler) // no answer
		}
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "listen", "--forward-to", h.URL, "--type", "t.*", "--attempts", "2", "-n", "3")
	posts := h.verify(t, o.out)
	if o.code != exitDone || len(posts) != 5 {
		t.Fatalf("exit code %d after %d posts\n%s%s", o.code, len(posts), o.out, o.err)
	}
	ids := make([]string, len(posts))
	for i, p := range posts {
		ids[i] = p.header.Get(webhook.HeaderID)
	}
	if ids[0] != ids[1] || ids[2] != ids[3] || ids[1] == ids[2] || ids[3] == ids[4] {
		t.Errorf("the ids are %v: want one an event, the same at every attempt", ids)
	}
	for _, want := range []*regexp.Regexp{
		regexp.MustCompile(`t\.a  /a  → 200 OK  \S+  attempt 2\n`),
		regexp.MustCompile(`t\.b  /b  → no answer: EOF  \S+  given up after 2 attempts\n`),
		regexp.MustCompile(`t\.c  → 200 OK  \S+s\n`),
	} {
		if !want.MatchString(o.out) {
			t.Errorf("printed\n%s, want %s", o.out, want)
		}
	}
	for _, want := range []string{"500 Internal Server Error; posting it again", "307 Temporary Redirect (redirects are not followed); posting it again"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("told %s, want %q", o.err, want)
		}
	}
}

func TestListenGoesOnWhereItWasAfterTheConnectionEnds(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request, _ []byte) {
		switch n {
		case 0:
			saying(w, r, "retry: 1\nid: c0\n\nid: c1\ndata: "+order("1", "t", "")+"\n", false)
		default:
			saying(w, r, "id: c2\ndata: "+order("2", "t", "")+"\n", true)
		}
	})
	h := newHook(t, nil)
	o := eventctl(t.Context(), "", "--server", f.URL, "listen", "--forward-to", h.URL, "--stream", "s", "--stream", "z", "--filter", "n > 1", "--from", "oldest", "-n", "2")
	all := f.requests()
	if o.code != exitDone || len(h.verify(t, o.out)) != 2 || len(all) != 2 || all[0].lastEventID != "" || all[1].lastEventID != "c1" {
		t.Fatalf("exit code %d, asked %+v\n%s%s", o.code, all, o.out, o.err)
	}
	for _, r := range all {
		if want := `{"streams":["s","z"],"filter":"n \u003e 1","from":"oldest"}`; r.method != http.MethodPost || r.contentType != "application/json" || string(r.body) != want {
			t.Errorf("asked %s %s, want %s", r.method, r.body, want)
		}
	}
}

func TestListenTakesNoSlowReceiverForASilentServer(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, "id: c1\ndata: "+order("1", "t", "")+"\nid: c2\ndata: "+order("2", "t", "")+"\n", true)
	})
	h := newHook(t, func(n int, _ http.ResponseWriter, r *http.Request) {
		if n == 0 { // the slowness that it is about
			select {
			case <-time.After(400 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "listen", "--forward-to", h.URL, "--stream", "s", "-n", "2", "--idle-timeout", "100ms")
	if o.code != exitDone || len(f.requests()) != 1 || len(h.verify(t, o.out)) != 2 {
		t.Errorf("exit code %d after %d connections\n%s%s", o.code, len(f.requests()), o.out, o.err)
	}
}

func TestListenEndsQuietlyOnInterrupt(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, "id: c1\ndata: "+order("1", "t", "/a\u009b")+"\n", true)
	})
	posted := make(chan struct{})
	h := newHook(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		close(posted)
		<-r.Context().Done()
	})
	out := &lockedBuffer{}
	stop := background(t, out, "--server", f.URL, "listen", "--forward-to", h.URL, "--stream", "s")
	<-posted
	o := stop()
	if o.code != exitDone || strings.Contains(o.out, "→") || !strings.Contains(o.err, "interrupted while t  /a\ufffd was posted") {
		t.Errorf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
}

func TestListenSignsWithTheSecretThatItIsGiven(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, "id: c1\ndata: "+order("1", "t", "")+"\n", true)
	})
	secret := webhook.NewSecret().Text()
	h := newHook(t, nil)
	o := eventctl(t.Context(), "", "--server", f.URL, "listen", "--forward-to", h.URL, "--stream", "s", "-n", "1", "--secret", secret)
	h.verify(t, o.out)
	if o.code != exitDone || !strings.HasPrefix(o.out, "signing secret  "+secret+"\n") {
		t.Errorf("exit code %d, printed %s", o.code, o.out)
	}
}

func TestListenTellsWrongUsage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing may be asked
	for args, want := range map[string]string{
		"--stream s":                                           "--forward-to",
		"--forward-to localhost:3000 --stream s":               "http://localhost:3000/hook",
		"--forward-to http://x":                                "--subscription, --stream or --type",
		"--forward-to http://x --subscription a --type t":      "leave out the others",
		"--forward-to http://x --stream s --attempts 0":        "--attempts 0",
		"--forward-to http://x --stream s --timeout 1h":        "--timeout 1h",
		"--forward-to http://x --stream s --mode sideways":     "--mode",
		"--forward-to http://x --stream s --secret whsec_YWJj": "--secret",
	} {
		o := eventctl(ctx, "", append([]string{"listen"}, strings.Fields(args)...)...)
		if o.code != exitUsage || !strings.Contains(o.err, want) {
			t.Errorf("%s: exit code %d, %q", args, o.code, o.err)
		}
		if strings.Contains(o.err, "YWJj") {
			t.Errorf("%s: shows the secret: %q", args, o.err)
		}
	}
}
