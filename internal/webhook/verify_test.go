package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestOnlyWhatWasSignedIsAccepted(t *testing.T) {
	secret, key := webhook.NewSecret(), webhook.NewSigningKey()
	signer := webhook.Signer{Secrets: []webhook.Secret{secret}, Keys: []webhook.SigningKey{key}}
	now := time.Unix(1_800_000_000, 0)
	const body = `{"a":1}`
	signed := http.Header{}
	signer.Sign(signed, "msg_a", now, []byte(body))
	v1, v1a, _ := strings.Cut(signed.Get("webhook-signature"), " ")
	with := func(name string, values ...string) http.Header {
		h := signed.Clone()
		h[name] = values
		return h
	}
	without := func(name string) http.Header {
		h := signed.Clone()
		h.Del(name)
		return h
	}
	signatures := func(values ...string) http.Header { return with("Webhook-Signature", strings.Join(values, " ")) }
	secrets, keys := []webhook.Secret{secret}, []ed25519.PublicKey{key.PublicKey()}
	forged := signed.Clone()
	mac := hmac.New(sha256.New, nil)
	mac.Write([]byte("msg_a.1800000000." + body))
	forged["Webhook-Signature"] = []string{"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
	for name, test := range map[string]struct {
		h       http.Header
		body    string
		secrets []webhook.Secret
		keys    []ed25519.PublicKey
		late    time.Duration
		want    error
	}{
		"as it was":                   {h: signed, body: body, secrets: secrets, keys: keys},
		"by the secret alone":         {h: signed, body: body, secrets: secrets},
		"by the key alone":            {h: signed, body: body, keys: keys},
		"among unknown ones":          {h: signatures("v2,AAAA", "v1,", "v1", "", "v1,!", v1a, v1), body: body, secrets: secrets},
		"by one of several secrets":   {h: signed, body: body, secrets: []webhook.Secret{webhook.NewSecret(), secret}},
		"late and early enough":       {h: signed, body: body, secrets: secrets, late: 5 * time.Minute},
		"too late":                    {h: signed, body: body, secrets: secrets, late: 5*time.Minute + time.Second, want: webhook.ErrTimestamp},
		"too early":                   {h: signed, body: body, secrets: secrets, late: -5*time.Minute - time.Second, want: webhook.ErrTimestamp},
		"by nobody that is known":     {h: signed, body: body, want: webhook.ErrSignature},
		"by another secret":           {h: signed, body: body, secrets: []webhook.Secret{webhook.NewSecret()}, want: webhook.ErrSignature},
		"by another key":              {h: signed, body: body, keys: []ed25519.PublicKey{webhook.NewSigningKey().PublicKey()}, want: webhook.ErrSignature},
		"by a secret that is none":    {h: forged, body: body, secrets: []webhook.Secret{nil, {}}, want: webhook.ErrSignature},
		"by a key that is none":       {h: signed, body: body, keys: []ed25519.PublicKey{{1, 2}}, want: webhook.ErrSignature},
		"another body":                {h: signed, body: `{"a":2}`, secrets: secrets, keys: keys, want: webhook.ErrSignature},
		"no body":                     {h: signed, secrets: secrets, keys: keys, want: webhook.ErrSignature},
		"another id":                  {h: with("Webhook-Id", "msg_b"), body: body, secrets: secrets, keys: keys, want: webhook.ErrSignature},
		"another time":                {h: with("Webhook-Timestamp", "1800000001"), body: body, secrets: secrets, keys: keys, want: webhook.ErrSignature},
		"a signature of the other":    {h: signatures("v1,"+v1a[4:], "v1a,"+v1[3:]), body: body, secrets: secrets, keys: keys, want: webhook.ErrSignature},
		"a piece of a signature":      {h: signatures(v1[:20]), body: body, secrets: secrets, want: webhook.ErrSignature},
		"behind too many others":      {h: signatures(strings.Repeat("v1,AAAA ", 16) + v1), body: body, secrets: secrets, want: webhook.ErrSignature},
		"no id":                       {h: without("Webhook-Id"), body: body, secrets: secrets, want: webhook.ErrHeaders},
		"no time":                     {h: without("Webhook-Timestamp"), body: body, secrets: secrets, want: webhook.ErrHeaders},
		"no signature":                {h: without("Webhook-Signature"), body: body, secrets: secrets, want: webhook.ErrHeaders},
		"two ids":                     {h: with("Webhook-Id", "msg_a", "msg_b"), body: body, secrets: secrets, want: webhook.ErrHeaders},
		"a time of another form":      {h: with("Webhook-Timestamp", "2027-01-15T08:00:00Z"), body: body, secrets: secrets, want: webhook.ErrHeaders},
		"a time before all":           {h: with("Webhook-Timestamp", "-1"), body: body, secrets: secrets, want: webhook.ErrHeaders},
		"a time that overflows":       {h: with("Webhook-Timestamp", "9223372036854775807"), body: body, secrets: secrets, want: webhook.ErrTimestamp},
		"a time that no number holds": {h: with("Webhook-Timestamp", "9223372036854775808"), body: body, secrets: secrets, want: webhook.ErrHeaders},
	} {
		err := webhook.Verify(test.h, []byte(test.body), test.secrets, test.keys, now.Add(test.late), 5*time.Minute)
		if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	secret, key := webhook.Secret(strings.Repeat("s", 32)), webhook.NewSigningKey()
	now := time.Unix(1_800_000_000, 0)
	const id, body = "msg_a", `{"a":1}`
	h := http.Header{}
	(&webhook.Signer{Secrets: []webhook.Secret{secret}}).Sign(h, id, now, []byte(body))
	f.Add(id, h.Get("webhook-timestamp"), h.Get("webhook-signature"), []byte(body))
	f.Add(id, "1800000000", "v1a,AAAA v1,AAAA", []byte(body))
	f.Add("", "x", " ,  v1", []byte{})
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		given := http.Header{webhook.HeaderID: {id}, webhook.HeaderTimestamp: {timestamp}, webhook.HeaderSignature: {signature}}
		if webhook.Verify(given, body, []webhook.Secret{secret}, []ed25519.PublicKey{key.PublicKey()}, now, time.Minute) != nil {
			return
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + timestamp + "." + string(body)))
		want := mac.Sum(nil)
		for one := range strings.SplitSeq(signature, " ") {
			text, ok := strings.CutPrefix(one, "v1,")
			if b, err := base64.StdEncoding.DecodeString(text); ok && err == nil && bytes.Equal(b, want) {
				return
			}
		}
		t.Errorf("accepted without a signature: %q %q %q %q", id, timestamp, signature, body)
	})
}
