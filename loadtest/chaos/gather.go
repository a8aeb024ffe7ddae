package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
)

const (
	consumers     = 4
	subscriptions = 2 // one ordered by key, and one not; as many webhooks
)

// gather makes the clients, and the subscriptions that some of them need.
func (r *run) gather(ctx context.Context, p *publishing) error {
	keys := p.prepare(r.cfg.Keys)
	r.readers()
	r.mixed()
	r.askers()
	r.pictures()
	for i := range consumers {
		r.parties = append(r.parties, &consumer{
			Reader: Reader{Kind: KindConsumer, Over: consumerTransports[i%len(consumerTransports)]}, name: fmt.Sprintf("consumer-%d", i),
			cluster: r.cluster, dialer: r.dialer, journal: r.journal, rand: r.draws(1<<35 + uint64(i)), watches: r.draws(1<<36 + uint64(i)),
		})
	}
	for i := range subscriptions {
		ordered := i%2 == 0
		if err := r.takers(ctx, "shared-by-"+ordering(ordered), ordered); err != nil {
			return err
		}
		h := &hook{
			Reader: Reader{Kind: KindHook, Over: "webhook", Ordered: ordered}, name: "hook-by-" + ordering(ordered), journal: r.journal,
			published: p.count, keys: keys, rand: r.draws(1<<38 + uint64(i)), taken: map[string]numbers{},
		}
		sink, err := h.open(ctx)
		if err != nil {
			return err
		}
		r.parties = append(r.parties, h)
		if err := r.cluster.push(ctx, h.name, sink, ordered); err != nil {
			return err
		}
	}
	return nil
}

// readers makes the clients that keep their cursors: of every transport, with every filter.
func (r *run) readers() {
	filters := []Reader{{}, {Key: keyName(0)}, {Prefix: "b"}, {}, {Latest: true}, {Prefix: "c0"}, {Key: keyName(3)}}
	for i := range r.cfg.Readers {
		what := filters[(i/len(overAll))%len(filters)]
		what.Kind, what.Over = KindStream, overAll[i%len(overAll)]
		if what.Over == overPages {
			what.Latest = false // its first page has events before its first cursor
		}
		r.parties = append(r.parties, &reader{
			Reader: what, name: fmt.Sprintf("reader-%d-%s", i, what.Over), cluster: r.cluster, dialer: r.dialer, journal: r.journal,
			rand: r.draws(1<<34 + uint64(i)),
		})
	}
}

// mixed makes clients that read all streams at once, under one cursor.
func (r *run) mixed() {
	for i, over := range overAll {
		r.parties = append(r.parties, &reader{
			Reader: Reader{Kind: KindStream, Over: over, Streams: []string{theStream, theBoard}, Latest: i%2 == 1},
			name:   "mixed-" + over, cluster: r.cluster, dialer: r.dialer, journal: r.journal, rand: r.draws(1<<40 + uint64(i)),
		})
	}
}

// askers makes clients that ask for one answer after the other: two of each, so that some are always under way.
func (r *run) askers() {
	board, both := []string{theBoard}, []string{theStream, theBoard}
	for i, what := range []Reader{{}, {Streams: board}, {Streams: both}, {}, {Streams: board, Prefix: "f"}, {Streams: both}} {
		what.Kind, what.Over = KindQuery, overPages
		r.parties = append(r.parties, &asker{
			Reader: what, name: fmt.Sprintf("asker-%d", i), cluster: r.cluster, dialer: r.dialer, journal: r.journal,
			rand: r.draws(1<<41 + uint64(i)),
		})
	}
}

// pictures makes clients that keep a picture.
func (r *run) pictures() {
	board, both := []string{theBoard}, []string{theStream, theBoard}
	for i, over := range overAll {
		all := []Reader{{}, {Conflated: true}, {Streams: board}, {Streams: board, Conflated: true}, {Streams: both}}
		if over == overPages {
			all = []Reader{{Streams: board}, {Streams: both}}
		}
		for n, what := range all {
			if i%2 == 1 && n < 2 {
				what.Prefix = "c"
			}
			what.Kind, what.Over = KindPicture, over
			name := "picture-" + over
			if len(what.Streams) > 0 {
				name += "-of-" + strings.Join(what.Streams, "-and-")
			}
			if what.Conflated {
				name += "-conflated"
			}
			r.parties = append(r.parties, &reader{
				Reader: what, name: name, cluster: r.cluster, dialer: r.dialer, journal: r.journal, rand: r.draws(1<<39 + uint64(len(r.parties))),
			})
		}
	}
}

// takers makes a subscription, and a client of it for each transport.
func (r *run) takers(ctx context.Context, name string, ordered bool) error {
	id, err := r.cluster.share(ctx, name, ordered)
	if err != nil {
		return err
	}
	for i, over := range overAll {
		r.parties = append(r.parties, &taker{
			Reader: Reader{Kind: KindTaker, Over: over, Group: name, Ordered: ordered}, name: name + "-" + over, id: id,
			cluster: r.cluster, dialer: r.dialer, journal: r.journal, rand: r.draws(1<<37 + uint64(len(r.parties)+i)),
		})
	}
	return nil
}

func (r *run) draws(of uint64) *rand.Rand { return rand.New(rand.NewPCG(r.cfg.Seed, of)) }
