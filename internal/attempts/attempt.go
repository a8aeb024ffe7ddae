package attempts

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Outcome is what became of an attempt.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered" // the endpoint acknowledged it
	Refused   Outcome = "refused"   // the endpoint answered that it does not take this event
	Failed    Outcome = "failed"    // the endpoint did not answer, or answered that it is in trouble
	Gone      Outcome = "gone"      // the endpoint answered 410: the subscription ends
	Cut       Outcome = "cut"       // this replica had to stop; what the endpoint made of it is not known
	Lost      Outcome = "lost"      // the log no longer has the events: they are not delivered
)

// Outcomes are all there are, in the order of their codes in references.
func Outcomes() []Outcome { return []Outcome{Delivered, Refused, Failed, Gone, Cut, Lost} }

// code is the outcome in a reference: its place among Outcomes, plus one; 0 is one that this version does not know.
func (o Outcome) code() byte {
	switch o {
	case Delivered:
		return 1
	case Refused:
		return 2
	case Failed:
		return 3
	case Gone:
		return 4
	case Cut:
		return 5
	case Lost:
		return 6
	}
	return 0
}

// Attempt is one request, and what became of it. Its JSON is the form in which owners see it.
type Attempt struct {
	ID           string // of the attempt, where it was read back; opaque
	Subscription string
	Replay       bool
	Manual       bool // somebody asked for it: a test, a resend, a redelivery
	Stream       string
	Partition    int32
	Offsets      []int64 // of its events
	EventID      string  // of the first
	EventType    string  // likewise
	Message      string  // its webhook-id
	At           time.Time
	Took         time.Duration
	Outcome      Outcome
	Status       int    // of the answer; 0: none came
	Reason       string // where it was not delivered
	Answer       []byte // the first bytes of the answer
	Number       int    // of the attempt at these events, from 1
	Next         time.Time
	DeadLetter   bool // it was the last: its events go to the dead letters
}

const (
	// maxText bounds each text of an attempt that others wrote, in bytes.
	maxText = 1 << 10
	// maxOffsets bounds how many events of a request are named.
	maxOffsets = 1000
)

// form is an attempt's JSON, on the log and in answers.
type form struct {
	ID           string    `json:"id,omitempty"`
	Subscription string    `json:"subscription,omitempty"`
	Time         time.Time `json:"time"`
	State        Outcome   `json:"state"`
	Status       int       `json:"status,omitempty"`
	Took         duration  `json:"took"`
	Event        string    `json:"event,omitempty"`
	Type         string    `json:"type,omitempty"`
	Stream       string    `json:"stream,omitempty"`
	Partition    int32     `json:"partition"`
	Offsets      []int64   `json:"offsets,omitempty"`
	Message      string    `json:"message,omitempty"`
	Attempt      int       `json:"attempt,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	Answer       string    `json:"answer,omitempty"`
	NextAttempt  time.Time `json:"nextAttempt,omitzero"`
	DeadLetter   bool      `json:"deadLetter,omitempty"`
	Replay       bool      `json:"replay,omitempty"`
	Manual       bool      `json:"manual,omitempty"`
}

// duration is written as Go writes it: "12.5ms".
type duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// MarshalJSON implements json.Marshaler. What others wrote, the answer above all, is cut to 1 KiB each, and is text: what
// is no UTF-8 is replaced.
func (a Attempt) MarshalJSON() ([]byte, error) {
	return json.Marshal(form{
		ID: a.ID, Subscription: a.Subscription, Time: a.At.UTC().Truncate(time.Microsecond), State: a.Outcome, Status: a.Status,
		Took: duration(a.Took.Truncate(time.Microsecond)), Event: clip(a.EventID), Type: clip(a.EventType), Stream: a.Stream, Partition: a.Partition,
		Offsets: a.Offsets[:min(len(a.Offsets), maxOffsets)], Message: clip(a.Message), Attempt: a.Number, Reason: clip(a.Reason),
		Answer: clip(string(a.Answer[:min(len(a.Answer), maxText+utf8.UTFMax)])), NextAttempt: a.Next.UTC().Truncate(time.Microsecond),
		DeadLetter: a.DeadLetter, Replay: a.Replay, Manual: a.Manual,
	})
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *Attempt) UnmarshalJSON(text []byte) error {
	var f form
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("an attempt: %w", err)
	}
	*a = Attempt{
		ID: f.ID, Subscription: f.Subscription, Replay: f.Replay, Manual: f.Manual, Stream: f.Stream, Partition: f.Partition, Offsets: f.Offsets,
		EventID: f.Event, EventType: f.Type, Message: f.Message, At: f.Time, Took: time.Duration(f.Took), Outcome: f.State, Status: f.Status,
		Reason: f.Reason, Number: f.Attempt, Next: f.NextAttempt, DeadLetter: f.DeadLetter,
	}
	if f.Answer != "" {
		a.Answer = []byte(f.Answer)
	}
	return nil
}

// clip makes UTF-8 of a text, of at most maxText bytes and whole characters. Clipping again changes nothing.
func clip(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxText+utf8.UTFMax)], "\uFFFD")
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
