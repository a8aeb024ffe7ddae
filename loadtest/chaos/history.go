package chaos

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const (
	// shownHistories is how many violations are shown with what led to them.
	shownHistories = 5
	// shownLines is how many entries of each sort are shown of one.
	shownLines = 40
	// shownNumbers is how many events of the key before and after are shown too.
	shownNumbers = 2
	// shownAttempts is how many attempts to publish an event are shown.
	shownAttempts = 3
	// nearFaults is how long before and after a violation faults are near.
	nearFaults = 20 * time.Second
)

// History is what the journal tells about a violation.
type History struct {
	Violation Violation
	Key       []Entry // what was sent, acknowledged and given of the event and its neighbours in the key
	Client    []Entry // the client's connections and cursors just before
	Faults    []Entry // that were near
}

// histories reads, of the first violations, what led to them. A promise is shown once before any is shown twice.
func histories(path string, violations []Violation) ([]History, error) {
	var all []History
	for round := 0; round < shownHistories && len(all) < shownHistories; round++ {
		of := map[Promise]int{}
		for _, v := range violations {
			if of[v.Promise]++; of[v.Promise] == round+1 && len(all) < shownHistories {
				all = append(all, History{Violation: v})
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, readJournal(path, func(e *Entry) error {
		for i := range all {
			all[i].take(e)
		}
		return nil
	})
}

// take takes an entry that belongs to the history.
func (h *History) take(e *Entry) {
	v := h.Violation
	switch e.What {
	case WhatFault, WhatMended, WhatExit:
		if v.At == 0 || e.At > v.At-nearFaults && e.At < v.At+nearFaults/4 {
			h.Faults = lastOf(h.Faults, e)
		}
		return
	case WhatNote, WhatRun:
		return
	}
	if v.ID != "" && h.concerns(e) && len(h.Key) < 4*shownLines {
		h.Key = append(h.Key, *e)
		return
	}
	if v.Who != "" && e.Who == v.Who && (v.At == 0 || e.At <= v.At) {
		h.Client = lastOf(h.Client, e)
	}
}

// lastOf keeps the last entries.
func lastOf(all []Entry, e *Entry) []Entry {
	if len(all) == shownLines {
		copy(all, all[1:])
		all = all[:len(all)-1]
	}
	return append(all, *e)
}

// concerns reports whether an entry is of the violation's event or of its neighbours. Of what other clients were given,
// only the event itself is of interest.
func (h *History) concerns(e *Entry) bool {
	if (e.What == WhatSend || e.What == WhatDoubt) && e.Link > shownAttempts {
		return false
	}
	v := h.Violation
	_, n := splitID(v.ID)
	for _, id := range e.IDs {
		if id == v.ID {
			return true
		}
		key, m := splitID(id)
		if key != v.Key || m < n-shownNumbers || m > n+shownNumbers {
			continue
		}
		if e.Who == v.Who || e.What == WhatSend || e.What == WhatAck || e.What == WhatDoubt || e.What == WhatRecord {
			return true
		}
	}
	return false
}

func (h History) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, h.Violation)
	for _, part := range []struct {
		title   string
		entries []Entry
	}{{"the event and its neighbours", h.Key}, {"the client before", h.Client}, {"faults near", h.Faults}} {
		if len(part.entries) == 0 {
			continue
		}
		fmt.Fprintf(&b, "  %s:\n", part.title)
		for i := range part.entries {
			fmt.Fprintf(&b, "    %s\n", part.entries[i].line())
		}
	}
	return b.String()
}

// line is an entry for people: its time, and the rest as in the journal, but for what would fill the screen.
func (e Entry) line() string {
	at := e.At
	e.At = 0
	if len(e.IDs) > 6 {
		e.Text = fmt.Sprintf("(and %d more) %s", len(e.IDs)-6, e.Text)
		e.IDs = e.IDs[:6]
		e.Places = e.Places[:min(6, len(e.Places))]
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%12s %s", at.Round(time.Microsecond), strings.Replace(string(text), `{"t":0,`, `{`, 1))
}
