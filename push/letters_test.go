package push

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// unwritable are dead letters that cannot be written.
type unwritable struct{ asked chan struct{} }

// Write implements Letters.
func (u unwritable) Write(_ context.Context, letters []Letter) []error {
	nudge(u.asked)
	errs := make([]error, len(letters))
	for i := range errs {
		errs[i] = broker.ErrUnavailable
	}
	return errs
}

func TestDeadLettersThatCannotBeWrittenHoldNoStopUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{}, 1)
		p := &partition{
			engine: &Engine{deps: Deps{Letters: unwritable{asked}}}, log: slog.New(slog.DiscardHandler), graves: make(chan struct{}, 1), stream: &stream{},
		}
		p.dead = []burial{{&lane{route: &route{sub: &subscription{id: "s"}}}, &item{entry: &fanout.Entry{}}}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.buryAll(ctx) }()
		<-asked
		cancel()
		if err := <-ended; err == nil {
			t.Error("it ended though nothing was written")
		}
		if len(p.dead) != 1 {
			t.Errorf("%d letters are left, want the one", len(p.dead))
		}
	})
}
