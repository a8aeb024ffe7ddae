// Package scenario reads load tests from YAML.
//
// Every mistake is told with its line, what was expected and what came; keys that mean nothing are mistakes. What a
// scenario says is what [loadtest.Run] is given, and nothing else: it can be told which server and stream are meant, and
// how long and by how many processes, from outside.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// Scenario is a load test. The zero values of what is not given are those of loadtest.RunConfig where not said otherwise.
type Scenario struct {
	Name   string `yaml:"name"`   // default the file's
	Server string `yaml:"server"` // base URL of an Event Issuer; default http://127.0.0.1:8080
	// Stream is made where it is missing, with so many partitions (default 1). It may be left out where everybody has a URL.
	Stream     string `yaml:"stream"`
	Partitions int    `yaml:"partitions"`
	Header     pairs  `yaml:"header"` // of every request
	Shards     int    `yaml:"shards"`

	ConnectTimeout time.Duration `yaml:"connectTimeout"`
	Settle         time.Duration `yaml:"settle"`
	Warmup         time.Duration `yaml:"warmup"`
	Duration       time.Duration `yaml:"duration"`
	Linger         time.Duration `yaml:"linger"`

	PIDs    []int `yaml:"pid"`
	PIDTree bool  `yaml:"pidTree"`

	Publishers    []Publisher    `yaml:"publishers"`
	Readers       []Readers      `yaml:"readers"`
	Subscriptions []Subscription `yaml:"subscriptions"`
	Webhooks      []Webhooks     `yaml:"webhooks"`
}

// Publisher is a kind of publishers.
type Publisher struct {
	Name        string        `yaml:"name"` // by which readers say whose events they are to get
	URL         string        `yaml:"url"`  // default the server's
	Rate        rate          `yaml:"rate"`
	Burst       *Burst        `yaml:"burst"` // how the rate changes: one of burst, ramp and steps
	Ramp        *Ramp         `yaml:"ramp"`
	Steps       []Step        `yaml:"steps"` // in place of rate
	Repeat      bool          `yaml:"repeat"`
	Batch       int           `yaml:"batch"`
	Size        int           `yaml:"size"`
	Lanes       int           `yaml:"lanes"`
	Connections int           `yaml:"connections"`
	Events      uint64        `yaml:"events"`
	Type        string        `yaml:"type"` // default the stream's name with .tick
	Source      string        `yaml:"source"`
	Subject     string        `yaml:"subject"`
	Body        string        `yaml:"body"`
	ContentType string        `yaml:"contentType"`
	Header      pairs         `yaml:"header"`
	Timeout     time.Duration `yaml:"timeout"`
	// SentTime has latency count from when an event was sent, in place of when it was due.
	SentTime bool `yaml:"sentTime"`
}

// Burst is the rate for so long, and then nothing for so long, again and again.
type Burst struct {
	On  time.Duration `yaml:"on"`
	Off time.Duration `yaml:"off"`
}

// Ramp is a rate that grows, or falls, to the rate given.
type Ramp struct {
	From float64       `yaml:"from"`
	Over time.Duration `yaml:"over"`
}

// Step is a rate for so long; with To it changes to that meanwhile.
type Step struct {
	Rate float64       `yaml:"rate"`
	To   *float64      `yaml:"to"`
	For  time.Duration `yaml:"for"`
}

// Readers is a group of readers.
type Readers struct {
	Name        string        `yaml:"name"`
	Transport   string        `yaml:"transport"`
	Subprotocol *string       `yaml:"subprotocol"` // of WebSocket; default eventissuer.v1
	Client      string        `yaml:"client"`
	Connections int           `yaml:"connections"`
	Ramp        float64       `yaml:"ramp"`
	Dials       int           `yaml:"dials"`
	Server      string        `yaml:"server"` // another than the scenario's
	URL         string        `yaml:"url"`    // in place of server and stream; as path, query and header it may have {i} and {lane}
	Path        string        `yaml:"path"`   // default the stream's
	Query       pairs         `yaml:"query"`
	Header      pairs         `yaml:"header"`
	Wait        time.Duration `yaml:"wait"`
	Every       time.Duration `yaml:"every"`
	Lifetime    time.Duration `yaml:"lifetime"`
	Slow        *Slow         `yaml:"slow"`
	Storms      []Storm       `yaml:"storms"`
	Of          string        `yaml:"of"`
	Latest      bool          `yaml:"latest"`
}

// Slow is how slowly readers read.
type Slow struct {
	BytesPerSecond int           `yaml:"bytesPerSecond"`
	Reads          time.Duration `yaml:"reads"`
	Pauses         time.Duration `yaml:"pauses"`
	Buffer         int           `yaml:"buffer"`
}

// Storm drops readers.
type Storm struct {
	At      time.Duration `yaml:"at"`
	Percent float64       `yaml:"percent"` // default 100
	Timeout time.Duration `yaml:"timeout"`
}

// Subscription is one that is made for the run, and the sessions that share its events and acknowledge them.
type Subscription struct {
	Name           string        `yaml:"name"`
	Sessions       int           `yaml:"sessions"`
	Servers        []string      `yaml:"servers"` // that the sessions are dealt out among; default the scenario's
	Transport      string        `yaml:"transport"`
	Ordering       string        `yaml:"ordering"`
	Types          []string      `yaml:"types"`
	Of             string        `yaml:"of"`
	MaxUncommitted int           `yaml:"maxUncommitted"`
	AckEvery       int           `yaml:"ackEvery"`
	AckAfter       time.Duration `yaml:"ackAfter"`
}

// Webhooks is webhooks that are made for the run, and endpoints of the load generator's own.
type Webhooks struct {
	Name          string        `yaml:"name"`
	Subscriptions int           `yaml:"subscriptions"`
	Endpoints     int           `yaml:"endpoints"`
	Mode          string        `yaml:"mode"`
	Signatures    []string      `yaml:"signatures"`
	Ordering      string        `yaml:"ordering"`
	Batch         int           `yaml:"batch"`
	Concurrency   int           `yaml:"concurrency"`
	Timeout       time.Duration `yaml:"timeout"`
	Schedule      []string      `yaml:"schedule"`
	Types         []string      `yaml:"types"`
	Of            string        `yaml:"of"`
	Hang          int           `yaml:"hang"`        // endpoints that never answer
	FailPercent   float64       `yaml:"failPercent"` // messages that are answered 503
	Delay         time.Duration `yaml:"delay"`       // before each answer
	Verify        *float64      `yaml:"verifyPercent"`
}

// Read reads a scenario's file.
func Read(path string) (*Scenario, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := Parse(path, text)
	if err == nil && s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return s, err
}

// Parse reads a scenario. The file's name is for messages.
func Parse(file string, text []byte) (*Scenario, error) {
	d := newDecoder(file)
	s := &Scenario{}
	if err := d.document(text, s, ""); err != nil {
		return nil, err
	}
	if len(s.Readers)+len(s.Subscriptions)+len(s.Webhooks) == 0 {
		return nil, d.mistake("readers", "expected at least one group, or subscriptions or webhooks")
	}
	for i := range s.Publishers {
		if err := s.Publishers[i].check(d, fmt.Sprintf("publishers[%d]", i)); err != nil {
			return nil, err
		}
	}
	for i := range s.Readers {
		if err := s.Readers[i].check(d, fmt.Sprintf("readers[%d]", i)); err != nil {
			return nil, err
		}
	}
	for i := range s.Subscriptions {
		if err := s.Subscriptions[i].check(d, fmt.Sprintf("subscriptions[%d]", i)); err != nil {
			return nil, err
		}
	}
	for i := range s.Webhooks {
		if err := s.Webhooks[i].check(d, fmt.Sprintf("webhooks[%d]", i)); err != nil {
			return nil, err
		}
	}
	if err := s.names(d); err != nil {
		return nil, err
	}
	return s, nil
}

// AddReaders adds a group of readers, said as one in a file is: {transport: sse, connections: 10}.
func (s *Scenario) AddReaders(option, text string) error {
	d, r := newDecoder(option), Readers{}
	if err := d.document([]byte(text), &r, ""); err != nil {
		return err
	}
	s.Readers = append(s.Readers, r)
	return r.check(d, "")
}

// AddPublisher adds a publisher, said as one in a file is: {rate: 100, size: 1000}.
func (s *Scenario) AddPublisher(option, text string) error {
	d, p := newDecoder(option), Publisher{}
	if err := d.document([]byte(text), &p, ""); err != nil {
		return err
	}
	s.Publishers = append(s.Publishers, p)
	return p.check(d, "")
}

// names checks that names are told apart, and that readers name publishers that there are.
func (s *Scenario) names(d *decoder) error {
	var publishers, others []string
	for i, p := range s.Publishers {
		if p.Name != "" && slices.Contains(publishers, p.Name) {
			return d.mistake(fmt.Sprintf("publishers[%d].name", i), "%q is another's name too", p.Name)
		}
		publishers = append(publishers, p.Name)
	}
	check := func(path, name, of string) error {
		switch {
		case name != "" && slices.Contains(others, name):
			return d.mistake(join(path, "name"), "%q is another's name too", name)
		case of != "" && !slices.Contains(publishers, of):
			return d.mistake(join(path, "of"), "there are no publishers of that name: expected %s", oneOf(publishers))
		}
		others = append(others, name)
		return nil
	}
	for i, r := range s.Readers {
		if err := check(fmt.Sprintf("readers[%d]", i), r.Name, r.Of); err != nil {
			return err
		}
	}
	for i, r := range s.Subscriptions {
		if err := check(fmt.Sprintf("subscriptions[%d]", i), r.Name, r.Of); err != nil {
			return err
		}
	}
	for i, r := range s.Webhooks {
		if err := check(fmt.Sprintf("webhooks[%d]", i), r.Name, r.Of); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) check(d *decoder, path string) error {
	shapes := 0
	for _, given := range []bool{p.Burst != nil, p.Ramp != nil, len(p.Steps) > 0} {
		if given {
			shapes++
		}
	}
	switch {
	case shapes > 1:
		return d.mistake(path, "expected one of burst, ramp and steps")
	case len(p.Steps) > 0 && p.Rate.given:
		return d.mistake(join(path, "rate"), "expected either a rate or steps, which have rates of their own")
	case len(p.Steps) == 0 && !p.Rate.given:
		return d.mistake(path, "expected a rate, or steps")
	case shapes > 0 && p.Rate.fastest:
		return d.mistake(join(path, "rate"), "expected a number: max cannot change")
	case p.Repeat && p.Steps == nil:
		return d.mistake(join(path, "repeat"), "only steps are repeated; bursts are by themselves")
	case p.Burst != nil && (p.Burst.On == 0 || p.Burst.Off == 0):
		return d.mistake(join(path, "burst"), "expected on and off, each a time above 0")
	case p.Ramp != nil && p.Ramp.Over == 0:
		return d.mistake(join(path, "ramp"), "expected over, a time above 0")
	case p.Body != "" && !strings.Contains(p.Body, "{mark}"):
		return d.mistake(join(path, "body"), "expected {mark} in it, by which events are recognised")
	case p.Lanes > 0 && p.Lanes < p.Connections:
		return d.mistake(join(path, "lanes"), "expected at least one for each of %d connections: a lane's order has one owner", p.Connections)
	}
	events := 0.0
	for i, s := range p.Steps {
		if s.For == 0 {
			return d.mistake(fmt.Sprintf("%s[%d]", join(path, "steps"), i), "expected for, a time above 0")
		}
		events += s.Rate + s.to()
	}
	if len(p.Steps) > 0 && events == 0 {
		return d.mistake(join(path, "steps"), "expected a rate above 0 in one of them")
	}
	return nil
}

func (s Step) to() float64 {
	if s.To == nil {
		return s.Rate
	}
	return *s.To
}

// pace is how the rate changes; nil for a steady one.
func (p *Publisher) pace() *loadtest.Pace {
	r := p.Rate.perSecond
	switch {
	case p.Burst != nil:
		return &loadtest.Pace{Stages: []loadtest.Stage{{From: r, To: r, For: p.Burst.On}, {For: p.Burst.Off}}, Repeat: true}
	case p.Ramp != nil:
		return &loadtest.Pace{Stages: []loadtest.Stage{{From: p.Ramp.From, To: r, For: p.Ramp.Over}}}
	case len(p.Steps) > 0:
		all := &loadtest.Pace{Repeat: p.Repeat}
		for _, s := range p.Steps {
			all.Stages = append(all.Stages, loadtest.Stage{From: s.Rate, To: s.to(), For: s.For})
		}
		return all
	}
	return nil
}

func (r *Readers) check(d *decoder, path string) error {
	at := func(key string) string { return join(path, key) }
	if err := d.choice(at("transport"), r.Transport, loadtest.TransportSSE, loadtest.TransportWebSocket, loadtest.TransportNDJSON, loadtest.TransportPoll); err != nil {
		return err
	}
	if err := d.choice(at("client"), r.Client, loadtest.ClientEpoll, loadtest.ClientGoroutine, loadtest.ClientR3labs, loadtest.ClientWebSocket); err != nil {
		return err
	}
	poll, websocket := r.Transport == loadtest.TransportPoll, r.Transport == loadtest.TransportWebSocket
	switch {
	case r.Connections == 0:
		return d.mistake(at("connections"), "expected at least 1")
	case r.Subprotocol != nil && !websocket:
		return d.mistake(at("subprotocol"), "only transport websocket has one")
	case (r.Wait > 0 || r.Every > 0) && !poll:
		return d.mistake(at(map[bool]string{true: "wait", false: "every"}[r.Wait > 0]), "only transport poll has it")
	case r.URL != "" && (r.Server != "" || r.Path != ""):
		return d.mistake(at("url"), "expected either a url, or server and path")
	case r.Slow != nil && (r.Slow.Reads == 0) != (r.Slow.Pauses == 0):
		return d.mistake(at("slow"), "expected both reads and pauses, or neither")
	case r.Slow != nil && r.Slow.BytesPerSecond == 0 && r.Slow.Pauses == 0:
		return d.mistake(at("slow"), "expected bytesPerSecond, or reads and pauses")
	}
	for i, s := range r.Storms {
		if s.Percent > 100 {
			return d.mistake(fmt.Sprintf("%s[%d].percent", at("storms"), i), "expected above 0 up to 100, got %g", s.Percent)
		}
	}
	return nil
}

func (r *Subscription) check(d *decoder, path string) error {
	if r.Sessions == 0 {
		return d.mistake(join(path, "sessions"), "expected at least 1")
	}
	if err := d.choice(join(path, "ordering"), r.Ordering, "key", "none"); err != nil {
		return err
	}
	return d.choice(join(path, "transport"), r.Transport, loadtest.GroupNDJSON, loadtest.GroupSSE)
}

func (r *Webhooks) check(d *decoder, path string) error {
	at := func(key string) string { return join(path, key) }
	if err := d.choice(at("ordering"), r.Ordering, "key", "none"); err != nil {
		return err
	}
	if err := d.choice(at("mode"), r.Mode, "structured", "binary"); err != nil {
		return err
	}
	for i, s := range r.Signatures {
		if err := d.choice(fmt.Sprintf("%s[%d]", at("signatures"), i), s, "v1", "v1a"); err != nil {
			return err
		}
	}
	switch {
	case r.Subscriptions == 0:
		return d.mistake(at("subscriptions"), "expected at least 1")
	case r.Endpoints > r.Subscriptions:
		return d.mistake(at("endpoints"), "expected at most as many as subscriptions, %d", r.Subscriptions)
	case r.FailPercent >= 100:
		return d.mistake(at("failPercent"), "expected below 100, got %g", r.FailPercent)
	case r.Verify != nil && *r.Verify > 100:
		return d.mistake(at("verifyPercent"), "expected up to 100, got %g", *r.Verify)
	}
	return nil
}

// Prepare makes the stream and the event types that are missing.
func (s *Scenario) Prepare(ctx context.Context) error {
	if s.Stream == "" {
		return nil
	}
	types := []string{}
	for _, p := range s.Publishers {
		if t := s.kind(p); p.URL == "" && !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if len(types) == 0 {
		types = append(types, s.kind(Publisher{}))
	}
	for _, t := range types {
		_, _, err := loadtest.Prepare(ctx, loadtest.PrepareConfig{
			Server: s.base(), Stream: s.Stream, Partitions: s.Partitions, Type: t, Header: header(s.Header),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// kind is the type of a publisher's events. A type belongs to one stream: that of another scenario will not do.
func (s *Scenario) kind(p Publisher) string {
	switch {
	case p.Type != "":
		return p.Type
	case s.Stream != "":
		return s.Stream + ".tick"
	}
	return ""
}

// defaultServer is where an Event Issuer listens by default.
const defaultServer = "http://127.0.0.1:8080"

func (s *Scenario) base() string {
	if s.Server == "" {
		return defaultServer
	}
	return strings.TrimSuffix(s.Server, "/")
}

// Config is what the scenario has Run do.
func (s *Scenario) Config() (loadtest.RunConfig, error) {
	c := loadtest.RunConfig{
		Scenario: s.Name, ConnectTimeout: s.ConnectTimeout, Settle: s.Settle, Warmup: s.Warmup, Duration: s.Duration, Linger: s.Linger,
		Shards: s.Shards, PIDs: s.PIDs, PIDTree: s.PIDTree,
	}
	for _, p := range s.Publishers {
		to := p.URL
		if to == "" {
			to = s.base() + "/v1/events"
		}
		c.Publishers = append(c.Publishers, loadtest.PublishConfig{
			Name: p.Name, URL: to, ContentType: p.ContentType, Header: header(s.Header, p.Header), Body: p.Body, Type: s.kind(p), Source: p.Source,
			Subject: p.Subject, Size: p.Size, Rate: p.Rate.perSecond, Pace: p.pace(), Batch: p.Batch, Publishers: p.Connections, Lanes: p.Lanes,
			Timeout: p.Timeout, Events: p.Events, Scheduled: !p.SentTime,
		})
	}
	for _, r := range s.Readers {
		from, err := s.address(r)
		if err != nil {
			return c, err
		}
		one := loadtest.ReaderConfig{
			Name: r.Name, URL: from, Header: header(s.Header, r.Header), Transport: r.Transport, Client: r.Client,
			Connections: r.Connections, Dials: r.Dials, Ramp: r.Ramp, Wait: r.Wait, Every: r.Every, Lifetime: r.Lifetime, Of: r.Of, Latest: r.Latest,
		}
		for _, q := range r.Query {
			one.Query = append(one.Query, q[0]+"="+q[1])
		}
		if r.Transport == loadtest.TransportWebSocket {
			one.Subprotocol = "eventissuer.v1"
			if r.Subprotocol != nil {
				one.Subprotocol = *r.Subprotocol
			}
		}
		if r.Slow != nil {
			one.Slow = &loadtest.Slowness{BytesPerSecond: r.Slow.BytesPerSecond, Every: r.Slow.Reads, For: r.Slow.Pauses, Buffer: r.Slow.Buffer}
		}
		for _, w := range r.Storms {
			one.Storms = append(one.Storms, loadtest.StormConfig{At: w.At, Share: w.Percent / 100, Timeout: w.Timeout})
		}
		c.Readers = append(c.Readers, one)
	}
	if s.Stream == "" && len(s.Subscriptions)+len(s.Webhooks) > 0 {
		return c, errors.New("expected a stream that subscriptions and webhooks are of")
	}
	for _, r := range s.Subscriptions {
		servers := r.Servers
		if len(servers) == 0 {
			servers = []string{s.base()}
		}
		c.Sessions = append(c.Sessions, loadtest.SessionsConfig{Name: r.Name, Of: r.Of, Group: loadtest.GroupConfig{
			Servers: slices.Clone(servers), Header: header(s.Header), Stream: s.Stream, Types: r.Types, Ordering: r.Ordering, Client: r.Transport,
			Sessions: r.Sessions, MaxUncommitted: r.MaxUncommitted, AckEvery: r.AckEvery, AckAfter: r.AckAfter,
		}})
	}
	for _, r := range s.Webhooks {
		verify := 0.01
		if r.Verify != nil {
			verify = *r.Verify / 100
		}
		c.Webhooks = append(c.Webhooks, loadtest.WebhooksConfig{Name: r.Name, Of: r.Of, Hook: loadtest.WebhookConfig{
			Server: s.base(), Header: header(s.Header), Stream: s.Stream, Types: r.Types, Subscriptions: r.Subscriptions, Endpoints: r.Endpoints,
			Mode: r.Mode, Signatures: r.Signatures, Ordering: r.Ordering, Batch: r.Batch, Concurrency: r.Concurrency, Timeout: r.Timeout,
			Schedule: r.Schedule, Hang: r.Hang, Fail: r.FailPercent / 100, Delay: r.Delay, Verify: verify,
		}})
	}
	return c, nil
}

// address is where a group reads.
func (s *Scenario) address(r Readers) (string, error) {
	if r.URL != "" {
		return r.URL, nil
	}
	base := s.base()
	if r.Server != "" {
		base = strings.TrimSuffix(r.Server, "/")
	}
	switch {
	case r.Path != "":
		return base + "/" + strings.TrimPrefix(r.Path, "/"), nil
	case s.Stream == "":
		return "", fmt.Errorf("expected a stream, or a url or path of each group of readers: %q has none", r.Name)
	}
	return base + "/v1/streams/" + url.PathEscape(s.Stream) + "/events", nil
}

func header(all ...pairs) http.Header {
	h := http.Header{}
	for _, p := range all {
		for _, field := range p {
			h.Add(field[0], field[1])
		}
	}
	return h
}
