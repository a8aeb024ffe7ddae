package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/eventissuer/eventissuer/session"
)

// dial opens a WebSocket and reads its first block.
func (h *harness) dial(t *testing.T, path, subprotocol string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), h.server.URL+path, &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	if _, _, err := ws.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestMistakeOnAWebSocketIsToldAsOnHTTPAndClosesItForGood(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, tc := range []struct {
		message, kind, detail string
		code                  websocket.StatusCode
		pointer               string
	}{
		{`not json`, "bad-message", `{"ack":"<cursor>"}`, websocket.StatusInvalidFramePayloadData, ""},
		{`{"ack":7}`, "bad-message", `{"ack":"<cursor>"}`, websocket.StatusPolicyViolation, ""},
		{`{"foo":1}`, "bad-message", `{"ack":"<cursor>"}`, websocket.StatusPolicyViolation, ""},
		{`{"query":{"filters":[{"sql":"1 ="}]}}`, "invalid-filter", "at position", websocket.StatusPolicyViolation, "/filters/0/sql"},
		{`{"query":{"sujbect":"x"}}`, "invalid-body", "sujbect", websocket.StatusPolicyViolation, "/sujbect"},
		{`{"ack":"zzz"}`, "invalid-cursor", "cursor", websocket.StatusPolicyViolation, ""},
	} {
		t.Run(tc.message, func(t *testing.T) {
			ws := h.dial(t, "/v1/streams/trains/events", session.SubprotocolBatch)
			if err := ws.Write(t.Context(), websocket.MessageText, []byte(tc.message)); err != nil {
				t.Fatal(err)
			}
			_, told, err := ws.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Problem problemDocument }
			if err := json.Unmarshal(told, &got); err != nil {
				t.Fatal(err)
			}
			p := got.Problem
			if p.Type != problemPath+tc.kind || p.Status != http.StatusBadRequest || p.RequestID == "" || p.Instance == "" {
				t.Errorf("told %s", told)
			}
			if strings.Count(p.Detail, tc.detail) != 1 {
				t.Errorf("%q is not once in %q", tc.detail, p.Detail)
			}
			if tc.pointer != "" && (len(p.Errors) != 1 || p.Errors[0].Pointer != tc.pointer) {
				t.Errorf("the mistake is not pointed at: %s", told)
			}
			if (tc.kind == "invalid-filter") != (p.Position != nil) {
				t.Errorf("the position is wrong: %s", told)
			}
			_, _, err = ws.Read(t.Context())
			var closed websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != tc.code || closed.Reason != p.Title {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

func TestAcknowledgementWithoutAConsumerIsABadMessage(t *testing.T) {
	h := newHarness(t).withTrains()
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK).decode(t, &s)
	ws := h.dial(t, "/v1/streams/trains/events", session.SubprotocolEvents)
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(`{"ack":"`+s.Newest+`"}`)); err != nil {
		t.Fatal(err)
	}
	_, told, err := ws.Read(t.Context())
	if err != nil || !strings.Contains(string(told), "/problems/bad-message") || !strings.Contains(string(told), "consumer=") {
		t.Errorf("told %s, %v", told, err)
	}
	if _, _, err = ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("it ends with %v", err)
	}
}

func TestSessionOfADeletedStreamIsToldWithItsRequest(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, accept := range []string{mediaSSE, mediaNDJSON} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/v1/streams/trains/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		defer func() {
			told, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			id := res.Header.Get(requestIDHeader)
			for _, want := range []string{`"title":"` + kindUnknownStream.title + `"`, `"requestId":"` + id + `"`, `"instance":"` + session.InstancePrefix + id + `"`} {
				if id == "" || !strings.Contains(string(told), want) {
					t.Errorf("%s lacks %s: %s", accept, want, told)
				}
			}
		}()
	}
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
}

// Clients decide on types, and people open them: one that is sent anywhere must be described.
func TestEveryProblemThatAnyPartSendsIsDescribed(t *testing.T) {
	h := newHarness(t)
	described := map[string]bool{}
	for _, k := range kinds() {
		described[k.name] = true
	}
	sent := regexp.MustCompile(`(?:"|\s)/problems/([a-z-]+)|= problemKind\{"([a-z-]+)"`)
	found := map[string]bool{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "data" || strings.HasPrefix(entry.Name(), ".") && path != ".") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(path); ext != ".go" && ext != ".yaml" && ext != ".js" {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		for _, m := range sent.FindAllSubmatch(text, -1) {
			found[string(m[1])+string(m[2])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < len(described) || !found["consumer-taken-over"] {
		t.Fatalf("only %d kinds are found", len(found))
	}
	for name := range found {
		if !described[name] {
			t.Errorf("/problems/%s is sent but not described", name)
			continue
		}
		h.must(h.send("GET", problemPath+name, ""), http.StatusOK)
	}
}
