package chaos

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/cursor"
)

func TestCursorsOfEachStreamHaveTheirPlaceInOneRow(t *testing.T) {
	of := func(name string, next ...int64) cursor.StreamCursor {
		return cursor.StreamCursor{Tag: cursor.TagOf(name), Next: next}
	}
	for _, tt := range []struct {
		name    string
		streams []cursor.StreamCursor
		want    []int64 // nil: an error
	}{
		{"one", []cursor.StreamCursor{of(theStream, 1, 2)}, []int64{1, 2, 0, 0, 0, 0, 0, 0, 0}},
		{"the other", []cursor.StreamCursor{of(theBoard, 1, 2, 3)}, []int64{0, 0, 0, 0, 0, 0, 1, 2, 3}},
		{"both", []cursor.StreamCursor{of(theBoard, 1), of(theStream, 2)}, []int64{2, 0, 0, 0, 0, 0, 1, 0, 0}},
		{"with more partitions", []cursor.StreamCursor{of(theBoard, 1, 2, 3, 4)}, nil},
		{"of none of ours", []cursor.StreamCursor{of("other", 1)}, nil},
		{"with another", []cursor.StreamCursor{of(theStream, 1), of("other", 1)}, nil},
	} {
		got, doubt, err := placeOf(string(cursor.Append(nil, cursor.Cursor{Streams: tt.streams})))
		if (err == nil) != (tt.want != nil) || err != nil && !errors.Is(err, errUnexpected) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || doubt {
			t.Errorf("%s: -expected +got:\n%s", tt.name, diff)
		}
	}
}

func TestClientsAreWholeByTheStreamsThatTheyRead(t *testing.T) {
	ends := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}
	for _, tt := range []struct {
		streams []string
		want    []int64
	}{
		{nil, []int64{1, 2, 3, 4, 5, 6, 0, 0, 0}},
		{[]string{theBoard}, []int64{0, 0, 0, 0, 0, 0, 7, 8, 9}},
		{[]string{theStream, theBoard}, ends},
	} {
		if diff := cmp.Diff(tt.want, (&Reader{Streams: tt.streams}).of(ends)); diff != "" {
			t.Errorf("%v: -expected +got:\n%s", tt.streams, diff)
		}
	}
}
