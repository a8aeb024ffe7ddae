package push

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/base64url"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// An endpoint proves that it wants a subscription's events before it is sent the first: by the consent of CloudEvents'
// webhooks (HTTP 1.1 Web Hooks for Event Delivery, section 4), or, where it neither gives nor refuses that, by the answer to
// a challenge, which only who knows the secret can give: any page answers 200 to a POST.

// Verdict is what an endpoint has said to being sent events.
type Verdict struct {
	Sink          string
	Proven        bool
	Refused       bool   // it said no; else it has not said anything yet
	By            string // "consent", "challenge" or "response"
	Reason        string // why it is not proven
	At            time.Time
	RatePerMinute int // that it allowed; 0: it named none
	Tries         int // that came to nothing
	Next          time.Time
}

// Pending is a proof that is still to be had.
type Pending struct {
	Sink  string
	Tries int
	Next  time.Time // zero: at once; in the far future: only when somebody asks
}

// proofSchedule are the waits between tries, after which nothing is tried but when somebody asks.
var proofSchedule = []time.Duration{
	10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// ChallengeType is the type of the event that challenges an endpoint, and TestType of the one that tries it.
const (
	ChallengeType = "no.eventissuer.subscription.challenge.v1"
	TestType      = "no.eventissuer.subscription.test.v1"
)

// What callers decide on.
var (
	ErrNotPushed = errors.New("the subscription has no sink")
	ErrBusyHost  = errors.New("that host has been asked too often lately")
	ErrBlocked   = errors.New("nothing is sent to the subscription's sink at present")
	ErrCode      = errors.New("the code is none that was given for this subscription's sink")
	ErrRate      = errors.New("its WebHook-Allowed-Rate is not right")
)

// hostPace bounds what is sent to a host beside events.
type hostPace struct {
	mu sync.Mutex
	by map[string]*pace // guarded by mu
}

const (
	askEvery   = 5 * time.Second // of one host
	askBurst   = 6
	askedHosts = 10_000
	askTimeout = 15 * time.Second
)

// ask reports whether a host may be asked something now.
func (h *hostPace) ask(host string) bool {
	h.mu.Lock()
	p := h.by[host]
	if p == nil {
		if len(h.by) >= askedHosts {
			clear(h.by) // a burst more for each is a small price
		}
		p = newPace(1/askEvery.Seconds(), askBurst)
		h.by[host] = p
	}
	h.mu.Unlock()
	_, ok := p.try(1)
	return ok
}

// Verify asks a subscription's endpoint for its proof, records what it says and returns it. Errors: ErrNotPushed,
// ErrBusyHost, that of opening the endpoint, and the catalog's. It blocks for the endpoint and the log.
func (e *Engine) Verify(ctx context.Context, id string) (Verdict, error) {
	is := e.deps.Definitions.Subscription(id)
	if is == nil {
		return Verdict{}, ErrNotPushed
	}
	spec, by, err := e.way(id)
	if err != nil {
		return Verdict{}, err
	}
	defer by.Close()
	if !e.asked.ask(hostOf(spec.URL)) {
		return Verdict{}, ErrBusyHost
	}
	v := e.prove(ctx, id, spec, by)
	if !is.Unproven && !v.Proven && !v.Refused {
		return v, nil // one that has proven it may be down
	}
	if is.Pending != nil && is.Pending.Sink == spec.URL {
		v.Tries = is.Pending.Tries
	}
	if !v.Proven {
		v.Next = v.At.AddDate(100, 0, 0)
		if !v.Refused && v.Tries < len(proofSchedule) {
			v.Next = v.At.Add(jitter(proofSchedule[v.Tries]))
		}
		v.Tries++
	}
	return v, e.deps.Definitions.Prove(ctx, id, v)
}

// way opens a way to a subscription's endpoint, beside the one that its events take.
func (e *Engine) way(id string) (*Endpoint, Sender, error) {
	spec, err := e.deps.Definitions.Endpoint(id)
	if err != nil {
		return nil, nil, err
	}
	by, err := e.deps.Sender(spec.Owner, spec.Credential)
	return spec, by, err
}

// prove asks for consent, and challenges where that says nothing.
func (e *Engine) prove(ctx context.Context, id string, spec *Endpoint, by Sender) Verdict {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v := Verdict{Sink: spec.URL, At: time.Now()}
	said := e.consent(ctx, id, spec, by, &v)
	if v.Proven || v.Refused {
		return v
	}
	e.challenge(ctx, id, spec, by, &v)
	if !v.Proven && said != "" {
		v.Reason += "; and to OPTIONS: " + said
	}
	return v
}

// consent asks by OPTIONS. It returns why that said nothing.
func (e *Engine) consent(ctx context.Context, id string, spec *Endpoint, by Sender, v *Verdict) string {
	h := http.Header{"Webhook-Request-Origin": e.origin}
	if e.deps.Callback != nil && e.deps.Codes != nil {
		if callback := e.deps.Callback(id, e.code(id, spec.URL)); callback != "" {
			h["Webhook-Request-Callback"] = []string{callback}
		}
	}
	if spec.Rate > 0 {
		h["Webhook-Request-Rate"] = []string{strconv.Itoa(max(1, int(spec.Rate*60)))}
	}
	r, err := by.Do(ctx, guard.Request{Method: http.MethodOptions, URL: spec.URL, Header: h})
	if err != nil {
		return reasonOf(err)
	}
	allowed := r.Header.Get("WebHook-Allowed-Origin")
	switch {
	case allowed == "":
		return "it answered " + strconv.Itoa(r.Status) + " without WebHook-Allowed-Origin"
	case allowed != "*" && !strings.EqualFold(allowed, e.cfg.Origin):
		v.Refused, v.Reason = true, fmt.Sprintf("it allows events of %.100q, and not of %s", allowed, e.cfg.Origin)
		return ""
	}
	rate, err := allowedRate(r.Header.Get("WebHook-Allowed-Rate"))
	if err != nil {
		v.Refused, v.Reason = true, err.Error()
		return ""
	}
	v.Proven, v.By, v.RatePerMinute = true, "consent", rate
	return ""
}

// allowedRate reads requests per minute; 0 stands for any number.
func allowedRate(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "*" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: a number of requests per minute from 1, or *, is expected, and %.40q came", ErrRate, text)
	}
	return n, nil
}

// challenge posts a challenge and looks for the answer.
func (e *Engine) challenge(ctx context.Context, id string, spec *Endpoint, by Sender, v *Verdict) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	challenge := base64.RawURLEncoding.EncodeToString(random[:])
	r, err := e.say(ctx, id, spec, by, ChallengeType, map[string]string{"challenge": challenge})
	if err != nil {
		v.Reason = reasonOf(err)
		return
	}
	var answer struct{ Response string }
	right := json.Unmarshal(r.Body, &answer) == nil && answered(spec.Secrets, challenge, answer.Response)
	switch {
	case r.Status == http.StatusOK && right:
		v.Proven, v.By = true, "challenge"
	case r.Status == http.StatusGone:
		v.Refused, v.Reason = true, "it answered 410 Gone"
	case r.Status >= 200 && r.Status < 300 && e.cfg.AnyResponse:
		v.Proven, v.By = true, "response"
	case r.Status >= 200 && r.Status < 300:
		v.Reason = fmt.Sprintf(`it answered %d to the challenge, but not {"response":"<base64 of the HMAC-SHA256 of data.challenge under the secret>"}`, r.Status)
	default:
		v.Reason = "it answered " + strconv.Itoa(r.Status) + " to the challenge"
	}
}

func answered(secrets []webhook.Secret, challenge, response string) bool {
	for _, secret := range secrets {
		if secret.Responded(challenge, response) {
			return true
		}
	}
	return false
}

// say posts an event of the server's own, signed as all are.
func (e *Engine) say(ctx context.Context, id string, spec *Endpoint, by Sender, typ string, data any) (*guard.Response, error) {
	own, err := e.ownEvent(id, typ, data)
	if err != nil {
		return nil, err
	}
	r, err := e.request(spec, webhook.Structured, []*event.Event{own}, webhook.NewMessageID(), time.Now())
	if err != nil {
		return nil, err
	}
	return by.Do(ctx, r)
}

// ownEvent makes an event of the server's own about a subscription.
func (e *Engine) ownEvent(id, typ string, data any) (*event.Event, error) {
	raw, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": uuid.NewString(), "source": "/eventissuer", "type": typ, "subject": id,
		"time": time.Now().UTC().Format(time.RFC3339Nano), "datacontenttype": "application/json", "data": data,
	})
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", typ, err)
	}
	own, err := event.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", typ, err)
	}
	return &own, nil
}

// consentPurpose binds the codes of callbacks.
const consentPurpose = "subscription consent"

// code is what an endpoint presents to give its consent later. It is good for this sink alone.
func (e *Engine) code(id, sink string) string {
	return base64.RawURLEncoding.EncodeToString(e.deps.Codes.MAC(consentPurpose, []byte(id+"\x00"+sink)))
}

// Consent takes an endpoint's consent by way of the callback that it was given. rate is its WebHook-Allowed-Rate, if it
// names one. Errors: ErrNotPushed, ErrCode, ErrRate, and the catalog's.
func (e *Engine) Consent(ctx context.Context, id, code, rate string) error {
	spec, err := e.deps.Definitions.Endpoint(id)
	if err != nil {
		return ErrNotPushed
	}
	mac, err := base64url.Decode(code)
	if err != nil || e.deps.Codes == nil || !e.deps.Codes.VerifyMAC(consentPurpose, []byte(id+"\x00"+spec.URL), mac) {
		return ErrCode
	}
	perMinute, err := allowedRate(rate)
	if err != nil {
		return err
	}
	return e.deps.Definitions.Prove(ctx, id, Verdict{Sink: spec.URL, At: time.Now(), Proven: true, By: "consent", RatePerMinute: perMinute})
}

// provable notes whether a subscription's proof is still to be had.
func (e *Engine) provable(s *subscription, pending *Pending) {
	s.mu.Lock()
	was := s.proving
	switch {
	case pending == nil:
		s.proving = nil
	case was == nil || was.pending != *pending:
		s.proving = &proving{pending: *pending, asking: was != nil && was.asking}
		s.proving.alarm.ring = func(time.Time) { s.ask(e) }
	}
	is := s.proving
	s.mu.Unlock()
	if was != nil && was != is {
		e.alarms.clear(&was.alarm)
	}
	e.steward(s)
}

// steward has the proof asked for when it is due, if this process owns the first partition of the subscription's first
// stream: so one process asks, and another when that one is gone.
func (e *Engine) steward(s *subscription) {
	s.mu.Lock()
	is := s.proving
	s.mu.Unlock()
	if st := s.stewards(); is != nil && st != nil && st.owns(0) {
		e.alarms.set(&is.alarm, is.pending.Next)
	}
}

// ask asks for a subscription's proof, if it is still to be had.
func (s *subscription) ask(e *Engine) {
	st := s.stewards()
	s.mu.Lock()
	is := s.proving
	due := is != nil && !is.asking && st != nil && st.owns(0)
	if due {
		is.asking = true
	}
	s.mu.Unlock()
	if !due {
		return
	}
	e.running.Go(func() {
		_, err := e.Verify(e.ctx, s.id)
		s.mu.Lock()
		is.asking = false
		now := s.proving
		if now != nil {
			now.asking = false
		}
		s.mu.Unlock()
		switch {
		case now == nil || e.ctx.Err() != nil:
		case err == nil:
			e.steward(s)
		default:
			e.alarms.set(&now.alarm, time.Now().Add(jitter(proofSchedule[0])))
			if !errors.Is(err, ErrBusyHost) {
				e.log.Warn("an endpoint cannot be asked for its proof; trying again", "subscription", s.id, "error", err)
			}
		}
	})
}

// stewardAll looks at all subscriptions that read a stream whose first partition the process has come to own.
func (e *Engine) stewardAll(st *stream) {
	st.mu.RLock()
	subs := make([]*subscription, 0, len(st.routes))
	for _, r := range st.routes {
		if !r.replay {
			subs = append(subs, r.sub)
		}
	}
	st.mu.RUnlock()
	for _, s := range subs {
		e.steward(s)
	}
}
