package chaos

import (
	"maps"
	"slices"
)

// pictureWitness follows a client that has a picture: of each key the latest event that it was given, and of those that were
// removed nothing.
type pictureWitness struct {
	follower
	walk    *walk // only without conflation, which leaves events out
	picture map[string]string
	drawing map[string]bool // streams of which a snapshot is under way
	fresh   bool            // a stream was drawn anew, which no cursor says to be whole yet
	at      []int64         // what is removed below is in touched, or was
	touched map[string]int  // keys that were removed, or told to be, since the picture was last compared, and their partitions
}

func newPictureWitness(f follower) *pictureWitness {
	return &pictureWitness{
		follower: f, walk: newWalk(f.checker.truth, f.what.wants), picture: map[string]string{}, drawing: map[string]bool{},
		touched: map[string]int{},
	}
}

func (p *pictureWitness) note(e *Entry) {
	switch e.What {
	case WhatOpen:
		clear(p.drawing)
		p.walk.lose()
		if e.Cursor != nil {
			p.walk.begin(e.Cursor)
		}
		return
	case WhatGiven:
		for _, id := range e.IDs {
			p.given(e, id)
		}
	case WhatControl:
		p.control(e)
	}
	if e.Cursor != nil && len(p.drawing) == 0 {
		p.stands(e)
	}
}

// stands takes a cursor. Where the server is in doubt about the picture there, it is not held to it: who comes back with such
// a cursor is given another.
func (p *pictureWitness) stands(e *Entry) {
	if !p.walk.known || p.what.Conflated {
		p.walk.begin(e.Cursor)
	} else {
		p.breaks(e, p.walk.cursor(e.Cursor))
	}
	p.touch(e.Cursor)
	switch {
	case e.Flag:
	case p.fresh:
		p.fresh = false
		clear(p.touched)
		p.shows(e, p.picture, e.Cursor, "the snapshot")
	case !p.what.Conflated: // else it may have what comes later
		p.compare(e)
	}
}

// touch notes which keys are removed on the log up to a place.
func (p *pictureWitness) touch(upTo []int64) {
	t := p.checker.truth
	for i := range min(len(upTo), len(t.partitions)) {
		if i == len(p.at) {
			p.at = append(p.at, 0)
		}
		for n := t.find(i, p.at[i]); n < len(t.partitions[i]) && t.partitions[i][n].offset < upTo[i]; n++ {
			if id := t.partitions[i][n].id; removes(id) && p.what.wants(id) {
				p.touched[id] = i
			}
		}
		p.at[i] = max(p.at[i], upTo[i])
	}
}

// compare wants of the keys that were touched what the log held up to a cursor.
func (p *pictureWitness) compare(e *Entry) {
	for key, partition := range p.touched {
		var below int64
		if partition < len(e.Cursor) {
			below = e.Cursor[partition]
		}
		id := p.checker.truth.latest(partition, key, below)
		if removes(id) {
			id = ""
		}
		if p.picture[key] != id {
			p.checker.breaks(e, PromisePicture, key, "the picture at %v has %q of %s, where the log has %q", e.Cursor, p.picture[key], key, id)
		}
	}
	clear(p.touched)
}

func (p *pictureWitness) given(e *Entry, id string) {
	t := p.checker.truth
	key, n := splitID(id)
	was, m := splitID(p.picture[key])
	switch places := t.places[id]; {
	case len(places) == 0:
		p.checker.breaks(e, PromiseGenuine, id, "%s came, and is not on the log", id)
		return
	case !p.what.wants(key):
		p.checker.breaks(e, PromiseWanted, id, "%s came, which the client did not ask for", id)
	case was != "" && n < m && len(places) == 1 && len(t.places[p.picture[key]]) == 1:
		p.checker.breaks(e, PromiseRepeat, id, "%s came after %s", id, p.picture[key])
	case len(p.drawing) == 0 && !p.what.Conflated && p.walk.known:
		p.breaks(e, p.walk.given(id))
	}
	p.picture[key] = id
}

func (p *pictureWitness) control(e *Entry) {
	switch e.Text {
	case "snapshot":
		maps.DeleteFunc(p.picture, func(key, _ string) bool { return streamOf(key) == e.Stream })
		p.drawing[e.Stream] = true
		p.fresh = true
		p.walk.lose()
	case "live":
		delete(p.drawing, e.Stream)
	case "removed":
		p.removed(e, e.IDs[0])
	case "gap":
		p.breaks(e, p.walk.gap(e.Gap, e.At))
	default:
		p.told(e)
	}
}

// removed takes that a key is said to have no event any more. On a page that is true once its events are taken, of the one
// that it names.
func (p *pictureWitness) removed(e *Entry, id string) {
	t := p.checker.truth
	key, _ := splitID(id)
	places := t.places[id]
	switch {
	case len(places) == 0:
		p.checker.breaks(e, PromiseGenuine, id, "%s is said to be removed, and is not on the log", id)
		return
	case !p.what.wants(key):
		p.checker.breaks(e, PromiseWanted, id, "%s is said to be removed, which the client did not ask for", id)
	case !t.removed(key, places[0]):
		p.checker.breaks(e, PromisePicture, id, "%s is said to be removed, and the log has no tombstone behind it", id)
	}
	if p.what.Over != overPages || p.picture[key] == id {
		delete(p.picture, key)
	}
	p.touched[key] = int(places[0][0])
}

// shows compares a picture with what the log held up to a place.
func (f *follower) shows(e *Entry, picture map[string]string, upTo []int64, what string) {
	wanted := map[string]string{}
	for i, all := range f.checker.truth.partitions {
		for _, r := range all {
			if i >= len(upTo) || r.offset >= upTo[i] {
				break
			}
			key, n := splitID(r.id)
			switch {
			case n < 0:
				delete(wanted, key)
			case f.what.wants(key):
				wanted[key] = r.id
			}
		}
	}
	if maps.Equal(wanted, picture) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if id := wanted[key]; picture[key] != id {
			f.checker.breaks(e, PromisePicture, id, "%s up to %v has %q of %s, where the log has %s", what, upTo, picture[key], key, id)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(picture)) {
		if wanted[key] == "" {
			f.checker.breaks(e, PromisePicture, picture[key], "%s up to %v has %s of %s, of which the log has nothing", what, upTo, picture[key], key)
		}
	}
}

func (p *pictureWitness) end() {
	e := &Entry{Who: p.who}
	if len(p.drawing) > 0 || p.fresh || !p.walk.known {
		p.checker.breaks(e, PromisePicture, "", "the client has no whole picture")
		return
	}
	p.shows(e, p.picture, p.checker.truth.ends, "the picture")
}
