package jwks_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/jwks"
)

type published struct {
	Keys []struct{ Crv, Kty, X, Y, Use, Alg, Kid, D string }
}

// key finds a token's key in the document, as a receiver does.
func (p published) key(t *jwt.Token) (any, error) {
	for _, k := range p.Keys {
		if k.Kid != t.Header["kid"] || k.Alg != t.Method.Alg() {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil {
			return nil, err
		}
		if k.Kty == "OKP" {
			return ed25519.PublicKey(x), nil
		}
		y, err := base64.RawURLEncoding.DecodeString(k.Y)
		if err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	}
	return nil, errors.New("no such key")
}

func keys(t *testing.T) (crypto.Signer, crypto.Signer) {
	t.Helper()
	ed, err := jwks.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ed, p256
}

func TestATokenIsAcceptedByThePublishedKeys(t *testing.T) {
	ed, p256 := keys(t)
	for name, in := range map[string][]crypto.Signer{"Ed25519": {ed, p256}, "P-256": {p256, ed}} {
		t.Run(name, func(t *testing.T) {
			k, err := jwks.New(in...)
			if err != nil {
				t.Fatal(err)
			}
			var document published
			if err := json.Unmarshal(k.JWKS(), &document); err != nil {
				t.Fatal(err)
			}
			if len(document.Keys) != 2 || document.Keys[0].Use != "sig" || strings.Contains(string(k.JWKS()), `"d"`) {
				t.Fatalf("published: %s", k.JWKS())
			}
			issuer, err := jwks.NewIssuer(k, "https://events.example.com", 5*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			text, until, err := issuer.Token("owner", "https://sink.example.com")
			if err != nil {
				t.Fatal(err)
			}
			token, err := jwt.Parse(text, document.key, jwt.WithAudience("https://sink.example.com"), jwt.WithIssuer("https://events.example.com"), jwt.WithSubject("owner"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
			if err != nil {
				t.Fatal(err)
			}
			if expires, err := token.Claims.GetExpirationTime(); err != nil || !expires.Equal(until) {
				t.Errorf("the token expires at %v, and %v was said", expires, until)
			}
			if _, err := jwt.Parse(text, document.key, jwt.WithAudience("https://other.example.com")); !errors.Is(err, jwt.ErrTokenInvalidAudience) {
				t.Errorf("another audience: %v", err)
			}
			other, err := jwks.New(in[1])
			if err != nil {
				t.Fatal(err)
			}
			var foreign published
			if err := json.Unmarshal(other.JWKS(), &foreign); err != nil {
				t.Fatal(err)
			}
			if _, err := jwt.Parse(text, foreign.key); err == nil {
				t.Error("a token was accepted by a key that did not sign it")
			}
		})
	}
}

// The example of RFC 8037, appendix A.
func TestAKeysIdIsItsThumbprint(t *testing.T) {
	seed, err := base64.RawURLEncoding.DecodeString("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
	if err != nil {
		t.Fatal(err)
	}
	k, err := jwks.New(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"keys":[{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig","alg":"EdDSA","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}]}`
	if diff := cmp.Diff(want, string(k.JWKS())); diff != "" {
		t.Error(diff)
	}
}

func TestAFileOfOneKeyIsMadeAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.pem")
	first, err := jwks.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := jwks.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(first.JWKS()), string(again.JWKS())); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
}

func TestWhatIsNoKeyIsRefused(t *testing.T) {
	ed, _ := keys(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]crypto.Signer{"none": nil, "twice the same": {ed, ed}, "P-384": {p384}, "RSA": {rsaKey}} {
		if _, err := jwks.New(in...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "no PEM": "secret", "another block": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"no key": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "long": strings.Repeat("#", 70<<10),
	} {
		path := filepath.Join(t.TempDir(), "keys.pem")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := jwks.Load(path); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreNotFormatted(t *testing.T) {
	ed, _ := keys(t)
	k, err := jwks.New(ed)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, k); !strings.HasPrefix(text, "[signing key ") {
			t.Errorf("%s gives %s", verb, text)
		}
	}
}
