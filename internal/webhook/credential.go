package webhook

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
)

// CredentialType says how an endpoint is told who calls.
type CredentialType string

// The types of credentials.
const (
	NoCredential CredentialType = ""            // nothing but the signatures
	Plain        CredentialType = "PLAIN"       // HTTP Basic: Identifier and Secret
	AccessToken  CredentialType = "ACCESSTOKEN" // a bearer token that is the Secret
	APIKey       CredentialType = "APIKEY"      // the Secret in the Header
	OAuth2       CredentialType = "OAUTH2"      // client credentials: TokenURL, ClientID, Secret, Scopes, Audience
	JWT          CredentialType = "JWT"         // a short-lived token that we sign, for the Audience
	MTLS         CredentialType = "MTLS"        // the Certificate, with the Secret as its key
)

// Bounds of what a credential holds.
const (
	maxCredentialText   = 2 << 10
	maxCredentialSecret = 16 << 10
	maxCertificate      = 32 << 10 // with the chain
	maxScopes           = 50
)

// Credential is what an endpoint asks of its callers. Its JSON has no secret; formatting and logs show none either.
type Credential struct {
	Type        CredentialType `json:"credentialtype"`
	Identifier  string         `json:"identifier,omitempty"`
	Header      string         `json:"header,omitempty"`
	TokenURL    string         `json:"tokenUrl,omitempty"`
	ClientID    string         `json:"clientId,omitempty"`
	Audience    string         `json:"audience,omitempty"` // JWT: the sink's origin where it is empty
	Scopes      []string       `json:"scopes,omitempty"`
	Certificate string         `json:"certificate,omitempty"` // PEM, the leaf first
	Secret      string         `json:"-"`                     // MTLS: the key's PEM
}

// members are a credential's parts by their JSON names, and which types have them.
var members = [...]struct {
	name     string
	of       func(*Credential) bool // whether it is given
	required []CredentialType
	optional []CredentialType
}{
	{"identifier", func(c *Credential) bool { return c.Identifier != "" }, []CredentialType{Plain}, nil},
	{"header", func(c *Credential) bool { return c.Header != "" }, []CredentialType{APIKey}, nil},
	{"tokenUrl", func(c *Credential) bool { return c.TokenURL != "" }, []CredentialType{OAuth2}, nil},
	{"clientId", func(c *Credential) bool { return c.ClientID != "" }, []CredentialType{OAuth2}, nil},
	{"audience", func(c *Credential) bool { return c.Audience != "" }, nil, []CredentialType{OAuth2, JWT}},
	{"scopes", func(c *Credential) bool { return len(c.Scopes) > 0 }, nil, []CredentialType{OAuth2}},
	{"certificate", func(c *Credential) bool { return c.Certificate != "" }, []CredentialType{MTLS}, nil},
	{"secret", func(c *Credential) bool { return c.Secret != "" }, []CredentialType{Plain, AccessToken, APIKey, OAuth2, MTLS}, nil},
}

// Check says what is missing or wrong, by JSON Pointers; the secret's is /secret. Whether an address may be called is
// for who calls it to say.
func (c Credential) Check() []Problem {
	var p problems
	switch c.Type {
	case NoCredential, Plain, AccessToken, APIKey, OAuth2, JWT, MTLS:
	default:
		p.add("/credentialtype", "%s, %s, %s, %s, %s or %s is expected, and %q came",
			Plain, AccessToken, APIKey, OAuth2, JWT, MTLS, abbreviate(string(c.Type)))
		return p
	}
	for _, m := range members {
		required, given := has(m.required, c.Type), m.of(&c)
		switch {
		case required && !given:
			p.add("/"+m.name, "a credential of the type %s needs it", c.Type)
		case given && !required && !has(m.optional, c.Type):
			if c.Type == NoCredential {
				p.add("/"+m.name, "it belongs to a credential: name its credentialtype")
				continue
			}
			p.add("/"+m.name, "it does not belong to a credential of the type %s: leave it out", c.Type)
		}
	}
	if p != nil {
		return p
	}
	c.checkLengths(&p)
	if p == nil {
		c.checkTexts(&p)
	}
	return p
}

func has(types []CredentialType, t CredentialType) bool {
	for _, other := range types {
		if other == t {
			return true
		}
	}
	return false
}

func (c *Credential) checkLengths(p *problems) {
	for _, text := range [...]struct {
		pointer, text string
		longest       int
	}{
		{"/identifier", c.Identifier, maxCredentialText},
		{"/header", c.Header, 128},
		{"/tokenUrl", c.TokenURL, maxCredentialText},
		{"/clientId", c.ClientID, maxCredentialText},
		{"/audience", c.Audience, maxCredentialText},
		{"/certificate", c.Certificate, maxCertificate},
		{"/secret", c.Secret, maxCredentialSecret},
	} {
		if len(text.text) > text.longest {
			p.add(text.pointer, "it has %d bytes, and may have %d", len(text.text), text.longest)
		}
	}
	if len(c.Scopes) > maxScopes {
		p.add("/scopes", "there are %d, and may be %d", len(c.Scopes), maxScopes)
	}
}

func (c *Credential) checkTexts(p *problems) {
	switch c.Type {
	case Plain:
		if strings.Contains(c.Identifier, ":") {
			p.add("/identifier", "it holds a colon, which HTTP Basic separates it from the secret by (RFC 7617)")
		}
		checkControls(p, "/identifier", c.Identifier)
		checkControls(p, "/secret", c.Secret)
	case AccessToken:
		if fault := headerValueFault(c.Secret); fault != "" {
			p.add("/secret", "it %s", fault)
		} else if strings.ContainsAny(c.Secret, " \t") {
			p.add("/secret", "the token alone is expected, without a space: Bearer is put before it")
		}
	case APIKey:
		// The one header of which the subscription's own headers are told that a credential sets it.
		if fault := headerNameFault(c.Header); fault != "" && !strings.EqualFold(c.Header, "Authorization") {
			p.add("/header", "%s", fault)
		}
		if fault := headerValueFault(c.Secret); fault != "" {
			p.add("/secret", "it %s", fault)
		}
	case OAuth2:
		c.checkOAuth2(p)
	case JWT:
		checkControls(p, "/audience", c.Audience)
	case MTLS:
		// The error tells what of the PEM is wrong, and nothing of the key.
		if _, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Secret)); err != nil {
			p.add("/certificate", "a certificate in PEM is expected, with its key in PEM as the secret: %.200s", err)
		}
	}
}

func (c *Credential) checkOAuth2(p *problems) {
	u, err := url.Parse(c.TokenURL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		p.add("/tokenUrl", "the absolute https URL of the token endpoint is expected")
	case u.User != nil:
		p.add("/tokenUrl", "it holds a user's name or password: give clientId and secret instead")
	case u.Fragment != "":
		p.add("/tokenUrl", "it has a fragment: leave out what begins with #")
	}
	checkControls(p, "/clientId", c.ClientID)
	checkControls(p, "/secret", c.Secret)
	checkControls(p, "/audience", c.Audience)
	for i, s := range c.Scopes {
		if !validScope(s) {
			p.add(fmt.Sprintf("/scopes/%d", i), "a scope is expected: printable ASCII without space, \" and \\, of 256 bytes at most (RFC 6749, section 3.3)")
		}
	}
}

func validScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

func checkControls(p *problems, pointer, text string) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		p.add(pointer, "it holds a control character or what is not UTF-8")
	}
}

// Format implements [fmt.Formatter]: every verb gives the type alone.
func (c Credential) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, c.summary()) // fmt has nobody to tell either
}

// LogValue implements [slog.LogValuer].
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.summary()) }

func (c Credential) summary() string {
	if c.Type == NoCredential {
		return "no credential"
	}
	return abbreviate(string(c.Type)) + " " + withheld
}
