package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/eventissuer/eventissuer/internal/keyfile"
)

// Load reads the key ring of a file, in the form that [Parse] reads. Errors name the file and the line.
func Load(path string) (*Ring, error) {
	text, err := keyfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	r, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("key ring %s: %w", path, err)
	}
	return r, nil
}

// LoadOrCreate is [Load], and makes a file of one new key, which its owner alone may read, where there is none. Of
// several processes that do so at once one makes it, and all load the same.
func LoadOrCreate(path string) (*Ring, error) {
	r, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if err := keyfile.Create(path, []byte(newFile())); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a key ring: %w", err)
	}
	return Load(path)
}

func newFile() string {
	var root [KeySize]byte
	rand.Read(root[:]) // never fails: it ends the program instead
	id := strings.ToLower(rand.Text()[:8])
	return "# Secrets are encrypted with these keys: without them they are lost, so keep a copy elsewhere.\n" +
		"# One key a line: an id and 32 bytes in Base64. The first encrypts, all decrypt.\n" +
		id + " " + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}
