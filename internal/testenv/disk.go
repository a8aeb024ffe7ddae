package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// SmallDisk gives a folder that is a disk of its own, of so many bytes, until the test and its subtests are done. The machine
// must let the test mount one.
func SmallDisk(t testing.TB, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	unmount, err := mountSmall(dir, bytes)
	Need(t, "a disk of its own", err)
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// Fill takes all that is left on a folder's disk, until the returned function is called.
func Fill(t testing.TB, dir string) (release func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := make([]byte, 64<<10); len(piece) > 0; {
		if _, err := f.Write(piece); err != nil {
			piece = piece[:len(piece)/2] // the last bytes go in small pieces
		}
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(fmt.Errorf("make room: %w", err))
		}
	}
}
