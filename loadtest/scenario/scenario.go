// Package scenario reads load tests from YAML.
//
// Every mistake is told with its line, what was expected and what came; keys that mean nothing are mistakes. What a
// scenario says is what [loadtest.Run] is given, and nothing else: it can be told which server and stream are meant, and
// how long and by how many processes, from outside.
package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Scenario is a load test. The zero values of what is not given are those of loadtest.RunConfig where not said otherwise.
type Scenario struct {
	Name   string `yaml:"name"`   // default the file's
	Server string `yaml:"server"` // base URL of an Event Issuer; default http://127.0.0.1:8080
	// Servers are replicas: each group of readers, and of sessions, is dealt out among them. Everything else is the first's.
	Servers []string `yaml:"servers"`
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
	Away    time.Duration `yaml:"away"`
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
