package catalog

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/schema"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

const (
	closedA   = `{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}`
	closedAB  = `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"additionalProperties":false}`
	requiredB = `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["b"],"additionalProperties":false}`
)

func numbers(versions []SchemaVersion) []int {
	var all []int
	for _, v := range versions {
		all = append(all, v.Version)
	}
	return all
}

func TestEqualSchemasAreOneVersionWhateverTheirSpelling(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, []byte(closedA)))(t)
		v, made, err := c.RegisterSchema(ctx, "a", []byte(` { "additionalProperties" : false , "type":"object","properties":{"\u0061":{"type":"integer"}}}`), "", false)
		if err != nil || made || v.Version != 1 || v.Text != closedA {
			t.Errorf("%+v %v %v", v, made, err)
		}
		if diff := cmp.Diff([]int{1}, numbers(c.Schemas("a"))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestIncompatibleSchemaIsRefusedWithTheBreaksAndNothingIsWritten(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		made := must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, []byte(closedAB)))(t)
		for range 2 {
			_, _, err := c.RegisterSchema(ctx, "a", []byte(requiredB), "", true)
			var no *IncompatibleError
			if !errors.As(err, &no) || no.Verdict.Outcome != schema.Incompatible || len(no.Verdict.Breaks) == 0 {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff([]int{1}, no.With); diff != "" {
				t.Error(diff)
			}
		}
		_, err := c.UpdateEventType(ctx, EventType{Type: "a", Stream: "s", Description: "changed"}, []byte(requiredB), "")
		var no *IncompatibleError
		if !errors.As(err, &no) {
			t.Errorf("got %v", err)
		}
		if now, _ := c.EventType("a"); now.ETag() != made.ETag() {
			t.Error("something was written")
		}
		// Who says that compatibility is no matter, may.
		if _, err := c.UpdateEventType(ctx, EventType{Type: "a", Stream: "s", Compatibility: schema.None}, []byte(requiredB), made.ETag()); err != nil {
			t.Error(err)
		}
	})
}

func TestRacingRegistrationsAreComparedWithEachOther(t *testing.T) {
	fleet(t, 3, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx := t.Context()
		must(r[0].CreateStream(ctx, Stream{Name: "s"}))(t)
		must(r[0].CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, []byte(closedA)))(t)
		upToDate := func() {
			for _, p := range r {
				if err := p.table.Sync(ctx, p.types.id("a")); err != nil {
					t.Fatal(err)
				}
			}
		}
		upToDate()
		// Each is compatible with the first version, and none with another of them.
		var racing sync.WaitGroup
		errs := make([]error, len(r))
		for i, p := range r {
			racing.Go(func() {
				text := fmt.Sprintf(`{"type":"object","properties":{"a":{"type":"integer"},"b":{"const":%d}},"additionalProperties":false}`, i)
				_, _, errs[i] = p.RegisterSchema(ctx, "a", []byte(text), "", false)
			})
		}
		racing.Wait()
		accepted := 0
		for _, err := range errs {
			var no *IncompatibleError
			switch {
			case err == nil:
				accepted++
			case !errors.As(err, &no):
				t.Error(err)
			}
		}
		upToDate()
		if accepted != 1 {
			t.Errorf("%d were accepted: %v", accepted, errs)
		}
		for _, p := range r {
			if diff := cmp.Diff([]int{1, 2}, numbers(p.Schemas("a"))); diff != "" {
				t.Error(diff)
			}
		}
	})
}

func TestVersionsKeepTheirNumbersWhenTheTypeIsDeletedAndMadeAgain(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, []byte(closedA)))(t)
		if err := c.DeleteEventType(ctx, "a", ""); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.EventType("a"); ok || c.Schemas("a") != nil {
			t.Error("the type is still there")
		}
		if v, ok := c.Schema("a", 1); !ok || v.Text != closedA {
			t.Error("events that name version 1 lead nowhere")
		}
		wants(t, c.DeleteEventType(ctx, "a", ""), ErrNotFound)

		// Another schema is another version, and owes the earlier life nothing.
		again := must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, []byte(requiredB)))(t)
		if again.LatestVersion != 2 {
			t.Errorf("version %d", again.LatestVersion)
		}
		if v, _ := c.Schema("a", 1); v.Text != closedA {
			t.Error("version 1 became another schema")
		}
		if diff := cmp.Diff([]int{2}, numbers(c.Schemas("a"))); diff != "" {
			t.Error(diff)
		}

		// The same schema is the same version.
		if err := c.DeleteEventType(ctx, "a", ""); err != nil {
			t.Fatal(err)
		}
		if again = must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, []byte(requiredB)))(t); again.LatestVersion != 2 {
			t.Errorf("version %d", again.LatestVersion)
		}
	})
}

func TestVersionMayReferToAnEarlierOneOfItsType(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s", Compatibility: schema.None}, []byte(`{"type":"integer"}`)))(t)
		second, _, err := c.RegisterSchema(ctx, "a", []byte(`{"type":"object","properties":{"n":{"$ref":"1"}}}`), "", false)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Compiled(second)
		if err != nil {
			t.Fatal(err)
		}
		if bad := s.Validate([]byte(`{"n":1}`), schema.Verbatim); bad != nil {
			t.Errorf("%v", bad)
		}
		if bad := s.Validate([]byte(`{"n":{}}`), schema.Verbatim); bad == nil {
			t.Error("the reference leads elsewhere")
		}
	})
}

func TestMistakesInAnEventTypeArePointedAt(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		for want, raw := range map[string]string{
			"/compatibility":         `{"compatibility":"sideways"}`,
			"/dedupe":                `{"dedupe":"1000h"}`,
			"/sources/1":             `{"sources":["/a",""]}`,
			"/attributes/type":       `{"attributes":{"type":"thing"}}`,
			"/quota/eventsPerSecond": `{"quota":{"eventsPerSecond":-1}}`,
			"/deprecation/date":      `{"deprecation":{"date":"soon"}}`,
			"/schema/type":           `{"schema":{"type":"thing"}}`,
			"/examples/0/a":          `{"schema":` + closedA + `,"examples":[{"a":"x"}]}`,
		} {
			typ, text, err := DecodeEventType([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			typ.Type, typ.Stream = "a", "s"
			_, err = c.CreateEventType(ctx, typ, text)
			pointers(t, err, want)
		}
		typ, text, err := DecodeEventType([]byte(`{"type":"a.*","stream":"s","schema":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.CreateEventType(ctx, typ, text); err == nil {
			t.Error("a pattern was given a schema")
		}
	})
}
