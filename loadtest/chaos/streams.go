package chaos

import (
	"fmt"
	"slices"
	"strings"

	"github.com/eventissuer/eventissuer/internal/cursor"
)

const (
	theStream = "chaos"
	theBoard  = "chaos-board" // compacted: its keys are also removed by tombstones
)

// stream is one that is published to. Partitions are counted over all streams, so that a place, a cursor and the log's ends
// are told in one row of offsets, whichever streams a client reads.
type stream struct {
	name       string
	letters    string // that its keys begin with
	first      int    // of its partitions
	partitions int
}

var (
	streams = []stream{
		{name: theStream, letters: "abcd", partitions: 6},
		{name: theBoard, letters: "ef", first: 6, partitions: 3},
	}
	partitions    = streams[0].partitions
	allPartitions = streams[1].first + streams[1].partitions
)

// keyName is the subject of the events of a key: "a00", "b01", …
func (s *stream) keyName(i int) string { return fmt.Sprintf("%c%02d", s.letters[i%len(s.letters)], i) }

// keyName is that of a key of the first stream.
func keyName(i int) string { return streams[0].keyName(i) }

// streamOf names the stream of a key.
func streamOf(key string) string {
	for i := range streams {
		if key != "" && strings.IndexByte(streams[i].letters, key[0]) >= 0 {
			return streams[i].name
		}
	}
	return ""
}

// streamNamed finds a stream.
func streamNamed(name string) (*stream, error) {
	i := slices.IndexFunc(streams, func(s stream) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("%w stream %q", errUnexpected, name)
	}
	return &streams[i], nil
}

// placeOf is the position in a cursor, over all streams; nil for none. doubt says that who comes back with it is given a new
// picture.
func placeOf(token string) (at []int64, doubt bool, err error) {
	if token == "" {
		return nil, false, nil
	}
	c, err := cursor.Parse(token)
	if err != nil {
		return nil, false, fmt.Errorf("%w cursor %q: %w", errUnexpected, token, err)
	}
	at = make([]int64, allPartitions)
	found := 0
	for _, s := range streams {
		of, ok := c.For(s.name)
		if !ok {
			continue
		}
		found++
		doubt = doubt || of.Doubt
		if copy(at[s.first:s.first+s.partitions], of.Next) < len(of.Next) {
			return nil, false, fmt.Errorf("%w cursor %q: it has %d partitions of %s", errUnexpected, token, len(of.Next), s.name)
		}
	}
	if found == 0 || found < len(c.Streams) {
		return nil, false, fmt.Errorf("%w cursor %q: it has %d streams, of which %d are ours", errUnexpected, token, len(c.Streams), found)
	}
	return at, doubt, nil
}
