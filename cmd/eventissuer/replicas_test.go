package main_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// everyKind makes n clients: of every transport, with every selection, as named consumers too, beginning at each server.
func everyKind(n int, servers ...*server) []*client {
	names := slices.Sorted(maps.Keys(transports))
	all := selections()
	var clients []*client
	for i := range n {
		over, wants, consumer := names[i%len(names)], all[(i/len(names))%len(all)], ""
		if i%4 == 3 {
			consumer = fmt.Sprintf("c%d", i)
		}
		name := fmt.Sprintf("client %d (%s, %v, consumer %q)", i, over, wants.query, consumer)
		clients = append(clients, newClient(name, over, wants, consumer, i/2%len(servers), servers...))
	}
	return clients
}

func TestClientsGoOnAtTheOtherReplicaWithoutGap(t *testing.T) {
	shared := replicated(t)
	a := startServer(t, shared)
	b := startServer(t, shared)
	define(t, 3, a, b)

	crowd := gather(t, everyKind(200, a, b))
	crowd.all(t, "connected", func(c *client) bool { return c.liveOn(0) || c.liveOn(1) || c.polls() })
	p := publish(t, 4, 12, 20*time.Millisecond, "", a, b)
	p.more(t, 200)

	a.kill(t)
	crowd.all(t, "at the replica that lives", func(c *client) bool { return c.liveOn(1) })
	p.more(t, 200)
	a.again(t)

	b.sigterm(t, 25*time.Second) // less than the drain may take
	crowd.all(t, "at the replica that came back", func(c *client) bool { return c.liveOn(0) })
	p.more(t, 100)
	b.again(t)

	crowd.verify(t, p, b)
	for _, c := range crowd.clients {
		if !c.polls() && c.controls["drain"] == 0 {
			t.Errorf("%s was not told of the drain", c.name)
		}
	}
}
