package webhook_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/testenv"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestACredentialIsCheckedByItsType(t *testing.T) {
	certificate, key := pair(t)
	_, otherKey := pair(t)
	long := strings.Repeat("x", 20<<10)
	oauth := func(change func(*webhook.Credential)) webhook.Credential {
		c := webhook.Credential{
			Type: webhook.OAuth2, TokenURL: "https://id.example/token?tenant=1", ClientID: "us", Secret: "s",
			Scopes: []string{"events:write", "a/b"}, Audience: "https://api.example",
		}
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		c    webhook.Credential
		want []string
	}{
		"none":                      {webhook.Credential{}, []string{}},
		"none, with a secret":       {webhook.Credential{Secret: "s"}, []string{"/secret"}},
		"an unknown type":           {webhook.Credential{Type: "REFRESHTOKEN", Secret: "s"}, []string{"/credentialtype"}},
		"a type in lower case":      {webhook.Credential{Type: "plain", Identifier: "a", Secret: "s"}, []string{"/credentialtype"}},
		"Basic":                     {webhook.Credential{Type: webhook.Plain, Identifier: "é", Secret: "a:b c"}, []string{}},
		"Basic, without anything":   {webhook.Credential{Type: webhook.Plain}, []string{"/identifier", "/secret"}},
		"Basic, with a colon":       {webhook.Credential{Type: webhook.Plain, Identifier: "a:b", Secret: "s"}, []string{"/identifier"}},
		"Basic, with a line break":  {webhook.Credential{Type: webhook.Plain, Identifier: "a\n", Secret: "s\r"}, []string{"/identifier", "/secret"}},
		"Basic, no UTF-8":           {webhook.Credential{Type: webhook.Plain, Identifier: "a", Secret: "\xff"}, []string{"/secret"}},
		"Basic, too long":           {webhook.Credential{Type: webhook.Plain, Identifier: long, Secret: long}, []string{"/identifier", "/secret"}},
		"Basic, with another's":     {webhook.Credential{Type: webhook.Plain, Identifier: "a", Secret: "s", Header: "X-A", Scopes: []string{"a"}}, []string{"/header", "/scopes"}},
		"a token":                   {webhook.Credential{Type: webhook.AccessToken, Secret: "eyJ.a-b_c~+/=="}, []string{}},
		"a token, missing":          {webhook.Credential{Type: webhook.AccessToken}, []string{"/secret"}},
		"a token, with its scheme":  {webhook.Credential{Type: webhook.AccessToken, Secret: "Bearer abc"}, []string{"/secret"}},
		"a token, with more header": {webhook.Credential{Type: webhook.AccessToken, Secret: "a\r\nX-B:c"}, []string{"/secret"}},
		"an API key":                {webhook.Credential{Type: webhook.APIKey, Header: "X-Api-Key", Secret: "k 1"}, []string{}},
		"an API key, in our header": {webhook.Credential{Type: webhook.APIKey, Header: "webhook-id", Secret: "k"}, []string{"/header"}},
		"an API key, authorizing":   {webhook.Credential{Type: webhook.APIKey, Header: "authorization", Secret: "ApiKey k"}, []string{}},
		"an API key, no value":      {webhook.Credential{Type: webhook.APIKey, Header: "X-A", Secret: "k\n"}, []string{"/secret"}},
		"an API key, headerless":    {webhook.Credential{Type: webhook.APIKey, Secret: "k"}, []string{"/header"}},
		"OAuth 2":                   {oauth(func(*webhook.Credential) {}), []string{}},
		"OAuth 2, without a URL":    {oauth(func(c *webhook.Credential) { c.TokenURL, c.ClientID = "", "" }), []string{"/tokenUrl", "/clientId"}},
		"OAuth 2, a path":           {oauth(func(c *webhook.Credential) { c.TokenURL = "/token" }), []string{"/tokenUrl"}},
		"OAuth 2, no host":          {oauth(func(c *webhook.Credential) { c.TokenURL = "https://:443/token" }), []string{"/tokenUrl"}},
		"OAuth 2, another scheme":   {oauth(func(c *webhook.Credential) { c.TokenURL = "file:///etc/passwd" }), []string{"/tokenUrl"}},
		"OAuth 2, a user":           {oauth(func(c *webhook.Credential) { c.TokenURL = "https://u:p@id.example/" }), []string{"/tokenUrl"}},
		"OAuth 2, a fragment":       {oauth(func(c *webhook.Credential) { c.TokenURL = "https://id.example/#x" }), []string{"/tokenUrl"}},
		"OAuth 2, scopes":           {oauth(func(c *webhook.Credential) { c.Scopes = []string{"a", "b c", "", `"`} }), []string{"/scopes/1", "/scopes/2", "/scopes/3"}},
		"OAuth 2, many scopes":      {oauth(func(c *webhook.Credential) { c.Scopes = make([]string, 51) }), []string{"/scopes"}},
		"a JWT":                     {webhook.Credential{Type: webhook.JWT}, []string{}},
		"a JWT, for somebody":       {webhook.Credential{Type: webhook.JWT, Audience: "https://api.example"}, []string{}},
		"a JWT, with a secret":      {webhook.Credential{Type: webhook.JWT, Secret: "s"}, []string{"/secret"}},
		"mTLS":                      {webhook.Credential{Type: webhook.MTLS, Certificate: certificate, Secret: key}, []string{}},
		"mTLS, another's key":       {webhook.Credential{Type: webhook.MTLS, Certificate: certificate, Secret: otherKey}, []string{"/certificate"}},
		"mTLS, exchanged":           {webhook.Credential{Type: webhook.MTLS, Certificate: key, Secret: certificate}, []string{"/certificate"}},
		"mTLS, no PEM":              {webhook.Credential{Type: webhook.MTLS, Certificate: "x", Secret: key}, []string{"/certificate"}},
		"mTLS, without a key":       {webhook.Credential{Type: webhook.MTLS, Certificate: certificate}, []string{"/secret"}},
	} {
		problems := test.c.Check()
		if diff := cmp.Diff(test.want, pointersOf(problems)); diff != "" {
			t.Errorf("%s: %v: %s", name, problems, diff)
		}
		for _, p := range problems {
			if test.c.Secret != "s" && len(test.c.Secret) > 1 && strings.Contains(p.Message, test.c.Secret) || strings.Contains(p.Message, "PRIVATE") {
				t.Errorf("%s: the secret is shown: %s", name, p.Message)
			}
		}
	}
}

// pair makes a certificate and its key, in PEM.
func pair(t *testing.T) (certificate, key string) {
	t.Helper()
	var texts [2]string
	certPath, keyPath := testenv.Certificate(t, t.TempDir())
	for i, path := range []string{certPath, keyPath} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	return texts[0], texts[1]
}

func TestACredentialsJSONHasAllButTheSecret(t *testing.T) {
	const text = `{"credentialtype":"OAUTH2","tokenUrl":"https://id.example/token","clientId":"us","audience":"a","scopes":["b"]}`
	var c webhook.Credential
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	c.Secret = "hidden"
	got, err := json.Marshal(c)
	if err != nil || string(got) != text {
		t.Errorf("the JSON is %s, %v; want %s", got, err, text)
	}
}
