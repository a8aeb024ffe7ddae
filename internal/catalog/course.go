package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Bounds of what becomes of a subscription with a sink.
const (
	maxReplays  = 4
	maxSigners  = 3
	defaultKeep = 24 * time.Hour
	// MaxKeep is for how long secrets that were replaced may stay valid.
	MaxKeep = 168 * time.Hour

	maxReason = 500
)

// steer changes the course of a subscription with a sink, its definition staying what it is. change returns false where
// there is nothing to change, and steer whether there was.
func (e Editor) steer(ctx context.Context, id, ifMatch string, change func(b *subscriptionBody) (bool, error)) (Subscription, bool, error) {
	changed := false
	o, err := e.c.changing(ctx, id, ifMatch, func(cur *object[subscriptionRecord], b *subscriptionBody) (*object[subscriptionRecord], error) {
		if b.Sink == "" {
			return nil, fmt.Errorf("subscription %s: %w", id, ErrNotPushed)
		}
		var err error
		if changed, err = change(b); err != nil || !changed {
			return cur, err
		}
		return e.c.putSubscription(ctx, cur, b)
	})
	if err != nil {
		return Subscription{}, false, err
	}
	s, _ := subscribed(o)
	return s, changed, nil
}

// PauseSubscription has nothing sent to a subscription's sink until it is resumed: its events wait in the log. ifMatch is
// as with UpdateSubscription. Errors: ErrNotFound, ErrPreconditionFailed, ErrNotPushed, and those of the table.
func (e Editor) PauseSubscription(ctx context.Context, id, ifMatch string) (Subscription, error) {
	s, changed, err := e.steer(ctx, id, ifMatch, func(b *subscriptionBody) (bool, error) {
		was := b.Paused
		b.Paused = true
		return !was, nil
	})
	if changed {
		e.audit(ctx, Entry{Action: ActionPaused, Kind: "subscription", Name: id})
	}
	return s, err
}

// ResumeSubscription goes on where a subscription was paused or disabled. Errors are those of PauseSubscription.
func (e Editor) ResumeSubscription(ctx context.Context, id, ifMatch string) (Subscription, error) {
	s, changed, err := e.steer(ctx, id, ifMatch, func(b *subscriptionBody) (bool, error) {
		stopped := b.Paused || b.Disabled != nil
		b.Paused, b.Disabled = false, nil
		return stopped, nil
	})
	if changed {
		e.audit(ctx, Entry{Action: ActionResumed, Kind: "subscription", Name: id})
	}
	return s, err
}

// DisableSubscription has nothing sent any more, for a reason that the endpoint gave, until somebody resumes the
// subscription. It changes nothing where the incarnation is another by now. Errors: ErrNotFound, ErrNotPushed, and those
// of the table.
func (e Editor) DisableSubscription(ctx context.Context, id, incarnation, reason string) (Subscription, error) {
	s, changed, err := e.steer(ctx, id, "", func(b *subscriptionBody) (bool, error) {
		if b.Incarnation != incarnation || b.Disabled != nil {
			return false, nil
		}
		b.Disabled = &Disabled{Reason: shortened(reason), At: e.stamp().At}
		return true, nil
	})
	if changed {
		e.audit(ctx, Entry{Action: ActionDisabled, Kind: "subscription", Name: id, Detail: s.Disabled.Reason})
	}
	return s, err
}

func shortened(reason string) string {
	if text := []rune(reason); len(text) > maxReason {
		return string(text[:maxReason]) + "…"
	}
	return reason
}

// ProveSubscription records what the endpoint at a sink has said to being sent events. It changes nothing where the sink
// is another by now, and returns the subscription as it is. Errors are those of DisableSubscription.
func (e Editor) ProveSubscription(ctx context.Context, id, sink string, p Proof) (Subscription, error) {
	p.Sink, p.Reason = sink, shortened(p.Reason)
	p.State = cmp.Or(p.State, ProofPending)
	p.At, p.Next = p.At.UTC().Truncate(time.Millisecond), p.Next.UTC().Truncate(time.Millisecond)
	var before ProofState
	s, changed, err := e.steer(ctx, id, "", func(b *subscriptionBody) (bool, error) {
		if b.Sink != sink || b.Proof == p {
			return false, nil
		}
		before, b.Proof = b.Proof.State, p
		return true, nil
	})
	if changed && before != p.State {
		e.audit(ctx, Entry{Action: ActionVerified, Kind: "subscription", Name: id, Detail: verdict(p)})
	}
	return s, err
}

// verdict tells a proof in words.
func verdict(p Proof) string {
	text := string(p.State)
	if p.By != "" {
		text += " by " + string(p.By)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// Rotation says how a secret is replaced.
type Rotation struct {
	Keep   *time.Duration // for which what was valid stays valid; nil: 24 h; 0: it ends at once; at most MaxKeep
	Secret webhook.Secret // the new one; nil: one is made
}

// RotateSecret replaces the secret and the signing key of a subscription with a sink, and returns them, this once, with
// the subscription. Those before stay valid for a while beside the new ones, of which there are three at a time at most.
// Errors: *InvalidError, ErrNotFound, ErrPreconditionFailed, ErrNotPushed, ErrTooMany, ErrNoKeys, and those of the table.
func (e Editor) RotateSecret(ctx context.Context, id string, r Rotation, ifMatch string) (Subscription, error) {
	keep := defaultKeep
	if r.Keep != nil {
		keep = *r.Keep
	}
	v := &InvalidError{}
	within(v, "/keep", Duration(keep), 0, Duration(MaxKeep))
	if n := len(r.Secret); r.Secret != nil && (n < webhook.MinSecret || n > webhook.MaxSecret) {
		v.add("/secret", "%d to %d bytes; got %d", webhook.MinSecret, webhook.MaxSecret, n)
	}
	if err := v.orNil(); err != nil {
		return Subscription{}, err
	}
	secret := r.Secret
	if secret == nil {
		secret = webhook.NewSecret()
	}
	fresh, err := e.c.newSigner(id, secret)
	if err != nil {
		return Subscription{}, fmt.Errorf("subscription %s: %w", id, err)
	}
	s, _, err := e.steer(ctx, id, ifMatch, func(b *subscriptionBody) (bool, error) {
		now := e.stamp()
		signers := []signer{fresh}
		for i, old := range b.signers {
			if until := now.At.Add(keep); i == 0 || until.Before(old.Until) {
				old.Until = until
			}
			if now.At.Before(old.Until) {
				signers = append(signers, old)
			}
		}
		if len(signers) > maxSigners {
			return false, fmt.Errorf("subscription %s: %d secrets are valid, the first until %s: %w; wait, or rotate with keep 0s, which ends them",
				id, maxSigners, signers[maxSigners].Until.Format(time.RFC3339), ErrTooMany)
		}
		b.signers = signers
		b.version, b.Changed = uuid.Nil, now
		return true, nil
	})
	if err != nil {
		return Subscription{}, err
	}
	e.audit(ctx, Entry{Action: ActionRotated, Kind: "subscription", Name: id, Detail: fmt.Sprintf("what was valid stays so for %v; publicKey: %s", Duration(keep), s.PublicKey)})
	s.Secret = secret
	return s, nil
}

// RewindSubscription has a subscription with a sink go on from other positions, as another incarnation: what is behind
// them is sent, again or for the first time, and nothing else is remembered. start has the position of each of its
// streams that exists, and no other's. Errors: *InvalidError, ErrNotFound, ErrPreconditionFailed, ErrNotPushed, and
// those of the table.
func (e Editor) RewindSubscription(ctx context.Context, id string, start map[string]Position, ifMatch string) (Subscription, error) {
	s, err := e.restart(ctx, id, start, ifMatch, func(b *subscriptionBody) error {
		if b.Sink == "" {
			return fmt.Errorf("subscription %s: %w", id, ErrNotPushed)
		}
		return nil
	})
	if err == nil {
		e.audit(ctx, Entry{Action: ActionRewound, Kind: "subscription", Name: id})
	}
	return s, err
}

// ReplaySubscription has the events between two positions sent again, beside those that go on being sent, which takes a
// subscription that keeps no order. There are four replays at a time at most. Both have the position of each of its
// streams that exists, and no other's. replay is the incarnation, "" where there is nothing between the positions. Errors:
// *InvalidError, ErrNotFound, ErrPreconditionFailed, ErrNotPushed, ErrOrdered, ErrTooMany, and those of the table.
func (e Editor) ReplaySubscription(ctx context.Context, id string, r Replay, ifMatch string) (s Subscription, replay string, err error) {
	replay = uuid.NewString()
	s, changed, err := e.steer(ctx, id, ifMatch, func(b *subscriptionBody) (bool, error) {
		switch {
		case b.Config.Ordering == OrderingKey:
			return false, fmt.Errorf("subscription %s: %w", id, ErrOrdered)
		case len(b.Replays) >= maxReplays:
			return false, fmt.Errorf("subscription %s: %d replays are under way: %w; wait until one has come to its end", id, len(b.Replays), ErrTooMany)
		}
		next := Replay{Incarnation: replay, Since: r.Since.UTC().Truncate(time.Millisecond)}
		var err error
		if next.Start, err = e.c.wholly(b, r.Start); err != nil {
			return false, err
		}
		if next.Until, err = e.c.wholly(b, r.Until); err != nil {
			return false, err
		}
		n := len(b.Replays)
		b.Replays = append(b.Replays, next)
		// What is gone, or another than at the other position, or has nothing in between, is not gone through.
		b.endReplays(func(string, int32) bool { return false })
		return len(b.Replays) > n, nil
	})
	if err != nil || !changed {
		return s, "", err
	}
	e.audit(ctx, Entry{Action: ActionReplayed, Kind: "subscription", Name: id, Detail: "replay " + replay})
	return s, replay, nil
}

// EndReplay says that a replay has come to its end in a partition. The replay is gone when it has in all of them. It
// changes nothing where there is no such replay, or the partition is none of its own any more. Errors are those of
// DisableSubscription.
func (e Editor) EndReplay(ctx context.Context, id, replay, stream string, partition int32) (Subscription, error) {
	over := false
	s, changed, err := e.steer(ctx, id, "", func(b *subscriptionBody) (bool, error) {
		i := slices.IndexFunc(b.Replays, func(r Replay) bool { return r.Incarnation == replay })
		if i < 0 {
			return false, nil
		}
		if _, _, ok := b.Replays[i].Goes(stream, partition); !ok {
			return false, nil
		}
		n := len(b.Replays)
		b.Replays[i].pass(func(name string, p int32) bool { return name == stream && p == partition })
		b.endReplays(func(string, int32) bool { return false })
		over = len(b.Replays) < n
		return true, nil
	})
	if changed && over {
		e.audit(ctx, Entry{Action: ActionReplayed, Kind: "subscription", Name: id, Detail: "replay " + replay + " has come to its end"})
	}
	return s, err
}

// endReplays passes over the partitions that are over in all replays, and takes away those that have none left.
func (b *subscriptionBody) endReplays(over func(stream string, partition int32) bool) {
	for i := range b.Replays {
		b.Replays[i].pass(over)
	}
	b.Replays = slices.DeleteFunc(b.Replays, func(r Replay) bool { return len(r.Start) == 0 })
}

// pass takes partitions that are over out of a replay, and the streams that have none left.
func (r *Replay) pass(over func(stream string, partition int32) bool) {
	start, until := map[string]Position{}, map[string]Position{}
	for stream, at := range r.Start {
		to := r.Until[stream]
		if to.Epoch != at.Epoch {
			continue // the stream was made anew in between
		}
		at.Next = slices.Clone(at.Next[:min(len(at.Next), len(to.Next))])
		left := false
		for p := range at.Next {
			if over(stream, int32(p)) {
				at.Next[p] = max(at.Next[p], to.Next[p])
			}
			left = left || at.Next[p] < to.Next[p]
		}
		if left {
			start[stream], until[stream] = at, to
		}
	}
	r.Start, r.Until = start, until
}
