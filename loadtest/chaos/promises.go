package chaos

import (
	"fmt"
	"time"
)

// Promise is what the server promises, and its documents say.
type Promise string

// All that is checked.
const (
	// PromiseKept: what was acknowledged is on the log, where the answer said.
	PromiseKept Promise = "what is acknowledged is on the log where the answer says"
	// PromiseOnce: one that was published again under its id is there once, unless its type allows more while Redis is away,
	// or Redis lost its data in between.
	PromiseOnce Promise = "an event that is published again is on the log once"
	// PromiseOrder: the events of a key, each published after the one before was acknowledged, are on the log in order.
	PromiseOrder Promise = "the events of a key are on the log in the order of their publishing"
	// PromiseGenuine: nothing is on the log, or comes, that was not published, and nothing is changed.
	PromiseGenuine Promise = "what comes is what was published"
	// PromiseWanted: nothing comes that the filter does not want.
	PromiseWanted Promise = "what comes is what was asked for"
	// PromiseComplete: nothing that a reader wants is left out.
	PromiseComplete Promise = "a reader is given every event that it wants"
	// PromiseRepeat: within a connection nothing comes twice or out of order; a new one repeats what is after its cursor alone.
	PromiseRepeat Promise = "events come in order, and only those after the cursor presented come again"
	// PromiseCursor: a cursor is never ahead of what was given, and never goes back.
	PromiseCursor Promise = "a cursor is where its reader is"
	// PromiseGap: a gap is told only of what is gone.
	PromiseGap Promise = "a gap that is told is true"
	// PromisePicture: a snapshot, and what followed it, shows what the log has.
	PromisePicture Promise = "a picture shows the log's latest event of each key"
	// PromiseEnds: where a stream is said to end is behind all that was acknowledged before, and where to begin is so.
	PromiseEnds Promise = "a stream is said to begin and end where its log does"
	// PromiseAnswer: no client is told what its request gives no reason for.
	PromiseAnswer Promise = "good clients are answered well"
	// PromiseWhole: when everything is repaired, all clients come to the end.
	PromiseWhole Promise = "when everything is repaired all clients become whole"
	// PromiseSaved: a named consumer begins between what was answered as saved and what it acknowledged.
	PromiseSaved Promise = "a named consumer begins between what is saved and what it acknowledged"
	// PromiseForward: a named consumer's position, asked of one replica, never goes back; nor below what was saved, at the end.
	PromiseForward Promise = "a named consumer's position never goes back"
	// PromiseShared: each event on the log is given to a session of a subscription that acknowledges it.
	PromiseShared Promise = "a subscription's sessions are given every event"
	// PromiseAgain: what was answered as acknowledged is not given out again.
	PromiseAgain Promise = "what is answered as acknowledged is not given out again"
	// PromiseTurn: with ordering by key an event is first given out when all before it with its key are acknowledged.
	PromiseTurn Promise = "ordered by key, an event waits for those before it"
	// PromisePushed: each event is acknowledged by a webhook's endpoint.
	PromisePushed Promise = "a webhook is sent every event until it takes it"
	// PromiseStop: a replica that is told to stop ends with 0 in time.
	PromiseStop Promise = "a replica that is told to stop ends well"
	// PromiseAlive: a replica does not end by itself, and nothing in it panics.
	PromiseAlive Promise = "a replica does not break by itself"
	// PromiseGrowth: once all clients have gone a replica holds no more than in the beginning.
	PromiseGrowth Promise = "what clients cost is given back when they go"
)

// promises are all of them.
var promises = []Promise{
	PromiseKept, PromiseOnce, PromiseOrder, PromiseGenuine, PromiseWanted, PromiseComplete, PromiseRepeat,
	PromiseCursor, PromiseGap, PromisePicture, PromiseEnds, PromiseAnswer, PromiseWhole, PromiseSaved, PromiseForward, PromiseShared,
	PromiseAgain, PromiseTurn, PromisePushed, PromiseStop, PromiseAlive, PromiseGrowth,
}

// Violation is a promise that a run shows broken.
type Violation struct {
	Promise Promise       `json:"promise"`
	At      time.Duration `json:"at"`            // since the run began; 0 of what is known only at the end
	Who     string        `json:"who,omitempty"` // the client or replica
	Key     string        `json:"key,omitempty"`
	ID      string        `json:"id,omitempty"` // the event
	Text    string        `json:"text"`
}

func (v Violation) String() string {
	when := "at the end"
	if v.At > 0 {
		when = "at " + v.At.Round(time.Millisecond).String()
	}
	who := v.Who
	if who != "" {
		who = ", " + who
	}
	return fmt.Sprintf("BROKEN: %s\n  %s%s: %s", v.Promise, when, who, v.Text)
}
