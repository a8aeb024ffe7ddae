package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// What subscriptions with a sink have alone, and those without one.
var (
	sinkMembers     = []string{"protocol", "protocolsettings", "sinkcredential", "secret"}
	pushSettings    = []string{"concurrency", "ratePerSecond", "timeout", "retry", "onExhausted", "batch", "disableAfter"}
	sessionSettings = []string{"ackTimeout", "maxUncommitted", "maxSessions", "maxAttempts"}
)

// DecodeSubscription reads a subscription's JSON. It returns *InvalidError for what is no subscription's; values are
// checked by CreateSubscription and UpdateSubscription. What GET adds is taken back without a word, so that what was read
// can be written. No error shows a secret.
func DecodeSubscription(raw []byte) (Subscription, error) {
	var s Subscription
	var config, sink, protocol, settings, credential, secret, ignored json.RawMessage
	err := decode(raw, map[string]any{
		"id": &s.ID, "name": &s.Name, "owner": &s.Owner, "description": &s.Description,
		"streams": &s.Streams, "types": &s.Types, "filters": &s.Filters, "config": &config,
		"sink": &sink, "protocol": &protocol, "protocolsettings": &settings, "sinkcredential": &credential, "secret": &secret,
		"status": &ignored, "created": &ignored, "changed": &ignored, "publicKey": &ignored,
	}, nil)
	v := &InvalidError{}
	if err := v.take("", err); err != nil {
		return s, err
	}
	if given(sink) {
		s.decodeSink(v, sink, protocol, settings, credential, secret)
	} else {
		for i, member := range []json.RawMessage{protocol, settings, credential, secret} {
			if given(member) {
				v.add("/"+sinkMembers[i], "nothing, where there is no sink: leave it out, or name the sink that events are sent to")
			}
		}
	}
	push := given(sink)
	s.Config = defaultConfig(push)
	if given(config) {
		if err := s.Config.decode(v, config, push); err != nil {
			return s, err
		}
		s.Config.check(v, push) // here, where nothing that was left out is zero
	}
	sortProblems(v)
	return s, v.orNil()
}

// given reports whether a member is there and has a value.
func given(member json.RawMessage) bool { return member != nil && string(member) != "null" }

func (c *SubscriptionConfig) decode(v *InvalidError, raw json.RawMessage, push bool) error {
	members := map[string]any{"from": &c.From, "ordering": &c.Ordering}
	refused := map[string]string{}
	var retry, batch json.RawMessage
	if push {
		members["concurrency"], members["ratePerSecond"], members["timeout"] = &c.Concurrency, &c.RatePerSecond, &c.Timeout
		members["onExhausted"], members["disableAfter"] = &c.OnExhausted, &c.DisableAfter
		members["retry"], members["batch"] = &retry, &batch
		for _, name := range sessionSettings {
			refused[name] = "nothing, where there is a sink: this is of subscriptions that sessions read; leave it out"
		}
	} else {
		members["ackTimeout"], members["maxUncommitted"] = &c.AckTimeout, &c.MaxUncommitted
		members["maxSessions"], members["maxAttempts"] = &c.MaxSessions, &c.MaxAttempts
		for _, name := range pushSettings {
			refused[name] = "nothing, where there is no sink: this is of subscriptions whose events are sent; leave it out"
		}
	}
	if err := v.take("/config", decode(raw, members, refused)); err != nil {
		return err
	}
	if given(retry) {
		if err := v.take("/config/retry", decode(retry, map[string]any{"schedule": &c.Retry.Schedule}, nil)); err != nil {
			return err
		}
		if c.Retry.Schedule == nil {
			c.Retry.Schedule = defaultPush().Retry.Schedule
		}
	}
	if given(batch) {
		b := &c.Batch
		return v.take("/config/batch", decode(batch, map[string]any{"max": &b.Max, "maxWait": &b.MaxWait, "maxBytes": &b.MaxBytes}, nil))
	}
	return nil
}

// decodeSink reads what says where and how events are sent. What may have a secret in it is never repeated.
func (s *Subscription) decodeSink(v *InvalidError, sink, protocol, settings, credential, secret json.RawMessage) {
	if json.Unmarshal(sink, &s.Sink) != nil || s.Sink == "" {
		v.add("/sink", "an https address, or nothing for a subscription that sessions read")
	}
	if given(protocol) && json.Unmarshal(protocol, &s.Protocol) != nil {
		v.add("/protocol", "a string")
	}
	if given(settings) {
		s.ProtocolSettings = &ProtocolSettings{}
		s.ProtocolSettings.decode(v, "/protocolsettings", settings)
	}
	if given(credential) {
		s.SinkCredential = decodeCredential(v, "/sinkcredential", credential)
	}
	s.Secret = decodeSecret(v, "/secret", secret)
}

func (p *ProtocolSettings) decode(v *InvalidError, at string, raw json.RawMessage) {
	var headers, legacy json.RawMessage
	if !members(v, at, raw, map[string]any{"method": &p.Method, "mode": &p.Mode, "signatures": &p.Signatures, "headers": &headers, "legacySignature": &legacy}) {
		return
	}
	if given(headers) {
		var values map[string]json.RawMessage
		if json.Unmarshal(headers, &values) != nil {
			v.add(at+"/headers", "an object of the headers' names and values")
		}
		p.Headers = map[string]string{}
		for name, value := range values {
			if !given(value) {
				continue
			}
			if text, ok := secretText(v, at+"/headers/"+escapePointer(name), value); ok || string(value) == `""` {
				p.Headers[name] = text
			}
		}
		for _, name := range repeated(headers) {
			v.add(at+"/headers/"+escapePointer(name), "one member of the name; it comes twice")
		}
	}
	if given(legacy) {
		l := &webhook.Legacy{}
		var secret json.RawMessage
		p.LegacySignature = l
		if members(v, at+"/legacySignature", legacy, map[string]any{
			"header": &l.Header, "hash": &l.Hash, "encoding": &l.Encoding, "prefix": &l.Prefix, "secret": &secret,
		}) {
			text, _ := secretText(v, at+"/legacySignature/secret", secret)
			l.Secret = []byte(text)
		}
	}
}

func decodeCredential(v *InvalidError, at string, raw json.RawMessage) *webhook.Credential {
	c := &webhook.Credential{}
	var secret json.RawMessage
	if members(v, at, raw, map[string]any{
		"credentialtype": &c.Type, "identifier": &c.Identifier, "header": &c.Header, "tokenUrl": &c.TokenURL, "clientId": &c.ClientID,
		"audience": &c.Audience, "scopes": &c.Scopes, "certificate": &c.Certificate, "secret": &secret,
	}) {
		c.Secret, _ = secretText(v, at+"/secret", secret)
	}
	return c
}

// members is decode for an object in which there may be secrets: what is no object is not repeated.
func members(v *InvalidError, at string, raw json.RawMessage, to map[string]any) bool {
	if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		v.add(at, "a JSON object")
		return false
	}
	n := len(v.Problems)
	if err := v.take(at, decode(raw, to, nil)); err != nil {
		v.add(at, "a JSON object")
	}
	return len(v.Problems) == n
}

// secretText reads a text that must not be repeated. ok is false where there is none.
func secretText(v *InvalidError, at string, raw json.RawMessage) (text string, ok bool) {
	if raw == nil {
		return "", false
	}
	if string(raw) == "null" {
		v.add(at, "%s", keptSecret)
		return "", false
	}
	if json.Unmarshal(raw, &text) != nil {
		v.add(at, "a string")
		return "", false
	}
	return text, text != ""
}

// DecodeRotation reads how a secret is to be replaced. It returns *InvalidError, which does not show it.
func DecodeRotation(raw []byte) (r Rotation, err error) {
	v := &InvalidError{}
	var keep, secret json.RawMessage
	if !members(v, "", raw, map[string]any{"keep": &keep, "secret": &secret}) {
		return r, v.orNil()
	}
	if given(keep) {
		var d Duration
		if json.Unmarshal(keep, &d) != nil || d < 0 {
			v.add("/keep", "a duration from 0s to %v, such as 24h; got %.40s", Duration(MaxKeep), keep)
		}
		r.Keep = new(time.Duration)
		*r.Keep = time.Duration(d)
	}
	if given(secret) {
		r.Secret = decodeSecret(v, "/secret", secret)
	}
	return r, v.orNil()
}

func decodeSecret(v *InvalidError, at string, raw json.RawMessage) webhook.Secret {
	text, ok := secretText(v, at, raw)
	if !ok {
		return nil
	}
	s, err := webhook.ParseSecret(text)
	if err != nil {
		v.add(at, "%s; or nothing, to have one made", strings.TrimPrefix(err.Error(), "secret: "))
	}
	return s
}

const keptSecret = "a text, or nothing for the one that there is: a secret cannot be taken away alone" //nolint:gosec // it is no credential

// patched gives the subscription that a JSON merge patch (RFC 7396) makes of this one. It returns *InvalidError.
func (b *subscriptionBody) patched(raw []byte) (Subscription, error) {
	var id, name, owner, config, sink, other json.RawMessage
	refused := map[string]string{}
	for _, member := range []string{"status", "created", "changed", "publicKey"} {
		refused[member] = "cannot be changed: leave it out"
	}
	err := decode(raw, map[string]any{
		"id": &id, "name": &name, "owner": &owner, "config": &config, "sink": &sink,
		"description": &other, "streams": &other, "types": &other, "filters": &other,
		"protocol": &other, "protocolsettings": &other, "sinkcredential": &other, "secret": &other,
	}, refused)
	v := &InvalidError{}
	if err := v.take("", err); err != nil {
		return Subscription{}, err
	}
	for member, given := range map[string]json.RawMessage{"id": id, "name": name, "owner": owner} {
		if string(given) == "null" {
			v.add("/"+member, "cannot be taken away: leave it out")
		}
	}
	if sink != nil && given(sink) != (b.Sink != "") {
		v.add("/sink", "%s", keptWay(b.Sink))
	}
	refuseNullSecrets(v, raw)
	if given(config) { // also where the merge would leave the member out again
		known := map[string]any{}
		for _, member := range slices.Concat([]string{"from", "ordering"}, sessionSettings, pushSettings) {
			known[member] = &other
		}
		if err := v.take("/config", decode(config, known, nil)); err != nil {
			return Subscription{}, err
		}
	}
	sortProblems(v)
	if err := v.orNil(); err != nil {
		return Subscription{}, err
	}
	target, err := marshal(b.askedFor())
	if err != nil {
		return Subscription{}, fmt.Errorf("subscription %s: %w", b.ID, err)
	}
	merged, err := merge(target, raw, 4)
	if err != nil {
		return Subscription{}, fmt.Errorf("subscription %s: %w", b.ID, err)
	}
	return DecodeSubscription(merged)
}

// refuseNullSecrets refuses a merge patch that takes away a secret alone: the merge would leave it out, which keeps it.
func refuseNullSecrets(v *InvalidError, patch json.RawMessage) {
	null := func(raw json.RawMessage, path ...string) bool {
		for _, member := range path {
			var object map[string]json.RawMessage
			if json.Unmarshal(raw, &object) != nil {
				return false
			}
			raw = object[member]
		}
		return string(raw) == "null"
	}
	for _, path := range [][]string{{"secret"}, {"sinkcredential", "secret"}, {"protocolsettings", "legacySignature", "secret"}} {
		if null(patch, path...) {
			v.add("/"+strings.Join(path, "/"), "%s", keptSecret)
		}
	}
}

// keptWay says that a subscription stays with or without a sink.
func keptWay(sink string) string {
	if sink == "" {
		return "nothing: sessions read this subscription, which cannot change; make another for the sink"
	}
	return "an address: this subscription's events are sent to a sink, which can be another but not none; make another subscription for sessions to read"
}

// merge applies a merge patch to an object, and to the objects in it down to depth, below which the patch's values are
// taken as they are.
func merge(target, patch json.RawMessage, depth int) (json.RawMessage, error) {
	var is, by map[string]json.RawMessage
	if depth == 0 || !bytes.HasPrefix(bytes.TrimSpace(patch), []byte("{")) {
		return patch, nil
	}
	if err := json.Unmarshal(patch, &by); err != nil {
		return nil, err
	}
	if json.Unmarshal(target, &is) != nil || is == nil {
		is = map[string]json.RawMessage{} // what is no object is replaced by one
	}
	for name, value := range by {
		if string(value) == "null" {
			delete(is, name)
			continue
		}
		merged, err := merge(is[name], value, depth-1)
		if err != nil {
			return nil, err
		}
		is[name] = merged
	}
	return marshal(is)
}
