package jwks

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/eventissuer/eventissuer/internal/keyfile"
)

const pemType = "PRIVATE KEY" // PKCS #8

// Load reads the keys of a file: one or more in PEM, as PKCS #8, such as openssl genpkey -algorithm ed25519 makes. The
// first signs.
func Load(path string) (*Keys, error) {
	text, err := keyfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	k, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func parse(text []byte) (*Keys, error) {
	var keys []crypto.Signer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemType {
			return nil, fmt.Errorf("signing keys: blocks of the type %s were expected, %q came", pemType, block.Type)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("signing key %d: a key by PKCS #8 was expected", len(keys)+1)
		}
		key, ok := parsed.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("signing key %d: an Ed25519 or a P-256 key was expected, it is %T", len(keys)+1, parsed)
		}
		keys = append(keys, key)
	}
	return New(keys...)
}

// LoadOrCreate is [Load], and makes a file of one new key, which its owner alone may read, where there is none. Of
// several processes that do so at once one makes it, and all load the same.
func LoadOrCreate(path string) (*Keys, error) {
	k, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return Load(path)
}

// create makes the file; fs.ErrExist where there is one by now.
func create(path string) error {
	key, err := NewKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return keyfile.Create(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
}
