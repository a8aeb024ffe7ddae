package kafka

import (
	"reflect"
	"unsafe"

	"github.com/IBM/sarama"
)

// setNextOffset sets what sarama sets when it decodes a block.
func setNextOffset(block *sarama.FetchResponseBlock, next int64) {
	f := reflect.ValueOf(block).Elem().FieldByName("recordsNextOffset")
	reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem().Set(reflect.ValueOf(&next))
}
