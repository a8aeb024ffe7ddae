// Package event is the CloudEvent 1.0.2 and its codecs: JSON, HTTP and Kafka.
//
// What it guarantees:
//
//   - An event that was sent in the structured mode is forwarded byte for byte. Only one that has line breaks between
//     its tokens is compacted, once, when it is read, so that an event always is one line.
//   - An event that came in the binary mode is turned into the structured form once, when it is read; its data comes
//     out of it with the same bytes, but for the white space of JSON that came in several lines.
//   - The top level is scanned once. Accessors do not allocate, and alias the event's bytes.
//   - A plain JSON record is wrapped ([Wrap]) into the same event on every replica, and never into an invalid one.
//   - Attributes that are set later ([Event.With], [Promotion]) change nothing else of the event's bytes.
//   - What is published is held to the specification ([Parse], [ReadRequest]); what others have written to a topic
//     ([FromRecord]) only to what it takes to filter and forward it.
//
// Events are immutable: all functions may be called concurrently.
package event
