package loadtest

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// reader is one connection's memory, kept across its reconnects: what it asked for, its cursor and its account.
// It is owned by the goroutine that reads the connection.
type reader struct {
	index  int    // in its fleet
	number int    // in the whole run, of all groups and processes: for its address and pace
	target string // path and query, or the whole URL, with the placeholders filled in
	ledger ledger
	cursor []byte // of the last complete block
	retry  time.Duration

	tally *tally
	all   *gauges
	marks marker

	dialed    int64 // Unix nanoseconds
	connected bool  // it has been live once
	headed    bool  // the present connection's header has come
	blocked   bool  // and its first block
	storm     bool  // it was dropped by a storm, and has had no event sent after that
	away      bool  // and no response header
	waiting   bool  // and no block
}

// head is told when a connection's response header has come.
func (r *reader) head(now int64) {
	r.headed, r.blocked = true, false
	record(r.tally.connect, now-r.dialed)
	r.all.live.Add(1)
	if r.connected {
		r.all.reconnects.Add(1)
	}
	r.connected = true
	if r.away {
		r.away = false
		r.all.away.Add(-1)
		record(r.tally.stormHead, now-r.all.stormAt.Load())
	}
}

// lost is told when a live or dialling connection has ended.
func (r *reader) lost() {
	if r.headed {
		r.all.live.Add(-1)
	}
	if r.blocked {
		r.all.blocks.Add(-1)
	}
	r.headed, r.blocked = false, false
}

// rejectedWith counts an attempt that brought no stream, and says whether it makes sense to come back: 204 tells a
// reader to stop, and what it is not allowed or does not exist will not change either.
func (r *reader) rejectedWith(status int, what string) (final bool) {
	r.tally.rejected[status]++
	r.all.lastFail.Store(&what)
	r.all.failures.Add(1)
	switch status {
	case http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		r.all.stopped.Add(1)
		r.giveUp()
		return true
	}
	return false
}

// drop notes that a storm cuts the reader off. The storm counts it in all.away and all.waiting.
func (r *reader) drop() {
	r.giveUp() // an earlier storm waits for it no more
	r.storm, r.away, r.waiting = true, true, true
}

// giveUp notes that a reader does not come back: no storm waits for it.
func (r *reader) giveUp() {
	if r.away {
		r.all.away.Add(-1)
	}
	if r.waiting {
		r.all.waiting.Add(-1)
	}
	r.storm, r.away, r.waiting = false, false, false
}

// block is told at the end of each block or message; id is empty where it carried none.
func (r *reader) block(id []byte, now int64) {
	if len(id) > 0 {
		r.cursor = append(r.cursor[:0], id...)
	}
	if !r.blocked {
		r.blocked = true
		r.all.blocks.Add(1)
		record(r.tally.block, now-r.dialed)
		if r.waiting {
			r.waiting = false
			r.all.waiting.Add(-1)
			record(r.tally.stormBlock, now-r.all.stormAt.Load())
		}
	}
}

// data is told each piece of content, and enters every mark in it. It says whether there was one.
func (r *reader) data(p []byte, now int64) (found bool) {
	t := r.tally
	for {
		m, rest, ok := r.marks.next(p)
		if !ok {
			break
		}
		found, p = true, rest
		switch r.ledger.see(m) {
		case late:
			t.late++
		case duplicate:
			t.duplicates++
			continue
		case unexpected:
			t.unexpected++
			continue
		}
		t.deliveries++
		if r.ledger.open {
			r.all.saw(m.lane, m.seq+1)
		}
		if r.all.in(now) {
			t.inWindow++
		}
		record(t.recent, now-m.sent)
		if r.all.in(m.sent) {
			record(t.latency, now-m.sent)
			if m.scheduled {
				record(t.sent, now-m.sent-m.late)
			}
		}
		if r.storm {
			if at := r.all.stormAt.Load(); at != 0 && m.sent >= at {
				r.storm = false
				record(t.stormEvent, now-at)
			}
		}
	}
	return found
}

// received counts bytes off the socket.
func (r *reader) received(n int, now int64) {
	r.tally.bytes += uint64(n)
	if r.all.in(now) {
		r.tally.bytesIn += uint64(n)
	}
}

// cursorIn finds the cursor in a WebSocket message, in the form of either subprotocol, without decoding it.
func cursorIn(p []byte) []byte {
	for _, name := range []string{`"eventissuercursor":"`, `"cursor":"`} {
		if i := bytes.Index(p, []byte(name)); i >= 0 {
			p = p[i+len(name):]
			if end := bytes.IndexByte(p, '"'); end >= 0 {
				return p[:end]
			}
			return nil
		}
	}
	return nil
}

// controlIn names the control message that a WebSocket message is, or returns "".
func controlIn(p []byte) string {
	if _, name, ok := bytes.Cut(p, []byte(`"no.eventissuer.`)); ok {
		name, _, _ = bytes.Cut(name, []byte(`"`))
		return string(name)
	}
	if key, ok := bytes.CutPrefix(p, []byte(`{"`)); ok {
		key, _, _ = bytes.Cut(key, []byte(`"`))
		switch string(key) {
		case "cursor", "gap", "skipped", "stalled", "resumed", "waiting", "drain", "snapshot", "live", "removed", "problem", "acked", "queried":
			return string(key)
		}
	}
	return ""
}

// expand fills the placeholders {i} (a connection's number from 0) and {lane} in.
func expand(template string, i, lane int) string {
	if !strings.Contains(template, "{") {
		return template
	}
	return strings.NewReplacer("{i}", strconv.Itoa(i), "{lane}", strconv.Itoa(lane)).Replace(template)
}
