package keyring_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eventissuer/eventissuer/internal/keyring"
)

// childVariable has the test program load the ring of a file and say what the ring is, instead of running tests.
const childVariable = "EVENTISSUER_TEST_KEYRING"

func TestMain(m *testing.M) {
	path := os.Getenv(childVariable)
	if path == "" {
		os.Exit(m.Run())
	}
	// Begins when the parent says so, so that many begin at once.
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		os.Exit(1)
	}
	r, err := keyring.LoadOrCreate(path)
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.Write(r.MAC("test", nil))
}

func TestARingIsMadeOnceForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := keyring.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load what is not there: %v", err)
	}
	r, err := keyring.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, r, "hidden", "p", "f")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file may be used as %v", info.Mode())
	}
	for name, load := range map[string]func(string) (*keyring.Ring, error){"Load": keyring.Load, "LoadOrCreate": keyring.LoadOrCreate} {
		again, err := load(path)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := again.Open(sealed, "p", "f"); err != nil || string(plain) != "hidden" {
			t.Errorf("%s: opened as %q, %v", name, plain, err)
		}
	}
	alone(t, path)
}

// alone checks that nothing but the ring is left in its folder.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the folder holds %v", entries)
	}
}

func TestProcessesThatStartAtOnceAgreeOnTheRing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		path := filepath.Join(t.TempDir(), "keys")
		const processes = 4
		var outs [processes]strings.Builder
		var starts [processes]func() error
		var wg sync.WaitGroup
		for i := range processes {
			c := exec.CommandContext(t.Context(), self)
			c.Env = append(os.Environ(), childVariable+"="+path)
			c.Stdout, c.Stderr = &outs[i], &outs[i]
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			starts[i] = func() error { _, err := in.Write([]byte("x")); return err }
			wg.Go(func() {
				if err := c.Wait(); err != nil {
					t.Errorf("process %d: %v: %s", i, err, outs[i].String())
				}
			})
		}
		for _, start := range starts {
			if err := start(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		for i := range outs {
			if outs[i].String() != outs[0].String() || outs[i].Len() != 32 {
				t.Fatalf("process %d has another ring: %x, and the first %x", i, outs[i].String(), outs[0].String())
			}
		}
		alone(t, path)
	}
}

func TestAMistakeInAFileNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	for text, want := range map[string]string{
		"":                              path + ": no key",
		"# x\nk1 AAAA\n":                path + ": line 2: the key k1 has 3 bytes",
		strings.Repeat("#\n", 32<<10+1): path + ": the file has more than 65536 bytes",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// One that is there and cannot be read is never replaced: it may be what all is sealed with.
		if _, err := keyring.LoadOrCreate(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v; want %q", text, err, want)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("the file was changed: %.40q, %v", now, err)
		}
	}
	if _, err := keyring.LoadOrCreate(filepath.Join(path, "below", "a", "file")); err == nil {
		t.Error("a ring was made where no folder is")
	}
	if _, err := keyring.LoadOrCreate(filepath.Join(t.TempDir(), "none", "keys")); err == nil || !strings.Contains(err.Error(), "make a key ring") {
		t.Errorf("in a folder that is not there: %v", err)
	}
}
