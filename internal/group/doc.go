// Package group shares the events of a subscription among the sessions that read it, on any number of replicas, and keeps
// what they acknowledge.
//
//   - Loss. Every matching event is given to some session until one acknowledges it, or until it is a dead letter on the log.
//     What was answered as acknowledged does not come again, unless Redis lost it: then what Kafka's commit covers does not.
//   - Order. With ordering by key an event is given out only once all before it with the same key are acknowledged durably,
//     or dead letters. Without, no order is promised.
//   - Ownership. Kafka's consumer group says which replica owns a partition. An owner works only under a claim in Redis whose
//     random name is the fence: one that was replaced, however late it wakes, moves no position and acknowledges nothing.
//   - Bounds. What a session was given and has not acknowledged, what an owner holds of its partition, and what all owners
//     of a replica hold together are bounded. A session that does not read costs its own share, and no memory beyond it.
//
// Replicas reach each other by messages over Redis, which may be lost: then what was in them is given again.
//
// All methods may be called concurrently.
package group
