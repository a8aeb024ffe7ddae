package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// reader is a client that keeps its cursor itself. It reads over one transport from any replica, and comes back with its
// last cursor whenever the connection ends, is silent, or it feels like it; now and then with an older one, or with none.
// One that keeps a picture begins with a snapshot.
type reader struct {
	Reader
	name    string
	cluster *cluster
	dialer  dialer
	journal *Journal
	rand    *rand.Rand // owned by run
	kept    string     // a cursor from some time ago; owned by run

	mu       sync.Mutex
	last     string  // the newest cursor; guarded by mu
	at       []int64 // and its place; guarded by mu
	doubt    bool    // and whether it leads to a new picture; guarded by mu
	connects int     // guarded by mu
}

// eventsPath is where the reader's streams are read.
func (r *Reader) eventsPath() string {
	if len(r.Streams) > 1 {
		return "/v1/events"
	}
	return "/v1/streams/" + r.streams()[0] + "/events"
}

// query asks for what the reader wants.
func (r *Reader) query() url.Values {
	q := url.Values{"heartbeat": {"1s"}, "from": {"oldest"}}
	if len(r.Streams) > 1 {
		q["stream"] = r.Streams
	}
	if r.Latest {
		q.Set("from", "latest")
	}
	if r.Kind == KindPicture {
		q.Set("from", "snapshot")
	}
	if r.Conflated {
		q.Set("conflate", "250ms")
	}
	switch {
	case r.Key != "":
		q.Set("subject", r.Key)
	case r.Prefix != "":
		q.Set("subject", r.Prefix+"*")
	}
	return q
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	r.journal.Note(Entry{What: WhatReader, Who: r.name, Reader: &r.Reader})
	for n := 1; ctx.Err() == nil; n++ {
		after := r.presents()
		at, _, err := placeOf(after)
		v := r.cluster.replicas[r.rand.IntN(replicaCount)]
		r.journal.Note(Entry{What: WhatOpen, Who: r.name, On: v.name, Link: n, Cursor: at})
		if err == nil {
			err = r.session(ctx, v, n, after)
		}
		closed(r.journal, r.name, v, n, err)
		clock.Pause(ctx, time.Duration(20+r.rand.IntN(400))*time.Millisecond)
	}
}

func (r *reader) title() string { return r.name }

// presents draws the cursor to come back with: nearly always the last.
func (r *reader) presents() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connects++
	after := r.last
	if r.kept == "" || r.rand.IntN(8) == 0 {
		r.kept = after
	}
	switch draw := r.rand.IntN(40); {
	case draw == 0 && !r.Latest:
		after = "" // and all again from the beginning
	case draw < 4 && r.Kind == KindStream: // a picture is newer than that
		after = r.kept
	}
	if after == "" {
		r.at = nil
	}
	return after
}

// session is one connection.
func (r *reader) session(ctx context.Context, v *replica, n int, after string) error {
	return listen(ctx, r.rand, r.dialer, r.Over, v, r.eventsPath(), r.query(), after, func(_ context.Context, _ *link, m *message) error {
		at, err := noteMessage(r.journal, r.name, v, n, m)
		if err != nil {
			return err
		}
		if at != nil {
			r.mu.Lock()
			r.last, r.at = m.cursor, at
			_, r.doubt, _ = placeOf(m.cursor) // which was read before
			r.mu.Unlock()
		}
		return nil
	})
}

// whole reports whether the reader has been given all up to the ends.
func (r *reader) whole(_ context.Context, ends []int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at != nil && !r.doubt && reached(r.at, r.of(ends))
}

// reached reports whether a place is at the ends, or after them.
func reached(at, ends []int64) bool {
	for p, end := range ends {
		if end > 0 && (p >= len(at) || at[p] < end) {
			return false
		}
	}
	return true
}

// errSilent ends a connection on which not even heartbeats come.
var errSilent = errors.New("silent for too long")

// errLeft ends a connection of which the client has had enough.
var errLeft = errors.New("left")

// listen gives each message of a connection to take, until it ends, take returns an error, nothing has come for some
// seconds, or the client leaves, as drawn.
func listen(
	ctx context.Context, r *rand.Rand, d dialer, over string, v *replica, path string, q url.Values, after string,
	take func(ctx context.Context, l *link, m *message) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.Duration(3000+r.IntN(4000)) * time.Millisecond
	if over == overPages {
		patience += 2 * time.Second // of which the server may wait two
	}
	silent := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer silent.Stop()
	stay := time.AfterFunc(time.Duration(r.ExpFloat64()*float64(25*time.Second)), func() { cancel(errLeft) })
	defer stay.Stop()
	l, err := d.open(ctx, over, v.base, path, q, after)
	if err != nil {
		return because(ctx, err)
	}
	defer l.close()
	for {
		m, err := l.next()
		if err != nil {
			return because(ctx, err)
		}
		silent.Reset(patience)
		if err := take(ctx, l, &m); err != nil {
			return err
		}
	}
}

// because puts the reason for which a connection was ended in the place of what came of that.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) || errors.Is(cause, errLeft) {
		return cause
	}
	return err
}

// noteMessage notes what came, and returns the place of its cursor. It is an error where the connection is over.
func noteMessage(j *Journal, who string, v *replica, n int, m *message) (at []int64, err error) {
	at, doubt, err := placeOf(m.cursor)
	if err != nil {
		return nil, err
	}
	e := Entry{What: WhatGiven, Who: who, On: v.name, Link: n, Cursor: at, Flag: doubt}
	for i := range m.events {
		e.IDs = append(e.IDs, m.events[i].ID)
		if fault := m.events[i].faithful(); fault != "" {
			e.Text = cut(fault)
		}
	}
	if m.control != "" {
		e.What, e.Text = WhatControl, m.control
		err = controlOf(m, &e)
	}
	j.Note(e)
	return at, err
}

// controlOf notes what a control message says.
func controlOf(m *message, e *Entry) error {
	switch m.control {
	case "gap":
		e.Gap = &Gap{}
		if err := json.Unmarshal(m.payload, e.Gap); err != nil {
			return fmt.Errorf("%w gap %s: %w", errUnexpected, m.payload, err)
		}
		s, err := streamNamed(e.Gap.Stream)
		if err != nil {
			return err
		}
		e.Gap.Partition += int64(s.first)
	case "skipped":
		var at struct {
			Stream            string
			Partition, Offset int64
		}
		if err := json.Unmarshal(m.payload, &at); err != nil {
			return fmt.Errorf("%w passing of %s: %w", errUnexpected, m.payload, err)
		}
		s, err := streamNamed(at.Stream)
		e.Places = []Place{{at.Partition, at.Offset}}
		if err == nil {
			e.Places[0][0] += int64(s.first)
		}
		return err
	case "snapshot", "live", "removed":
		var about struct{ Stream, ID, Reason string }
		if err := json.Unmarshal(m.payload, &about); err != nil {
			return fmt.Errorf("%w %s %s: %w", errUnexpected, m.control, m.payload, err)
		}
		if e.Stream = about.Stream; m.control != "removed" {
			return nil
		}
		if about.Reason != "deleted" { // no filter is of what changes in a key, and no state lacks room
			return fmt.Errorf("%w reason of %s", errUnexpected, m.payload)
		}
		e.IDs = []string{about.ID}
	case "problem":
		var problem struct {
			Type   string
			Status int
		}
		if err := json.Unmarshal(m.payload, &problem); err != nil {
			return fmt.Errorf("%w problem %s: %w", errUnexpected, m.payload, err)
		}
		if strings.HasSuffix(problem.Type, "/reconnect") {
			return errReconnect
		}
		return &statusError{problem.Status, string(m.payload)}
	}
	return nil
}

// errReconnect tells that a session's cursors acknowledge nothing any more.
var errReconnect = errors.New("told to begin anew")

// closed notes why a connection ended, and where that should never be, that. Some statuses may be as they should.
func closed(j *Journal, who string, v *replica, n int, err error, fine ...int) {
	if err == nil {
		err = errLeft
	}
	e := Entry{What: WhatClosed, Who: who, On: v.name, Link: n, Text: cut(err.Error())}
	j.Note(e)
	var status *statusError
	if errors.Is(err, errUnexpected) || errors.As(err, &status) && !status.passing() && !slices.Contains(fine, status.status) {
		e.What = WhatAnswer
		j.Note(e)
	}
}
