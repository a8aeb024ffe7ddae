package session

import (
	"encoding/json"
	"errors"
	"testing"
)

// What a client says on a WebSocket is taken as one thing, or refused.
func FuzzClientMessage(f *testing.F) {
	for _, text := range []string{
		`{"ack":"x"}`, `{"ack":"x","final":true}`, `{"query":{"types":["a"]}}`, `{"auth":"t"}`, `{"ack":"x","auth":"t"}`, `{"final":true}`, `{}`,
		`null`, `[]`, `"x"`, `{"ack":1}`, `{"ACK":"x"}`, `{"ack":"x"}{"ack":"y"}`, `{"query":null}`, "{\"ack\":\"\xff\"}", `{`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m clientMessage
		if err := m.decode(b); err != nil {
			return
		}
		if !json.Valid(b) {
			t.Errorf("%q is taken", b)
		}
		if n := len(m.Ack) + len(m.Auth) + len(m.Query); n > 4*len(b)+4 { // a byte that is no UTF-8 becomes three
			t.Errorf("%d bytes are made of %q", n, b)
		}
		if several(m.Ack != "", len(m.Query) > 0, m.Auth != "") || m.Final && m.Ack == "" {
			t.Errorf("%q is taken for several things: %+v", b, m)
		}
	})
}

// What the client of a subscription says names a stretch with two ends, or is refused.
func FuzzMemberMessage(f *testing.F) {
	for _, text := range []string{
		`{"ack":"x"}`, `{"ack":{"from":"x","to":"y"}}`, `{"nack":"x","delay":"10s"}`, `{"ack":{"from":"x"}}`, `{"ack":{}}`, `{"ack":null}`, `{"ack":7}`,
		`{"ack":{"from":"x","to":"y","z":1}}`, `{"query":{}}`, `{"nack":{"from":1,"to":2}}`, `{"ack":""}`, `{"ack":[]}`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m memberMessage
		if err := decodeStrictly(b, &m); err != nil {
			if len(err.Error()) > 4*len(b)+200 {
				t.Errorf("the refusal of %d bytes is %d long", len(b), len(err.Error()))
			}
			return
		}
		for _, s := range []*stretch{m.Ack, m.Nack} {
			if s != nil && s.from != "" && s.to == "" {
				t.Errorf("%q has a stretch without an end: %+v", b, s)
			}
		}
		var again memberMessage
		if err := decodeStrictly(b, &again); err != nil && !errors.Is(err, errStretch) {
			t.Errorf("%q is taken once and not twice: %v", b, err)
		}
	})
}
