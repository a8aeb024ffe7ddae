package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds the file of a ring.
const maxFile = 64 << 10

// Load reads the key ring of a file, in the form that [Parse] reads. Errors name the file and the line.
func Load(path string) (*Ring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("key ring %s: the file has more than %d bytes: is it another?", path, maxFile)
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
	if err := create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a key ring: %w", err)
	}
	return Load(path)
}

// create makes the file whole or not at all; fs.ErrExist where there is one by now.
func create(path string) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(newFile())
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	// Other than a rename, a link does not replace what another process has made in the meantime.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

// syncFolder sees to it that a new name outlives a crash: what is sealed with the key does.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newFile() string {
	var root [KeySize]byte
	rand.Read(root[:]) // never fails: it ends the program instead
	id := strings.ToLower(rand.Text()[:8])
	return "# Secrets are encrypted with these keys: without them they are lost, so keep a copy elsewhere.\n" +
		"# One key a line: an id and 32 bytes in Base64. The first encrypts, all decrypt.\n" +
		id + " " + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}
