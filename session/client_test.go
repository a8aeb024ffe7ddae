package session

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// got is what a client was given: an event's id, or a control message, each with the cursor after it.
type got struct {
	ID      string
	Control string
	Data    string
	Cursor  string
	Group   string // of a subscription's delivery
	Attempt int    // likewise
}

// client reads one session on some transport.
type client struct {
	t    *testing.T
	as   string
	resp *http.Response
	body *bufio.Reader
	ws   *websocket.Conn
	more []got
}

var insecure = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// dialed counts WebSockets: the first takes compressed messages, the next those that are by themselves, the third none.
var dialed atomic.Int32

// insecureSockets does not offer HTTP/2, by which no WebSocket is opened here.
var insecureSockets = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

func (r *replica) connect(t *testing.T, as, query string) *client {
	t.Helper()
	c := &client{t: t, as: as}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if sub, ok := strings.CutPrefix(as, "websocket:"); ok {
		ws, _, err := websocket.Dial(ctx, r.url+"/?as=websocket&"+query, &websocket.DialOptions{
			HTTPClient: insecureSockets, Subprotocols: []string{sub}, CompressionMode: websocket.CompressionMode(dialed.Add(1) % 3), CompressionThreshold: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.as, c.ws = sub, ws
		t.Cleanup(func() { _ = ws.CloseNow(); insecureSockets.CloseIdleConnections() })
		return c
	}
	coding := "identity"
	if plain, ok := strings.CutPrefix(as, "gzip:"); ok {
		c.as, coding = plain, "gzip"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/?as="+c.as+"&"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", coding) // so that the transport does nothing by itself
	resp, err := insecure.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close(); insecure.CloseIdleConnections() })
	c.resp, c.body = resp, bufio.NewReader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(c.body)
		if err != nil {
			t.Fatal(err)
		}
		c.body = bufio.NewReader(unzipped)
	}
	return c
}

func (c *client) close() {
	if c.ws != nil {
		_ = c.ws.CloseNow()
	} else {
		_ = c.resp.Body.Close()
	}
}

// next returns the next thing, or an error once the session has ended.
func (c *client) next() (got, error) {
	switch c.as {
	case "sse":
		return c.nextSSE()
	case "ndjson":
		line, err := c.body.ReadBytes('\n')
		if err != nil {
			return got{}, err
		}
		return fromObject(line), nil
	}
	if len(c.more) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, b, err := c.ws.Read(ctx)
		if err != nil {
			return got{}, err
		}
		if c.as == SubprotocolEvents {
			var e struct {
				ID, Type, Eventissuercursor, Eventissuergroup string
				Eventissuerattempt                            int
			}
			if err := json.Unmarshal(b, &e); err != nil {
				return got{}, err
			}
			g := got{ID: e.ID, Cursor: e.Eventissuercursor, Group: e.Eventissuergroup, Attempt: e.Eventissuerattempt}
			if name, ok := strings.CutPrefix(e.Type, "no.eventissuer."); ok {
				g.ID, g.Control, g.Data = "", name, string(b)
				if name == "cursor" {
					g.Control, g.Data = "", ""
				}
			}
			return g, nil
		}
		var m struct {
			Events     []struct{ ID string }
			Cursor     string
			Deliveries []struct {
				Cursor, Group string
				Attempt       int
			}
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return got{}, err
		}
		if m.Events == nil {
			return fromObject(b), nil
		}
		for i, e := range m.Events {
			g := got{ID: e.ID}
			if m.Deliveries != nil {
				g.Cursor, g.Group, g.Attempt = m.Deliveries[i].Cursor, m.Deliveries[i].Group, m.Deliveries[i].Attempt
			}
			c.more = append(c.more, g)
		}
		c.more[len(c.more)-1].Cursor = m.Cursor
	}
	g := c.more[0]
	c.more = c.more[1:]
	return g, nil
}

func (c *client) nextSSE() (got, error) {
	var g got
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			return got{}, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			return g, nil
		case "id":
			g.Cursor = value
		case "event":
			g.Control = value
		case "data":
			g.Data = value
			if g.Control == "" {
				var e struct {
					ID, Eventissuergroup string
					Eventissuerattempt   int
				}
				if err := json.Unmarshal([]byte(value), &e); err != nil {
					return got{}, err
				}
				g.ID, g.Group, g.Attempt, g.Data = e.ID, e.Eventissuergroup, e.Eventissuerattempt, ""
			}
		}
	}
}

func fromObject(b []byte) got {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return got{Control: "unreadable", Data: string(b)}
	}
	var g got
	_ = json.Unmarshal(m["cursor"], &g.Cursor)
	_ = json.Unmarshal(m["group"], &g.Group)
	_ = json.Unmarshal(m["attempt"], &g.Attempt)
	delete(m, "cursor")
	delete(m, "group")
	delete(m, "attempt")
	for name, value := range m {
		if name == "event" {
			var e struct{ ID string }
			_ = json.Unmarshal(value, &e)
			g.ID = e.ID
		} else {
			g.Control, g.Data = name, string(value)
		}
	}
	return g
}

func (c *client) must() got {
	c.t.Helper()
	g, err := c.next()
	if err != nil {
		c.t.Fatalf("%s: the session ended: %v", c.as, err)
	}
	return g
}

// ids reads n events and returns their ids, by parity of the id (the partition they are in), and the last cursor.
func (c *client) ids(n int) (byPartition [2][]string, at string) {
	c.t.Helper()
	for n > 0 {
		g := c.must()
		if g.Cursor != "" {
			at = g.Cursor
		}
		if g.ID == "" {
			if g.Control != "" {
				c.t.Fatalf("%s: %s %s", c.as, g.Control, g.Data)
			}
			continue
		}
		p := int(g.ID[len(g.ID)-1]-'0') % 2
		byPartition[p] = append(byPartition[p], g.ID)
		n--
	}
	return byPartition, at
}

// until reads events until it has seen those of last, by partition.
func (c *client) until(last ...string) (byPartition [2][]string) {
	c.t.Helper()
	for missing := len(last); missing > 0; {
		g := c.must()
		if g.ID == "" {
			continue
		}
		p := int(g.ID[len(g.ID)-1]-'0') % 2
		byPartition[p] = append(byPartition[p], g.ID)
		if slices.Contains(last, g.ID) {
			missing--
		}
	}
	return byPartition
}

func between(from, to int) (byPartition [2][]string) {
	for i := from; i < to; i++ {
		byPartition[i%2] = append(byPartition[i%2], fmt.Sprint(i))
	}
	return byPartition
}
