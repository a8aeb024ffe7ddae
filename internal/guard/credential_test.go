package guard

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/eventissuer/eventissuer/internal/jwks"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestCredentialsAreShown(t *testing.T) {
	headers := make(chan http.Header, 1)
	s := plainServer(t, func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header })
	key, err := jwks.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwks.New(key)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := jwks.NewIssuer(keys, "https://issuer.example", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard(t, Config{AllowLoopback: true, Tokens: issuer})
	for _, test := range []struct {
		credential   webhook.Credential
		header, want string
	}{
		{webhook.Credential{}, "Authorization", ""},
		{webhook.Credential{Type: webhook.Plain, Identifier: "name", Secret: "pass:wörd"}, "Authorization", "Basic bmFtZTpwYXNzOnfDtnJk"},
		{webhook.Credential{Type: webhook.AccessToken, Secret: "abc"}, "Authorization", "Bearer abc"},
		{webhook.Credential{Type: webhook.APIKey, Header: "x-api-key", Secret: "abc"}, "X-Api-Key", "abc"},
	} {
		if _, err := newClient(t, g, test.credential).Do(t.Context(), Request{URL: s.URL}); err != nil {
			t.Fatal(err)
		}
		if got := (<-headers).Get(test.header); got != test.want {
			t.Errorf("%v: %q", test.credential, got)
		}
	}
	client := newClient(t, g, webhook.Credential{Type: webhook.JWT})
	var texts [2]string
	for i := range texts {
		if _, err := client.Do(t.Context(), Request{URL: s.URL + "/hook"}); err != nil {
			t.Fatal(err)
		}
		texts[i] = strings.TrimPrefix((<-headers).Get("Authorization"), "Bearer ")
	}
	if texts[0] != texts[1] {
		t.Error("a token was signed for each request")
	}
	public, _ := key.Public().(ed25519.PublicKey)
	if _, err := jwt.Parse(texts[0], func(*jwt.Token) (any, error) { return public, nil }, jwt.WithAudience(s.URL), jwt.WithSubject("owner"), jwt.WithExpirationRequired()); err != nil {
		t.Error(err)
	}
	for audience, ok := range map[string]bool{s.URL + "/below": true, "https://other.example": false, "other": false, s.URL + ".example": false} {
		_, err := newClient(t, g, webhook.Credential{Type: webhook.JWT, Audience: audience}).Do(t.Context(), Request{URL: s.URL})
		if ok {
			<-headers
		}
		if (err == nil) != ok || err != nil && kindOf(err) != Credential {
			t.Errorf("the audience %q: %v", audience, err)
		}
	}
}

func TestCredentialsThatCannotBeShownAreRefused(t *testing.T) {
	g := newGuard(t, Config{})
	i, other := newIdentity(t, tomorrow(), "a"), newIdentity(t, tomorrow(), "a")
	for name, c := range map[string]webhook.Credential{
		"an unknown type":         {Type: "KERBEROS", Secret: "hunter2"},
		"a header with a line":    {Type: webhook.APIKey, Header: "A", Secret: "hunter2\r\nB: c"},
		"a name with a colon":     {Type: webhook.APIKey, Header: "A:", Secret: "hunter2"},
		"a token with a line":     {Type: webhook.AccessToken, Secret: "hunter2\n"},
		"a JWT without a key":     {Type: webhook.JWT},
		"another's key":           {Type: webhook.MTLS, Certificate: i.certificate, Secret: other.key},
		"no certificate":          {Type: webhook.MTLS, Certificate: "hunter2", Secret: "hunter2"},
		"a token URL of loopback": {Type: webhook.OAuth2, TokenURL: "https://127.0.0.1/token", ClientID: "a", Secret: "hunter2"},
		"a token URL by http":     {Type: webhook.OAuth2, TokenURL: "http://example.com/token", ClientID: "a", Secret: "hunter2"},
	} {
		if _, err := g.Client("owner", c); kindOf(err) == 0 || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAClientsCertificateIsItsOwn(t *testing.T) {
	i, mine := newIdentity(t, tomorrow(), "127.0.0.1"), newIdentity(t, tomorrow(), "me")
	s := secureServer(t, "127.0.0.1:0", i, &tls.Config{ClientAuth: tls.RequestClientCert}, func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.TLS.PeerCertificates {
			_, _ = w.Write(c.Raw)
		}
	})
	g := newGuard(t, Config{AllowLoopback: true, RootCAs: i.pool()})
	with := newClient(t, g, webhook.Credential{Type: webhook.MTLS, Certificate: mine.certificate, Secret: mine.key})
	for range 2 {
		if resp, err := with.Do(t.Context(), Request{URL: s.URL}); err != nil || string(resp.Body) != string(mine.leaf.Raw) {
			t.Errorf("%+v, %v", resp, err)
		}
		if resp, err := newClient(t, g, webhook.Credential{}).Do(t.Context(), Request{URL: s.URL}); err != nil || len(resp.Body) != 0 {
			t.Errorf("another client was known by the certificate: %+v, %v", resp, err)
		}
	}
	if _, err := with.Do(t.Context(), Request{URL: "http://" + s.Listener.Addr().String()}); kindOf(err) != Invalid {
		t.Errorf("by http: %v", err)
	}
}

// tokenServer gives tokens t1, t2, …
type tokenServer struct {
	given   atomic.Int64
	expires int
	accept  func(token string) bool
	slow    chan struct{}
	seen    sync.Map // tokens that deliveries had
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.seen.Store(token, true)
		if body, _ := io.ReadAll(r.Body); string(body) != "{}" {
			w.WriteHeader(http.StatusTeapot)
		} else if s.accept != nil && !s.accept(token) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return
	}
	if s.slow != nil {
		<-s.slow
	}
	id, secret, _ := r.BasicAuth()
	if r.ParseForm() != nil || id != "id" || secret != "hunter2" || r.PostForm.Get("grant_type") != "client_credentials" ||
		r.PostForm.Get("scope") != "a b" || r.PostForm.Get("audience") != "them" || r.UserAgent() != "eventissuer" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"access_token":"t%d","token_type":"Bearer","expires_in":%d}`, s.given.Add(1), s.expires)
}

func oauth(at string) webhook.Credential {
	return webhook.Credential{Type: webhook.OAuth2, TokenURL: at, ClientID: "id", Secret: "hunter2", Scopes: []string{"a", "b"}, Audience: "them"}
}

func TestATokenIsKeptAndAskedForOnce(t *testing.T) {
	tokens := &tokenServer{expires: 3600, slow: make(chan struct{})}
	s := plainServer(t, tokens.ServeHTTP)
	g := newGuard(t, Config{AllowLoopback: true})
	client := newClient(t, g, oauth(s.URL+"/token"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if resp, err := client.Do(t.Context(), Request{URL: s.URL, Body: []byte("{}")}); err != nil || resp.Status != 200 {
				t.Errorf("%+v, %v", resp, err)
			}
		})
	}
	tokens.slow <- struct{}{} // more than one request would wait for ever
	wg.Wait()
	if n := tokens.given.Load(); n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
	// Another client with the same credential has a token of its own.
	close(tokens.slow)
	if _, err := newClient(t, g, oauth(s.URL+"/token")).Do(t.Context(), Request{URL: s.URL, Body: []byte("{}")}); err != nil {
		t.Error(err)
	}
	if n := tokens.given.Load(); n != 2 {
		t.Errorf("%d tokens were asked for by two clients", n)
	}
}

func TestATokenIsReplacedShortlyBeforeItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cached[[]string]
		var given int
		o := func() {
			_, _, _ = c.get(t.Context(), "", func(context.Context) ([]string, time.Time, error) {
				given++
				return nil, time.Now().Add(life(true, 100*time.Second)), nil
			})
		}
		for range 8 {
			o()
			time.Sleep(10 * time.Second) // of the bubble's clock
		}
		if o(); given != 2 {
			t.Errorf("%d tokens in 80 s, of 100 s each", given)
		}
	})
	for _, test := range []struct{ expires, want time.Duration }{{time.Hour, 59*time.Minute + 30*time.Second}, {10 * time.Second, 8 * time.Second}} {
		if got := life(true, test.expires); got != test.want {
			t.Errorf("a token of %v is used for %v", test.expires, got)
		}
	}
	if got := life(false, 0); got != tokenLife {
		t.Errorf("a token without an end is used for %v", got)
	}
}

func TestATokenThatIsRefusedIsReplacedOnce(t *testing.T) {
	tokens := &tokenServer{expires: 3600}
	var refused atomic.Value
	refused.Store("")
	tokens.accept = func(token string) bool { return token != refused.Load() && refused.Load() != "all" }
	s := plainServer(t, tokens.ServeHTTP)
	client := newClient(t, newGuard(t, Config{AllowLoopback: true}), oauth(s.URL+"/token"))
	do := func() int {
		t.Helper()
		resp, err := client.Do(t.Context(), Request{URL: s.URL, Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status
	}
	if got := do(); got != 200 {
		t.Error(got)
	}
	refused.Store("t1")
	if got := do(); got != 200 || tokens.given.Load() != 2 {
		t.Errorf("%d after %d tokens", got, tokens.given.Load())
	}
	refused.Store("all")
	for range 5 {
		if got := do(); got != 401 || tokens.given.Load() != 2 {
			t.Errorf("%d after %d tokens: an endpoint that accepts none has tokens asked for at every attempt", got, tokens.given.Load())
		}
	}
}

func TestTokenEndpointsThatFailSayWhyAndNothingElse(t *testing.T) {
	canary := newCanary(t, ":0")
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		reason  string
	}{
		"an error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"not hunter2","error_uri":"https://hunter2.example"}`)
		}, "the token endpoint answered 401, invalid_client"},
		"an error of its own": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"hunter2"}`)
		}, "the token endpoint answered 400, and 200 with a token was expected"},
		"an error by 200": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"error":"access_denied"}`) }, "the token endpoint answered 200, access_denied"},
		"a page":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>hunter2`) }, "the token endpoint answered 200, and not with a token"},
		"no token":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id_token":"hunter2"}`) }, "the token endpoint answered 200, and not with a token"},
		"another type": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"access_token":"a","token_type":"mac"}`)
		}, "the token endpoint gave a token that is no bearer token"},
		"a line in it": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"access_token":"a\r\nHost: hunter2"}`)
		}, "the token endpoint gave a token that does not fit in a header"},
		"a long one": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"access_token":"`+strings.Repeat("a", 20<<10)+`"}`)
		}, "the token endpoint gave a token that does not fit in a header"},
		"an endless one": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"access_token":"`)
			for {
				if _, err := w.Write([]byte(strings.Repeat("a", 1<<15))); err != nil {
					return
				}
			}
		}, "the token endpoint answered 200, and not with a token"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:"+canary.port+"/token", http.StatusTemporaryRedirect)
		}, "the token endpoint answered 307, and 200 with a token was expected"},
		"an early close": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ended the connection without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := plainServer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				test.handler(w, r)
			})
			client := newClient(t, newGuard(t, Config{AllowLoopback: true}), oauth(s.URL+"/token?key=hunter2"))
			for range 2 { // the second from memory
				_, err := client.Do(t.Context(), Request{URL: "http://127.0.0.1:" + canary.port})
				if kindOf(err) != Credential || !strings.HasSuffix(err.Error(), test.reason) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%v (%v)", err, kindOf(err))
				}
			}
		})
	}
	t.Run("a name of loopback", func(t *testing.T) {
		g := newGuard(t, Config{Resolver: fixed{"tokens.example.": {"127.0.0.1", "::1"}}})
		_, err := newClient(t, g, oauth("https://tokens.example:"+canary.port+"/")).Do(t.Context(), Request{URL: "https://tokens.example:" + canary.port})
		if kindOf(err) != Credential || !strings.Contains(err.Error(), "no address that may be reached") {
			t.Error(err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		s := plainServer(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // until then the server does not notice that the client goes
			<-r.Context().Done()
		})
		_, err := newClient(t, newGuard(t, Config{AllowLoopback: true}), oauth(s.URL)).Do(soon(t), Request{URL: s.URL})
		if kindOf(err) != Timeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v (%v)", err, kindOf(err))
		}
	})
	canary.unvisited(t)
}
