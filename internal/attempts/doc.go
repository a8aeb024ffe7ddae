// Package attempts keeps what an owner sees of the deliveries to an endpoint: the attempts that failed, a sample of those
// that did not, and how many of each there were.
//
// What it guarantees:
//
//   - Record never blocks, neither on the log nor on Redis. What waits to be written is bounded, in bytes and in number; what
//     does not fit is dropped and counted. So is what a subscription has too much of in a second: no noisy one pushes the
//     attempts of the others out of the topic.
//   - An attempt that a page shows is on the log, acknowledged by all in-sync replicas. Only what the log has acknowledged
//     is referred to in Redis, so that an append that is made again shows no attempt twice.
//   - Pages are in the order of the attempts' times, newest first, on every replica alike. A page that begins below another
//     repeats nothing of it and leaves out nothing that was there, however many attempts come meanwhile. What retention
//     has deleted is left out.
//   - Counts are of all attempts, not of those kept alone. A replica that is killed takes those of its last seconds along.
//   - An attempt is read only by the id of the subscription that it belongs to, whoever made its own id up.
//
// The attempts are in a topic that is bounded in time and in bytes; Redis has references of a fixed size to a
// subscription's latest, by which most of a query is decided, and the counts of about a day. A Redis that loses its data
// loses the pages and the counts, and no delivery.
package attempts
