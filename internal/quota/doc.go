// Package quota limits how many events and bytes each key (a principal and an event type, say) may use per second, over
// all replicas together.
//
// What it guarantees:
//
//   - With Redis, all replicas together allow, in any span of whole seconds, at most the limit for each second of it and
//     one burst. Clocks of replicas that differ by d widen that span by d.
//   - What is allowed is paid for: a replica spends only tokens that Redis has leased to it before. What it does not
//     spend while they are good (as long as the burst) is lost to all, so it leases little more than it needs.
//   - Nobody waits for Redis in steady state: tokens of the present second, and of the next, are leased ahead of need and
//     in the background. Who comes first after a pause waits for one round trip, and never longer than [Config].Wait.
//   - Without Redis, or while it does not answer, each replica allows its share: the limit and the burst divided by the
//     number of replicas where that is known, else all of it. That is counted, and each such time may allow one burst
//     more, as may a Redis that loses its data. Requests are never refused for want of Redis.
//   - Memory is bounded by the number of keys. Beyond it the keys used least recently are forgotten, with the tokens
//     they hold.
//
// All methods may be called concurrently.
package quota
