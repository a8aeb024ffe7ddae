package webhook_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

func parsed[T any](t testing.TB, parse func(string) (T, error), text string) T {
	t.Helper()
	v, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSignaturesAreThoseThatOthersPublish holds them against the examples of Svix's server, which Standard Webhooks' own
// libraries share.
func TestSignaturesAreThoseThatOthersPublish(t *testing.T) {
	for name, test := range map[string]struct {
		signer        webhook.Signer
		id, body      string
		at            int64
		wantSignature string
	}{
		"v1": {
			signer:        webhook.Signer{Secrets: []webhook.Secret{parsed(t, webhook.ParseSecret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}},
			id:            "msg_p5jXN8AQM9LWM0D4loKWxJek",
			at:            1614265330,
			body:          `{"test": 2432232314}`,
			wantSignature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		},
		"v1a": {
			signer: webhook.Signer{Keys: []webhook.SigningKey{parsed(t, webhook.ParseSigningKey,
				"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==")}},
			id:            "msg_p5jXN8AQM9LWM0D4loKWxJek",
			at:            1614265330,
			body:          `{"test": 2432232314}`,
			wantSignature: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
		},
	} {
		h := http.Header{}
		test.signer.Sign(h, test.id, time.Unix(test.at, 999), []byte(test.body))
		want := http.Header{
			"Webhook-Id":        {test.id},
			"Webhook-Timestamp": {strconv.FormatInt(test.at, 10)},
			"Webhook-Signature": {test.wantSignature},
		}
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEverySecretAndKeySignsDuringARotation(t *testing.T) {
	secrets := []webhook.Secret{webhook.NewSecret(), webhook.NewSecret(), webhook.NewSecret()}
	keys := []webhook.SigningKey{webhook.NewSigningKey(), webhook.NewSigningKey()}
	signer := webhook.Signer{Secrets: secrets, Keys: keys}
	now := time.Now()
	body := []byte(`{"a":1}`)
	h := http.Header{webhook.HeaderSignature: {"of another attempt", "and more"}}
	signer.Sign(h, "msg_a", now, body)
	signatures := strings.Split(h.Get("webhook-signature"), " ")
	var versions []string
	for _, s := range signatures {
		version, _, _ := strings.Cut(s, ",")
		versions = append(versions, version)
	}
	if diff := cmp.Diff([]string{"v1", "v1", "v1", "v1a", "v1a"}, versions); diff != "" {
		t.Error(diff)
	}
	for i, s := range secrets {
		if err := webhook.Verify(h, body, []webhook.Secret{s}, nil, now, time.Minute); err != nil {
			t.Errorf("who knows the secret %d alone: %v", i, err)
		}
	}
	for i, k := range keys {
		if err := webhook.Verify(h, body, nil, []ed25519.PublicKey{k.PublicKey()}, now, time.Minute); err != nil {
			t.Errorf("who knows the key %d alone: %v", i, err)
		}
	}
}

func TestASignerWithoutSecretsAndKeysSignsNothing(t *testing.T) {
	for name, signer := range map[string]webhook.Signer{
		"none":  {},
		"empty": {Secrets: []webhook.Secret{nil, {}}, Keys: make([]webhook.SigningKey, 1), Legacy: &webhook.Legacy{Header: "X-S", Hash: "sha256"}},
	} {
		h := http.Header{webhook.HeaderSignature: {"v1,of another attempt"}}
		signer.Sign(h, "msg_a", time.Unix(1, 0), nil)
		if diff := cmp.Diff(http.Header{"Webhook-Id": {"msg_a"}, "Webhook-Timestamp": {"1"}}, h); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestALegacySignatureIsWhatTheReceiverHadBefore(t *testing.T) {
	// GitHub's example: docs.github.com, "Validating webhook deliveries".
	github := webhook.Legacy{Header: "X-Hub-Signature-256", Hash: "sha256", Encoding: "hex", Prefix: "sha256=", Secret: []byte("It's a Secret to Everybody")}
	shopify := webhook.Legacy{Header: "x-shopify-hmac-sha256", Hash: "sha256", Encoding: "base64", Secret: []byte("hush")}
	old := webhook.Legacy{Header: "X-Hub-Signature", Hash: "sha1", Encoding: "hex", Prefix: "sha1=", Secret: []byte("key")}
	long := webhook.Legacy{Header: "X-S", Hash: "sha512", Encoding: "base64", Prefix: "HMAC ", Secret: []byte(strings.Repeat("long", 100))}
	const body = "Hello, World!"
	hushed := hmac.New(sha256.New, []byte("hush"))
	hushed.Write([]byte(body))
	keyed := hmac.New(sha1.New, []byte("key"))
	keyed.Write([]byte(body))
	longer := hmac.New(sha512.New, []byte(strings.Repeat("long", 100)))
	longer.Write([]byte(body))
	for _, test := range []struct {
		legacy       webhook.Legacy
		header, want string
	}{
		{github, "X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		{shopify, "X-Shopify-Hmac-Sha256", base64.StdEncoding.EncodeToString(hushed.Sum(nil))},
		{old, "X-Hub-Signature", "sha1=" + hex.EncodeToString(keyed.Sum(nil))},
		{long, "X-S", "HMAC " + base64.StdEncoding.EncodeToString(longer.Sum(nil))},
	} {
		if problems := test.legacy.Check(); problems != nil {
			t.Errorf("%s: %v", test.header, problems)
		}
		secret := webhook.NewSecret()
		signer := webhook.Signer{Secrets: []webhook.Secret{secret}, Legacy: &test.legacy}
		h := http.Header{}
		signer.Sign(h, "msg_a", time.Unix(1, 0), []byte(body))
		if got := h[test.header]; len(got) != 1 || got[0] != test.want {
			t.Errorf("%s is %q, want %q", test.header, got, test.want)
		}
		if err := webhook.Verify(h, []byte(body), []webhook.Secret{secret}, nil, time.Unix(1, 0), time.Minute); err != nil {
			t.Errorf("beside %s: %v", test.header, err)
		}
	}
}

func TestALegacySignatureIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*webhook.Legacy)
		want   []string
	}{
		"nothing wrong":        {func(*webhook.Legacy) {}, []string{}},
		"our header":           {func(l *webhook.Legacy) { l.Header = "Webhook-Signature" }, []string{"/header"}},
		"the content's header": {func(l *webhook.Legacy) { l.Header = "content-type" }, []string{"/header"}},
		"no header":            {func(l *webhook.Legacy) { l.Header = "" }, []string{"/header"}},
		"a long header":        {func(l *webhook.Legacy) { l.Header = strings.Repeat("x", 129) }, []string{"/header"}},
		"another hash":         {func(l *webhook.Legacy) { l.Hash = "md5" }, []string{"/hash"}},
		"another encoding":     {func(l *webhook.Legacy) { l.Encoding = "HEX" }, []string{"/encoding"}},
		"a space at the end":   {func(l *webhook.Legacy) { l.Prefix = "HMAC " }, []string{}},
		"a space before":       {func(l *webhook.Legacy) { l.Prefix = " HMAC" }, []string{"/prefix"}},
		"a line break":         {func(l *webhook.Legacy) { l.Prefix = "a\r\nb: " }, []string{"/prefix"}},
		"a long prefix":        {func(l *webhook.Legacy) { l.Prefix = strings.Repeat("x", 129) }, []string{"/prefix"}},
		"no secret":            {func(l *webhook.Legacy) { l.Secret = nil }, []string{"/secret"}},
		"a long secret":        {func(l *webhook.Legacy) { l.Secret = make([]byte, 1025) }, []string{"/secret"}},
		"all wrong": {
			func(l *webhook.Legacy) { *l = webhook.Legacy{Prefix: "\n"} },
			[]string{"/header", "/hash", "/encoding", "/prefix", "/secret"},
		},
	} {
		l := webhook.Legacy{Header: "X-Signature", Hash: "sha256", Encoding: "hex", Secret: []byte("s")}
		test.change(&l)
		if diff := cmp.Diff(test.want, pointersOf(l.Check())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMessagesAreSignedConcurrently(t *testing.T) {
	signers := make([]webhook.Signer, 4)
	for i := range signers {
		signers[i] = webhook.Signer{
			Secrets: []webhook.Secret{webhook.NewSecret()},
			Keys:    []webhook.SigningKey{webhook.NewSigningKey()},
			Legacy:  &webhook.Legacy{Header: "X-Signature", Hash: "sha512", Encoding: "hex", Secret: webhook.NewSecret()},
		}
	}
	now := time.Now()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 50 {
				s := &signers[(worker+i)%len(signers)]
				body := []byte(strings.Repeat("x", i*3000)) // some larger than the buffers that are kept
				id := fmt.Sprintf("msg_%d_%d", worker, i)
				h := http.Header{}
				s.Sign(h, id, now, body)
				err := errors.Join(
					webhook.Verify(h, body, s.Secrets, nil, now, time.Second),
					webhook.Verify(h, body, nil, []ed25519.PublicKey{s.Keys[0].PublicKey()}, now, time.Second),
				)
				want := hmac.New(sha512.New, s.Legacy.Secret)
				want.Write(body)
				if err != nil || h.Get("webhook-id") != id || h.Get("X-Signature") != hex.EncodeToString(want.Sum(nil)) {
					t.Errorf("%s: %v: %v", id, err, h)
				}
			}
		})
	}
	wg.Wait()
}
