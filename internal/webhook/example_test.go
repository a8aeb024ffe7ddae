package webhook_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

func Example() {
	// The subscription's owner is shown the secret's text once, and the public key's at any time.
	secret, key := webhook.NewSecret(), webhook.NewSigningKey()
	signer := webhook.Signer{Secrets: []webhook.Secret{secret}, Keys: []webhook.SigningKey{key}}

	e, err := event.Parse([]byte(`{"specversion":"1.0","id":"1","source":"/trains","type":"no.banenor.train.position.v1","data":{"speed":132}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	body, err := webhook.Body(header, webhook.Structured, []*event.Event{&e})
	if err != nil {
		fmt.Println(err)
		return
	}
	life, epoch := [16]byte{1}, [16]byte{2} // the subscription's and the topic's
	signer.Sign(header, webhook.MessageID(life, epoch, 0, 4711), time.Now(), body)
	fmt.Println(header.Get("Content-Type"), header.Get("webhook-id"))

	// The receiver knows one of both.
	fmt.Println(webhook.Verify(header, body, []webhook.Secret{secret}, nil, time.Now(), 5*time.Minute))
	fmt.Println(webhook.Verify(header, body, nil, []ed25519.PublicKey{key.PublicKey()}, time.Now(), 5*time.Minute))
	// Output:
	// application/cloudevents+json; charset=UTF-8 msg_gh5ew2m4qiklpuqsjydonmx4ru
	// <nil>
	// <nil>
}

func ExampleLegacy() {
	// A receiver that verified GitHub's webhooks until now.
	signer := webhook.Signer{
		Secrets: []webhook.Secret{webhook.NewSecret()},
		Legacy: &webhook.Legacy{
			Header: "X-Hub-Signature-256", Hash: webhook.HashSHA256, Encoding: webhook.EncodingHex, Prefix: "sha256=",
			Secret: []byte("It's a Secret to Everybody"),
		},
	}
	header := http.Header{}
	signer.Sign(header, webhook.NewMessageID(), time.Now(), []byte("Hello, World!"))
	fmt.Println(header.Get("X-Hub-Signature-256"))
	// Output: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17
}
