package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/brokertest"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// childVariable holds the data folder for which this test binary is to be a server, and nothing but one.
const (
	childVariable     = "EVENTISSUER_EMBEDDED_CHILD"
	childPortVariable = "EVENTISSUER_EMBEDDED_CHILD_PORT"
)

// serveChild serves until it is killed, or its parent is gone.
func serveChild(dir string) int {
	port, _ := strconv.Atoi(os.Getenv(childPortVariable))
	s, err := embedded.Start(context.Background(), embedded.Config{Dir: dir, KafkaPort: port})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready", s.RedisAddr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(); err != nil {
		return 1
	}
	return 0
}

// child is the embedded servers in a process of their own.
type child struct {
	dir   string
	port  int
	redis string
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func newChild(t testing.TB) *child {
	t.Helper()
	c := &child{dir: t.TempDir(), port: testenv.FreePort(t)}
	c.start(t)
	t.Cleanup(func() { c.end() })
	return c
}

func (c *child) start(t testing.TB) {
	t.Helper()
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childVariable+"="+c.dir, childPortVariable+"="+strconv.Itoa(c.port))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "ready %s", &c.redis); scanErr != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
}

// end kills the child; there is no orderly way out of kill -9.
func (c *child) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

// Open implements brokertest.Harness.
func (c *child) Open(t testing.TB) broker.Log {
	t.Helper()
	log, err := kafka.New(kafka.Config{Brokers: []string{"127.0.0.1:" + strconv.Itoa(c.port)}}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Kill implements brokertest.Killer.
func (c *child) Kill(t testing.TB) {
	t.Helper()
	c.end()
	c.start(t)
}

// ForgetsProducers implements brokertest.ForgetsProducers. The server's own clients die with it, so none tries again.
func (*child) ForgetsProducers() {}

func TestKilledProcessLosesNothingThatWasAcknowledged(t *testing.T) {
	brokertest.RunCase(t, newChild(t), "KillMidReadAndMidWriteLosesNothing")
}
