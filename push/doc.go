// Package push delivers events to webhooks: every event that a subscription's filter matches is posted, signed, to its
// endpoint, until the endpoint has acknowledged it.
//
// What it guarantees:
//
//   - Loss. Every matching event from the subscription's start on is delivered, or its dead letter is acknowledged by the
//     log, or the log itself has lost it, which is told. No crash, lost partition, late write or lost Redis changes that.
//   - Order. With ordering by key an event is sent only when all before it with its key, in its partition, are done.
//   - Repeats. At least once: an owner of a partition that is killed leaves at most 256 deliveries of a subscription's
//     that its successor makes again. They have the message id that they had.
//   - Independence. An endpoint that is slow, broken or hostile costs its own deliveries time, and others nothing: it
//     holds no queue, and reads on from the log when it is ready again, together with the others that are behind, for as
//     long as the log is kept.
//   - Bounds. What is remembered of a subscription's way through a partition is at most 256 events; events in memory,
//     connections, attempts under way and what is written about them have bounds for the whole replica.
//
// A subscription's way through one partition is a lane. What is durable of the lanes are statements: absolute, true when
// they are made and ever after, joined by whoever owns the partition next, so that there is neither a fence nor a lock.
package push
