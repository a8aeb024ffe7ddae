package main_test

import (
	"fmt"
	"testing"
	"time"
)

func TestKilledEmbeddedServerLosesNothingAcknowledged(t *testing.T) {
	v := startServer(t, embedded(t))
	define(t, 3, v)
	crowd := gather(t, everyKind(70, v))
	// Load from many at once, so that the kill meets events in every state on their way to the disk.
	p := publish(t, 24, 24, 0, fmt.Sprintf("%0300d", 0), v)
	for range 3 {
		p.more(t, 500)
		v.kill(t)
		v.again(t)
	}
	p.more(t, 200)
	crowd.verify(t, p, v)
}

func TestClientsResumeAfterAStopAndStartOnTheSameData(t *testing.T) {
	v := startServer(t, embedded(t))
	define(t, 3, v)
	crowd := gather(t, everyKind(70, v))
	p := publish(t, 4, 12, 2*time.Millisecond, "", v)
	for range 2 {
		p.more(t, 200)
		v.sigterm(t, 25*time.Second)
		v.again(t)
	}
	p.more(t, 100)
	crowd.verify(t, p, v)
}
