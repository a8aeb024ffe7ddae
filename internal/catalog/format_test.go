package catalog

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

func TestAStreamOfPlainRecordsKeepsItsMapping(t *testing.T) {
	fleet(t, 2, func(t *testing.T, _ *tabletest.Log, r []*process) {
		const wrap = `{"type":"t","source":"https://x/?a=1&b=2","extensions":{"line":{"pointer":"/l"}}}`
		s := must(DecodeStream([]byte(`{"name":"plain","format":"json","wrap":` + "\n " + wrap + `}`)))(t)
		must(r[0].CreateStream(t.Context(), s))(t)
		synctest.Wait()
		description := "changed"
		changed := must(r[1].UpdateStream(t.Context(), "plain", StreamPatch{Description: &description}, "", false))(t)
		synctest.Wait()
		for i, p := range r {
			got, ok := p.Stream("plain")
			if !ok || got != changed || got.Format != FormatJSON || string(got.Wrap) != wrap {
				t.Errorf("replica %d: %+v", i, got)
			}
		}
		text := must(json.Marshal(struct{ Stream }{changed}))(t)
		var shown struct {
			Format string
			Wrap   json.RawMessage
		}
		if err := json.Unmarshal(text, &shown); err != nil || shown.Format != "json" || !json.Valid(shown.Wrap) {
			t.Errorf("%s: %v", text, err)
		}
	})
}

func TestAFormatAndItsMappingGoTogether(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		for _, c := range []struct {
			stream string
			want   []string
		}{
			{`{"name":"s","format":"avro"}`, []string{"/format"}},
			{`{"name":"s","format":"json"}`, []string{"/wrap"}},
			{`{"name":"s","format":"json","wrap":null}`, []string{"/wrap"}},
			{`{"name":"s","wrap":{"type":"t","source":"/s"}}`, []string{"/wrap"}},
			{`{"name":"s","format":"json","wrap":1}`, []string{"/wrap"}},
			{`{"name":"s","format":"json","wrap":{"type":"","source":{"pointer":"x"},"extensions":{"A":"1"}}}`, []string{"/wrap/extensions/A", "/wrap/source/pointer", "/wrap/type"}},
		} {
			_, err := r[0].CreateStream(t.Context(), must(DecodeStream([]byte(c.stream)))(t))
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Errorf("%s gives %v", c.stream, err)
				continue
			}
			var got []string
			for _, p := range invalid.Problems {
				got = append(got, p.Pointer)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", c.stream, diff)
			}
		}
		_, err := DecodeStreamPatch([]byte(`{"format":"json","wrap":{}}`))
		pointers(t, err, "/format", "/wrap")
	})
}

func TestAStreamFromBeforeThereWereFormatsIsOfCloudEvents(t *testing.T) {
	k := newKind[streamBody]("stream", nil, func(string, error) { t.Error("the stream is not read") })
	k.apply("old", table.Version{Body: []byte(`{"name":"old","topic":"t","partitions":1,"retention":"1h","compaction":false,"owner":"local"}`)}, false)
	k.settle()
	if s, ok := visible(k.get("old")); !ok || s.Format != FormatCloudEvents {
		t.Errorf("%+v", s)
	}
}
