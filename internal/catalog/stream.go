package catalog

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// Stream is a named log of events: one topic.
type Stream struct {
	Name        string   `json:"name"`
	Topic       string   `json:"topic"`
	Partitions  int32    `json:"partitions"`
	Retention   Duration `json:"retention"`
	Compaction  bool     `json:"compaction"`
	Owner       string   `json:"owner"`
	Description string   `json:"description,omitempty"`
	// Adopted streams have a topic that was there before them: it is left alone when the stream is deleted.
	Adopted bool `json:"adopted,omitempty"`
	// Format and Wrap stay what they were created with: the events that cursors point at would become others.
	Format Format  `json:"format,omitempty"` // always set where a stream is looked up
	Wrap   RawJSON `json:"wrap,omitempty"`   // as event.CompileWrap takes it; with FormatJSON alone
	// State is nil where the server keeps none. It belongs to all who have looked the stream up: it must not be changed.
	State *State `json:"state,omitempty"`

	u uuid.UUID
}

// ETag identifies the version of the definition, in the form of the header.
func (s Stream) ETag() string { return etag(s.u) }

func etag(u uuid.UUID) string { return `"` + u.String() + `"` }

// StreamPatch is a change of a stream; nil fields stay.
type StreamPatch struct {
	Partitions  *int32
	Retention   *Duration
	Owner       *string
	Description *string
	State       *StatePatch
}

// streamBody is a stream as it is in the table.
type streamBody struct {
	Stream
	Phase phase  `json:"phase,omitempty"`
	Epoch string `json:"epoch,omitempty"` // of the topic that the stream was created with
}

// phase says how far a stream's creation or deletion has come. A stream can be looked up only between the two.
type phase string

const (
	phaseReady    phase = ""
	phaseCreating phase = "creating" // the name is taken, the topic may not be there yet
	phaseChecking phase = "checking" // to be deleted if nothing uses it; nothing is gone yet, and it may be ready again
	phaseDeleting phase = "deleting" // for good: the topic may be gone already
)

// visible returns the stream of an object that can be looked up.
func visible(o *object[streamBody]) (Stream, bool) {
	if o == nil || o.v.Phase != phaseReady {
		return Stream{}, false
	}
	s := o.v.Stream
	s.u = o.u
	s.Format = cmp.Or(s.Format, FormatCloudEvents) // streams of before there were others
	return s, true
}

// Duration is a time.Duration whose JSON is a string such as "168h". Negative means for ever: "forever".
type Duration time.Duration

const forever = "forever"

// String implements fmt.Stringer.
func (d Duration) String() string {
	if d < 0 {
		return forever
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	if string(b) == forever {
		*d = -1
		return nil
	}
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errors.New(`a duration such as "168h" or "30m", or "forever"`)
	}
	*d = Duration(v)
	return nil
}

// Bounds of a definition.
const (
	maxName        = 200
	maxPartitions  = 1024
	maxDescription = 4096
	maxOwner       = 200
	minRetention   = Duration(time.Minute)
	maxTopic       = 249 // Kafka's
)

func (s *Stream) check(v *InvalidError) {
	if !isName(s.Name, "._-") || len(s.Name) > maxName {
		v.add("/name", "1 to %d letters, digits and any of . _ -, beginning with a letter or digit; got %q", maxName, s.Name)
	}
	if !isName(s.Topic, "._-") || len(s.Topic) > maxTopic {
		v.add("/topic", "a Kafka topic's name: 1 to %d letters, digits and any of . _ -, beginning with a letter or digit (others are internal); got %q", maxTopic, s.Topic)
	}
	checkPartitions(v, s.Partitions)
	checkRetention(v, s.Retention)
	checkTexts(v, s.Owner, s.Description)
	s.checkFormat(v)
	s.State.check(v)
}

func checkPartitions(v *InvalidError, n int32) {
	if n < 1 || n > maxPartitions {
		v.add("/partitions", "1 to %d; got %d", maxPartitions, n)
	}
}

func checkRetention(v *InvalidError, d Duration) {
	if d > 0 && d < minRetention {
		v.add("/retention", "%v or longer, or \"forever\"; got %v", minRetention, d)
	}
}

func checkTexts(v *InvalidError, owner, description string) {
	if len(owner) > maxOwner {
		v.add("/owner", "at most %d bytes; got %d", maxOwner, len(owner))
	}
	if len(description) > maxDescription {
		v.add("/description", "at most %d bytes; got %d", maxDescription, len(description))
	}
}

// isName reports whether s begins with a letter or digit and goes on with those and extra.
func isName(s, extra string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && (i == 0 || !strings.Contains(extra, string(c))) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// topicConfig is what the stream's topic is made with.
func (s *Stream) topicConfig(replicas int16) broker.TopicConfig {
	c := broker.TopicConfig{
		Partitions: s.Partitions, ReplicationFactor: replicas, Retention: time.Duration(s.Retention), Compaction: s.Compaction,
	}
	if c.Retention != 0 {
		c.RetentionBytes = -1 // what is promised by time is not taken away by size
	}
	return c
}
