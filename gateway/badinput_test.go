package gateway

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/web"
)

func TestAddressThatIsNoPageIsAProblem(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) { d.Page = web.Handler() })
	for _, path := range []string{"/nothing.html", "/../../etc/passwd", "/page/", "/v2/events"} {
		p := h.must(h.send("GET", path, ""), http.StatusNotFound).problem(t)
		if p.Type != "/problems/not-found" {
			t.Errorf("%s: %s", path, p.Type)
		}
	}
	if a := h.must(h.send("GET", "/", ""), http.StatusOK); !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("the page is of the type %s", a.header.Get("Content-Type"))
	}
}

func TestTokenThatNoListGaveIsRefused(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"planes"}`), http.StatusCreated)
	for _, token := range []string{"zz", "!", "dHJhaW5z", base64.RawURLEncoding.EncodeToString([]byte(nextMark)), "YWZ0ZXI6cGxhbmVz\n", "YWZ0ZXI6cGxhbmVzMh"} {
		a := h.must(h.send("GET", "/v1/streams?next="+url.QueryEscape(token), ""), http.StatusBadRequest)
		if p := a.problem(t); p.Type != "/problems/invalid-parameter" || !strings.Contains(p.Detail, token) {
			t.Errorf("next=%s: %s", token, a.body)
		}
	}
	var page list[streamAnswer]
	h.must(h.send("GET", "/v1/streams?limit=1", ""), http.StatusOK).decode(t, &page)
	h.must(h.send("GET", "/v1/streams?limit=1&next="+page.Next, ""), http.StatusOK).decode(t, &page)
	if len(page.Items) != 1 || page.Items[0].Name != "trains" {
		t.Errorf("the second page is %+v", page)
	}
}

func TestUnknownSubprotocolOfAWebSocketIsRefusedWithThoseThereAre(t *testing.T) {
	h := newHarness(t).withTrains()
	handshake := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for _, asked := range [][]string{{"mqtt"}, {"mqtt, soap"}, {"mqtt", "soap"}, {""}} {
		headers := append([]string{}, handshake...)
		for _, protocol := range asked {
			headers = append(headers, "Sec-WebSocket-Protocol: "+protocol)
		}
		a := h.must(h.send("GET", "/v1/streams/trains/events", "", headers...), http.StatusBadRequest)
		p := a.problem(t)
		if p.Type != "/problems/invalid-upgrade" || !strings.Contains(p.Detail, "cloudevents.json") || !strings.Contains(p.Detail, "eventissuer.v1") {
			t.Errorf("%q: %s", asked, a.body)
		}
	}
}

func TestLongInputIsNotRepeatedInTheAnswer(t *testing.T) {
	h := newHarness(t).withTrains()
	long := strings.Repeat("ø", 9_000) // in a path six bytes each, which is near the limit of a request's headers
	for name, a := range map[string]answer{
		"a subject":        h.send("GET", "/v1/streams/trains/events?subject="+long, ""),
		"a filter":         h.sendJSON("POST", "/v1/streams/trains/events:query", `{"filter":"`+long+`"}`),
		"a beginning":      h.send("GET", "/v1/streams/trains/events?from="+long, ""),
		"a stream":         h.send("GET", "/v1/streams/"+long, ""),
		"a type":           h.send("GET", "/v1/events?type="+long, ""),
		"an Accept header": h.send("GET", "/v1/streams/trains/events", "", "Accept: "+strings.Repeat("x", 30_000)),
		"a member":         h.sendJSON("POST", "/v1/streams", `{"`+long+`":1}`),
	} {
		if a.problem(t); a.status/100 != 4 || len(a.body) > 4000 {
			t.Errorf("%s of %d bytes is answered %d with %d bytes", name, len(long), a.status, len(a.body))
		}
	}
}

func TestExcerptShowsThePlaceOfTheMistake(t *testing.T) {
	text := strings.Repeat("ø", 200) + "HERE" + strings.Repeat("å", 200)
	at := strings.Index(text, "HERE")
	for position := range len(text) + 1 {
		got := excerpt(text, position)
		if len(got) > excerptBytes+8 || !utf8.ValidString(got) {
			t.Fatalf("at %d: %q", position, got)
		}
		if position == at && !strings.Contains(got, "HERE") {
			t.Errorf("the mistake is not in %q", got)
		}
	}
	if got := excerpt("short", 2); got != "short" {
		t.Error(got)
	}
}
