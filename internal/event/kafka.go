package event

import "github.com/eventissuer/eventissuer/broker"

// FromRecord reads the event of a record.
func FromRecord(r broker.Record) (Event, error) { return Parse(r.Value) }

// Message returns the record in the structured mode.
func (e *Event) Message(key []byte) broker.Message {
	return broker.Message{Partition: broker.AnyPartition, Key: key, Value: e.JSON()}
}
