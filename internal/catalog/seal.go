package catalog

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// What is sealed of a subscription: the fields of the key ring, with the subscription's id as the place.
const (
	fieldSigner     = "signer"
	fieldCredential = "credential"
	fieldLegacy     = "legacy signature"
	fieldHeaders    = "headers"
)

// Endpoint is all that is needed to send a subscription's events. It has secrets in it.
type Endpoint struct {
	Sink       string
	Mode       webhook.Mode // webhook.Batch where requests hold more than one event
	Headers    map[string]string
	Signer     webhook.Signer
	Secrets    []webhook.Secret // by one of which the endpoint answers a challenge, whatever signs
	Credential webhook.Credential
}

// OpenEndpoint gives what a subscription's events are sent with at a time. Errors say what of it cannot be opened, and
// why: ErrNotPushed, ErrNoKeys, *keyring.UnknownKeyError, keyring.ErrForged.
func (c *Catalog) OpenEndpoint(s Subscription, now time.Time) (Endpoint, error) {
	if s.Sink == "" {
		return Endpoint{}, fmt.Errorf("subscription %s: %w", s.ID, ErrNotPushed)
	}
	e := Endpoint{Sink: s.Sink, Mode: s.ProtocolSettings.Mode}
	if s.Config.Batch.Max > 1 {
		e.Mode = webhook.Batch
	}
	var err error
	open := func(field, sealed string) (plain []byte) {
		if err == nil && sealed != "" {
			plain, err = c.open(s.ID, field, sealed)
		}
		return plain
	}
	for i, signer := range s.signers {
		if i > 0 && !now.Before(signer.Until) {
			continue
		}
		plain := open(fieldSigner, signer.Sealed)
		if err != nil {
			break
		}
		var secret webhook.Secret
		var key webhook.SigningKey
		if secret, key, err = splitSigner(plain); err == nil {
			e.Secrets, e.Signer.Keys = append(e.Secrets, secret), append(e.Signer.Keys, key)
		}
	}
	if e.Signer.Secrets = e.Secrets; !slices.Contains(s.ProtocolSettings.Signatures, SignatureSecret) {
		e.Signer.Secrets = nil
	}
	if !slices.Contains(s.ProtocolSettings.Signatures, SignatureKey) {
		e.Signer.Keys = nil
	}
	if s.SinkCredential != nil {
		e.Credential = *s.SinkCredential
		e.Credential.Secret = string(open(fieldCredential, s.sealed.Credential))
	}
	if s.ProtocolSettings.LegacySignature != nil {
		legacy := *s.ProtocolSettings.LegacySignature
		legacy.Secret = open(fieldLegacy, s.sealed.Legacy)
		e.Signer.Legacy = &legacy
	}
	if plain := open(fieldHeaders, s.sealed.Headers); plain != nil && err == nil {
		err = json.Unmarshal(plain, &e.Headers)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("subscription %s: %w", s.ID, err)
	}
	return e, nil
}

// SignersUntil is when the next of the secrets that were replaced is no longer signed with; zero: none is.
func (s Subscription) SignersUntil(now time.Time) (until time.Time) {
	for _, signer := range s.signers[min(1, len(s.signers)):] {
		if signer.Until.After(now) && (until.IsZero() || signer.Until.Before(until)) {
			until = signer.Until
		}
	}
	return until
}

func (c *Catalog) open(id, field, sealed string) ([]byte, error) {
	if c.cfg.Keys == nil {
		return nil, ErrNoKeys
	}
	return c.cfg.Keys.Open(sealed, id, field)
}

// seal puts a secret under seal. One that is what was sealed already keeps the text, so that a definition that is written
// back as it was is the same version.
func (c *Catalog) seal(id, field string, plain []byte, was string) (string, error) {
	if c.cfg.Keys == nil {
		return "", ErrNoKeys
	}
	if was != "" {
		if before, err := c.open(id, field, was); err == nil && bytes.Equal(before, plain) {
			return was, nil
		}
	}
	return c.cfg.Keys.Seal(plain, id, field)
}

// newSigner seals a secret with a new signing key.
func (c *Catalog) newSigner(id string, secret webhook.Secret) (signer, error) {
	key := webhook.NewSigningKey()
	text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key.Text(), signingKeyPrefix))
	if err != nil {
		return signer{}, fmt.Errorf("signing key: %w", err)
	}
	sealed, err := c.seal(id, fieldSigner, append(text[:ed25519.SeedSize:ed25519.SeedSize], secret...), "")
	return signer{Sealed: sealed, Public: key.Public()}, err
}

const signingKeyPrefix = "whsk_"

// splitSigner is the inverse of what newSigner seals: the seed of the key, and the secret.
func splitSigner(plain []byte) (webhook.Secret, webhook.SigningKey, error) {
	if len(plain) < ed25519.SeedSize+webhook.MinSecret {
		return nil, webhook.SigningKey{}, fmt.Errorf("what signs has %d bytes: it was not made by this program", len(plain))
	}
	key, err := webhook.ParseSigningKey(signingKeyPrefix + base64.StdEncoding.EncodeToString(plain[:ed25519.SeedSize]))
	return plain[ed25519.SeedSize:], key, err
}

// recall gives a definition the secrets that it leaves out and the one before it had: whoever writes back what was read
// cannot name them. None is given to where it was not sent before: whoever changes an address need not be who knows it.
func (c *Catalog) recall(s, was *Subscription) error {
	v := &InvalidError{}
	for _, recall := range []func(v *InvalidError, s, was *Subscription) error{c.recallCredential, c.recallHeaders, c.recallLegacy, c.recallSecret} {
		if err := recall(v, s, was); err != nil {
			return fmt.Errorf("subscription %s: %w", s.ID, err)
		}
	}
	sortProblems(v)
	return v.orNil()
}

func (c *Catalog) recallCredential(v *InvalidError, s, was *Subscription) error {
	is, before := s.SinkCredential, was.SinkCredential
	if is == nil || before == nil || is.Secret != "" || is.Type != before.Type || was.sealed.Credential == "" {
		return nil
	}
	same := sameOrigin(s.Sink, was.Sink)
	switch is.Type {
	case webhook.MTLS: // the key is not sent
		same = true
	case webhook.OAuth2:
		same = sameOrigin(is.TokenURL, before.TokenURL)
	}
	if !same {
		v.add("/sinkcredential/secret", "the secret again, since it would be sent to another host than before")
		return nil
	}
	plain, err := c.open(s.ID, fieldCredential, was.sealed.Credential)
	is.Secret = string(plain)
	return err
}

func (c *Catalog) recallHeaders(v *InvalidError, s, was *Subscription) error {
	var values map[string]string
	for name, value := range s.ProtocolSettings.Headers {
		if _, had := was.ProtocolSettings.Headers[name]; value != "" || !had {
			continue
		}
		if !sameOrigin(s.Sink, was.Sink) {
			v.add("/protocolsettings/headers/"+escapePointer(name), "its value again, since it would be sent to another host than before")
			continue
		}
		if values == nil {
			plain, err := c.open(s.ID, fieldHeaders, was.sealed.Headers)
			if err == nil {
				err = json.Unmarshal(plain, &values)
			}
			if err != nil {
				return err
			}
		}
		s.ProtocolSettings.Headers[name] = values[name]
	}
	return nil
}

func (c *Catalog) recallLegacy(_ *InvalidError, s, was *Subscription) (err error) {
	if l := s.ProtocolSettings.LegacySignature; l != nil && len(l.Secret) == 0 && was.sealed.Legacy != "" {
		l.Secret, err = c.open(s.ID, fieldLegacy, was.sealed.Legacy)
	}
	return err
}

// recallSecret refuses another secret than the one in force.
func (c *Catalog) recallSecret(v *InvalidError, s, was *Subscription) error {
	if s.Secret == nil {
		return nil
	}
	plain, err := c.open(s.ID, fieldSigner, was.signers[0].Sealed)
	if err != nil {
		return err
	}
	secret, _, err := splitSigner(plain)
	if err == nil && !bytes.Equal(secret, s.Secret) {
		v.add("/secret", "the secret in force, or nothing: POST …:rotate-secret replaces it, and lets the old one be valid for a while")
	}
	return err
}

// conceal puts the secrets of a definition that is complete under seal, and takes them out of it.
func (c *Catalog) conceal(s *Subscription, was sealedTexts) (err error) {
	s.sealed = sealedTexts{}
	if cred := s.SinkCredential; cred != nil && cred.Secret != "" {
		if s.sealed.Credential, err = c.seal(s.ID, fieldCredential, []byte(cred.Secret), was.Credential); err != nil {
			return err
		}
		cred.Secret = ""
	}
	if l := s.ProtocolSettings.LegacySignature; l != nil {
		if s.sealed.Legacy, err = c.seal(s.ID, fieldLegacy, l.Secret, was.Legacy); err != nil {
			return err
		}
		l.Secret = nil
	}
	if headers := s.ProtocolSettings.Headers; len(headers) > 0 {
		plain, err := json.Marshal(headers) // which sorts them
		if err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		if s.sealed.Headers, err = c.seal(s.ID, fieldHeaders, plain, was.Headers); err != nil {
			return err
		}
		for name := range headers {
			headers[name] = ""
		}
	}
	s.Secret = nil
	return nil
}

// own fills in what was left out, and makes what a subscription points at its own, so that it can be changed.
func (d *Delivery) own() {
	if d.Sink == "" {
		return
	}
	d.Protocol = cmp.Or(d.Protocol, protocolHTTP)
	d.ProtocolSettings = d.ProtocolSettings.filled()
	if d.SinkCredential != nil {
		credential := *d.SinkCredential
		d.SinkCredential = &credential
	}
}

// filled is a copy with what was left out.
func (p *ProtocolSettings) filled() *ProtocolSettings {
	filled := &ProtocolSettings{Method: methodPost, Mode: webhook.Structured, Signatures: allSignatures()}
	if p == nil {
		return filled
	}
	if p.Method != "" {
		filled.Method = p.Method
	}
	if p.Mode != "" {
		filled.Mode = p.Mode
	}
	if swapped := []Signature{SignatureKey, SignatureSecret}; p.Signatures != nil && !slices.Equal(p.Signatures, swapped) {
		filled.Signatures = slices.Clone(p.Signatures)
	}
	if len(p.Headers) > 0 {
		filled.Headers = maps.Clone(p.Headers)
	}
	if p.LegacySignature != nil {
		legacy := *p.LegacySignature
		filled.LegacySignature = &legacy
	}
	return filled
}

// sameOrigin reports whether two addresses have the same scheme, host and port.
func sameOrigin(a, b string) bool {
	u, err := url.Parse(a)
	if err != nil {
		return false
	}
	w, err := url.Parse(b)
	return err == nil && u.Scheme == w.Scheme && strings.EqualFold(u.Hostname(), w.Hostname()) && portOf(u) == portOf(w)
}

func portOf(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}
