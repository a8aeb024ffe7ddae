package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

const (
	theSource   = "/loadtest/chaos"
	kindStrict  = ".strict" // a stream's events that are refused while they cannot be deduplicated
	kindLoose   = ".loose"  // and those that are written all the same
	largestPad  = 6 << 10
	controlType = "no.eventissuer."
)

// strict reports whether events of the key must never be written twice.
func strict(key string) bool { return key != "" && (key[0] == 'a' || key[0] == 'c' || key[0] == 'e') }

// eventID is made of the key and the number in its order: "a00-17".
func eventID(key string, n int) string { return key + "-" + strconv.Itoa(n) }

// splitID is the contrary of eventID. The number of what is no id is -1.
func splitID(id string) (key string, n int) {
	key, number, ok := strings.Cut(id, "-")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return id, -1
	}
	return key, n
}

// removes reports whether an id is a tombstone's: that is the key alone.
func removes(id string) bool {
	_, n := splitID(id)
	return n < 0
}

// kindOf is the type of the events of a key.
func kindOf(key string) string {
	if strict(key) {
		return streamOf(key) + kindStrict
	}
	return streamOf(key) + kindLoose
}

// dataOf is an event's data, which follows from its id: most are small, some are larger than a socket's buffer takes at once.
func dataOf(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	sum := h.Sum32()
	size := int(sum>>8) % 200
	if sum%23 == 0 {
		size = int(sum>>8) % largestPad
	}
	_, n := splitID(id)
	return fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat(string(rune('a'+sum%26)), size))
}

// eventJSON is an event as it is published.
func eventJSON(id string) []byte {
	key, _ := splitID(id)
	return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":%q,"type":%q,"subject":%q,"data":%s}`, id, theSource, kindOf(key), key, dataOf(id))
}

// arrival is an event as a client has it.
type arrival struct {
	SpecVersion, ID, Type, Source, Subject string
	Data                                   json.RawMessage
	EventIssuerCursor                      string
	EventIssuerGroup                       string
	EventIssuerAttempt                     int
}

// faithful tells what of an event is not as it was sent; nothing, where all is.
func (a *arrival) faithful() (fault string) {
	key, n := splitID(a.ID)
	switch {
	case n < 0:
		return fmt.Sprintf("the id %q is none of ours", a.ID)
	case a.SpecVersion != "1.0" || a.Source != theSource || a.Subject != key || a.Type != kindOf(key):
		return fmt.Sprintf("the attributes of %s are %s, %s, %s, %s", a.ID, a.SpecVersion, a.Source, a.Type, a.Subject)
	case !bytes.Equal(a.Data, []byte(dataOf(a.ID))):
		return fmt.Sprintf("the data of %s is %.200s", a.ID, a.Data)
	}
	return ""
}
