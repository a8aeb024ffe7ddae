//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/loadtest/chaos"
)

func TestWrongUsageOfChaosIsTold(t *testing.T) {
	for _, args := range []string{"--readers 0", "--rate 0", "--duration 0s", "--faults replica,flood", "--dir"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"chaos"}, strings.Fields(args)...), &out, &errs); code != 2 || errs.Len() == 0 {
			t.Errorf("%q: exit code %d, want 2; %s", args, code, &errs)
		}
	}
}

func TestAKeptJournalIsCheckedOnceMore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.ndjson")
	j, err := chaos.NewJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	at := []chaos.Place{{0, 0}}
	for _, e := range []chaos.Entry{
		{What: chaos.WhatRun, Text: "4711"},
		{What: chaos.WhatSend, IDs: []string{"a00-0"}},
		{What: chaos.WhatAck, IDs: []string{"a00-0"}, Places: at},
		{What: chaos.WhatReader, Who: "r", Reader: &chaos.Reader{Kind: chaos.KindStream, Over: "sse"}},
		{What: chaos.WhatOpen, Who: "r", Link: 1},
		{What: chaos.WhatGiven, Who: "r", Link: 1, Cursor: []int64{1}},
		{What: chaos.WhatEnds, Cursor: []int64{1}},
		{What: chaos.WhatRecord, IDs: []string{"a00-0"}, Places: at},
		{What: chaos.WhatStarts, Cursor: []int64{0}},
	} {
		j.Note(e)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"chaos", "--check", path}, &out, &errs); code != 3 {
		t.Errorf("exit code %d, want 3: %s%s", code, &out, &errs)
	}
	for _, want := range []string{"seed 4711", "BROKEN: " + string(chaos.PromiseCursor), "a00-0 at 0/0 was not given", path} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("expected %q in %s", want, &out)
		}
	}
	out.Reset()
	run(t.Context(), []string{"chaos", "--json", "--check", path}, &out, &errs)
	var report chaos.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || len(report.Violations) != 1 || report.Broken[chaos.PromiseCursor] != 1 {
		t.Errorf("%v: %s", err, &out)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"chaos", "--check", path}, &out, &errs); code != 1 {
		t.Errorf("exit code %d of a journal that is cut short, want 1", code)
	}
}
