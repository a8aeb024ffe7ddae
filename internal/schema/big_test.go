package schema

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLargeSchemasAreDecidedQuickly has what is as large as is taken, changed as usual.
func TestLargeSchemasAreDecidedQuickly(t *testing.T) {
	properties := func(n int, each string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"property%d":%s,`, i, each)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	nested := `{"type":"object","properties":{` + properties(45, `{"type":"object","properties":{`+properties(45, `{"type":["string","null"],"maxLength":30}`)+`},"additionalProperties":false}`) + `},"additionalProperties":false}`
	union := func(n int, max string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `{"type":"object","properties":{"kind":{"const":"k%d"},"value":{"type":"number","maximum":%s}},"required":["kind"],"additionalProperties":false},`, i, max)
		}
		return `{"oneOf":[` + strings.TrimSuffix(b.String(), ",") + `]}`
	}
	tests := []struct {
		name, older, newer string
		want               Outcome
	}{
		{
			"flat", `{"type":"object","properties":{` + properties(999, `{"type":"string"}`) + `},"additionalProperties":false}`,
			`{"type":"object","properties":{` + properties(1000, `{"type":"string"}`) + `},"additionalProperties":false}`, Compatible,
		},
		{"nested", nested, strings.ReplaceAll(nested, `"maxLength":30`, `"maxLength":40`), Compatible},
		{"nested and broken", nested, strings.ReplaceAll(nested, `"maxLength":30`, `"maxLength":20`), Incompatible},
		{"union", union(80, "9"), union(81, "10"), Compatible},
		{"union and broken", union(40, "9"), union(40, "8"), Incompatible},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			begin := time.Now()
			older, newer := compiled(t, test.older), compiled(t, test.newer)
			compiling := time.Since(begin)
			begin = time.Now()
			v := Compare(older, newer, Backward, CompareOptions{})
			took := time.Since(begin)
			if v.Outcome != test.want {
				t.Errorf("it is %s, want %s", v.Outcome, test.want)
				for _, b := range v.Breaks[:min(3, len(v.Breaks))] {
					t.Log(describe(b))
				}
			}
			if took > 20*time.Second || compiling > 20*time.Second {
				t.Errorf("compiling both took %s, comparing %s", compiling, took)
			}
			t.Logf("compiling both took %s, comparing %s", compiling, took)
			checkWitnesses(t, older, newer, v)
		})
	}
}
