package catalog

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// What must never be told again.
const (
	givenSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	tokenSecret = "the-token"
	keySecret   = "the-header's-value"
	oldSecret   = "the-old-signature's"
)

// everything is a subscription that says all that one with a sink can.
const everything = `{"name":"n","streams":["a"],"sink":"https://example.com/events","protocol":"HTTP",
 "protocolsettings":{"method":"POST","mode":"binary","signatures":["v1","v1a"],"headers":{"X-Key":"` + keySecret + `"},
  "legacySignature":{"header":"X-Hub-Signature-256","hash":"sha256","encoding":"hex","prefix":"sha256=","secret":"` + oldSecret + `"}},
 "sinkcredential":{"credentialtype":"ACCESSTOKEN","secret":"` + tokenSecret + `"},"secret":"` + givenSecret + `",
 "config":{"from":"oldest","ordering":"key","concurrency":4,"ratePerSecond":10,"timeout":"5s","retry":{"schedule":["1s","1h"]},
  "onExhausted":"block","batch":{"max":1,"maxWait":"1s","maxBytes":4096},"disableAfter":"24h"}}`

func decoded(t *testing.T, text string) Subscription {
	t.Helper()
	return must(DecodeSubscription([]byte(text)))(t)
}

// pushTo makes a subscription with a sink and little else.
func pushTo(t *testing.T, c *process, more string) Subscription {
	t.Helper()
	return must(c.subscribe(t.Context(), decoded(t, `{"name":"n","streams":["a"],"sink":"https://example.com/events"`+more+`}`)))(t)
}

func (p *process) patch(t *testing.T, id, text string) Subscription {
	t.Helper()
	return must(p.PatchSubscription(t.Context(), id, []byte(text), "", (&begins{}).starts))(t)
}

// tellsNoSecret fails the test where a text has one of the secrets in it.
func tellsNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{givenSecret, strings.TrimPrefix(givenSecret, "whsec_"), tokenSecret, keySecret, oldSecret} {
		if strings.Contains(text, secret) {
			t.Errorf("%s tells %s: %s", where, secret, text)
		}
	}
}

func TestASubscriptionWithASinkIsTheSameOnEveryReplicaAndItsSecretsAreSealed(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		var audited []string
		c.AuditTo(auditorFunc(func(e Entry) { audited = append(audited, string(e.Action)+" "+e.Detail) }))
		made, created, err := c.CreateSubscription(ctx, decoded(t, everything), (&begins{}).starts)
		if err != nil || !created || made.Secret.Text() != givenSecret {
			t.Fatalf("%v %v: the secret that was given is not told", created, err)
		}
		shown := string(must(json.Marshal(made))(t))
		want := strings.NewReplacer("\n", "", " ", "", keySecret, "", `,"secret":"`+oldSecret+`"`, "", `,"secret":"`+tokenSecret+`"`, "", `,"secret":"`+givenSecret+`"`, `,"publicKey":"`+made.PublicKey+`"`).Replace(everything)
		var got, expected map[string]any
		if err := errors.Join(json.Unmarshal([]byte(shown), &got), json.Unmarshal([]byte(want), &expected)); err != nil {
			t.Fatal(err)
		}
		expected["id"], expected["owner"], expected["created"], expected["changed"] = made.ID, "local", got["created"], got["changed"]
		if diff := cmp.Diff(expected, got); diff != "" || !strings.HasPrefix(made.PublicKey, "whpk_") {
			t.Errorf("(-want +got)\n%s", diff)
		}
		synctest.Wait()
		made.Secret = nil
		for i, p := range r {
			looked, ok := p.Subscription(made.ID)
			if diff := cmp.Diff(shown, string(must(json.Marshal(looked))(t))); diff != "" || !ok || looked.ETag() != made.ETag() || looked.Incarnation != made.Incarnation {
				t.Errorf("replica %d: %v (-want +got)\n%s", i, ok, diff)
			}
			e := must(p.OpenEndpoint(looked, time.Now()))(t)
			if e.Sink != "https://example.com/events" || e.Mode != webhook.Binary || e.Headers["X-Key"] != keySecret ||
				e.Credential.Type != webhook.AccessToken || e.Credential.Secret != tokenSecret {
				t.Errorf("replica %d opens %+v", i, e)
			}
			public := must(webhook.ParsePublicKey(looked.PublicKey))(t)
			h := http.Header{}
			e.Signer.Sign(h, "msg_1", time.Now(), []byte("{}"))
			if err := webhook.Verify(h, []byte("{}"), []webhook.Secret{must(webhook.ParseSecret(givenSecret))(t)}, nil, time.Now(), time.Minute); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
			if err := webhook.Verify(h, []byte("{}"), nil, []ed25519.PublicKey{public}, time.Now(), time.Minute); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
			if string(e.Signer.Legacy.Secret) != oldSecret || !strings.HasPrefix(h.Get("X-Hub-Signature-256"), "sha256=") {
				t.Errorf("replica %d signs as before with %v", i, h)
			}
			tellsNoSecret(t, "formatting", fmt.Sprintf("%+v %#v %v", looked, looked.Delivery, e.Signer))
		}
		tellsNoSecret(t, "JSON", shown)
		tellsNoSecret(t, "the audit", strings.Join(audited, "\n"))
		for _, record := range log.Records("_test.catalog", 0) {
			tellsNoSecret(t, "the log", string(record.Value))
		}
	})
}

func TestASubscriptionWithASinkHasDefaultsAndASecretIsMade(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		c := r[0]
		withStreams(t, c, "a")
		made := pushTo(t, c, "")
		if len(made.Secret) != 32 || made.PublicKey == "" {
			t.Errorf("made with %d bytes of secret and %q", len(made.Secret), made.PublicKey)
		}
		if status := c.SubscriptionStatus(made); status.State != SubscriptionPending || status.Reason == "" {
			t.Errorf("it is %+v", status)
		}
		looked, _ := c.Subscription(made.ID)
		looked.Created, looked.Changed = Stamp{}, Stamp{}
		want := `{"id":"` + made.ID + `","name":"n","owner":"local","streams":["a"],"config":{"from":"latest","ordering":"none","concurrency":8,"timeout":"15s",` +
			`"retry":{"schedule":["5s","30s","2m","10m","30m","1h","2h","4h","8h","12h"]},"onExhausted":"deadLetter",` +
			`"batch":{"max":1,"maxWait":"0s","maxBytes":262144},"disableAfter":"120h"},"sink":"https://example.com/events","protocol":"HTTP",` +
			`"protocolsettings":{"method":"POST","mode":"structured","signatures":["v1","v1a"]},"publicKey":"` + made.PublicKey + `"}`
		if got := string(must(json.Marshal(looked))(t)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if e := must(c.OpenEndpoint(looked, time.Now()))(t); len(e.Signer.Secrets) != 1 || !slices.Equal(e.Signer.Secrets[0], made.Secret) || len(e.Signer.Keys) != 1 {
			t.Errorf("it opens %+v", e)
		}
		batched := c.patch(t, made.ID, `{"config":{"batch":{"max":10}}}`)
		if e := must(c.OpenEndpoint(batched, time.Now()))(t); e.Mode != webhook.Batch || batched.Config.Batch.MaxBytes != 256<<10 {
			t.Errorf("it is sent as %s, %+v", e.Mode, batched.Config.Batch)
		}
	})
}

func TestMessagesAreSignedAsTheSubscriptionAsks(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		c := r[0]
		withStreams(t, c, "a")
		made := pushTo(t, c, "")
		for _, test := range []struct {
			patch, shown  string
			secrets, keys int
		}{
			{`["v1"]`, `["v1"]`, 1, 0},
			{`["v1a"]`, `["v1a"]`, 0, 1},
			{`["v1a","v1"]`, `["v1","v1a"]`, 1, 1},
			{`["v1"]`, `["v1"]`, 1, 0},
			{`null`, `["v1","v1a"]`, 1, 1},
		} {
			s := c.patch(t, made.ID, `{"protocolsettings":{"signatures":`+test.patch+`}}`)
			e := must(c.OpenEndpoint(s, time.Now()))(t)
			if shown := string(must(json.Marshal(s.ProtocolSettings.Signatures))(t)); shown != test.shown || len(e.Signer.Secrets) != test.secrets || len(e.Signer.Keys) != test.keys {
				t.Errorf("with %s it shows %s and is signed by %v", test.patch, shown, e.Signer)
			}
			if len(e.Secrets) != 1 || !slices.Equal(e.Secrets[0], made.Secret) {
				t.Errorf("with %s a challenge is answered by %d secrets", test.patch, len(e.Secrets))
			}
		}
	})
}

func TestSecretsAreNoPartOfWhichSubscriptionItIs(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := must(c.subscribe(ctx, decoded(t, everything)))(t)
		unnamed := strings.Replace(everything, `"name":"n",`, "", 1)
		other := must(c.subscribe(ctx, decoded(t, unnamed)))(t)
		again := strings.NewReplacer(givenSecret, webhook.NewSecret().Text(), tokenSecret, "another", keySecret, "another", oldSecret, "another")
		for _, text := range []string{everything, again.Replace(everything), strings.Replace(everything, `"protocol":"HTTP",`, "", 1)} {
			for _, is := range []Subscription{made, other} {
				if is.Name == "" {
					text = strings.Replace(text, `"name":"n",`, "", 1)
				}
				got, created, err := c.CreateSubscription(ctx, decoded(t, text), (&begins{}).starts)
				if err != nil || created || got.ETag() != is.ETag() || got.Secret != nil {
					t.Errorf("%s\nmakes %v %v", text, created, err)
				}
			}
		}
		for was, is := range map[string]string{
			"example.com": "example.org", `"X-Key"`: `"X-Other"`, `"prefix":"sha256="`: `"prefix":""`, `"binary"`: `"structured"`,
			`"concurrency":4`: `"concurrency":5`, `"block"`: `"deadLetter"`, `["1s","1h"]`: `["1s"]`, `"ACCESSTOKEN"`: `"APIKEY","header":"X-Api"`,
		} {
			_, err := c.subscribe(ctx, decoded(t, strings.Replace(everything, was, is, 1)))
			if !errors.Is(err, ErrExists) {
				t.Errorf("%s: %v", is, err)
			}
		}
	})
}

func TestWithoutKeysThereAreNoSubscriptionsWithASink(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := pushTo(t, c, "")
		c.cfg.Keys = nil
		_, err := c.subscribe(ctx, decoded(t, everything))
		wants(t, err, ErrNoKeys)
		wants(t, second(c.OpenEndpoint(made, time.Now())), ErrNoKeys)
		wants(t, second(c.RotateSecret(ctx, made.ID, Rotation{}, "")), ErrNoKeys)
		must(c.subscribe(ctx, Subscription{Streams: []string{"a"}}))(t)
		c.cfg.Keys = must(keyring.Parse([]byte("k2 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")))(t)
		var unknown *keyring.UnknownKeyError
		if _, err := c.OpenEndpoint(made, time.Now()); !errors.As(err, &unknown) || unknown.ID != "k1" {
			t.Errorf("it opens with %v", err)
		}
		// What is no secret can be changed all the same.
		c.patch(t, made.ID, `{"description":"d"}`)
	})
}

// onlyExample is a SinkChecker.
type onlyExample struct{}

func (onlyExample) CheckURL(raw string) error {
	if !strings.HasPrefix(raw, "https://example.") {
		return errors.New("an address at example.com")
	}
	return nil
}

func TestWhatIsWrongWithASinkIsPointedAtAndNoSecretIsTold(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		c := r[0]
		withStreams(t, c, "a")
		const base = `{"streams":["a"],"sink":"https://example.com/",`
		for text, want := range map[string][]string{
			`{"streams":["a"],"sink":""}`:                                                                                                       {"/sink"},
			`{"streams":["a"],"sink":1}`:                                                                                                        {"/sink"},
			`{"streams":["a"],"sink":"example.com"}`:                                                                                            {"/sink"},
			`{"streams":["a"],"sink":"ftp://example.com/"}`:                                                                                     {"/sink"},
			`{"streams":["a"],"sink":"http://example.com/"}`:                                                                                    {"/sink"},
			`{"streams":["a"],"sink":"https://u:` + tokenSecret + `@example.com/"}`:                                                             {"/sink"},
			`{"streams":["a"],"sink":"https://example.com/#f"}`:                                                                                 {"/sink"},
			`{"streams":["a"],"sink":"https://example.com/` + strings.Repeat("x", maxSink) + `"}`:                                               {"/sink"},
			`{"streams":["a"],"sink":null,"secret":"` + givenSecret + `"}`:                                                                      {"/secret"},
			base + `"protocol":"MQTT"}`:                                                                                                         {"/protocol"},
			base + `"protocol":7}`:                                                                                                              {"/protocol"},
			base + `"secret":"` + tokenSecret + `"}`:                                                                                            {"/secret"},
			base + `"secret":["` + tokenSecret + `"]}`:                                                                                          {"/secret"},
			base + `"secret":null}`:                                                                                                             {"/secret"},
			base + `"protocolsettings":"` + keySecret + `"}`:                                                                                    {"/protocolsettings"},
			base + `"protocolsettings":{"method":"PUT","mode":"batch","verb":""}}`:                                                              {"/protocolsettings/verb"},
			base + `"protocolsettings":{"method":"PUT","mode":"batch"}}`:                                                                        {"/protocolsettings/method", "/protocolsettings/mode"},
			base + `"protocolsettings":{"signatures":[]}}`:                                                                                      {"/protocolsettings/signatures"},
			base + `"protocolsettings":{"signatures":"v1"}}`:                                                                                    {"/protocolsettings/signatures"},
			base + `"protocolsettings":{"signatures":["v2","v1","v1"]}}`:                                                                        {"/protocolsettings/signatures/0", "/protocolsettings/signatures/2"},
			base + `"protocolsettings":{"headers":["` + keySecret + `"]}}`:                                                                      {"/protocolsettings/headers"},
			base + `"protocolsettings":{"headers":{"X":{"a":"` + keySecret + `"}}}}`:                                                            {"/protocolsettings/headers/X"},
			base + `"protocolsettings":{"headers":{"X":"` + keySecret + `","X":"y"}}}`:                                                          {"/protocolsettings/headers/X"},
			base + `"protocolsettings":{"headers":{"X":""}}}`:                                                                                   {"/protocolsettings/headers/X"},
			base + `"protocolsettings":{"headers":{"a/b":"` + keySecret + `","Host":"x"}}}`:                                                     {"/protocolsettings/headers/Host", "/protocolsettings/headers/a~1b"},
			base + `"protocolsettings":{"headers":{"X":"` + keySecret + `\n"}}}`:                                                                {"/protocolsettings/headers/X"},
			base + `"protocolsettings":{"legacySignature":{"header":"Content-Type","secret":"` + oldSecret + `"}}}`:                             {"/protocolsettings/legacySignature/encoding", "/protocolsettings/legacySignature/hash", "/protocolsettings/legacySignature/header"},
			base + `"protocolsettings":{"legacySignature":{"header":"X","hash":"sha1","encoding":"hex"}}}`:                                      {"/protocolsettings/legacySignature/secret"},
			base + `"protocolsettings":{"legacySignature":{"header":"X","hash":"sha1","encoding":"hex","secret":null}}}`:                        {"/protocolsettings/legacySignature/secret"},
			base + `"protocolsettings":{"headers":{"x-a":"1"},"legacySignature":{"header":"X-A","hash":"sha1","encoding":"hex","secret":"s"}}}`: {"/protocolsettings/legacySignature/header"},
			base + `"sinkcredential":"` + tokenSecret + `"}`:                                                                                    {"/sinkcredential"},
			base + `"sinkcredential":{}}`:                                                                                                       {"/sinkcredential/credentialtype"},
			base + `"sinkcredential":{"credentialtype":"COOKIE","secret":"` + tokenSecret + `"}}`:                                               {"/sinkcredential/credentialtype"},
			base + `"sinkcredential":{"credentialtype":"PLAIN","secret":"` + tokenSecret + `"}}`:                                                {"/sinkcredential/identifier"},
			base + `"sinkcredential":{"credentialtype":"PLAIN","identifier":"u"}}`:                                                              {"/sinkcredential/secret"},
			base + `"sinkcredential":{"credentialtype":"PLAIN","identifier":"u","secret":7}}`:                                                   {"/sinkcredential/secret"},
			base + `"sinkcredential":{"credentialtype":"PLAIN","accesstoken":"` + tokenSecret + `"}}`:                                           {"/sinkcredential/accesstoken"},
			base + `"sinkcredential":{"credentialtype":"OAUTH2","tokenUrl":"https://elsewhere.net/","clientId":"c","secret":"s"}}`:              {"/sinkcredential/tokenUrl"},
			base + `"protocolsettings":{"headers":{"X-A":"1"}},"sinkcredential":{"credentialtype":"APIKEY","header":"x-a","secret":"s"}}`:       {"/sinkcredential/header"},
			base + `"config":{"ackTimeout":"1m","maxSessions":3}}`:                                                                              {"/config/ackTimeout", "/config/maxSessions"},
			`{"streams":["a"],"config":{"timeout":"1s","batch":{"max":2}}}`:                                                                     {"/config/batch", "/config/timeout"},
			base + `"config":{"concurrency":0,"ratePerSecond":-1,"timeout":"0s","retry":{"schedule":[]},"onExhausted":"drop","disableAfter":"forever"}}`: {
				"/config/concurrency", "/config/disableAfter", "/config/onExhausted", "/config/ratePerSecond", "/config/retry/schedule", "/config/timeout",
			},
			base + `"config":{"concurrency":65,"ratePerSecond":10001,"timeout":"61s","retry":{"schedule":["0s","5s","25h"]},"batch":{"max":101,"maxWait":"6s","maxBytes":1}}}`: {
				"/config/batch/max", "/config/batch/maxBytes", "/config/batch/maxWait", "/config/concurrency", "/config/ratePerSecond",
				"/config/retry/schedule/0", "/config/retry/schedule/2", "/config/timeout",
			},
			base + `"config":{"retry":{"schedule":"5s"},"batch":{"size":1}}}`:                   {"/config/batch/size", "/config/retry/schedule"},
			base + `"config":{"retry":[],"batch":7}}`:                                           {"/config/batch", "/config/retry"},
			base + `"config":{"retry":{"schedule":[` + strings.Repeat(`"1s",`, 30) + `"1s"]}}}`: {"/config/retry/schedule"},
			base + `"protocolsettings":{"mode":"binary"},"config":{"batch":{"max":2}}}`:         {"/protocolsettings/mode"},
		} {
			c.cfg.Sinks = nil
			if strings.Contains(text, "elsewhere") {
				c.cfg.Sinks = onlyExample{}
			}
			s, err := DecodeSubscription([]byte(text))
			if err == nil {
				_, err = c.subscribe(t.Context(), s)
			}
			complains(t, text, err, want...)
			tellsNoSecret(t, "an error", fmt.Sprint(err))
		}
		if all := c.Subscriptions(); len(all) != 0 {
			t.Errorf("there are %+v", all)
		}
	})
}

func TestSecretsThatAreLeftOutStay(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := must(c.subscribe(ctx, decoded(t, everything)))(t)
		var audited []string
		c.AuditTo(auditorFunc(func(e Entry) { audited = append(audited, string(e.Action)+" "+e.Detail) }))
		opens := func(s Subscription, header, token, legacy string) {
			t.Helper()
			e := must(c.OpenEndpoint(s, time.Now()))(t)
			got := []string{e.Headers["X-Key"], e.Credential.Secret, ""}
			if e.Signer.Legacy != nil {
				got[2] = string(e.Signer.Legacy.Secret)
			}
			if diff := cmp.Diff([]string{header, token, legacy}, got); diff != "" || e.Signer.Secrets[0].Text() != givenSecret {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		// What was read, and what was given at first, is the same when it is written back.
		looked, _ := c.Subscription(made.ID)
		for _, text := range []string{string(must(json.Marshal(looked))(t)), everything} {
			next := decoded(t, text)
			next.ID = made.ID
			if same := must(c.UpdateSubscription(ctx, next, made.ETag(), (&begins{}).starts))(t); same.ETag() != made.ETag() {
				t.Errorf("written back as %s it is another", text)
			}
		}
		s := c.patch(t, made.ID, `{"protocolsettings":{"mode":"structured"},"sinkcredential":{"secret":""},"config":{"retry":{"schedule":["2s"]}}}`)
		opens(s, keySecret, tokenSecret, oldSecret)
		if s.ProtocolSettings.Mode != webhook.Structured || s.PublicKey != made.PublicKey {
			t.Errorf("patched to %+v", s.Delivery)
		}
		s = c.patch(t, made.ID, `{"protocolsettings":{"headers":{"X-More":"m"}},"sinkcredential":{"secret":"new"}}`)
		opens(s, keySecret, "new", oldSecret)
		if last := audited[len(audited)-1]; !strings.Contains(last, "secrets of sinkcredential replaced") || strings.Contains(last, "new") {
			t.Errorf("audited %s", last)
		}
		s = c.patch(t, made.ID, `{"protocolsettings":{"headers":{"X-Key":null},"legacySignature":null},"sinkcredential":null}`)
		opens(s, "", "", "")
		if diff := cmp.Diff(map[string]string{"X-More": ""}, s.ProtocolSettings.Headers); diff != "" || s.SinkCredential != nil || s.ProtocolSettings.LegacySignature != nil {
			t.Errorf("%+v\n%s", s.Delivery, diff)
		}
		for text, want := range map[string][]string{
			`{"secret":null,"sinkcredential":{"secret":null},"protocolsettings":{"legacySignature":{"secret":null}}}`: {"/protocolsettings/legacySignature/secret", "/secret", "/sinkcredential/secret"},
			`{"secret":"` + webhook.NewSecret().Text() + `"}`:                                                         {"/secret"},
			`{"sink":null}`:     {"/sink"},
			`{"publicKey":"x"}`: {"/publicKey"},
			`{"sinkcredential":{"credentialtype":"PLAIN","identifier":"u"}}`: {"/sinkcredential/secret"},
			`{"protocolsettings":{"headers":{"X-New":""}}}`:                  {"/protocolsettings/headers/X-New"},
			`{"config":{"ackTimeout":"1m"}}`:                                 {"/config/ackTimeout"},
		} {
			complains(t, text, second(c.PatchSubscription(ctx, made.ID, []byte(text), "", (&begins{}).starts)), want...)
		}
		c.patch(t, made.ID, `{"secret":"`+givenSecret+`"}`)
		pull := must(c.subscribe(ctx, Subscription{Streams: []string{"a"}}))(t)
		pull.Sink = "https://example.com/"
		complains(t, "a sink", second(c.UpdateSubscription(ctx, pull, "", (&begins{}).starts)), "/sink")
	})
}

func TestNothingGoesToANewSinkBeforeItHasProvenItself(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := must(c.subscribe(ctx, decoded(t, everything)))(t)
		proof := Proof{State: ProofProven, By: ByChallenge, At: time.Now(), RatePerMinute: 120}
		// Of an address that is no longer the sink a proof says nothing.
		if s := must(c.ProveSubscription(ctx, made.ID, "https://example.com/other", proof))(t); s.Proven() {
			t.Errorf("proven by another: %+v", s.Proof)
		}
		s := must(c.ProveSubscription(ctx, made.ID, made.Sink, proof))(t)
		if !s.Proven() || c.SubscriptionStatus(s).State != SubscriptionActive || s.Proof.RatePerMinute != 120 || s.ETag() != made.ETag() {
			t.Errorf("proven it is %+v, %+v", s.Proof, c.SubscriptionStatus(s))
		}
		if s = c.patch(t, made.ID, `{"description":"d"}`); !s.Proven() {
			t.Error("another description takes the proof away")
		}
		// At the same host nothing is sent to anybody who did not have it.
		if s = c.patch(t, made.ID, `{"sink":"https://example.com:443/elsewhere"}`); s.Proven() || s.Proof.State != ProofPending || s.Proof.Sink != s.Sink {
			t.Errorf("at another sink it is proven by %+v", s.Proof)
		}
		complains(t, "another host", second(c.PatchSubscription(ctx, made.ID, []byte(`{"sink":"https://example.org/"}`), "", nil)),
			"/protocolsettings/headers/X-Key", "/sinkcredential/secret")
		s = c.patch(t, made.ID, `{"sink":"https://example.org/","protocolsettings":{"headers":{"X-Key":"v"}},"sinkcredential":{"secret":"w"}}`)
		if e := must(c.OpenEndpoint(s, time.Now()))(t); e.Sink != "https://example.org/" || e.Credential.Secret != "w" || e.Headers["X-Key"] != "v" {
			t.Errorf("it opens %+v", e)
		}
		refused := must(c.ProveSubscription(ctx, made.ID, s.Sink, Proof{State: ProofRefused, Reason: "it answered 403"}))(t)
		if got := c.SubscriptionStatus(refused); got.State != SubscriptionPending || !strings.Contains(got.Reason, "403") {
			t.Errorf("refused it is %+v", got)
		}
		pending := must(c.ProveSubscription(ctx, made.ID, s.Sink, Proof{Reason: "no answer", Tries: 3, Next: time.Now().Add(time.Hour)}))(t)
		if got := c.SubscriptionStatus(pending); got.State != SubscriptionPending || !strings.Contains(got.Reason, "no answer") || pending.Proof.Tries != 3 {
			t.Errorf("pending it is %+v", got)
		}
	})
}

func TestATokenSecretGoesToNoOtherHost(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		c := r[0]
		withStreams(t, c, "a")
		made := pushTo(t, c, `,"sinkcredential":{"credentialtype":"OAUTH2","tokenUrl":"https://id.example.com/t","clientId":"c","secret":"s"}`)
		complains(t, "another token address",
			second(c.PatchSubscription(t.Context(), made.ID, []byte(`{"sinkcredential":{"tokenUrl":"https://id.example.net/t"}}`), "", nil)), "/sinkcredential/secret")
		// The secret goes to the token's address alone.
		s := c.patch(t, made.ID, `{"sink":"https://example.org/","sinkcredential":{"scopes":["a"],"tokenUrl":"https://id.example.com/u"}}`)
		if e := must(c.OpenEndpoint(s, time.Now()))(t); e.Credential.Secret != "s" || e.Credential.TokenURL != "https://id.example.com/u" {
			t.Errorf("it opens %+v", e.Credential.TokenURL)
		}
	})
}
