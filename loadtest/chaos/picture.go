package chaos

import "maps"

// pictureWitness follows a client that has a picture: of each key the latest event that it was given.
type pictureWitness struct {
	follower
	walk    *walk // only without conflation, which leaves events out
	picture map[string]string
	drawing bool // a snapshot is under way
}

func (p *pictureWitness) note(e *Entry) {
	switch e.What {
	case WhatOpen:
		p.drawing = false
		if p.walk.lose(); e.Cursor != nil {
			p.walk.begin(e.Cursor)
		}
	case WhatGiven:
		for _, id := range e.IDs {
			p.given(e, id)
		}
	case WhatControl:
		p.control(e)
	}
	if e.Cursor == nil || e.What == WhatOpen || p.drawing {
		return
	}
	if p.what.Conflated {
		p.walk.begin(e.Cursor)
	} else {
		p.breaks(e, p.walk.cursor(e.Cursor))
	}
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
	case !p.drawing && !p.what.Conflated && p.walk.known:
		p.breaks(e, p.walk.given(id))
	}
	p.picture[key] = id
}

func (p *pictureWitness) control(e *Entry) {
	switch e.Text {
	case "snapshot":
		clear(p.picture)
		p.drawing = true
		p.walk.lose()
	case "live":
		p.drawing = false
		if e.Cursor != nil {
			p.walk.begin(e.Cursor)
			p.shows(e, e.Cursor, "the snapshot")
		}
	case "gap":
		p.breaks(e, p.walk.gap(e.Gap, e.At))
	default:
		p.told(e)
	}
}

// shows compares the picture with what the log held up to a place.
func (p *pictureWitness) shows(e *Entry, upTo []int64, what string) {
	wanted := map[string]string{}
	for i, all := range p.checker.truth.partitions {
		for _, r := range all {
			if i >= len(upTo) || r.offset >= upTo[i] {
				break
			}
			if key, _ := splitID(r.id); p.what.wants(key) {
				wanted[key] = r.id
			}
		}
	}
	if maps.Equal(wanted, p.picture) {
		return
	}
	for key, id := range wanted {
		if p.picture[key] != id {
			p.checker.breaks(e, PromisePicture, id, "%s up to %v has %q of %s, where the log has %s", what, upTo, p.picture[key], key, id)
		}
	}
	for key, id := range p.picture {
		if wanted[key] == "" {
			p.checker.breaks(e, PromisePicture, id, "%s up to %v has %s of %s, of which the log has nothing", what, upTo, id, key)
		}
	}
}

func (p *pictureWitness) end() {
	e := &Entry{Who: p.who}
	if p.drawing || !p.walk.known {
		p.checker.breaks(e, PromisePicture, "", "the client has no whole picture")
		return
	}
	p.shows(e, p.checker.truth.ends, "the picture")
}
