// Package filter compiles what a reader wants to see into one predicate on events: the dialects of the CloudEvents
// Subscriptions API (exact, prefix, suffix, all, any, not, sql), CESQL 1.0, and the query parameters type, source,
// subject and resource.
//
// What it guarantees:
//
//   - Nothing panics, and everything is bounded: the length, depth and size of a filter, and the time and memory that
//     one evaluation takes. An evaluation that goes wrong (an attribute is missing, a cast fails) does not match, as
//     the Subscriptions API has it.
//   - Filters with equal keys match alike, so that their readers can share one view of a stream.
//   - An [Index] finds the filters that match an event without trying the others.
//
// The grammar and the meaning of CESQL are those of the CloudEvents SDK. Where the SDK counts bytes, characters are
// counted here, as the specification says.
//
// A compiled [Filter] is immutable: all its methods may be called concurrently.
package filter
