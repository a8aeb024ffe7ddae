package webhook_test

import (
	"regexp"
	"testing"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestAMessagesIDFollowsFromWhatItHolds(t *testing.T) {
	life := uuid.MustParse("0194f7a2-6c3e-7d10-9f6b-2b6e1f0c9a41")
	epoch := broker.Epoch{1, 2, 3}
	// Another text would make receivers take every retry over an upgrade for a new message.
	if got, want := webhook.MessageID(life, epoch, 3, 4711), "msg_45hlh6rjdv6aqzcjfrn3qhll4i"; got != want {
		t.Errorf("the id is %s, want %s", got, want)
	}
	ids := map[string]string{}
	for name, id := range map[string]string{
		"one":                webhook.MessageID(life, epoch, 3, 4711),
		"another offset":     webhook.MessageID(life, epoch, 3, 4712),
		"another partition":  webhook.MessageID(life, epoch, 4, 4711),
		"another topic":      webhook.MessageID(life, broker.Epoch{1, 2, 4}, 3, 4711),
		"another life":       webhook.MessageID(uuid.UUID{}, epoch, 3, 4711),
		"a batch":            webhook.MessageID(life, epoch, 3, 4711, 4712),
		"a batch with holes": webhook.MessageID(life, epoch, 3, 4711, 4713),
		"a longer batch":     webhook.MessageID(life, epoch, 3, 4711, 4712, 4713, 4714, 4715, 4716),
		"no event":           webhook.NewMessageID(),
		"no event again":     webhook.NewMessageID(),
	} {
		if !regexp.MustCompile(`^msg_[a-z2-7]{26}$`).MatchString(id) {
			t.Errorf("%s: the id %q has another form", name, id)
		}
		if other, ok := ids[id]; ok {
			t.Errorf("%s and %s have the same id %s", name, other, id)
		}
		ids[id] = name
	}
}
