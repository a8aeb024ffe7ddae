// Package session serves one client for as long as it stays: it subscribes to streams, writes what is due, and keeps
// the client's cursor.
//
// Guarantees:
//
//   - A cursor that a client is given never runs ahead of what was written to it before, in the same order of bytes.
//   - The first block of every session and every heartbeat carry the current cursor; of one that begins with a snapshot, once
//     that is complete. A snapshot that comes later begins with a cursor that leads to another.
//   - A slow client slows nobody. What waits for it is at most one write of about 64 KiB; the rest stays in the ring
//     or the log. A client that accepts no byte for the stall timeout is closed; a slow one that reads is kept.
//   - A named consumer moves only on the client's word, or with what is written where the client asked for that.
//   - A session of a subscription is given what internal/group shares out, and leaves it however it ends.
//   - Every session ends by the client, its lease, its limit or a drain, and is told why where its transport can.
//
// Sessions over plain HTTP/1.1 are hijacked and driven by shards: a few goroutines that write to many connections
// without blocking, so that an idle session holds no goroutine and no buffer. TLS, HTTP/2 and WebSocket sessions, and
// those of subscriptions, have a goroutine each.
package session
