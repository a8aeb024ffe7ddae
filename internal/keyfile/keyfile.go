// Package keyfile reads and makes the files that keys are kept in.
//
// A file is made whole or not at all, for its owner alone to read, and outlives a crash. Of several processes that make it at
// once one does.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// most bounds a file, in bytes.
const most = 64 << 10

// Read returns the text of a file. Errors name it.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if len(text) > most {
		return nil, fmt.Errorf("%s: the file has more than %d bytes: is it another?", path, most)
	}
	return text, nil
}

// Create makes a file; fs.ErrExist tells that there is one by now.
func Create(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Other than a rename, a link does not replace what another process has made in the meantime.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

// syncFolder sees to it that a new name outlives a crash: what a key has sealed or signed does.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
