// Package cursor is where a reader stands: the opaque tokens that clients resume with, and the named consumers whose
// position is kept for them.
//
// Tokens. A token holds, for each stream, the next offset of every partition, the stream's epoch and, for a named
// consumer, the lease it was given under. It names no stream, subject or person. A token survives unharmed or is
// refused: one that was cut, altered or mistyped is [ErrMalformed], one in a later format is [ErrVersion], and one of
// another stream simply has nothing [Cursor.For] that stream. Tokens are not signed: whoever changes one and mends its
// checksum merely chooses another place to read from, which every reader may do anyway.
//
// Named consumers. A [Consumers] keeps positions as compare-and-set objects of a table in the log, with Redis for a
// hint of the newest one:
//
//   - A position moves only on the client's word and never passes what the lease's holder confirmed.
//   - It never goes back, but by a reset, and nothing that was answered as saved is lost, whatever happens to Redis.
//   - A name is held by one lease at a time. A newer lease ends the older session; its late saves are refused.
//   - A consumer that exists is never sent to the newest event, however far a replica's view of the table lags.
//
// All methods may be called concurrently.
package cursor
