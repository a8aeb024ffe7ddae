package catalog

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Bounds of what is said of a sink.
const (
	maxSink         = 2048
	maxConcurrency  = 64
	maxRate         = 10_000
	minPushTimeout  = Duration(time.Second)
	maxPushTimeout  = Duration(time.Minute)
	maxSteps        = 30
	minStep         = Duration(time.Second)
	maxStep         = Duration(24 * time.Hour)
	maxBatch        = 100
	maxBatchWait    = Duration(5 * time.Second)
	minBatchBytes   = 1 << 10
	maxBatchBytes   = 1 << 20
	minDisableAfter = Duration(time.Minute)
	maxDisableAfter = Duration(720 * time.Hour)
)

// checkDelivery checks where and how events are sent. It is called where all secrets are in their places.
func (s *Subscription) checkDelivery(v *InvalidError, sinks SinkChecker) {
	if err := checkAddress(s.Sink, sinks); err != nil {
		v.add("/sink", "%v", err)
	}
	if s.Protocol != protocolHTTP {
		v.add("/protocol", "%s, or nothing; got %.100q", protocolHTTP, s.Protocol)
	}
	p := s.ProtocolSettings
	if p.Method != methodPost {
		v.add("/protocolsettings/method", "%s, or nothing; got %.100q", methodPost, p.Method)
	}
	switch p.Mode {
	case webhook.Structured, webhook.Binary:
	default:
		v.add("/protocolsettings/mode", "%s or %s; got %.100q", webhook.Structured, webhook.Binary, p.Mode)
	}
	if p.Mode == webhook.Binary && s.Config.Batch.Max > 1 {
		v.add("/protocolsettings/mode", "%s, where config.batch.max is more than 1: a batch is a JSON array of events; got %s", webhook.Structured, p.Mode)
	}
	checkSignatures(v, p.Signatures)
	takeProblems(v, "/protocolsettings/headers", webhook.CheckHeaders(p.Headers))
	set := map[string]string{} // by the canonical name of a header, what sets it
	for name := range p.Headers {
		set[http.CanonicalHeaderKey(name)] = "headers"
	}
	if c := s.SinkCredential; c != nil {
		if c.Type == webhook.NoCredential {
			v.add("/sinkcredential/credentialtype", "the type of the credential, such as %s or %s", webhook.OAuth2, webhook.JWT)
		}
		takeProblems(v, "/sinkcredential", c.Check())
		if c.Type == webhook.OAuth2 && c.TokenURL != "" {
			if err := checkAddress(c.TokenURL, sinks); err != nil {
				v.add("/sinkcredential/tokenUrl", "%v", err)
			}
		}
		if c.Type == webhook.APIKey {
			name := http.CanonicalHeaderKey(c.Header)
			if by := set[name]; by != "" {
				v.add("/sinkcredential/header", "a header that is not among protocolsettings.%s; got %.100q", by, c.Header)
			}
			set[name] = "sinkcredential"
		}
	}
	if l := p.LegacySignature; l != nil {
		takeProblems(v, "/protocolsettings/legacySignature", l.Check())
		if by := set[http.CanonicalHeaderKey(l.Header)]; by != "" {
			v.add("/protocolsettings/legacySignature/header", "a header that is not that of %s; got %.100q", by, l.Header)
		}
	}
	if n := len(s.Secret); s.Secret != nil && (n < webhook.MinSecret || n > webhook.MaxSecret) {
		v.add("/secret", "%d to %d bytes; got %d", webhook.MinSecret, webhook.MaxSecret, n)
	}
}

// checkSignatures checks which signatures messages are to have.
func checkSignatures(v *InvalidError, signatures []Signature) {
	const at = "/protocolsettings/signatures"
	if len(signatures) == 0 {
		v.add(at, "at least one of %s and %s, or nothing for both", SignatureSecret, SignatureKey)
	}
	for i, s := range signatures {
		switch {
		case !slices.Contains(allSignatures(), s):
			v.add(fmt.Sprintf("%s/%d", at, i), "%s or %s; got %.100q", SignatureSecret, SignatureKey, s)
		case slices.Contains(signatures[:i], s):
			v.add(fmt.Sprintf("%s/%d", at, i), "each once; %s comes twice", s)
		}
	}
}

// checkAddress checks an address that requests are sent to. Its errors do not repeat it: it may have a password in it.
func checkAddress(raw string, sinks SinkChecker) error {
	u, err := url.Parse(raw)
	switch {
	case len(raw) > maxSink:
		return fmt.Errorf("an address of at most %d bytes; it has %d", maxSink, len(raw))
	case err != nil || u.Hostname() == "":
		return errors.New("an absolute address, such as https://example.com/events")
	case u.User != nil:
		return errors.New("an address without a name and a password: a sinkcredential is the place for them")
	case u.Fragment != "":
		return errors.New("an address without a fragment, which begins with #")
	case sinks != nil:
		return sinks.CheckURL(raw)
	case u.Scheme != "https":
		return errors.New("an address that begins with https://")
	}
	return nil
}

func takeProblems(v *InvalidError, at string, problems []webhook.Problem) {
	for _, p := range problems {
		v.add(at+p.Pointer, "%s", p.Message)
	}
}

func (c *PushConfig) check(v *InvalidError) {
	within(v, "/config/concurrency", c.Concurrency, 1, maxConcurrency)
	within(v, "/config/ratePerSecond", c.RatePerSecond, 0, maxRate)
	within(v, "/config/timeout", c.Timeout, minPushTimeout, maxPushTimeout)
	if n := len(c.Retry.Schedule); n < 1 || n > maxSteps {
		v.add("/config/retry/schedule", "1 to %d waits; got %d", maxSteps, n)
	} else {
		for i, step := range c.Retry.Schedule {
			within(v, fmt.Sprintf("/config/retry/schedule/%d", i), step, minStep, maxStep)
		}
	}
	if c.OnExhausted != DeadLetter && c.OnExhausted != Block {
		v.add("/config/onExhausted", "%s or %s; got %.100q", DeadLetter, Block, c.OnExhausted)
	}
	within(v, "/config/batch/max", c.Batch.Max, 1, maxBatch)
	within(v, "/config/batch/maxWait", c.Batch.MaxWait, 0, maxBatchWait)
	within(v, "/config/batch/maxBytes", c.Batch.MaxBytes, minBatchBytes, maxBatchBytes)
	within(v, "/config/disableAfter", c.DisableAfter, minDisableAfter, maxDisableAfter)
}

// public is what may be shown of where and how events are sent.
func (d Delivery) public() Delivery {
	d.PublicKey, d.Secret = "", nil
	if d.ProtocolSettings == nil || len(d.ProtocolSettings.Headers) == 0 {
		return d
	}
	d.ProtocolSettings = d.ProtocolSettings.filled()
	for name := range d.ProtocolSettings.Headers {
		d.ProtocolSettings.Headers[name] = ""
	}
	return d
}
