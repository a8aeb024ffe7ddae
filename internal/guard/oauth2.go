package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

const (
	maxToken       = 16 << 10
	tokenLife      = 5 * time.Minute  // of a token whose server does not say
	tokenMargin    = 30 * time.Second // before its end a token is used no more
	keepRefusal    = 2 * time.Second  // for which a server that failed is not asked again
	refusalsEvery  = time.Minute      // how often a token that is good by its time is asked for anew
	maxTokenAnswer = 64 << 10
)

// grant is OAuth2's client credentials grant (RFC 6749, section 4.4).
type grant struct {
	config clientcredentials.Config // static
	tokens cached[[]string]         // the Authorization header's value

	mu      sync.Mutex
	renewed time.Time // when a token was last dropped before its time; guarded by mu
}

func (g *Guard) newGrant(c webhook.Credential) (*grant, error) {
	if err := g.CheckURL(c.TokenURL); err != nil {
		e, _ := errors.AsType[*Error](err)
		return nil, fail(e.Kind, "the token endpoint: "+e.Reason)
	}
	o := &grant{config: clientcredentials.Config{
		ClientID: c.ClientID, ClientSecret: c.Secret, TokenURL: c.TokenURL, Scopes: c.Scopes,
	}}
	if c.Audience != "" {
		o.config.EndpointParams = url.Values{"audience": {c.Audience}}
	}
	return o, nil
}

func (o *grant) authorization(ctx context.Context, p *pool) ([]string, error) {
	value, _, err := o.tokens.get(ctx, "waiting for a token", func(ctx context.Context) ([]string, time.Time, error) {
		value, until, err := o.fetch(ctx, p)
		p.guard.metrics.token(err)
		if err != nil {
			return nil, time.Now().Add(keepRefusal), err
		}
		return value, until, nil
	})
	return value, err
}

// refused drops a token that an endpoint did not accept, and reports whether another may be had. An endpoint that accepts
// none causes one request for a token a minute.
func (o *grant) refused(value []string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens.mu.Lock()
	defer o.tokens.mu.Unlock()
	if !slices.Equal(o.tokens.value, value) {
		return true // it has been replaced already
	}
	if now := time.Now(); now.Sub(o.renewed) >= refusalsEvery {
		o.renewed, o.tokens.until = now, time.Time{}
		return true
	}
	return false
}

func (o *grant) fetch(ctx context.Context, p *pool) ([]string, time.Time, error) {
	client := &http.Client{
		Transport:     tokenTransport{p},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	asked := time.Now()
	token, err := o.config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return nil, time.Time{}, tokenError(ctx, err)
	}
	switch {
	case token.TokenType != "" && !strings.EqualFold(token.TokenType, "bearer"):
		return nil, time.Time{}, fail(Credential, "the token endpoint gave a token that is no bearer token")
	case len(token.AccessToken) > maxToken || !httpguts.ValidHeaderFieldValue(token.AccessToken):
		return nil, time.Time{}, fail(Credential, "the token endpoint gave a token that does not fit in a header")
	}
	return []string{"Bearer " + token.AccessToken}, asked.Add(life(!token.Expiry.IsZero(), token.Expiry.Sub(asked))), nil
}

// life is for how long a token is used. Its server may say when it expires.
func life(said bool, expires time.Duration) time.Duration {
	if !said {
		return tokenLife
	}
	return expires - min(tokenMargin, expires/5)
}

// tokenErrors are the codes of RFC 6749, section 5.2, and those that are seen besides. Nothing else that a token endpoint
// says is passed on: it was sent the secret, and may send it back.
var tokenErrors = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "server_error", "temporarily_unavailable", "invalid_target",
}

func tokenError(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return ended(ctx, "asking the token endpoint")
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Kind: Credential, Reason: "the token endpoint: " + e.Reason, cause: e.cause}
	}
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		if slices.Contains(tokenErrors, e.ErrorCode) {
			return fail(Credential, fmt.Sprintf("the token endpoint answered %d, %s", e.Response.StatusCode, e.ErrorCode))
		}
		return fail(Credential, fmt.Sprintf("the token endpoint answered %d, and 200 with a token was expected", e.Response.StatusCode))
	}
	return fail(Credential, "the token endpoint answered 200, and not with a token")
}

// tokenTransport sends token requests by the client's own connections, under the same rules as its deliveries.
type tokenTransport struct{ pool *pool }

func (t tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.pool.guard.CheckURL(r.URL.String()); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header["User-Agent"] = t.pool.guard.userAgent
	r.Header["X-Idempotency-Key"] = repeatable
	resp, err := t.pool.transport.RoundTrip(r)
	if err != nil {
		if errors.Is(err, ErrClosed) {
			return nil, err
		}
		return nil, exchangeError(r.Context(), r.URL.Host, err)
	}
	resp.Body = limitedBody{io.LimitReader(resp.Body, maxTokenAnswer), resp.Body}
	return resp, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}
