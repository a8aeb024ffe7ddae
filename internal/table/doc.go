// Package table keeps small objects in a log: a compare-and-set table that every replica folds alike.
//
// A table is a topic of a fixed number of partitions, never compacted, and a topic of snapshots beside it. Each
// partition is a table of its own; an object's id decides which it is in.
//
//   - A write names the version it replaces, and the order of the log decides: of two racing writes every replica
//     accepts the same one and rejects the same other. No clock, lease or leader is involved.
//   - A write that returned without error has been applied by this replica: what is read next has it.
//   - A write whose fate is not known in time is [ErrInDoubt]: it may be accepted still. It is never answered as done.
//   - Reads never leave the process. They may lag behind the log; see [Table.Sync].
//   - The log is truncated only below a snapshot that was read back whole, so there is always something to load from.
//
// All methods may be called concurrently. Reads never block on I/O; writes block until their record is applied.
package table
