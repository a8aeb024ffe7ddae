package loadtest_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/loadtest"
)

// asReceiver, as the first argument, makes this program the receiver of a run of Webhooks.
const asReceiver = "webhook-receiver"

// asShard, as the first argument, makes this program a shard of a run.
const asShard = "shard"

// sarama's metrics keep one goroutine for the whole process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asReceiver {
		if err := loadtest.Receive(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == asShard {
		if err := loadtest.Shard(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}
