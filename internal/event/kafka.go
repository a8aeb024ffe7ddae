package event

import (
	"errors"
	"strings"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	kafkaPrefix      = "ce_"
	kafkaContentType = "content-type"
)

// ErrTombstone tells that a record is a tombstone and holds no event.
var ErrTombstone = errors.New("the record is a tombstone")

// FromRecord reads the event of a record by the Kafka binding of CloudEvents, in the structured and the binary mode.
// A record without any header of the binding is read as structured, since many writers leave the content type out.
// The event aliases the record's value where that is its structured form already. The error is [ErrTombstone] or an
// [*Error].
func FromRecord(r broker.Record) (Event, error) {
	m, contentType, err := bindingOf(&r)
	switch {
	case err != nil:
		return Event{}, err
	case m == binaryMode:
		return fromBinaryRecord(&r, contentType)
	}
	return ParseStored(r.Value)
}

// bindingOf tells whether a record is read in the structured or in the binary mode, and its content type.
func bindingOf(r *broker.Record) (m mode, contentType string, err error) {
	binary := false
	for i := range r.Headers {
		switch key := r.Headers[i].Key; {
		case isContentType(key):
			contentType = textOf(r.Headers[i].Value)
		case hasKafkaPrefix(key):
			binary = true
		}
	}
	// What our own replicas write is looked for first and without folding cases.
	if contentType != structuredContentType {
		switch m, json := modeOf(contentType); {
		case m == batchMode, m == structuredMode && !json:
			return m, "", syntaxError("a record of the content type %q is not read here", abbreviate(contentType))
		case m == structuredMode:
			if charset := charsetOf(contentType); !utf8Compatible(charset) {
				return m, "", syntaxError("a record in the charset %q is not read here: JSON is written in UTF-8", abbreviate(charset))
			}
		case binary:
			return binaryMode, contentType, nil
		}
	}
	if r.Value == nil {
		return structuredMode, "", ErrTombstone
	}
	return structuredMode, contentType, nil
}

func isContentType(key string) bool {
	return key == kafkaContentType || strings.EqualFold(key, kafkaContentType)
}

func hasKafkaPrefix(key string) bool {
	return len(key) > len(kafkaPrefix) && strings.EqualFold(key[:len(kafkaPrefix)], kafkaPrefix)
}

func fromBinaryRecord(r *broker.Record, contentType string) (Event, error) {
	b := parts{contentType: contentType, data: r.Value, hasData: len(r.Value) > 0}
	for _, h := range r.Headers {
		if !hasKafkaPrefix(h.Key) {
			continue
		}
		name := strings.ToLower(h.Key[len(kafkaPrefix):])
		switch {
		case name == "datacontenttype", reserved(name), !validName(name):
			continue // the content type's; ours to set; and what can be no attribute is better lost than the event
		case h.Value == nil:
			continue // an unset attribute
		case invalidUTF8(textOf(h.Value)) >= 0:
			b.problem(name, "UTF-8", "the header %s is not UTF-8", abbreviate(h.Key))
			continue
		}
		b.set(name, textOf(h.Value))
	}
	return b.event(true)
}

// Message is the record of the event in the structured mode, for any partition.
func (e *Event) Message(key []byte) broker.Message {
	return broker.Message{
		Partition: broker.AnyPartition,
		Key:       key,
		Value:     e.JSON(),
		Headers:   []broker.Header{{Key: kafkaContentType, Value: []byte(structuredContentType)}},
	}
}

// BinaryMessage is the record of the event in the binary mode, for any partition. Its value is nil where the event has
// no data: on a compacted topic that is a tombstone.
func (e *Event) BinaryMessage(key []byte) (broker.Message, error) {
	data, contentType, err := e.Payload()
	if err != nil {
		return broker.Message{}, err
	}
	m := broker.Message{Partition: broker.AnyPartition, Key: key, Value: data}
	for name, value := range e.Attributes() {
		if name != "datacontenttype" {
			m.Headers = append(m.Headers, broker.Header{Key: kafkaPrefix + name, Value: []byte(value.String())})
		}
	}
	if contentType != "" {
		m.Headers = append(m.Headers, broker.Header{Key: kafkaContentType, Value: []byte(contentType)})
	}
	return m, nil
}
