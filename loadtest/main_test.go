package loadtest_test

import (
	"testing"

	"go.uber.org/goleak"
)

// sarama's metrics keep one goroutine for the whole process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}
