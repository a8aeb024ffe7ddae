package guard

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// TokenSource makes the tokens that say that it is we who call.
type TokenSource interface {
	// Token gives a token for the audience, about the owner on whose behalf it is called, and until when it is good.
	Token(owner, audience string) (token string, until time.Time, err error)
}

// credential is what a client adds to its requests. The zero value adds nothing.
type credential struct {
	header string   // canonical; "": none
	value  []string // of the header, where it is always the same

	oauth2 *grant
	signed *signed

	certificate, key string // PEM
}

func (g *Guard) prepare(owner string, c webhook.Credential) (*credential, error) {
	var p credential
	switch c.Type {
	case webhook.NoCredential:
		return &p, nil
	case webhook.Plain:
		p.header, p.value = "Authorization", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(c.Identifier+":"+c.Secret))}
	case webhook.AccessToken:
		p.header, p.value = "Authorization", []string{"Bearer " + c.Secret}
	case webhook.APIKey:
		p.header, p.value = http.CanonicalHeaderKey(c.Header), []string{c.Secret}
	case webhook.OAuth2:
		grant, err := g.newGrant(c)
		if err != nil {
			return nil, err
		}
		p.oauth2 = grant
	case webhook.JWT:
		if g.tokens == nil {
			return nil, fail(Credential, "tokens are signed by this server only where it has a key for them, and it has none")
		}
		p.signed = &signed{source: g.tokens, owner: owner, audience: c.Audience}
	case webhook.MTLS:
		if _, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Secret)); err != nil {
			return nil, fail(Credential, "a certificate in PEM and its key in PEM are expected")
		}
		p.certificate, p.key = c.Certificate, c.Secret
	default:
		return nil, fail(Credential, "a credential of a type that is known is expected")
	}
	if p.header != "" && (!httpguts.ValidHeaderFieldName(p.header) || !httpguts.ValidHeaderFieldValue(p.value[0])) {
		return nil, fail(Credential, "a header's name, and a value without control characters, are expected")
	}
	return &p, nil
}

// authorize puts the credential in the header.
func (c *credential) authorize(ctx context.Context, p *pool, t *target, h http.Header) error {
	switch {
	case c.header != "":
		h[c.header] = c.value
	case c.oauth2 != nil:
		value, err := c.oauth2.authorization(ctx, p)
		if err != nil {
			return err
		}
		h["Authorization"] = value
	case c.signed != nil:
		value, err := c.signed.authorization(t)
		if err != nil {
			return err
		}
		h["Authorization"] = value
	}
	return nil
}

// refused tells the credential that what it put in the header was not accepted, and reports whether it has another.
func (c *credential) refused(h http.Header) bool {
	return c.oauth2 != nil && c.oauth2.refused(h["Authorization"])
}

// signed are tokens of ours. Each is used for three quarters of its life, so that clocks may differ a little.
type signed struct {
	// static
	source   TokenSource
	owner    string
	audience string // "": the origin of what is sent to

	mu     sync.Mutex
	origin string    // for which value is; guarded by mu
	value  []string  // guarded by mu
	until  time.Time // guarded by mu
}

func (s *signed) authorization(t *target) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.origin == t.origin && now.Before(s.until) {
		return s.value, nil
	}
	audience := s.audience
	if audience == "" {
		audience = t.origin
	} else if !strings.EqualFold(originOf(audience), t.origin) {
		// Else an owner could have us hand to one endpoint a token that another accepts.
		return nil, fail(Credential, "an audience of the endpoint's own origin is expected: "+t.origin+", or a URL below it")
	}
	token, until, err := s.source.Token(s.owner, audience)
	if err != nil {
		return nil, fail(Credential, "the token cannot be signed")
	}
	s.origin, s.value, s.until = t.origin, []string{"Bearer " + token}, now.Add(until.Sub(now)*3/4)
	return s.value, nil
}

func originOf(audience string) string {
	u, err := url.Parse(audience)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
