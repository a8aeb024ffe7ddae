package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/eventissuer/eventissuer/internal/testenv"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// bodies are what both sides have to agree on.
var bodies = map[string][]byte{
	"empty":    {},
	"position": []byte(position),
	"UTF-8":    []byte(`{"name":"Ærlig 😀\u0000"}`),
	"bytes":    {0, 0xff, 0xfe, '\r', '\n', '.'},
	"large":    bytes.Repeat([]byte("a."), 100<<10),
}

func TestTheGoLibraryVerifiesWhatWeSign(t *testing.T) {
	old, fresh := webhook.NewSecret(), webhook.NewSecret()
	signer := webhook.Signer{Secrets: []webhook.Secret{fresh, old}, Keys: []webhook.SigningKey{webhook.NewSigningKey()}}
	for name, body := range bodies {
		h := http.Header{}
		signer.Sign(h, webhook.NewMessageID(), time.Now(), body)
		for i, secret := range []webhook.Secret{old, fresh, webhook.NewSecret()} {
			receiver, err := standardwebhooks.NewWebhook(secret.Text())
			if err != nil {
				t.Fatal(err)
			}
			if err := receiver.Verify(body, h); (err == nil) != (i < 2) {
				t.Errorf("%s, secret %d: %v", name, i, err)
			}
			if err := receiver.Verify(append(body, '!'), h); err == nil {
				t.Errorf("%s, secret %d: another body is accepted", name, i)
			}
		}
	}
}

func TestWeVerifyWhatTheGoLibrarySigns(t *testing.T) {
	secret := webhook.NewSecret()
	sender, err := standardwebhooks.NewWebhook(secret.Text())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	for name, body := range bodies {
		signature, err := sender.Sign("msg_theirs", now, body)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{"Webhook-Id": {"msg_theirs"}, "Webhook-Timestamp": {"1800000000"}, "Webhook-Signature": {signature}}
		if err := webhook.Verify(h, body, []webhook.Secret{secret}, nil, now, time.Minute); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What testdata/peer.mjs is asked and answers.
type (
	received struct {
		Headers    map[string]string `json:"headers"`
		Body       []byte            `json:"body"`
		Secrets    []string          `json:"secrets"`
		PublicKeys []string          `json:"publicKeys"`
	}
	sent struct {
		ID     string `json:"id"`
		At     int64  `json:"at"`
		Body   []byte `json:"body"`
		Secret string `json:"secret"`
		Key    []byte `json:"key"`
	}
	verdict struct {
		V1  []string `json:"v1"`
		V1a []string `json:"v1a"`
	}
)

func TestNodeVerifiesWhatWeSignAndWeWhatNodeSigns(t *testing.T) {
	secrets := []webhook.Secret{webhook.NewSecret(), webhook.NewSecret()}
	keys := []webhook.SigningKey{webhook.NewSigningKey(), webhook.NewSigningKey()}
	signer := webhook.Signer{Secrets: secrets, Keys: keys}
	now := time.Now()

	var ask struct {
		Receive []received `json:"receive"`
		Send    []sent     `json:"send"`
	}
	var names []string
	for name, body := range bodies {
		names = append(names, name)
		h := http.Header{}
		signer.Sign(h, webhook.NewMessageID(), now, body)
		headers := map[string]string{}
		for key := range h {
			headers[strings.ToLower(key)] = h.Get(key)
		}
		r := received{
			Headers: headers, Body: body,
			Secrets:    []string{secrets[0].Text(), secrets[1].Text(), webhook.NewSecret().Text()},
			PublicKeys: []string{keys[0].Public(), keys[1].Public(), webhook.NewSigningKey().Public()},
		}
		if !utf8.Valid(body) {
			// The package takes every body for UTF-8, and verifies what it has made of it.
			r.Secrets = []string{}
		}
		ask.Receive = append(ask.Receive, r)

		r.Body = append(bytes.Clone(body), '!')
		ask.Receive = append(ask.Receive, r)

		seed := decode(t, strings.TrimPrefix(keys[0].Text(), "whsk_"))[:ed25519.SeedSize]
		ask.Send = append(ask.Send, sent{ID: "msg_theirs", At: now.Unix(), Body: body, Secret: secrets[0].Text(), Key: seed})
	}
	var answer struct {
		Received []verdict `json:"received"`
		Sent     []string  `json:"sent"`
	}
	node(t, &ask, &answer)

	if len(answer.Received) != 2*len(names) || len(answer.Sent) != len(names) {
		t.Fatalf("Node answers %d and %d messages of %d", len(answer.Received), len(answer.Sent), len(names))
	}
	const none, noneOfPackage = "no signature matches", "No matching signature found"
	for i, name := range names {
		isText := utf8.Valid(bodies[name])
		want := verdict{V1: []string{}, V1a: []string{"ok", "ok", none}}
		if isText {
			want.V1 = []string{"ok", "ok", noneOfPackage}
		}
		if diff := cmp.Diff(want, answer.Received[2*i]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		want = verdict{V1: []string{}, V1a: []string{none, none, none}}
		if isText {
			want.V1 = []string{noneOfPackage, noneOfPackage, noneOfPackage}
		}
		if diff := cmp.Diff(want, answer.Received[2*i+1]); diff != "" {
			t.Errorf("%s, another body: %s", name, diff)
		}

		v1, v1a, ok := strings.Cut(answer.Sent[i], " ")
		if !ok {
			t.Fatalf("%s: Node signs %q", name, answer.Sent[i])
		}
		verify := func(signature string, secrets []webhook.Secret, keys ...ed25519.PublicKey) error {
			h := http.Header{
				"Webhook-Id": {"msg_theirs"}, "Webhook-Timestamp": {ask.Receive[0].Headers["webhook-timestamp"]}, "Webhook-Signature": {signature},
			}
			return webhook.Verify(h, bodies[name], secrets, keys, now, time.Minute)
		}
		if err := verify(v1, secrets[:1]); err != nil && isText {
			t.Errorf("%s: v1 of Node: %v", name, err)
		}
		if err := verify(v1a, nil, keys[0].PublicKey()); err != nil {
			t.Errorf("%s: v1a of Node: %v", name, err)
		}
	}
}

// node runs testdata/peer.mjs. Without it nothing holds our signatures against those of others, so that what is missing
// fails the test.
func node(t *testing.T, ask, answer any) {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("Node.js is missing: run deploy/local/install web: %v", err)
	}
	tools := filepath.Join(root, ".local", "web")
	if _, err := os.Stat(filepath.Join(tools, "node_modules", "standardwebhooks", "package.json")); err != nil {
		t.Fatalf("the npm package standardwebhooks is missing: run deploy/local/install web: %v", err)
	}
	in, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	var out, problem bytes.Buffer
	c := exec.CommandContext(t.Context(), program, filepath.Join("testdata", "peer.mjs"), filepath.Join(tools, "package.json"))
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, &problem
	if err := c.Run(); err != nil {
		t.Fatalf("node: %v: %s", err, problem.String())
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		t.Fatalf("node answers %.200q: %v", out.String(), err)
	}
}

func TestNodeAnswersAChallengeAsWeDo(t *testing.T) {
	program, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("Node.js is missing: run deploy/local/install web: %v", err)
	}
	secret := webhook.NewSecret()
	// What the documentation tells receivers to do.
	const script = `
		const [secret, challenge] = process.argv.slice(1);
		const key = Buffer.from(secret.slice("whsec_".length), "base64");
		process.stdout.write(require("node:crypto").createHmac("sha256", key).update(challenge).digest("base64"));`
	out, err := exec.CommandContext(t.Context(), program, "-e", script, secret.Text(), "a challenge, æ").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !secret.Responded("a challenge, æ", string(out)) {
		t.Errorf("Node answers %q, we %q", out, secret.Respond("a challenge, æ"))
	}
}
