package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// As a shard or a receiver, which a run starts of its own program, the test is the program itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "shard" || os.Args[1] == "webhook-receiver") {
		main()
	}
	goleak.VerifyTestMain(m)
}
