package loadtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ReaderConfig is a group of readers that are alike.
type ReaderConfig struct {
	Name   string      `json:"name"`
	URL    string      `json:"url"` // of the stream; {i} stands for a connection's number, {lane} for its lane
	Query  []string    `json:"query,omitempty"`
	Header http.Header `json:"header,omitempty"`

	Transport   string `json:"transport"` // TransportSSE…; default TransportSSE
	Client      string `json:"client"`    // ClientEpoll…; default the leanest that can
	Subprotocol string `json:"subprotocol,omitempty"`

	Connections int      `json:"connections"`       // default 1
	First       int      `json:"first,omitempty"`   // the first one's number, where the group is a part of a larger one
	Dials       int      `json:"dials"`             // being opened at once; default 256
	Ramp        float64  `json:"ramp,omitempty"`    // connections begun in a second; 0: no limit
	Sources     []string `json:"sources,omitempty"` // local addresses; default enough of 127.0.0.0/8, where the target is loopback

	// Wait is how long the server is to wait for a page's first event, and Every how long a reader waits from one page to
	// asking for the next. Default 30 s and nothing; with Every set, no waiting.
	Wait  time.Duration `json:"wait,omitempty"`
	Every time.Duration `json:"every,omitempty"`

	Lifetime time.Duration `json:"lifetime,omitempty"` // of a connection, half of it up to one and a half; 0: no end
	Slow     *Slowness     `json:"slow,omitempty"`
	Storms   []StormConfig `json:"storms,omitempty"`

	// Of names the publishers whose events the readers are to get; default all.
	Of string `json:"of,omitempty"`
	// Latest says that a later event of a lane may take an earlier one's place, as in conflated views: only a lane's last
	// event can be lost.
	Latest bool `json:"latest,omitempty"`
}

// StormConfig drops a share of a group's connections at once. All come back together, with their cursors.
type StormConfig struct {
	At      time.Duration `json:"at"`             // from the window's beginning; or once the storm before it is over
	Share   float64       `json:"share"`          // above 0, up to 1; default 1
	Away    time.Duration `json:"away,omitempty"` // how long they stay away, and what they miss; default nothing
	Timeout time.Duration `json:"timeout"`        // for all to be back; default 60 s
}

// The ways in which readers read.
const (
	TransportSSE       = "sse"
	TransportWebSocket = "websocket"
	TransportNDJSON    = "ndjson"
	TransportPoll      = "poll" // pages, one after the other
)

func (c *ReaderConfig) defaults() error {
	if c.URL == "" {
		return errors.New("no URL to read from")
	}
	set(&c.Transport, TransportSSE)
	target, err := resolve(expand(c.URL, 0, 0))
	if err != nil {
		return err
	}
	if c.Client == "" {
		c.Client = defaultClient(c.Transport, target)
	}
	set(&c.Connections, 1)
	set(&c.Dials, 256)
	if c.Connections < 1 || c.Dials < 1 {
		return errors.New("connections and dials must be at least 1")
	}
	if c.Transport == TransportPoll && c.Every == 0 {
		set(&c.Wait, 30*time.Second)
	}
	if c.Slow != nil {
		slow := *c.Slow
		set(&slow.Buffer, slowBuffer)
		c.Slow = &slow
	}
	c.Storms = slices.Clone(c.Storms)
	for i := range c.Storms {
		set(&c.Storms[i].Share, 1)
		set(&c.Storms[i].Timeout, time.Minute)
	}
	return c.check()
}

// check finds what does not go together.
func (c *ReaderConfig) check() error {
	fits := map[string][]string{
		TransportSSE:       {ClientEpoll, ClientGoroutine, ClientR3labs},
		TransportNDJSON:    {ClientEpoll, ClientGoroutine},
		TransportPoll:      {ClientEpoll, ClientGoroutine},
		TransportWebSocket: {ClientWebSocket},
	}
	clients, ok := fits[c.Transport]
	if !ok {
		return fmt.Errorf("transport %q: expected %s, %s, %s or %s", c.Transport, TransportSSE, TransportWebSocket, TransportNDJSON, TransportPoll)
	}
	if slices.Contains(clients, c.Client) {
		return nil
	}
	return fmt.Errorf("client %q: expected %s for transport %s", c.Client, strings.Join(clients, " or "), c.Transport)
}

// defaultClient is the leanest client of a transport.
func defaultClient(transport string, target endpoint) string {
	switch {
	case transport == TransportWebSocket:
		return ClientWebSocket
	case target.tls || !hasEpoll:
		return ClientGoroutine
	}
	return ClientEpoll
}

// format is what the group's clients read over plain HTTP.
func (c *ReaderConfig) format() format {
	switch c.Transport {
	case TransportNDJSON:
		return formatLines
	case TransportPoll:
		return formatPage
	}
	return formatSSE
}

// laneRange is the lanes of some publishers: so many from first on.
type laneRange struct {
	First int `json:"first"`
	Count int `json:"count"`
}

// lanesOf says which lanes connection i is to get: a placeholder in its URL or query makes one its own.
func (c *ReaderConfig) lanesOf(i int, all laneRange) laneRange {
	asked := c.URL + " " + strings.Join(c.Query, " ")
	switch {
	case strings.Contains(asked, "{lane}"):
		return laneRange{all.First + i%all.Count, 1}
	case strings.Contains(asked, "{i}"):
		if i < all.Count {
			return laneRange{all.First + i, 1}
		}
		return laneRange{}
	}
	return all
}

// expected is how many deliveries everything surely published makes at all of the group's connections.
func (c *ReaderConfig) expected(all laneRange, sequences []sequence) uint64 {
	var n uint64
	for i := range c.Connections {
		l := c.lanesOf(c.First+i, all)
		for _, s := range sequences[l.First : l.First+l.Count] {
			n += s.end - uint64(len(s.doubts))
		}
	}
	return n
}

// portsPerSource is how many connections are made from one local address: Linux has some 28,000 ports for one pair of
// addresses, and those of closed connections are not free at once.
const portsPerSource = 12_000

// loopbackSources spreads connections over as many addresses of 127.0.0.0/8 as they need.
func loopbackSources(target endpoint, connections int) []string {
	ips, err := net.LookupIP(target.url.Hostname())
	if err != nil || len(ips) == 0 || !ips[0].IsLoopback() || ips[0].To4() == nil || connections <= portsPerSource {
		return nil
	}
	var out []string
	for i := range (connections + portsPerSource - 1) / portsPerSource {
		out = append(out, fmt.Sprintf("127.0.%d.%d", i/250, 1+i%250))
	}
	return out
}
