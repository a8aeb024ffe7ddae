package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// bytesText is the Base64 of n bytes.
func bytesText(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }

func TestASecretHasOneText(t *testing.T) {
	s := webhook.NewSecret()
	if len(s) != 32 || bytes.Equal(s, webhook.NewSecret()) {
		t.Errorf("a new secret has %d bytes, or is not new", len(s))
	}
	again, err := webhook.ParseSecret(s.Text())
	if err != nil || !bytes.Equal(s, again) || !strings.HasPrefix(s.Text(), "whsec_") {
		t.Errorf("a secret comes back as another: %v", err)
	}
	for _, test := range []struct {
		text string
		size int // 0: an error
	}{
		{"whsec_" + bytesText(24), 24},
		{"whsec_" + bytesText(64), 64},
		{"whsec_" + strings.TrimRight(bytesText(32), "="), 32},
		{"whsec_" + bytesText(23), 0},
		{"whsec_" + bytesText(65), 0},
		{"whsec_", 0},
		{"", 0},
		{bytesText(32), 0},
		{"whsk_" + bytesText(32), 0},
		{"whsec_" + strings.ReplaceAll(bytesText(32), "+", "-"), 0},
		{"whsec_" + bytesText(32) + "\n", 0},
		{"whsec_" + bytesText(16) + "\n" + bytesText(16), 0},
	} {
		s, err := webhook.ParseSecret(test.text)
		if len(s) != test.size || (err == nil) != (test.size > 0) {
			t.Errorf("%q: %d bytes, %v; want %d", test.text, len(s), err, test.size)
		}
		if err != nil && len(test.text) > 12 && strings.Contains(err.Error(), test.text[6:12]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestASigningKeyHasOneText(t *testing.T) {
	k := webhook.NewSigningKey()
	again, err := webhook.ParseSigningKey(k.Text())
	if err != nil || again.Text() != k.Text() || again.Public() != k.Public() {
		t.Errorf("a key comes back as another: %v", err)
	}
	public, err := webhook.ParsePublicKey(k.Public())
	if err != nil || !public.Equal(k.PublicKey()) {
		t.Errorf("a public key comes back as another: %v", err)
	}
	seed := "whsk_" + base64.StdEncoding.EncodeToString(decode(t, strings.TrimPrefix(k.Text(), "whsk_"))[:ed25519.SeedSize])
	if again, err := webhook.ParseSigningKey(seed); err != nil || again.Text() != k.Text() {
		t.Errorf("a key's seed alone is not read as the key: %v", err)
	}
	var none webhook.SigningKey
	if !none.IsZero() || none.Public() != "" || none.PublicKey() != nil || k.IsZero() {
		t.Error("no key is taken for one")
	}
	for _, text := range []string{
		"", "whsk_", k.Public(), "whsk_" + bytesText(31), "whsk_" + bytesText(63), "whsec_" + bytesText(32),
		"whsk_" + bytesText(64), // the halves do not belong together
	} {
		if _, err := webhook.ParseSigningKey(text); err == nil {
			t.Errorf("%q is read as a key", text)
		}
	}
	for _, text := range []string{"", "whpk_", k.Text(), "whpk_" + bytesText(31), "whpk_" + bytesText(64)} {
		if _, err := webhook.ParsePublicKey(text); err == nil {
			t.Errorf("%q is read as a public key", text)
		}
	}
}

func decode(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSecretsAreNotShown(t *testing.T) {
	raw := bytes.Repeat([]byte("A"), 32)
	secret := webhook.Secret(raw)
	key, err := webhook.ParseSigningKey("whsk_" + base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	credential := webhook.Credential{Type: webhook.Plain, Identifier: "us", Secret: string(raw)}
	legacy := webhook.Legacy{Header: "X-Signature", Secret: secret}
	signer := webhook.Signer{Secrets: []webhook.Secret{secret}, Keys: []webhook.SigningKey{key}, Legacy: &legacy}
	all := struct {
		Secret     webhook.Secret
		Key        webhook.SigningKey
		Credential webhook.Credential
		Legacy     webhook.Legacy
		Signer     webhook.Signer
	}{secret, key, credential, legacy, signer}

	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, value := range []any{secret, key, credential, &credential, legacy, signer, all} {
			fmt.Fprintf(&shown, verb, value)
		}
	}
	for _, log := range []*slog.Logger{slog.New(slog.NewJSONHandler(&shown, nil)), slog.New(slog.NewTextHandler(&shown, nil))} {
		log.Info("made", "secret", secret, "key", key, "credential", credential, "legacy", legacy, "signer", signer, "all", all)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(text)
	for _, form := range []string{"AAAA", "QUFB", "4141", "65 65", "65, 65", "0x41"} {
		if i := strings.Index(shown.String(), form); i >= 0 {
			t.Errorf("a secret is shown: …%.80s", shown.String()[max(0, i-60):])
		}
	}
	if !strings.Contains(shown.String(), "[secret]") {
		t.Error("nothing says that there is a secret")
	}
}

func TestAChallengeIsAnsweredByWhoKnowsTheSecret(t *testing.T) {
	// RFC 4231, test case 2.
	known := webhook.Secret("Jefe")
	const challenge = "what do ya want for nothing?"
	want := base64.StdEncoding.EncodeToString([]byte{
		0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
		0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
	})
	if got := known.Respond(challenge); got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	s := webhook.NewSecret()
	for name, test := range map[string]struct {
		secret   webhook.Secret
		response string
		want     bool
	}{
		"the answer":       {s, s.Respond("c"), true},
		"another secret":   {s, webhook.NewSecret().Respond("c"), false},
		"another question": {s, s.Respond("d"), false},
		"an echo":          {s, "c", false},
		"nothing":          {s, "", false},
		"no secret":        {nil, webhook.Secret(nil).Respond("c"), false},
	} {
		if got := test.secret.Responded("c", test.response); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
