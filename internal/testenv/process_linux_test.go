package testenv_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

const childVariable = "EVENTISSUER_TESTENV_CHILD"

// TestChildStartsRedis is what the test below runs in a process of its own.
func TestChildStartsRedis(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		t.Skip("only as a child of TestServersDieWithAKilledTestProcess")
	}
	r := testenv.StartRedis(t, testenv.RedisOptions{})
	fmt.Println("redis at", r.Addr())
	<-t.Context().Done() // killed before
}

func TestServersDieWithAKilledTestProcess(t *testing.T) {
	testenv.Redis(t) // skips where there is none
	child := exec.Command(os.Args[0], "-test.run=^TestChildStartsRedis$", "-test.v")
	child.Env = append(os.Environ(), childVariable+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		addr, _ = strings.CutPrefix(lines.Text(), "redis at ")
		if !strings.HasPrefix(addr, "127.") {
			addr = ""
		}
	}
	if _, err := command(t, addr, "PING", 5*time.Second); err != nil {
		t.Errorf("the child's server: %v", err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("the killed child ended without an error")
	}
	// The kernel's signal comes with the parent's death, but the port closes a moment later.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := command(t, addr, "PING", time.Second); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the server outlived the test process that started it")
		}
	}
}
