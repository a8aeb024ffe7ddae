// Package catalog holds the definitions that everything else goes by: streams, event types and subscriptions, as typed
// objects in a table that every replica keeps in memory.
//
//   - Lookups never leave the process, take no lock and allocate nothing. They may lag behind another replica's change
//     by the milliseconds that the log takes.
//   - A change that returned without error can be looked up on this replica, and is durable.
//   - Of two racing changes of one object exactly one is made; the other is told so.
//   - A stream that can be looked up has its topic.
//
// All methods may be called concurrently. Changes block on the log; lookups never block.
package catalog
