// Package failing keeps since when an endpoint has failed, and only failed, over all replicas; warns of it, and disables
// the subscription in the end.
//
// What it guarantees:
//
//   - Failed and Succeeded never block, and cost next to nothing where nothing fails. What they note is in memory, bounded,
//     until Redis has it.
//   - A period of failures begins with a failure and ends with a success, whichever replicas saw them; or where nothing was
//     heard of the endpoint for half of the time after which it is disabled, and longer than its schedule ever waits: one
//     event that cannot be delivered does not disable a subscription that has nothing else to deliver.
//   - At 50, 70 and 90 percent of the time after which a period disables its subscription an event is published, at 100 the
//     subscription is disabled and an event is published: in this order, each once, whatever the number of replicas. Where
//     no replica was there at the time, the latest alone comes late. Where a replica is killed between publishing one and
//     noting that, another publishes it again, with the same id.
//   - A Redis that is away delays this, and one that loses its data begins each period anew. It disables nothing early.
//
// All methods may be called concurrently.
package failing
