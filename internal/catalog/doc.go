// Package catalog holds the definitions that everything else goes by: streams, event types and subscriptions, as typed
// objects in a table that every replica keeps in memory.
//
//   - Lookups never leave the process and take no lock. They may lag behind another replica's change by the milliseconds
//     that the log takes. They allocate nothing, but for those of subscriptions, of which there may be a million: each is
//     kept as the table has it, and read when it is looked up.
//   - A change that returned without error can be looked up on this replica, and is durable.
//   - Of two racing changes of one object exactly one is made; the other is told so.
//   - A stream that can be looked up has its topic.
//   - What is secret of a subscription with a sink is in the table under seal alone, and is told by the answer to its
//     creation or rotation, by OpenEndpoint, and by nothing else.
//
// All methods may be called concurrently. Changes block on the log; lookups never block.
package catalog
