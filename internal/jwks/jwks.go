// Package jwks holds the keys by which this server signs the tokens that say who calls, and publishes their public halves.
//
// What it guarantees:
//
//   - The first key signs; the others are published too, so that what they signed is still accepted after a rotation, and
//     what is to sign next is known to those who keep the document for a while.
//   - A key's id is its thumbprint (RFC 7638): every replica with the same keys publishes the same document.
//   - Private keys are shown by no formatting, and are in no error.
//
// All methods may be called concurrently, and none blocks.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Keys are Ed25519 and P-256 keys. They are made by [New] or [Load].
type Keys struct {
	signer crypto.Signer
	method jwt.SigningMethod
	id     string
	public []byte
}

// jwk is a public key by RFC 7517 with RFC 7518 and RFC 8037. The members of the thumbprint come in the order that RFC
// 7638 asks for.
type jwk struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y,omitempty"`

	Use       string `json:"use,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	ID        string `json:"kid,omitempty"`
}

// New takes the keys, of which the first signs: [ed25519.PrivateKey] or [*ecdsa.PrivateKey] on P-256.
func New(keys ...crypto.Signer) (*Keys, error) {
	if len(keys) == 0 {
		return nil, errors.New("signing keys: at least one was expected")
	}
	k := &Keys{signer: keys[0]}
	var document struct {
		Keys []jwk `json:"keys"`
	}
	seen := make(map[string]bool)
	for i, key := range keys {
		j, method, err := describe(key)
		if err != nil {
			return nil, fmt.Errorf("signing key %d: %w", i+1, err)
		}
		if seen[j.ID] {
			return nil, fmt.Errorf("signing key %d: it is there twice", i+1)
		}
		seen[j.ID] = true
		if i == 0 {
			k.id, k.method = j.ID, method
		}
		document.Keys = append(document.Keys, j)
	}
	var err error
	if k.public, err = json.Marshal(document); err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return k, nil
}

// NewKey makes a key that [New] takes.
func NewKey() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return key, nil
}

func describe(key crypto.Signer) (jwk, jwt.SigningMethod, error) {
	encode := base64.RawURLEncoding.EncodeToString
	var j jwk
	var method jwt.SigningMethod
	switch key := key.(type) {
	case ed25519.PrivateKey:
		public, _ := key.Public().(ed25519.PublicKey)
		j, method = jwk{Curve: "Ed25519", Type: "OKP", X: encode(public)}, jwt.SigningMethodEdDSA
	case *ecdsa.PrivateKey:
		if key.Curve != elliptic.P256() {
			return j, nil, fmt.Errorf("a key on P-256 was expected, it is on %s", key.Curve.Params().Name)
		}
		point, err := key.PublicKey.Bytes() // 4, x, y
		if err != nil {
			return j, nil, err
		}
		j, method = jwk{Curve: "P-256", Type: "EC", X: encode(point[1:33]), Y: encode(point[33:])}, jwt.SigningMethodES256
	default:
		return j, nil, fmt.Errorf("an Ed25519 or a P-256 key was expected, it is %T", key)
	}
	members, err := json.Marshal(j)
	if err != nil {
		return j, nil, err
	}
	sum := sha256.Sum256(members)
	j.ID, j.Use, j.Algorithm = encode(sum[:]), "sig", method.Alg()
	return j, method, nil
}

// JWKS gives the JSON Web Key Set (RFC 7517), as it is served at /.well-known/jwks.json. It is not to be changed.
func (k *Keys) JWKS() []byte { return k.public }

// String keeps the keys out of what is formatted.
func (k *Keys) String() string { return "[signing key " + k.id + "]" }

// GoString is [Keys.String].
func (k *Keys) GoString() string { return k.String() }

// Issuer signs tokens about those on whose behalf this server calls.
type Issuer struct {
	keys *Keys
	name string
	life time.Duration
}

// NewIssuer makes an issuer by the name, which is the URL under whose /.well-known/jwks.json the keys are found, of tokens
// that are good for life, 10 s to 1 h.
func NewIssuer(k *Keys, name string, life time.Duration) (*Issuer, error) {
	if k == nil || name == "" || life < 10*time.Second || life > time.Hour {
		return nil, errors.New("token issuer: keys, a name, and a life of 10 s to 1 h were expected")
	}
	return &Issuer{keys: k, name: name, life: life}, nil
}

// Token gives a token for the audience, whose subject is the owner on whose behalf it is called, and until when it is
// good. An audience that trusts this server has to look at the subject too: any owner can have it called.
func (i *Issuer) Token(owner, audience string) (token string, until time.Time, err error) {
	now := time.Now()
	until = now.Add(i.life).Truncate(time.Second)
	t := jwt.NewWithClaims(i.keys.method, jwt.MapClaims{
		"iss": i.name, "sub": owner, "aud": audience,
		"iat": now.Unix(), "exp": until.Unix(), "jti": uuid.NewString(),
	})
	t.Header["kid"] = i.keys.id
	if token, err = t.SignedString(i.keys.signer); err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	return token, until, nil
}
