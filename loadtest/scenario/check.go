package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/eventissuer/eventissuer/loadtest"
)

// names checks that names are told apart, and that readers name publishers that there are.
func (s *Scenario) names(d *decoder) error {
	if s.Server != "" && len(s.Servers) > 0 {
		return d.mistake("servers", "expected either a server or servers")
	}
	var publishers, others []string
	for i, p := range s.Publishers {
		if p.Name != "" && slices.Contains(publishers, p.Name) {
			return d.mistake(fmt.Sprintf("publishers[%d].name", i), "%q is another's name too", p.Name)
		}
		publishers = append(publishers, p.Name)
	}
	check := func(path, name, of string) error {
		switch {
		case name != "" && slices.Contains(others, name):
			return d.mistake(join(path, "name"), "%q is another's name too", name)
		case of != "" && !slices.Contains(publishers, of):
			return d.mistake(join(path, "of"), "there are no publishers of that name: expected %s", oneOf(publishers))
		}
		others = append(others, name)
		return nil
	}
	for i, r := range s.Readers {
		if err := check(fmt.Sprintf("readers[%d]", i), r.Name, r.Of); err != nil {
			return err
		}
	}
	for i, r := range s.Subscriptions {
		if err := check(fmt.Sprintf("subscriptions[%d]", i), r.Name, r.Of); err != nil {
			return err
		}
	}
	for i, r := range s.Webhooks {
		if err := check(fmt.Sprintf("webhooks[%d]", i), r.Name, r.Of); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) check(d *decoder, path string) error {
	shapes := 0
	for _, given := range []bool{p.Burst != nil, p.Ramp != nil, len(p.Steps) > 0} {
		if given {
			shapes++
		}
	}
	switch {
	case shapes > 1:
		return d.mistake(path, "expected one of burst, ramp and steps")
	case len(p.Steps) > 0 && p.Rate.given:
		return d.mistake(join(path, "rate"), "expected either a rate or steps, which have rates of their own")
	case len(p.Steps) == 0 && !p.Rate.given:
		return d.mistake(path, "expected a rate, or steps")
	case shapes > 0 && p.Rate.fastest:
		return d.mistake(join(path, "rate"), "expected a number: max cannot change")
	case p.Repeat && p.Steps == nil:
		return d.mistake(join(path, "repeat"), "only steps are repeated; bursts are by themselves")
	case p.Burst != nil && (p.Burst.On == 0 || p.Burst.Off == 0):
		return d.mistake(join(path, "burst"), "expected on and off, each a time above 0")
	case p.Ramp != nil && p.Ramp.Over == 0:
		return d.mistake(join(path, "ramp"), "expected over, a time above 0")
	case p.Body != "" && !strings.Contains(p.Body, "{mark}"):
		return d.mistake(join(path, "body"), "expected {mark} in it, by which events are recognised")
	case p.Lanes > 0 && p.Lanes < p.Connections:
		return d.mistake(join(path, "lanes"), "expected at least one for each of %d connections: a lane's order has one owner", p.Connections)
	}
	events := 0.0
	for i, s := range p.Steps {
		if s.For == 0 {
			return d.mistake(fmt.Sprintf("%s[%d]", join(path, "steps"), i), "expected for, a time above 0")
		}
		events += s.Rate + s.to()
	}
	if len(p.Steps) > 0 && events == 0 {
		return d.mistake(join(path, "steps"), "expected a rate above 0 in one of them")
	}
	return nil
}

func (r *Readers) check(d *decoder, path string) error {
	at := func(key string) string { return join(path, key) }
	transports := []string{loadtest.TransportSSE, loadtest.TransportWebSocket, loadtest.TransportNDJSON, loadtest.TransportPoll}
	if err := d.choice(at("transport"), r.Transport, transports...); err != nil {
		return err
	}
	clients := []string{loadtest.ClientEpoll, loadtest.ClientGoroutine, loadtest.ClientR3labs, loadtest.ClientWebSocket}
	if err := d.choice(at("client"), r.Client, clients...); err != nil {
		return err
	}
	poll, websocket := r.Transport == loadtest.TransportPoll, r.Transport == loadtest.TransportWebSocket
	switch {
	case r.Connections == 0:
		return d.mistake(at("connections"), "expected at least 1")
	case r.Subprotocol != nil && !websocket:
		return d.mistake(at("subprotocol"), "only transport websocket has one")
	case (r.Wait > 0 || r.Every > 0) && !poll:
		return d.mistake(at(map[bool]string{true: "wait", false: "every"}[r.Wait > 0]), "only transport poll has it")
	case r.URL != "" && (r.Server != "" || r.Path != ""):
		return d.mistake(at("url"), "expected either a url, or server and path")
	case r.Slow != nil && (r.Slow.Reads == 0) != (r.Slow.Pauses == 0):
		return d.mistake(at("slow"), "expected both reads and pauses, or neither")
	case r.Slow != nil && r.Slow.BytesPerSecond == 0 && r.Slow.Pauses == 0:
		return d.mistake(at("slow"), "expected bytesPerSecond, or reads and pauses")
	}
	for i, s := range r.Storms {
		if s.Percent > 100 {
			return d.mistake(fmt.Sprintf("%s[%d].percent", at("storms"), i), "expected above 0 up to 100, got %g", s.Percent)
		}
	}
	return nil
}

func (r *Subscription) check(d *decoder, path string) error {
	if r.Sessions == 0 {
		return d.mistake(join(path, "sessions"), "expected at least 1")
	}
	if err := d.choice(join(path, "ordering"), r.Ordering, "key", "none"); err != nil {
		return err
	}
	return d.choice(join(path, "transport"), r.Transport, loadtest.GroupNDJSON, loadtest.GroupSSE)
}

func (r *Webhooks) check(d *decoder, path string) error {
	at := func(key string) string { return join(path, key) }
	if err := d.choice(at("ordering"), r.Ordering, "key", "none"); err != nil {
		return err
	}
	if err := d.choice(at("mode"), r.Mode, "structured", "binary"); err != nil {
		return err
	}
	for i, s := range r.Signatures {
		if err := d.choice(fmt.Sprintf("%s[%d]", at("signatures"), i), s, "v1", "v1a"); err != nil {
			return err
		}
	}
	switch {
	case r.Subscriptions == 0:
		return d.mistake(at("subscriptions"), "expected at least 1")
	case r.Endpoints > r.Subscriptions:
		return d.mistake(at("endpoints"), "expected at most as many as subscriptions, %d", r.Subscriptions)
	case r.FailPercent >= 100:
		return d.mistake(at("failPercent"), "expected below 100, got %g", r.FailPercent)
	case r.Verify != nil && *r.Verify > 100:
		return d.mistake(at("verifyPercent"), "expected up to 100, got %g", *r.Verify)
	}
	return nil
}
