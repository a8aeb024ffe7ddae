package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

func BenchmarkSign(b *testing.B) {
	secret, key := webhook.NewSecret(), webhook.NewSigningKey()
	for name, signer := range map[string]webhook.Signer{
		"v1":          {Secrets: []webhook.Secret{secret}},
		"v1 twice":    {Secrets: []webhook.Secret{secret, webhook.NewSecret()}},
		"v1, legacy":  {Secrets: []webhook.Secret{secret}, Legacy: &webhook.Legacy{Header: "X-Signature", Hash: "sha256", Encoding: "hex", Secret: secret}},
		"v1 and v1a":  {Secrets: []webhook.Secret{secret}, Keys: []webhook.SigningKey{key}},
		"v1, 1000 of": {Secrets: []webhook.Secret{secret}},
	} {
		b.Run(name, func(b *testing.B) {
			signers := []webhook.Signer{signer}
			if name == "v1, 1000 of" {
				for range 999 {
					signers = append(signers, webhook.Signer{Secrets: []webhook.Secret{webhook.NewSecret()}})
				}
			}
			h := http.Header{}
			now := time.Now()
			body := []byte(position)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for i := 0; b.Loop(); i++ {
				signers[i%len(signers)].Sign(h, "msg_abcdefghijklmnopqrstuvwxyz", now, body)
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	e := stored(b, position)
	events := make([]*event.Event, 100)
	for i := range events {
		events[i] = e
	}
	for _, bench := range []struct {
		mode   webhook.Mode
		events int
	}{{webhook.Structured, 1}, {webhook.Binary, 1}, {webhook.Batch, 100}} {
		b.Run(string(bench.mode), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := webhook.Body(make(http.Header, 16), bench.mode, events[:bench.events]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMessageID(b *testing.B) {
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		webhook.MessageID([16]byte{1}, [16]byte{2}, 3, i)
	}
}
