// Package fanout is the core of the gateway: one hub per stream, one ring of recent records shared by all its
// readers, and views that share the work of filtering among readers with equal filters.
//
// Guarantees:
//
//   - Order. Within a partition a reader takes records in ascending order of offset, each once, over the end of a
//     catch-up and any number of overflows too.
//   - Loss. What a reader does not take it is told of: [Reader.Gaps] holds what retention, a truncation or a remade
//     topic took away. A reader that falls out of the ring reads on from the log; nobody is cut for being slow.
//   - Positions. The vector that [Reader.After] and [Reader.Position] give covers what has been taken and nothing else.
//   - Pictures. A snapshot is what a stream's keys were at one entry, and its reader goes on from there. A reader with a picture is
//     told what goes away; where that cannot be told it is Stale, and until it has another snapshot it is Doubtful.
//   - Conflation. A conflated reader has, at each position that it gives, the latest of each key up to there, or one that came
//     later is still to be given.
//   - Blocking. The hub never waits for a reader. [Reader.Take] and [Reader.Park] never do I/O; [Reader.Fill] does.
//   - Cost. An event costs its matches: only views that match it are touched, and only readers that are parked are
//     woken. A reader that stands still costs its own size.
//   - Memory. Rings and catch-up blocks are bounded in bytes, each and in total, and so is the number of readers that
//     read the log at once. States are bounded each; what slow readers hold of earlier ones is bounded by hub.
//
// A Reader belongs to one goroutine at a time. Everything else may be called concurrently.
package fanout
