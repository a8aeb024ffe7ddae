package session

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestAllowanceIsABurstAndThenOneAtATime(t *testing.T) {
	var a allowance
	now := time.Now()
	for i := range pingBurst {
		if !a.take(now) {
			t.Fatalf("ping %d of the burst is refused", i)
		}
	}
	if a.take(now) {
		t.Error("more than the burst is allowed at once")
	}
	if now = now.Add(pingEvery - 1); a.take(now) {
		t.Error("one is allowed before it was earned")
	}
	if now = now.Add(1); !a.take(now) || a.take(now) {
		t.Error("exactly one is earned in its time")
	}
	for range 10 * pingBurst {
		if now = now.Add(pingEvery); !a.take(now) {
			t.Fatal("who pings no more often than is allowed is refused")
		}
	}
	now = now.Add(time.Hour)
	for i := range pingBurst {
		if !a.take(now) {
			t.Fatalf("after a rest ping %d of the burst is refused", i)
		}
	}
}

// endOf reads a WebSocket until the server closes it, and gives how and the last thing told before it.
func endOf(t *testing.T, ws *websocket.Conn) (websocket.StatusCode, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	told := ""
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return websocket.CloseStatus(err), told
		}
		told = string(b)
	}
}

func TestAWebSocketOfPingsWithoutEndIsClosedAndToldWhy(t *testing.T) {
	r := newSite(t, "a").replica(Config{}, false)
	c := r.connect(t, "websocket:"+SubprotocolBatch, "stream=a")
	c.must()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c.ws.Ping(ctx) == nil { // each waits for its pong: no client can ping faster and be in order
			continue
		}
	}()
	code, told := endOf(t, c.ws)
	if code != websocket.StatusPolicyViolation || !strings.Contains(told, "ping") {
		t.Errorf("closed with %v after %q", code, told)
	}
	cancel()
	<-done
}

func TestAWebSocketMessageThatDoesNotEndClosesTheSession(t *testing.T) {
	r := newSite(t, "a").replica(Config{Stall: 300 * time.Millisecond}, false)
	c := r.socket(t, SubprotocolBatch, "stream=a", websocket.CompressionDisabled) // else the client gathers
	c.next()
	w, err := c.ws.Writer(t.Context(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(bytes.Repeat([]byte(" "), 16<<10))); err != nil { // fragments, but no last one
		t.Fatal(err)
	}
	code, told := endOf(t, c.ws)
	if code != websocket.StatusPolicyViolation || !strings.Contains(told, "whole within") {
		t.Errorf("closed with %v after %q", code, told)
	}
}
