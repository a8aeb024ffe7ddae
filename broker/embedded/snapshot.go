package embedded

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
)

const snapshotFormat = 1

// A snapshot is a line of header and a line a key, in JSON. Bytes go through base64: keys and values need not be text.
type snapshotHeader struct {
	Format int       `json:"format"`
	Taken  time.Time `json:"taken"`
}

type snapshotEntry struct {
	Key     []byte           `json:"k"`
	Type    string           `json:"t"`
	TTL     time.Duration    `json:"ttl,omitempty"` // left when the snapshot was taken; 0: none
	String  []byte           `json:"s,omitempty"`
	Members [][]byte         `json:"m,omitempty"` // of a list, in order, or of a set
	Fields  []snapshotField  `json:"f,omitempty"` // of a hash
	Scores  []snapshotScored `json:"z,omitempty"` // of a sorted set
}

type snapshotField struct {
	Name  []byte        `json:"n"`
	Value []byte        `json:"v"`
	TTL   time.Duration `json:"ttl,omitempty"`
}

type snapshotScored struct {
	Member []byte  `json:"n"`
	Score  float64 `json:"v"`
}

// save writes a snapshot beside file and puts it in place whole.
func save(m *miniredis.Miniredis, file string, now time.Time) error {
	temporary := file + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<16)
	err = write(m, w, now)
	err = errors.Join(err, w.Flush())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(temporary) // a disk that is full needs the room
		return err
	}
	return os.Rename(temporary, file)
}

// write writes key by key, so a key is whole, but keys may be of slightly different times; one that goes meanwhile is
// left out.
func write(m *miniredis.Miniredis, w io.Writer, now time.Time) error {
	out := json.NewEncoder(w)
	if err := out.Encode(snapshotHeader{snapshotFormat, now}); err != nil {
		return err
	}
	for _, key := range m.Keys() {
		e := snapshotEntry{Key: []byte(key), Type: m.Type(key), TTL: m.TTL(key)}
		if !fill(m, key, &e) {
			continue
		}
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func fill(m *miniredis.Miniredis, key string, e *snapshotEntry) bool {
	switch e.Type {
	case "string":
		v, err := m.Get(key)
		e.String = []byte(v)
		return err == nil
	case "list":
		v, err := m.List(key)
		e.Members = bytesOf(v)
		return err == nil
	case "set":
		v, err := m.SMembers(key)
		e.Members = bytesOf(v)
		return err == nil
	case "hash":
		names, err := m.HKeys(key)
		for _, name := range names {
			e.Fields = append(e.Fields, snapshotField{[]byte(name), []byte(m.HGet(key, name)), m.HTTL(key, name)})
		}
		return err == nil
	case "zset":
		scores, err := m.SortedSet(key)
		for member, score := range scores {
			e.Scores = append(e.Scores, snapshotScored{[]byte(member), score})
		}
		return err == nil
	}
	return false // streams and counters of kinds are not used here
}

func bytesOf(list []string) [][]byte {
	all := make([][]byte, len(list))
	for i, s := range list {
		all[i] = []byte(s)
	}
	return all
}

// load fills m from a snapshot, less what has expired since.
func load(m *miniredis.Miniredis, file string, now time.Time) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := json.NewDecoder(bufio.NewReaderSize(f, 1<<16))
	var header snapshotHeader
	if err := in.Decode(&header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if header.Format != snapshotFormat {
		return fmt.Errorf("format %d, where %d was expected", header.Format, snapshotFormat)
	}
	past := max(now.Sub(header.Taken), 0)
	for {
		var e snapshotEntry
		if err := in.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if e.TTL > 0 && e.TTL <= past {
			continue
		}
		if err := restore(m, e, past); err != nil {
			return fmt.Errorf("key %q: %w", e.Key, err)
		}
	}
}

func restore(m *miniredis.Miniredis, e snapshotEntry, past time.Duration) (err error) {
	key := string(e.Key)
	switch e.Type {
	case "string":
		err = m.Set(key, string(e.String))
	case "list":
		_, err = m.Push(key, stringsOf(e.Members)...)
	case "set":
		_, err = m.SAdd(key, stringsOf(e.Members)...)
	case "hash":
		for _, f := range e.Fields {
			if f.TTL > 0 && f.TTL <= past {
				continue
			}
			m.HSet(key, string(f.Name), string(f.Value))
			if f.TTL > 0 {
				m.HExpire(key, string(f.Name), f.TTL-past)
			}
		}
	case "zset":
		for _, s := range e.Scores {
			if _, err = m.ZAdd(key, s.Score, string(s.Member)); err != nil {
				return err
			}
		}
	}
	if err == nil && e.TTL > 0 {
		m.SetTTL(key, e.TTL-past)
	}
	return err
}

func stringsOf(list [][]byte) []string {
	all := make([]string, len(list))
	for i, b := range list {
		all[i] = string(b)
	}
	return all
}
