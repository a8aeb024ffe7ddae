// Package dedupe stands in front of the log and lets each event in once: the same (source, id) again within its window
// is answered with the position of the first.
//
// What it guarantees:
//
//   - Answers are true. Persisted and duplicate are answered only with a position that the log acknowledged or that was
//     read from it, whatever fails. What is not known is answered with an error, to be sent again.
//   - One copy, also when several replicas get the event at once, a reply is lost or a replica is killed half way:
//     an event is reserved before it is appended, an append whose fate is not known is looked for in the log before
//     it is repeated, and not before it can land no more. One copy is not promised when a process is paused past its
//     lease between the last look at the time and the append (eventissuer_dedupe_late_total counts those), nor when
//     Redis is away or has lost what it held, a fail-over to a replica that lags included.
//   - Nothing is lost for it: an event is told apart by 128 bits of SHA-256.
//   - Without Redis events are written undeduplicated, and their outcomes say so; those that demand it are refused. A
//     Redis that hangs costs half a second once, and then a publish in every second.
//   - Order. Messages of one call to one partition keep their order among those that are written.
//
// What is known of an event is kept in Redis for all replicas, or in the process for one. Neither holds ids or sources,
// only their hash.
//
// In Redis an event is one key with a time to live of its window and the lease, in all about 190 bytes for a topic's name
// of 27 (measured on Redis 7.0.15). It must not evict (maxmemory-policy noeviction). Every change is one command or one
// script on one key that compares with what was read, under a token that is used once: a command that the client
// repeats, or that lands late, changes nothing that is not so.
//
// In the process an event takes 33 to 39 bytes, within Config.MemoryBytes; beyond that the oldest fall out before their
// window is over, which eventissuer_dedupe_evicted_total counts. After a start a topic's window is read from its log
// when the topic is first used, or when Prepare is called, and publishes to it wait for that. This is for a log that
// one process alone publishes to, in a broker that lives and dies with it: no append of an earlier process may land
// after the start. An event that went to another topic before the start is known once that topic is in use again.
//
// A topic that was deleted and made again holds none of its old events: what is known of them counts as nothing.
//
// The rules in comments are those of the protocol: reserve, append, confirm; settle what an earlier attempt left.
//
// All methods may be called concurrently.
package dedupe
